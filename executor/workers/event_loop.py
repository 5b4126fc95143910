"""Steps that are ``async`` functions: each attempt has an event loop of its own, made and closed by ``asyncio.run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError
from executor.workers.explain import StepInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from executor.workers.runner import Stop


class LoopIsRunning(ExecutorError):
    """An ``async`` step was to run in a thread that has an event loop already; the text says what to do instead."""


def run_async(stop: Stop, label: str, given: Coroutine[Any, Any, object] | AsyncGenerator[object, None]) -> object:
    """What an ``async`` function returns, or a list of what it yields. ``label`` names the op.

    Asked to stop, it is cancelled at its next ``await``: an exception out of a signal handler could come up in the
    middle of the loop's own code, which would only log it.

    Raises:
        LoopIsRunning: this thread runs an event loop, as that of a notebook does, and a second one cannot run in it.
        StepInterrupted: it was stopped.
    """
    import asyncio  # only here: it is large, and few steps need it
    import inspect

    work: Coroutine[Any, Any, object] = _collect(given) if inspect.isasyncgen(given) else given  # type: ignore[arg-type, assignment]  # one of them
    tasks: list[asyncio.Task[object]] = []

    async def main() -> object:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (this is one)
        tasks.append(task)
        if stop.asked:
            raise StepInterrupted
        return await work

    def interrupt() -> None:
        for task in tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)

    try:
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  (documented; ``get_running_loop`` raises instead)
            raise LoopIsRunning(
                f"{label} is async, and an event loop runs in this thread already, as in a notebook; run the job in "
                "worker processes (job.execute()), or execute_in_process in a thread of its own"
            )
        with asyncio.Runner() as runner:
            stop.interrupt = interrupt
            try:
                return runner.run(main())
            except asyncio.CancelledError:
                if stop.asked:
                    raise StepInterrupted from None
                raise
            finally:
                stop.interrupt = None
    finally:
        work.close()  # else Python warns of one that was never awaited


async def _collect(stream: AsyncGenerator[object, None]) -> list[object]:
    return [item async for item in stream]
