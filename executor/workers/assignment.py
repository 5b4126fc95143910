"""An attempt on its way through the workers, and how an end that the worker did not report itself is put in words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from executor.errors import describe_exit
from executor.scheduler.outcomes import StepError

if TYPE_CHECKING:
    from executor.workers.interface import Attempt, StopReason


class Assignment:
    """An attempt from ``begin`` until its slot is free: its lane, its worker's pid, and whether it is being stopped."""

    __slots__ = ("attempt", "handed_at", "killed", "lane", "pid", "reported", "stop")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.lane = -1  #: -1: no worker has it yet
        self.pid = 0
        self.handed_at = 0.0  #: as ``time.monotonic`` gives it
        self.reported = False  #: its success or failure is; only its slot is still taken
        self.stop: StopReason | None = None
        self.killed = False

    @property
    def name(self) -> tuple[str, int]:
        """The step's key and the attempt's number, as events carry them."""
        return self.attempt.key, self.attempt.number


def stopped(reason: StopReason, timeout_s: float | None, traceback: str = "") -> StepError:
    """The failure of an attempt that was stopped by us."""
    if reason == "timed_out":
        return StepError("timed_out", f"it took longer than its timeout of {timeout_s:g} s and was stopped", traceback)
    return StepError("cancelled", "it was stopped because a cancel was asked for", traceback)


#: Exit code of a worker that could not send its result (EX_IOERR).
CANNOT_REPORT = 74

#: Why an attempt is given up whose worker lives and cannot be heard any more.
CLOSED = (
    "could not report: the step, or something that it uses, closed file descriptors that it had not opened "
    "(os.closerange, or becoming a daemon), the socket to its worker's driver among them"
)
GARBAGE = (
    "was killed, because the step, or something that it uses, wrote to a file descriptor that it had not opened: "
    "the socket to its worker's driver"
)

#: Why a run has stood still that goes on.
CONTINUED = "the workers' template process was stopped (SIGSTOP), and the run stood still; it was continued"


def died(status: int, because: str | None = None) -> StepError:
    """The failure of an attempt whose process ended before it reported; ``because`` in place of the exit status.

    How to run the step where it can be looked at is for those to say who show this: they know how the run was started.
    """
    how = because or (CLOSED if status == CANNOT_REPORT else how_it_ended(status))
    if status == 0:
        how += " before it had reported a result"
    return StepError("worker_died", f"its worker process {how}")


def how_it_ended(status: int) -> str:
    """As ``describe_exit``, with what SIGKILL mostly means where nobody here sent it."""
    text = describe_exit(status)
    return f"{text} (the kernel does so when memory runs out)" if status == -signal.SIGKILL else text


def never_began(times: int, status: int, start_method: str) -> StepError:
    """The failure of an attempt that no worker lived long enough to begin."""
    text = f"{times} worker processes in a row ended before they began it; the last one {how_it_ended(status)}"
    if start_method == "spawn":  # where each worker imports it
        text += ", perhaps while it imported the steps' code; import that by itself to see"
    return StepError("worker_died", text, allow_retries=False)
