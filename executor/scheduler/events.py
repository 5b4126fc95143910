"""What happened: the one vocabulary of workers, scheduler, history, command line and replay.

All are plain data. The *told* events go into ``Scheduler.handle``; the *derived* ones (``derived = True``) come out of
it as consequences and are kept in the history for those who read it, but are not fed back on replay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from executor.scheduler.outcomes import StepError, StoredValue

WaitCause = Literal[
    "full",  #: too few slots of a pool are free
    "reserved",  #: the free slots are kept for a claim that comes first
    "paused",  #: the limit of a pool is 0
    "unsatisfiable",  #: the limit of a pool is smaller than what the step wants of it
    "busy",  #: the ledger could not be asked yet
]


class Facts(NamedTuple):
    """What is known of one attempt after it: times are seconds on the run's own clock."""

    started_at: float = 0.0
    ended_at: float = 0.0
    cpu_s: float = 0.0  #: user and system time of the step and the children that it waited for
    peak_rss_bytes: int = 0  #: largest resident memory of the step's process during the attempt
    pid: int = 0
    lane: int = -1  #: worker slot, and number of the log file; -1: no log (in-process)
    log_from: int = 0  #: where the attempt's output begins and ends in its lane's log file, in bytes
    log_to: int = 0
    exit_code: int | None = None  #: of a process that ended with the attempt; negative: the signal; None: lives on


#: Nothing is known of the attempt.
NO_FACTS = Facts()


class SlotHolder(NamedTuple):
    """A step that has what another waits for."""

    step: str  #: its key
    run: str = ""  #: empty: the same run
    pid: int = 0  #: of a process of the step where that is known, else of its run's driver; 0: not known, or gone
    since: float | None = None  #: seconds since the epoch; None: not known
    outlived: bool = False  #: the driver of its run died, and its slots stay taken until its processes end
    encloses: bool = False  #: the run that waits was started in that step, whose slots stay taken until it ends


# --- told ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class StepStarted:
    """An attempt was handed to a worker. Told for the record; the scheduler knows it already.

    ``waited`` is the ``StartStep`` command's: seconds by cause since the step was ready.
    """

    kind: ClassVar[str] = "step_started"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    pid: int = 0
    lane: int = -1
    waited: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class StepSucceeded:
    """An attempt's result is safe. ``missing`` are declared optional outputs that it left out.

    ``freed`` is False while its processes are still ending; a ``SlotFreed`` follows.
    """

    kind: ClassVar[str] = "step_succeeded"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    outputs: tuple[StoredValue, ...] = ()
    missing: tuple[str, ...] = ()
    facts: Facts = NO_FACTS
    freed: bool = True


@dataclass(slots=True)
class StepFailed:
    """An attempt failed. ``chance`` in [0, 1) is the number that jitter uses; ``freed`` as in ``StepSucceeded``.

    An attempt that waits for slots which nobody can grant any more fails with it too, before it started, for good.
    """

    kind: ClassVar[str] = "step_failed"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    error: StepError
    chance: float = 0.0
    facts: Facts = NO_FACTS
    freed: bool = True


@dataclass(slots=True)
class StepReturned:
    """An attempt was handed to a worker that never began it; it goes back with no attempt spent. Its slot is free."""

    kind: ClassVar[str] = "step_returned"
    derived: ClassVar[bool] = False
    key: str
    attempt: int


@dataclass(slots=True)
class SlotFreed:
    """The processes of an attempt that had ended are gone, so what it counted against has room again."""

    kind: ClassVar[str] = "slot_freed"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    lingered: bool = False  #: something had to be killed
    exit_code: int | None = None


@dataclass(slots=True)
class SlotsGranted:
    """The ledger granted the claim of an attempt. Tokens only grow, so one that was told before changes nothing."""

    kind: ClassVar[str] = "slots_granted"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    token: int


@dataclass(slots=True)
class SlotsWaiting:
    """The claim of an attempt was not granted yet. Told once as an answer, and again when what is in its way changes.

    What it says is for ``why`` and for the wait times by pool; it may say nothing.
    """

    kind: ClassVar[str] = "slots_waiting"
    derived: ClassVar[bool] = False
    key: str
    attempt: int
    pools: tuple[str, ...] = ()  #: the pools in its way; empty: not known, so all that it wants
    cause: WaitCause = "full"  #: with several pools: the one that lasts longest
    reason: str = ""  #: the same for people, as a clause that follows a colon: who holds the slots, what is before it
    held_by: tuple[SlotHolder, ...] = ()  #: the first of those who hold the slots of full pools


@dataclass(slots=True)
class CancelRequested:
    """Somebody asked for the run (``keys`` empty) or for these steps to stop. ``kill``: at once, without grace."""

    kind: ClassVar[str] = "cancel_requested"
    derived: ClassVar[bool] = False
    keys: tuple[str, ...] = ()
    kill: bool = False
    reason: str = ""


@dataclass(slots=True)
class Woke:
    """A due time of the scheduler has come."""

    kind: ClassVar[str] = "woke"
    derived: ClassVar[bool] = False


@dataclass(slots=True)
class StepReused:
    """A step succeeded in an earlier run that this one goes on from, and does not run again. Told at the start."""

    kind: ClassVar[str] = "step_reused"
    derived: ClassVar[bool] = False
    key: str
    run_id: str  #: the run in which it ran
    outputs: tuple[StoredValue, ...] = ()  #: with whole paths, since they lie in the folder of that run
    missing: tuple[str, ...] = ()


# --- derived ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class StepWillRetry:
    """A failed step will be tried again, as attempt ``attempt``, ``delay_s`` seconds from now."""

    kind: ClassVar[str] = "step_will_retry"
    derived: ClassVar[bool] = True
    key: str
    attempt: int
    delay_s: float


@dataclass(slots=True)
class StepSkipped:
    """A step is not needed: ``because`` names the output that was left out (``step.output``)."""

    kind: ClassVar[str] = "step_skipped"
    derived: ClassVar[bool] = True
    key: str
    because: str


@dataclass(slots=True)
class StepNotRun:
    """A step cannot run: ``because`` is the key of the step, directly above it, that did not succeed."""

    kind: ClassVar[str] = "step_not_run"
    derived: ClassVar[bool] = True
    key: str
    because: str


@dataclass(slots=True)
class StepCancelled:
    """A step that was not running was cancelled before it started (again)."""

    kind: ClassVar[str] = "step_cancelled"
    derived: ClassVar[bool] = True
    key: str


# --- about the run, written by the driver, not told to the scheduler -------------------------------------------------


@dataclass(slots=True, kw_only=True)
class RunStarted:
    """The first event of a run's history."""

    kind: ClassVar[str] = "run_started"
    derived: ClassVar[bool] = True
    run_id: str
    job: str
    at: float  #: seconds since the epoch; all other times count from here
    pid: int
    steps: int
    max_concurrent: int
    limits: tuple[dict[str, object], ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    workers: str = ""  #: which kind of worker, and why
    retries: bool = True
    parent: str = ""  #: the run that this one was resumed from
    partial: bool = False  #: it has only some of the steps of its job
    origin: dict[str, object] = field(default_factory=dict)  #: the command that asked for it, to be asked again


@dataclass(slots=True)
class RunNotice:
    """What a person should know and what changes nothing: a limit that matches no step, a worker restarted."""

    kind: ClassVar[str] = "run_notice"
    derived: ClassVar[bool] = True
    message: str


@dataclass(slots=True)
class RunEnded:
    """The last event of a run's history."""

    kind: ClassVar[str] = "run_ended"
    derived: ClassVar[bool] = True
    status: Literal["succeeded", "failed", "cancelled", "interrupted"]  #: interrupted: its driver died; found later


Told = (
    StepStarted
    | StepSucceeded
    | StepFailed
    | StepReturned
    | SlotFreed
    | SlotsGranted
    | SlotsWaiting
    | CancelRequested
    | Woke
)
Derived = StepWillRetry | StepSkipped | StepNotRun | StepCancelled
Event = Told | Derived | StepReused | RunStarted | RunNotice | RunEnded
