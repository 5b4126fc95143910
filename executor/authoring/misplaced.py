"""Arguments that a decorator does not take: most are settings that people look for in the wrong place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.config.check import SETTINGS
from executor.errors import DefinitionError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def refuse_misplaced(
    decorator: Callable[..., Any], given: Mapping[str, Any], *, takes_executor: bool = False, runs: bool = False
) -> None:
    """Nothing, where ``given`` is empty. ``runs``: what is called takes a run config, and runs something.

    Raises:
        DefinitionError: names each argument; for a setting of the executor, the lines to write instead.
        UsageError: the same, where something is run.
    """
    if not given:
        return
    name = decorator.__name__
    for argument, value in given.items():
        if argument in SETTINGS and runs:
            lines = {"execution": {"config": {argument: value}}}
            said = f"{name}: {argument} is a setting of the executor, not of {name}"
            raise UsageError(f"{said}; write: run_config={lines}")
        if argument in SETTINGS:
            where = f"executor_def=multiprocess_executor.configured({{{argument!r}: {value!r}}})"
            place = f"write: {where}" if takes_executor else f"write it at the job: @job({where})"
            raise DefinitionError(f"{name}: {argument} is a setting of the executor, not of {name}; {place}")
    import inspect

    unknown = next(iter(given))
    known = [item for item in inspect.signature(decorator).parameters if item != "_misplaced"]
    kind = UsageError if runs else DefinitionError
    raise kind(f"{name}: there is no argument {unknown!r}{did_you_mean(unknown, known)}")
