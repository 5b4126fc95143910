"""Ops for random graphs: each leaves a trace of its real begin and end, and then does what its name says."""

from __future__ import annotations

import os
import signal

from executor import OpDefinition, OpExecutionContext, Out, Output, RetryPolicy, op

ONCE_MORE = RetryPolicy(max_retries=1)


def trace(context: OpExecutionContext, what: str) -> None:
    """One line, written by one call, into the file that all steps of the run share."""
    fd = os.open(context.get_tag("trace") or "", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{what} {context.step_key} {context.attempt} {os.getpid()}\n".encode())
    os.close(fd)


@op
def works(context: OpExecutionContext, values: list | None = None) -> int:
    trace(context, "begin")
    trace(context, "end")
    return 1


@op
def raises(context: OpExecutionContext, values: list | None = None) -> None:
    trace(context, "begin")
    raise ValueError(context.step_key)


@op
def dies(context: OpExecutionContext, values: list | None = None) -> None:
    trace(context, "begin")
    os.kill(os.getpid(), signal.SIGKILL)


@op
def exits(context: OpExecutionContext, values: list | None = None) -> None:
    trace(context, "begin")
    os._exit(0)


@op(retry_policy=ONCE_MORE)
def raises_once(context: OpExecutionContext, values: list | None = None) -> int:
    trace(context, "begin")
    if context.attempt == 1:
        raise ValueError(context.step_key)
    trace(context, "end")
    return 1


@op(retry_policy=ONCE_MORE)
def dies_once(context: OpExecutionContext, values: list | None = None) -> int:
    trace(context, "begin")
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    trace(context, "end")
    return 1


@op(out=Out(is_required=False))
def leaves_out(context: OpExecutionContext, values: list | None = None):
    trace(context, "begin")
    trace(context, "end")
    if values == "never":
        yield Output(1)


#: How often each is taken.
WEIGHTS: list[tuple[OpDefinition, int]] = [
    (works, 14),
    (raises, 1),
    (dies, 1),
    (exits, 1),
    (raises_once, 2),
    (dies_once, 2),
    (leaves_out, 1),
]
