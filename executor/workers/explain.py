"""What a step raised, as plain data: it cannot cross a pipe as an object, and may not even pickle."""

from __future__ import annotations

import os

from executor.authoring.compute import BadOutput
from executor.authoring.retry import Failure, RetryRequested
from executor.outputs.values import ValueLost
from executor.scheduler.events import StepError


class StepInterrupted(BaseException):
    """Raised inside a running step that is asked to stop; a step may catch it to clean up, and should end then.

    A step that reads ``context.is_cancelled`` is taken to look for itself, and is not interrupted.
    """


def describe(error: BaseException) -> str:
    """One line: the type and what it says."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001  (a __str__ of the user's)
        text = "(its message cannot be shown)"
    kind = type(error).__qualname__
    module = type(error).__module__
    name = kind if module in {"builtins", "__main__"} else f"{module}.{kind}"
    first = text.splitlines()[0] if text else ""
    return f"{name}: {first}" if first else name


def traceback_text(error: BaseException) -> str:
    """The traceback as text, from the user's first frame on."""
    import traceback

    try:
        shown = traceback.TracebackException.from_exception(error)
        package = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120  (compared as text)
        while len(shown.stack) > 1 and shown.stack[0].filename.startswith(package):
            del shown.stack[0]
        return "".join(shown.format())
    except Exception as failure:  # noqa: BLE001  (an exception whose own parts raise)
        return f"{describe(error)}\n(its traceback cannot be shown: {type(failure).__name__})\n"


def explain(error: BaseException, *, asked: bool) -> StepError:
    """An exception out of a step as plain data."""
    if isinstance(error, RetryRequested):
        cause = error.__cause__
        return StepError(
            "retry_requested",
            describe(cause) if cause is not None else str(error),
            traceback_text(error),
            max_retries=error.max_retries,
            retry_after_s=error.seconds_to_wait,
        )
    if isinstance(error, Failure):
        return StepError("failure", str(error), traceback_text(error), allow_retries=error.allow_retries)
    if isinstance(error, BadOutput):
        return StepError("bad_output", str(error))
    if isinstance(error, ValueLost):
        return StepError("bad_input", str(error))
    if isinstance(error, StepInterrupted) and asked:
        return StepError("cancelled", "it was interrupted")
    if isinstance(error, SystemExit):
        return StepError("exception", f"the step called sys.exit({error.code!r})", traceback_text(error))
    return StepError("exception", describe(error), traceback_text(error))
