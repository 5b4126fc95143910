"""What is shown of a run while it goes on: events in, at any moment a frame out. Pure.

A scheduler like the run's own is told what that was told, so each count and each limit in the way is what the run
itself goes by. An event costs what it cost there, and a frame what is shown of it: a run of hundreds of thousands of
steps is watched as easily as one of ten. Unaware of clocks, files and terminals.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.runs.remaining import Remaining
from executor.runs.replay import Replay
from executor.scheduler.events import (
    CancelRequested,
    RunEnded,
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
from executor.scheduler.states import FINAL, StepState
from executor.scheduler.waits import pool_cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Plan
    from executor.scheduler.events import Event, RunStarted
    from executor.scheduler.scheduler import Scheduler

# What is named of each kind in a frame, if it is not said otherwise; the rest is counted.
ROWS = 8


class RunningStep(NamedTuple):
    """A step that runs."""

    key: str
    attempt: int
    pid: int  #: 0: not known
    took_s: float
    usual_s: float | None  #: what steps like it take on average; None: not known
    slow: bool
    stopping: bool  #: somebody asked it to stop


class Held(NamedTuple):
    """Steps that could start, were it not for one limit or pool."""

    name: str  #: ``max_concurrent``, ``tag database=warehouse``, ``pool database``
    steps: int
    because: str  #: ``4 of 4``, ``1 of 1, held by train``; of a pool what the ledger says; may be empty


class Retrying(NamedTuple):
    """A step between two attempts."""

    key: str
    attempt: int  #: the next one
    in_s: float


class Failed(NamedTuple):
    """A step that failed for good."""

    key: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A run at one moment. Lists hold what fits; ``more_…`` says how many are left out."""

    run_id: str
    job: str
    status: str  #: ``running``, or how it ended
    stopping: str  #: why the run is being stopped; empty: it is not
    at_s: float  #: seconds since it began
    left_s: float | None  #: seconds until it is likely to end; None: not known
    steps: int
    over: int  #: steps that have come to their end
    counts: Mapping[StepState, int]
    running: tuple[RunningStep, ...] = ()  #: the slow ones first, then those that have run the longest
    more_running: int = 0
    held: tuple[Held, ...] = ()  #: what holds back the most first
    more_held: int = 0
    retrying: tuple[Retrying, ...] = ()
    more_retrying: int = 0
    failed: tuple[Failed, ...] = ()  #: the latest


class _Running:
    """What is known of a step that runs."""

    __slots__ = ("attempt", "index", "pid", "since", "stopping")

    def __init__(self, index: int, attempt: int, pid: int, since: float) -> None:
        self.index, self.attempt, self.pid, self.since = index, attempt, pid, since
        self.stopping = False


class _Waiting:
    """Claims that wait for the same pools, and what was last said of one of them."""

    __slots__ = ("keys", "reason")

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}
        self.reason = ""


class RunView:
    """Follows one run. ``tell`` it every event after the first in order; ask for a ``frame`` whenever one is shown."""

    def __init__(
        self, plan: Plan, started: RunStarted, t: float = 0.0, earlier_s: Mapping[str, float] | None = None
    ) -> None:
        """``started`` is the first event of the run, and ``t`` its time.

        ``earlier_s``: seconds that steps took in earlier runs of the job, by key, as far as that is known.
        """
        self.started = started
        self._plan = plan
        self._replay = Replay(plan, started, t)
        self._scheduler: Scheduler = self._replay.scheduler
        self._status, self._stopping, self._t = "running", "", t
        self._running: dict[str, _Running] = {}  #: in the order of their starts
        self._waiting: dict[str, _Waiting] = {}  #: by the pools that claims wait for, in words
        self._waits_for: dict[str, str] = {}  #: step whose claim waits -> its place in _waiting
        self._retries: dict[str, tuple[int, float]] = {}  #: step -> its next attempt, and when
        self._failed: deque[Failed] = deque(maxlen=ROWS)
        self._remaining = Remaining(plan, earlier_s)

    def tell(self, event: Event, t: float) -> None:
        """Something happened ``t`` seconds after the run began.

        Raises:
            ValueError: the event does not belong to this run.
        """
        self._t = max(self._t, t)
        self._replay.tell(event, t)
        match event:
            case StepStarted():
                self._start(event, t)
            case StepSucceeded():
                self._end(event, t)
            case StepFailed():
                self._end(event, t)
                if self._scheduler.state(event.key) is StepState.FAILED:
                    self._failed.append(Failed(event.key, event.error.message))
            case StepReturned():
                if (began := self._running.get(event.key)) is not None and began.attempt == event.attempt:
                    del self._running[event.key]
            case SlotsWaiting():
                self._wait(event)
            case SlotsGranted():
                self._wait_no_more(event.key)
            case StepWillRetry():
                self._retries[event.key] = event.attempt, t + event.delay_s
            case StepReused() | StepSkipped() | StepNotRun() | StepCancelled():
                self._over(event.key)
            case CancelRequested():
                self._cancel(event)
            case RunEnded():
                self._status = event.status
                self._running.clear()

    def frame(self, now: float | None = None, *, rows: int = ROWS) -> Frame:
        """The run as it is at ``now``, in seconds since it began; without it, at its latest event.

        ``rows``: how many of each kind are named.
        """
        now = self._t if now is None else max(now, self._t)
        counts = self._scheduler.counts()
        running = self._running_rows(now, rows)
        held = self._held(counts[StepState.READY])
        on_the_way = self._status == "running"
        return Frame(
            run_id=self.started.run_id,
            job=self.started.job,
            status=self._status,
            stopping=self._stopping,
            at_s=now,
            left_s=self._left_s(now) if on_the_way and not self._stopping else None,
            steps=len(self._plan),
            over=sum(counts[state] for state in FINAL),
            counts=counts,
            running=running,
            more_running=len(self._running) - len(running),
            held=tuple(held[:rows]) if on_the_way else (),
            more_held=max(0, len(held) - rows) if on_the_way else 0,
            retrying=tuple(
                Retrying(key, attempt, max(0.0, at - now)) for key, (attempt, at) in islice(self._retries.items(), rows)
            ),
            more_retrying=max(0, len(self._retries) - rows),
            failed=tuple(self._failed),
        )

    # --- events ------------------------------------------------------------------------------------------------------

    def _start(self, event: StepStarted, t: float) -> None:
        index = self._plan.index_of[event.key]
        self._wait_no_more(event.key)
        self._retries.pop(event.key, None)
        self._running[event.key] = _Running(index, event.attempt, event.pid, t)
        self._remaining.began(t)

    def _end(self, event: StepSucceeded | StepFailed, t: float) -> None:
        began = self._running.get(event.key)
        index = self._plan.index_of[event.key]
        if began is not None and began.attempt == event.attempt:
            del self._running[event.key]
            facts = event.facts
            self._remaining.measured(index, facts.ended_at - facts.started_at if facts.ended_at else t - began.since, t)
        if self._scheduler.state(event.key) in FINAL:
            self._over(event.key)

    def _over(self, key: str) -> None:
        self._wait_no_more(key)
        self._retries.pop(key, None)
        self._remaining.over(self._plan.index_of[key])

    def _wait(self, event: SlotsWaiting) -> None:
        if self._scheduler.state(event.key) is not StepState.CLAIMING:
            return  # what was told of a claim that waits no longer
        cause = pool_cause(event.pools or sorted(self._plan.step(event.key).pools))
        if self._waits_for.get(event.key) != cause:
            self._wait_no_more(event.key)
            self._waits_for[event.key] = cause
            self._waiting.setdefault(cause, _Waiting()).keys[event.key] = None
        if event.reason and event.cause != "busy":
            self._waiting[cause].reason = event.reason

    def _wait_no_more(self, key: str) -> None:
        cause = self._waits_for.pop(key, None)
        if cause is not None:
            waiting = self._waiting[cause]
            del waiting.keys[key]
            if not waiting.keys:
                del self._waiting[cause]

    def _cancel(self, event: CancelRequested) -> None:
        for key in event.keys or self._running:
            running = self._running.get(key)
            if running is not None:
                running.stopping = True
        if not event.keys:
            self._stopping = event.reason or "somebody asked"

    # --- frames ------------------------------------------------------------------------------------------------------

    def _running_rows(self, now: float, rows: int) -> tuple[RunningStep, ...]:
        # Those that have run the longest stand first already, so a slow one is among the first of its kind.
        slow: list[RunningStep] = []
        others: list[RunningStep] = []
        for key, each in self._running.items():
            took = now - each.since
            is_slow = self._remaining.slow(each.index, took)
            shown = slow if is_slow else others
            if len(shown) < rows:
                usual = self._remaining.usual_s(each.index)
                shown.append(RunningStep(key, each.attempt, each.pid, took, usual, is_slow, each.stopping))
        return tuple([*slow, *others][:rows])

    def _held(self, ready: int) -> list[Held]:
        found: dict[str, Held] = {}
        for cause, waiting in self._waiting.items():
            found[cause] = Held(cause, len(waiting.keys), waiting.reason)
        if ready:
            for name, steps, used, limit, held_by in self._scheduler.held_back():
                because = f"{used} of {limit}" if limit else ""
                if held_by:
                    because += f", held by {', '.join(held_by)}" + (", ..." if used > len(held_by) else "")
                before = found.get(name)
                found[name] = before._replace(steps=before.steps + steps) if before else Held(name, steps, because)
        return sorted(found.values(), key=lambda held: -held.steps)

    def _left_s(self, now: float) -> float | None:
        return self._remaining.left_s(now, [(each.index, each.since) for each in self._running.values()])


def view_of(plan: Plan, timeline: Any) -> RunView:
    """A view that was told a whole timeline, whose first event is that of the run."""
    events = iter(timeline)
    t, started = next(events)
    view = RunView(plan, started, t)
    for at, event in events:
        view.tell(event, at)
    return view
