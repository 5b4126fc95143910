"""What a step raised, as plain data: it cannot cross a pipe as an object, and may not even pickle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.authoring.compute import BadOutput
from executor.authoring.retry import Failure, RetryRequested
from executor.outputs.values import CLOUDPICKLE, ValueLost
from executor.scheduler.outcomes import StepError

if TYPE_CHECKING:
    from collections.abc import Callable


class StepInterrupted(BaseException):
    """Raised inside a running step that is asked to stop; a step may catch it to clean up, and should end then.

    A step that reads ``context.is_cancelled`` is taken to look for itself, and is not interrupted.
    """


# What is kept of a message, and of a traceback: more than anybody reads, less than what would choke a history.
MESSAGE_CHARS = 4_000
TRACEBACK_CHARS = 100_000


def text_of(value: object, show: Callable[[object], str] = str) -> str:
    """What an object of the user's says of itself, as plain text that is not too long, whatever it does instead."""
    try:
        return _shortened(str.strip(show(value)), MESSAGE_CHARS)  # of a class like str: a str
    except BaseException:  # noqa: BLE001  (it may even call sys.exit)
        return "(its message cannot be shown)"


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 2
    return f"{text[:end]} [… {len(text) - 2 * end} characters …] {text[-end:]}"


def describe(error: BaseException) -> str:
    """One line: the type and what it says."""
    kind = type(error).__qualname__
    module = type(error).__module__
    name = kind if module in {"builtins", "__main__"} else f"{module}.{kind}"
    text = text_of(error)
    first = text.splitlines()[0] if text else ""
    return f"{name}: {first}" if first else name


def traceback_text(error: BaseException) -> str:
    """The traceback as text, from the user's first frame on."""
    import traceback

    try:
        shown = traceback.TracebackException.from_exception(error)
        package = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120  (compared as text)
        loop = os.path.dirname(os.__file__) + f"{os.sep}asyncio{os.sep}"  # noqa: PTH120  (of an ``async`` step)
        while len(shown.stack) > 1 and (
            shown.stack[0].filename.startswith((package, loop)) or shown.stack[0].filename.endswith(CLOUDPICKLE)
        ):
            del shown.stack[0]
        return _shortened("".join(shown.format()), TRACEBACK_CHARS)
    except BaseException as failure:  # noqa: BLE001  (an exception whose own parts raise)
        return f"{describe(error)}\n(its traceback cannot be shown: {type(failure).__name__})\n"


def explain(error: BaseException, *, asked: bool) -> StepError:
    """An exception out of a step as plain data."""
    if isinstance(error, RetryRequested):
        return _retry_requested(error)
    if isinstance(error, Failure):
        return StepError(
            "failure", text_of(error), traceback_text(error), allow_retries=error.allow_retries is not False
        )
    if isinstance(error, BadOutput):
        return StepError("bad_output", text_of(error))
    if isinstance(error, ValueLost):
        return StepError("bad_input", text_of(error))
    if isinstance(error, StepInterrupted) and asked:
        return StepError("cancelled", "it was interrupted")
    if isinstance(error, SystemExit):
        return StepError("exception", f"the step called sys.exit({text_of(error.code, repr)})", traceback_text(error))
    if type(error).__module__ == "bdb":  # BdbQuit: not imported here, because every worker would have it
        said = "the debugger was left (in a worker process it has no terminal; run the step with --in-process)"
        return StepError("exception", said, traceback_text(error))
    return StepError("exception", describe(error), traceback_text(error))


def _retry_requested(error: RetryRequested) -> StepError:
    """Its numbers as Python's own: a step may have taken them from an array, or from a file."""
    trace = traceback_text(error)
    try:
        most = int(error.max_retries)
        wait_s = None if error.seconds_to_wait is None else float(error.seconds_to_wait)
        if most < 0 or not 0 <= (wait_s or 0.0) < float("inf"):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        given = (
            f"max_retries={text_of(error.max_retries, repr)}, seconds_to_wait={text_of(error.seconds_to_wait, repr)}"
        )
        return StepError("exception", f"the step raised RetryRequested({given}); give numbers, 0 or more", trace)
    cause = error.__cause__
    message = describe(cause) if cause is not None else text_of(error)
    return StepError("retry_requested", message, trace, max_retries=most, retry_after_s=wait_s)
