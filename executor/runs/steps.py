"""What became of each step of a run, as its events tell it: where it stands, and its attempts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from executor.scheduler.events import (
    CancelRequested,
    Facts,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.scheduler.events import Event
    from executor.scheduler.outcomes import StepError, StoredValue


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """One attempt of a step: when it ran, how it ended, and what it took. Times are seconds since the run began."""

    number: int  #: counted from 1
    started_at: float
    ended_at: float | None = None  #: None: it was running when the run was cut off
    outcome: Literal["running", "succeeded", "failed"] = "running"
    error: StepError | None = None  #: None unless it failed
    facts: Facts = field(default_factory=Facts)  #: CPU seconds, peak memory, pid, lane and place in the lane's log
    waited: dict[str, float] = field(default_factory=dict)  #: seconds by cause, from being ready to being started
    lingered: bool = False  #: processes of it had to be killed after its end

    @property
    def wall_s(self) -> float:
        """Seconds from start to end; 0 where it has no end."""
        return 0.0 if self.ended_at is None else self.ended_at - self.started_at

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time, user and system, of the step and the children that it waited for."""
        return self.facts.cpu_s

    @property
    def peak_rss_bytes(self) -> int:
        """The largest resident memory of the step's process during the attempt."""
        return self.facts.peak_rss_bytes

    @property
    def exit_code(self) -> int | None:
        """How the attempt's process ended: negative for a signal; None where the process lived on."""
        return self.facts.exit_code

    @property
    def pid(self) -> int:
        """The id that the attempt's process had."""
        return self.facts.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step of a run: where it stands, and its attempts."""

    key: str
    state: StepState
    attempts: tuple[AttemptResult, ...] = ()
    because: str | None = None  #: of a step that was skipped or not run: the output or step that decided it
    outputs: tuple[StoredValue, ...] = ()
    missing: tuple[str, ...] = ()  #: optional outputs that it left out
    reused_from: str | None = None  #: the earlier run in which it succeeded; None: it is of this run

    @property
    def success(self) -> bool:
        """Whether it succeeded."""
        return self.state is StepState.SUCCEEDED

    @property
    def error(self) -> StepError | None:
        """Why its last attempt failed; None where it did not."""
        return self.attempts[-1].error if self.attempts else None

    @property
    def waited(self) -> dict[str, float]:
        """Seconds that it was ready and held back, by cause, over all attempts."""
        total: dict[str, float] = {}
        for attempt in self.attempts:
            for cause, seconds in attempt.waited.items():
                total[cause] = total.get(cause, 0.0) + seconds
        return total

    @property
    def wall_s(self) -> float:
        """Seconds that its attempts ran, added up."""
        return sum(attempt.wall_s for attempt in self.attempts)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of its attempts, added up."""
        return sum(attempt.cpu_s for attempt in self.attempts)

    @property
    def peak_rss_bytes(self) -> int:
        """The largest resident memory of any of its attempts."""
        return max((attempt.peak_rss_bytes for attempt in self.attempts), default=0)

    def explain(self) -> str:
        """What became of it, in a few words that follow "it": ``failed: ValueError: no rows``."""
        if self.state is StepState.FAILED and self.error is not None:
            return f"failed: {self.error.message}"
        if self.state is StepState.NOT_RUN:
            return f"was not run, because {self.because!r} did not succeed"
        if self.state is StepState.SKIPPED:
            return f"was skipped, because {self.because!r} was left out"
        return _STATE_WORDS[self.state]


_STATE_WORDS = {
    StepState.WAITING: "was never reached",
    StepState.READY: "was never started",
    StepState.CLAIMING: "was waiting for slots of a pool when the run was cut off",
    StepState.RUNNING: "was running when the run was cut off",
    StepState.BACKOFF: "was waiting for its next attempt when the run was cut off",
    StepState.SUCCEEDED: "succeeded",
    StepState.FAILED: "failed",
    StepState.CANCELLED: "was cancelled",
}


class _StepBuilder:
    """What is known of one step while its events are read."""

    __slots__ = ("attempts", "because", "missing", "outputs", "reused_from", "state", "stopping")

    def __init__(self) -> None:
        self.stopping = False  # somebody asked for the attempt that runs to stop
        self.state = StepState.WAITING
        self.attempts: list[AttemptResult] = []
        self.because: str | None = None
        self.outputs: tuple[StoredValue, ...] = ()
        self.missing: tuple[str, ...] = ()
        self.reused_from: str | None = None


def collect_steps(timeline: Iterable[tuple[float, Event]], keys: Iterable[str] = ()) -> dict[str, StepResult]:
    """Every step by its key, as the events tell it; ``keys`` are there in any case, and come first."""
    builders = {key: _StepBuilder() for key in keys}
    for t, event in timeline:
        key = getattr(event, "key", None)
        if isinstance(event, CancelRequested):
            for asked in event.keys or builders:
                builders.setdefault(asked, _StepBuilder()).stopping = True
        elif key is not None:
            _apply(builders.setdefault(key, _StepBuilder()), t, event)
    return {
        key: StepResult(
            key=key,
            state=step.state,
            attempts=tuple(step.attempts),
            because=step.because,
            outputs=step.outputs,
            missing=step.missing,
            reused_from=step.reused_from,
        )
        for key, step in builders.items()
    }


def _apply(step: _StepBuilder, t: float, event: Event) -> None:
    match event:
        case StepStarted():
            step.state, step.stopping = StepState.RUNNING, False
            facts = Facts(started_at=t, pid=event.pid, lane=event.lane)
            waited = dict(event.waited)
            step.attempts.append(AttemptResult(number=event.attempt, started_at=t, facts=facts, waited=waited))
        case StepSucceeded():
            step.state = StepState.SUCCEEDED
            step.outputs, step.missing = event.outputs, event.missing
            _end_attempt(step, t, event)
        case StepReused():
            step.state, step.reused_from = StepState.SUCCEEDED, event.run_id
            step.outputs, step.missing = event.outputs, event.missing
        case StepFailed():
            # Whatever a step that was asked to stop fails with, it is the stopping that ended it.
            cancelled = step.stopping or event.error.kind == "cancelled"
            step.state = StepState.CANCELLED if cancelled else StepState.FAILED
            _end_attempt(step, t, event)
        case StepWillRetry():
            step.state = StepState.BACKOFF if event.delay_s else StepState.READY
        case StepReturned():
            step.state = StepState.READY
            if step.attempts and step.attempts[-1].number == event.attempt:
                step.attempts.pop()  # no attempt was spent
        case SlotFreed():
            _free_attempt(step, event)
        case StepSkipped() | StepNotRun():
            step.state = StepState.SKIPPED if isinstance(event, StepSkipped) else StepState.NOT_RUN
            step.because = event.because
        case StepCancelled():
            step.state = StepState.CANCELLED
        case SlotsWaiting():
            step.state = StepState.CLAIMING
        case SlotsGranted():
            pass  # the start follows, or the claim is handed back
        case _:
            raise ValueError(f"{event.kind} is not about a step")


def _end_attempt(step: _StepBuilder, t: float, event: StepSucceeded | StepFailed) -> None:
    begun = step.attempts.pop() if step.attempts and step.attempts[-1].number == event.attempt else None
    # Where the worker measured the times, they are nearer to the step than when the driver heard of them.
    measured = event.facts.ended_at > 0
    step.attempts.append(
        AttemptResult(
            number=event.attempt,
            started_at=event.facts.started_at if measured else begun.started_at if begun else t,
            ended_at=event.facts.ended_at if measured else t,
            outcome="succeeded" if isinstance(event, StepSucceeded) else "failed",
            error=event.error if isinstance(event, StepFailed) else None,
            facts=event.facts if measured or begun is None else begun.facts,
            waited=begun.waited if begun else {},
        )
    )


def _free_attempt(step: _StepBuilder, event: SlotFreed) -> None:
    """What is known of an attempt's end only when its processes are gone."""
    for position, attempt in enumerate(step.attempts):
        if attempt.number == event.attempt:
            exit_code = attempt.facts.exit_code if event.exit_code is None else event.exit_code
            facts = attempt.facts._replace(exit_code=exit_code)
            step.attempts[position] = replace(attempt, lingered=event.lingered, facts=facts)
