"""What a run would do if each step took a known time: the same scheduler, told events that nobody waited for. Pure.

Nothing runs. So the answer says what the limits allow and how the order comes out, not what workers would cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from executor.plan.paths import durations
from executor.scheduler.commands import StartStep, StopStep
from executor.scheduler.events import StepFailed, StepSucceeded, Woke
from executor.scheduler.outcomes import StepError
from executor.scheduler.retries import NO_CHANCE
from executor.scheduler.scheduler import Scheduler, Status
from executor.scheduler.simulated_ledger import SimulatedLedger, check_satisfiable
from executor.scheduler.waits import RETRY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Plan
    from executor.scheduler.commands import Command
    from executor.scheduler.limits import Limits
    from executor.scheduler.simulated_ledger import Answer


class Interval(NamedTuple):
    """One attempt of one step; times are seconds since the run began."""

    key: str
    attempt: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A run that was not made."""

    status: Status
    makespan_s: float  #: seconds from the start of the run to the end of its last step
    order: tuple[Interval, ...]  #: in the order in which they start
    width: int  #: the largest number of steps that run at once
    busy_s: float  #: seconds of all steps together
    waits_s: Mapping[str, float]  #: seconds that ready steps wait, all together, by the limit that holds them back

    @property
    def binds(self) -> str | None:
        """The limit that steps wait for most; None where none has to wait for a limit."""
        limits = {cause: seconds for cause, seconds in self.waits_s.items() if cause != RETRY}
        return max(limits, key=limits.__getitem__) if limits else None


def simulate(
    plan: Plan,
    limits: Limits,
    duration_s: Mapping[str, float] | None = None,
    *,
    pool_limits: Mapping[str, int] | None = None,
) -> Simulation:
    """How a run of ``plan`` under ``limits`` goes if each step takes as long as ``duration_s`` says of its key.

    A step that is not named takes the mean of those that are; without any, each takes 1, and seconds are steps. Every
    attempt succeeds with all of its outputs, but for one that would take longer than its timeout: it is stopped and
    fails when that is over, and its retry policy applies. Slots of the pools in ``pool_limits`` are granted by
    priority, then first come, first served; other pools have no limit, and no other run uses any.

    Raises:
        ValueError: a step wants more slots of a pool than its limit has.
    """
    check_satisfiable(plan, pool_limits or {})
    takes_s = dict(zip((step.key for step in plan.steps), durations(plan, duration_s), strict=True))
    scheduler = Scheduler(plan, limits, expected_s=takes_s)
    run = _Run(takes_s, SimulatedLedger(pool_limits or {}))
    run.follow(scheduler.start(0.0))
    while not scheduler.finished:
        wake_at = scheduler.wake_at
        event: StepSucceeded | StepFailed | Answer | Woke
        if run.answers:
            event = run.answers.pop(0)
        elif run.stopped:
            event = run.stop()
        elif run.ends and (wake_at is None or run.ends[0][0] <= wake_at):
            ended = run.end()
            if ended is None:
                continue
            event = ended
        else:
            # Nothing runs out before the next due time, and without one the scheduler would be stuck.
            run.now = run.now if wake_at is None else wake_at
            event = Woke()
        run.follow(scheduler.handle(event, run.now))
    status = scheduler.status
    assert status is not None  # noqa: S101 - it is None only of a run that is not finished
    return Simulation(
        status=status,
        makespan_s=max((interval.end_s for interval in run.order), default=0.0),
        order=tuple(run.order),
        width=run.width,
        busy_s=sum(interval.end_s - interval.start_s for interval in run.order),
        waits_s=run.waits_s,
    )


class _Run:
    """The workers of a run that is not made, and its share of the pools."""

    def __init__(self, takes_s: Mapping[str, float], ledger: SimulatedLedger) -> None:
        self.now = 0.0
        self.order: list[Interval] = []
        self.ends: list[tuple[float, int]] = []  #: a heap: when an attempt ends, and its position in ``order``
        self.running: dict[str, int] = {}  #: key -> position in ``order``
        self.stopped: list[str] = []  #: keys of attempts that were told to stop, and have not ended
        self.answers: list[Answer] = []  #: of the ledger, that the scheduler was not told yet
        self.width = 0
        self.waits_s: dict[str, float] = {}
        self._takes_s = takes_s
        self._ledger = ledger

    def follow(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, StartStep):
                end = self.now + self._takes_s[command.key]
                self.running[command.key] = len(self.order)
                heappush(self.ends, (end, len(self.order)))
                self.order.append(Interval(command.key, command.attempt, self.now, end))
                for cause, seconds in command.waited:
                    self.waits_s[cause] = self.waits_s.get(cause, 0.0) + seconds
            elif isinstance(command, StopStep):
                self.stopped.append(command.key)
        self.width = max(self.width, len(self.running))
        self.answers += [answer for _, answer in self._ledger.exchange(commands)]

    def end(self) -> StepSucceeded | None:
        """The next attempt ends well; None: it was stopped before."""
        at, position = heappop(self.ends)
        interval = self.order[position]
        if self.running.get(interval.key) != position:
            return None
        del self.running[interval.key]
        self.now = at
        return StepSucceeded(interval.key, interval.attempt)

    def stop(self) -> StepFailed:
        """An attempt that was told to stop ends now."""
        key = self.stopped.pop(0)
        position = self.running.pop(key)
        interval = self.order[position]
        self.order[position] = interval._replace(end_s=self.now)
        return StepFailed(key, interval.attempt, StepError("timed_out", "it takes longer than its timeout"), NO_CHANCE)
