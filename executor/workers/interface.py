"""What every kind of worker offers to a driver, and how an attempt is handed to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.authoring.ops import OpDefinition
    from executor.scheduler.events import RunNotice, SlotFreed, StepFailed, StepReturned, StepStarted, StepSucceeded

    Report = StepStarted | StepSucceeded | StepFailed | StepReturned | SlotFreed | RunNotice

#: Why an attempt is told to stop; also the ``kind`` of the failure that it then ends with.
StopReason = Literal["timed_out", "cancelled"]


#: A ``StoredValue`` as a plain tuple, which crosses a pipe as it is: output, data, path, size.
PlainValue = tuple[str, bytes | None, str | None, int]

#: The same with the key of the step that made it, for messages; empty where no step did.
MadeValue = tuple[str, bytes | None, str | None, int, str]

#: What fills one input: its name, the values, and how it gets them: one of the three of ``job.py``.
InputValue = tuple[str, tuple[MadeValue, ...], int]


class Attempt(NamedTuple):
    """One try of a step, as it is handed to a worker."""

    step: int  #: index of the step in its plan
    key: str
    number: int  #: counted from 1
    op: OpDefinition
    inputs: tuple[InputValue, ...] = ()
    waited: tuple[tuple[str, float], ...] = ()  #: goes into the ``StepStarted`` report as it is
    claim: int = 0  #: number of the claim whose slots it holds, and the offset of its lock; 0: it uses no pool
    token: int = 0  #: the fencing token that its claim was granted with; 0: it uses no pool
    tags: Mapping[str, str] = {}
    timeout_s: float | None = None  #: for the text about an attempt that took longer


class Workers(Protocol):
    """Runs attempts, and reports on each by events: how it went, and when its processes are gone.

    Every attempt that ``begin`` accepted is reported exactly once as succeeded, failed or returned (never begun), and
    a report with ``freed`` False is followed by one ``SlotFreed``.
    """

    #: Whether processes that had left their step's group may live on, because the one that held them together died.
    template_died: bool
    #: What has happened since it was last emptied by the driver, in order.
    reports: list[Report]

    @property
    def description(self) -> str:
        """Which kind of worker this is and why, in one line for people."""

    @property
    def blocking(self) -> bool:
        """Whether a step is running in the driver's own thread, so that the driver waits for it and nothing else."""

    def start(self) -> None:
        """Get ready to run steps. Raises ``WorkersUnavailable`` where no worker can be had."""

    def await_ready(self) -> None:
        """Block until attempts can be run. Time that a step may take is not counted before."""

    def begin(self, attempt: Attempt) -> None:
        """Hand an attempt to a worker, or keep it until one is there. The caller holds to its limits itself."""

    def get_ready(self) -> None:
        """An attempt may be begun in a moment, or not: let whoever would run it be awake."""

    def stop(self, key: str, reason: StopReason, *, kill: bool) -> None:
        """Ask the attempt of step ``key`` to stop, and kill what is left of it after the grace; ``kill``: at once."""

    def flush(self) -> None:
        """Send what is still held back to be sent together. Called before the caller waits."""

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` wants to be called, on the run's clock; None: nothing is due."""

    def tick(self, now: float) -> None:
        """Do what is due: kill what outlived its grace or lingers after its end."""

    def pause(self) -> None:
        """Stop all processes of running attempts (SIGSTOP), as for Ctrl-Z."""

    def resume(self) -> None:
        """Continue them."""

    def interrupt(self, signum: int) -> None:
        """This signal asks the run to stop; called inside the signal handler, for workers that block the driver."""

    def close(self, *, kill: bool = False) -> None:
        """End all processes and wait until they are gone. ``kill``: without the chance to clean up.

        Attempts that were not over are reported then. Safe to call twice.
        """
