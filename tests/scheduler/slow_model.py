"""A scheduler that is slow and obvious: no queue, no counter, no heap, no clock that runs beside.

It keeps one plain record per step and finds everything else by looking at all of them, again for each event. What it
answers must be what ``Scheduler`` answers: the same commands in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.scheduler.commands import (
    ClaimSlots,
    Command,
    HandBackSlots,
    Record,
    ReleaseSlots,
    StartStep,
    StopStep,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSkipped,
    StepSucceeded,
    StepWillRetry,
    Told,
)
from executor.scheduler.states import StepState as S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.config.settings import TagLimit
    from executor.plan.plan import Plan, Step
    from executor.scheduler.limits import Limits

OVER = {S.SUCCEEDED, S.FAILED, S.SKIPPED, S.NOT_RUN, S.CANCELLED}
GOOD = {S.SUCCEEDED, S.SKIPPED}


@dataclass
class Row:
    """All that is known of one step."""

    step: Step
    state: S = S.WAITING
    attempt: int = 0
    holds_slot: bool = False  #: also while the ledger is asked
    claim: str | None = None  #: asked, waiting, parked or held
    token: int = 0  #: the latest
    blockers: tuple[str, ...] = ()
    missing: set[str] = field(default_factory=set)
    waited: dict[str, float] = field(default_factory=dict)
    stopping: str | None = None
    deadline: float | None = None
    failed_at: float = 0.0
    retry_at: float | None = None


class SlowScheduler:
    """Says what ``Scheduler`` should say."""

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        *,
        retries: bool = True,
        expected_s: Mapping[str, float] | None = None,
        run_priority: int = 0,
    ) -> None:
        self.plan, self.limits, self.retries = plan, limits, retries
        self.run_priority = run_priority
        self.expected_s = expected_s or {}
        self.rows = [Row(step) for step in plan.steps]
        self.cancelled = False
        self.now = 0.0

    # --- what may start ----------------------------------------------------------------------------------------------

    def counts_against(self, step: Step) -> list[tuple[str, TagLimit, str]]:
        """The tag limits that a step counts against: a name, the limit, and the value that it shares."""
        found = []
        for limit in self.limits.tags:
            value = step.tags.get(limit.key)
            if value is None or (limit.value is not None and limit.value != value):
                continue
            name = str(limit)
            if limit.per_unique_value:
                name = f"tag {limit.key}={value}"
                if any(other.key == limit.key and other.value == value for other in self.limits.tags):
                    name += " (each value)"
            found.append((name, limit, value if limit.per_unique_value else ""))
        return found

    def full_limits(self, step: Step) -> list[str]:
        """Names of the tag limits that keep a step from starting now."""
        full = []
        for name, limit, value in self.counts_against(step):
            used = 0
            for row in self.rows:
                if row.holds_slot:
                    used += any((other, shared) == (limit, value) for _, other, shared in self.counts_against(row.step))
            if used >= limit.limit:
                full.append(name)
        return full

    def has_room(self) -> bool:
        return self.room() > 0

    def room(self) -> int:
        return self.limits.max_concurrent - sum(row.holds_slot for row in self.rows)

    def free_capacity(self, step: Step) -> int:
        """How many steps with the limits of this one could start now."""
        free = [self.room()]
        for _, limit, value in self.counts_against(step):
            used = sum(
                row.holds_slot
                and any((other, shared) == (limit, value) for _, other, shared in self.counts_against(row.step))
                for row in self.rows
            )
            free.append(limit.limit - used)
        return min(free)

    def claims_like(self, step: Step) -> int:
        """How many claims wait of steps with the same limits, priority, and slots wanted."""
        return sum(
            row.claim == "waiting"
            and (row.step.pools, row.step.priority) == (step.pools, step.priority)
            and self.counts_against(row.step) == self.counts_against(step)
            for row in self.rows
        )

    def is_crowded(self, step: Step) -> bool:
        return bool(step.pools) and self.claims_like(step) > self.free_capacity(step)

    def pool_cause(self, row: Row) -> str:
        return "pool " + " + ".join(row.blockers or sorted(row.step.pools))

    def remaining(self, index: int) -> float:
        """Length of the longest path from this step down."""
        if self.expected_s:
            known = [self.expected_s[step.key] for step in self.plan.steps if step.key in self.expected_s]
            mean = sum(known) / len(known) if known else 1.0
            own = self.expected_s.get(self.plan.steps[index].key, mean)
        else:
            own = 1.0
        return own + max((self.remaining(below) for below in self.plan.downstream[index]), default=0.0)

    def may_start(self) -> list[Row]:
        """The steps that fit every limit now, the first to start first."""
        if not self.has_room():
            return []
        fitting = [
            row
            for row in self.rows
            if row.state is S.READY and not self.full_limits(row.step) and not self.is_crowded(row.step)
        ]
        return sorted(fitting, key=self.place)

    def place(self, row: Row) -> tuple[float, float, int]:
        """Where a step stands in the order."""
        return (-row.step.priority, -self.remaining(row.step.index), row.step.index)

    # --- events ------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Command]:
        self.now = now
        return self.settle(now)

    def handle(self, event: Told, now: float) -> list[Command]:
        passed = now - self.now
        self.now = now
        for row in self.rows:
            if row.state is S.READY:
                causes = self.full_limits(row.step) if self.has_room() else ["max_concurrent"]
                for cause in causes or [self.pool_cause(row)]:
                    row.waited[cause] = row.waited.get(cause, 0.0) + passed
            elif row.state is S.CLAIMING:
                cause = self.pool_cause(row)
                row.waited[cause] = row.waited.get(cause, 0.0) + passed
        commands: list[Command] = []
        if isinstance(event, CancelRequested):
            self.cancel(event, commands)
        elif isinstance(event, StepSucceeded | StepFailed | StepReturned | SlotFreed):
            row = self.rows[self.plan.index_of[event.key]]
            if isinstance(event, SlotFreed):
                held = row.holds_slot and row.state is not S.CLAIMING
                if held and row.state is not S.RUNNING and row.attempt == event.attempt:
                    self.free(row, commands)
            elif row.state is S.RUNNING and row.attempt == event.attempt:
                self.end(row, event, commands)
            elif row.state is S.CLAIMING and row.attempt + 1 == event.attempt and isinstance(event, StepFailed):
                self.refuse(row, commands)
        elif isinstance(event, SlotsGranted | SlotsWaiting):
            row = self.rows[self.plan.index_of[event.key]]
            if row.state is S.CLAIMING and row.attempt + 1 == event.attempt:
                self.answer(row, event, commands)
        return commands + self.settle(now)

    def answer(self, row: Row, event: SlotsGranted | SlotsWaiting, commands: list[Command]) -> None:
        """The ledger says something of a claim that needs slots."""
        if isinstance(event, SlotsWaiting):
            row.claim, row.holds_slot = "waiting", False
            row.blockers = event.pools
        elif event.token > row.token:
            row.token = event.token
            row.blockers = ()
            if row.claim == "asked" or self.give_way(row):
                row.claim = "held"
                self.start_step(row, commands)
            else:
                row.claim, row.state = "parked", S.READY
                commands.append(HandBackSlots(row.step.key, row.attempt + 1, row.token))

    def refuse(self, row: Row, commands: list[Command]) -> None:
        """Nobody can grant the slots that an attempt waits for."""
        row.attempt += 1
        commands.append(WithdrawClaim(row.step.key, row.attempt))
        row.state, row.claim, row.holds_slot = S.FAILED, None, False

    def give_way(self, row: Row) -> bool:
        """Whether a step can start, if those that are asked give back their room as far as it is in the way."""
        giving = []
        for other in sorted((row for row in self.rows if row.claim == "asked"), key=self.place, reverse=True):
            names = [name for name, _, _ in self.counts_against(other.step)]
            if not self.has_room() or set(names) & set(self.full_limits(row.step)):
                other.holds_slot = False
                giving.append(other)
        fits = self.has_room() and not self.full_limits(row.step)
        for other in giving:
            other.holds_slot, other.claim = not fits, "waiting" if fits else "asked"
        return fits

    def free(self, row: Row, commands: list[Command]) -> None:
        """The processes of an attempt are gone."""
        row.holds_slot = False
        if row.claim is not None:
            row.claim = None
            commands.append(ReleaseSlots(row.step.key, row.attempt, row.token))

    def end(self, row: Row, event: StepSucceeded | StepFailed | StepReturned, commands: list[Command]) -> None:
        """An attempt is over."""
        stopping, row.stopping, row.deadline = row.stopping, None, None
        if isinstance(event, StepReturned) or event.freed:
            self.free(row, commands)
        if isinstance(event, StepReturned):
            row.attempt -= 1
            if stopping == "cancelled":
                row.state = S.CANCELLED
                commands.append(Record(StepCancelled(row.step.key)))
            else:
                row.state = S.READY
        elif isinstance(event, StepSucceeded) and stopping != "timed_out":
            row.state = S.SUCCEEDED
            row.missing = set(event.missing)
        elif stopping == "cancelled" or (isinstance(event, StepFailed) and event.error.kind == "cancelled"):
            row.state = S.CANCELLED
        else:
            delay_s = self.delay(row, event)
            if delay_s is None:
                row.state = S.FAILED
            else:
                commands.append(Record(StepWillRetry(row.step.key, row.attempt + 1, delay_s)))
                row.state = S.BACKOFF
                row.failed_at, row.retry_at = self.now, self.now + delay_s

    def delay(self, row: Row, event: StepSucceeded | StepFailed) -> float | None:
        """Seconds to the next attempt; None: there is none."""
        policy = row.step.retry
        retries_made = row.attempt - 1
        if not self.retries or (isinstance(event, StepFailed) and not event.error.allow_retries):
            return None
        if isinstance(event, StepFailed) and event.error.kind == "retry_requested":
            allowed = 1 if event.error.max_retries is None else event.error.max_retries
            return (event.error.retry_after_s or 0.0) if retries_made < allowed else None
        if policy is None or retries_made >= policy.max_retries:
            return None
        return policy.delay_s(row.attempt, event.chance if isinstance(event, StepFailed) else 0.5)

    def cancel(self, event: CancelRequested, commands: list[Command]) -> None:
        chosen = [row for row in self.rows if not event.keys or row.step.key in event.keys]
        for row in chosen:
            if row.state is S.RUNNING and (event.kill or row.stopping != "cancelled"):
                commands.append(StopStep(row.step.key, row.attempt, "cancelled", event.kill))
                row.stopping, row.deadline = "cancelled", None
        for row in chosen:
            if row.state in {S.WAITING, S.READY, S.CLAIMING, S.BACKOFF}:
                if row.claim in {"asked", "waiting", "parked"}:
                    row.claim, row.holds_slot = None, False
                    commands.append(WithdrawClaim(row.step.key, row.attempt + 1))
                row.state = S.CANCELLED
                commands.append(Record(StepCancelled(row.step.key)))
        self.cancelled = self.cancelled or not event.keys

    # --- what follows ------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> list[Command]:
        """Look at every step, in plan order, for what must happen to it now."""
        commands: list[Command] = []
        for row in self.rows:
            above = [self.rows[index] for index in self.plan.upstream[row.step.index]]
            bad = [other for other in above if other.state in OVER - GOOD]
            if row.state is S.WAITING and bad:
                row.state = S.NOT_RUN
                commands.append(Record(StepNotRun(row.step.key, bad[0].step.key)))
        for row in self.rows:
            reasons = self.reasons_to_skip(row)
            if row.state is S.WAITING and reasons:
                index, output = min(reasons)
                row.state = S.SKIPPED
                commands.append(Record(StepSkipped(row.step.key, f"{self.rows[index].step.key}.{output}")))
        for row in self.rows:
            if row.state is S.WAITING and all(
                self.rows[index].state in GOOD for index in self.plan.upstream[row.step.index]
            ):
                row.state = S.READY
        due = [(row.deadline, row.step.index) for row in self.rows if row.deadline is not None and row.deadline <= now]
        for _, index in sorted(due):
            row = self.rows[index]
            row.stopping, row.deadline = "timed_out", None
            commands.append(StopStep(row.step.key, row.attempt, "timed_out"))
        for row in self.rows:
            if row.state is S.BACKOFF and row.retry_at is not None and row.retry_at <= now and not row.holds_slot:
                row.state = S.READY
                row.waited["retry"] = now - row.failed_at
        while rows := self.may_start():
            row = rows[0]
            if row.step.pools:
                self.ask(row, commands)
            else:
                self.start_step(row, commands)
        return commands

    def ask(self, row: Row, commands: list[Command]) -> None:
        key, attempt = row.step.key, row.attempt + 1
        if row.claim is None:
            priority = self.run_priority + row.step.priority
            commands.append(ClaimSlots(key, attempt, tuple(sorted(row.step.pools.items())), priority))
        else:
            commands.append(UnparkClaim(key, attempt))
        row.state, row.claim, row.holds_slot, row.blockers = S.CLAIMING, "asked", True, ()

    def start_step(self, row: Row, commands: list[Command]) -> None:
        row.state, row.holds_slot = S.RUNNING, True
        row.attempt += 1
        if row.step.timeout_s is not None:
            row.deadline = self.now + row.step.timeout_s
        causes = sorted((cause, round(seconds, 6)) for cause, seconds in row.waited.items())
        row.waited = {}
        waited = tuple(cause for cause in causes if cause[1] > 0)
        commands.append(StartStep(row.step.key, row.attempt, waited, row.token if row.claim else None))

    def reasons_to_skip(self, row: Row) -> list[tuple[int, str]]:
        """The outputs that were left out and that the step cannot do without."""
        reasons = []
        for item in row.step.inputs:
            left_out = []
            for source in item.sources:
                other = self.rows[source.step]
                if other.state is S.SKIPPED or (other.state is S.SUCCEEDED and source.output in other.missing):
                    left_out.append((source.step, source.output))
            if not item.fan_in:
                reasons += left_out
            elif left_out and len(left_out) == len(item.sources):
                reasons.append(left_out[0])
        return reasons

    # --- what can be asked -------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return all(row.state in OVER and not row.holds_slot for row in self.rows)

    @property
    def status(self) -> str | None:
        if not self.finished:
            return None
        if all(row.state in GOOD for row in self.rows):
            return "succeeded"
        return "cancelled" if self.cancelled else "failed"

    @property
    def wake_at(self) -> float | None:
        """The earliest time at which something happens by itself."""
        times = [row.deadline for row in self.rows if row.deadline is not None]
        times += [
            row.retry_at
            for row in self.rows
            if row.state is S.BACKOFF and row.retry_at is not None and not row.holds_slot
        ]
        return min(times, default=None)
