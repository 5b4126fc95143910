"""Steps that are ``async`` functions: each attempt has an event loop of its own, made and closed by ``asyncio.run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine


class LoopIsRunning(ExecutorError):
    """An ``async`` step was to run in a thread that has an event loop already; the text says what to do instead."""


def run_async(label: str, given: Coroutine[Any, Any, object] | AsyncGenerator[object, None]) -> object:
    """What an ``async`` function returns, or a list of what it yields. ``label`` names the op.

    Raises:
        LoopIsRunning: this thread runs an event loop, as that of a notebook does, and a second one cannot run in it.
    """
    import asyncio  # only here: it is large, and few steps need it
    import inspect

    if asyncio._get_running_loop() is not None:  # noqa: SLF001  (documented; ``get_running_loop`` raises instead)
        if inspect.iscoroutine(given):
            given.close()  # else Python warns that nobody awaited it
        raise LoopIsRunning(
            f"{label} is async, and an event loop runs in this thread already, as in a notebook; run the job in worker "
            "processes (job.execute()), or execute_in_process in a thread of its own"
        )
    return asyncio.run(_collect(given) if inspect.isasyncgen(given) else given)  # type: ignore[arg-type]  # one of the two


async def _collect(stream: AsyncGenerator[object, None]) -> list[object]:
    return [item async for item in stream]
