"""A scheduler that is slow and obvious: no queue, no counter, no heap, no clock that runs beside.

It keeps one plain record per step and finds everything else by looking at all of them, again for each event. What it
answers must be what ``Scheduler`` answers: the same commands in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.scheduler.commands import Command, Record, StartStep, StopStep
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
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
    holds_slot: bool = False
    missing: set[str] = field(default_factory=set)
    waited: dict[str, float] = field(default_factory=dict)
    stopping: str | None = None
    deadline: float | None = None
    failed_at: float = 0.0
    retry_at: float | None = None


class SlowScheduler:
    """Says what ``Scheduler`` should say."""

    def __init__(
        self, plan: Plan, limits: Limits, *, retries: bool = True, expected_s: Mapping[str, float] | None = None
    ) -> None:
        self.plan, self.limits, self.retries = plan, limits, retries
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
        return sum(row.holds_slot for row in self.rows) < self.limits.max_concurrent

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
        fitting = [row for row in self.rows if row.state is S.READY and not self.full_limits(row.step)]
        return sorted(fitting, key=lambda r: (-r.step.priority, -self.remaining(r.step.index), r.step.index))

    # --- events ------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Command]:
        self.now = now
        return self.settle(now)

    def handle(self, event: Told, now: float) -> list[Command]:
        passed = now - self.now
        self.now = now
        for row in self.rows:
            if row.state is S.READY:
                for cause in self.full_limits(row.step) if self.has_room() else ["max_concurrent"]:
                    row.waited[cause] = row.waited.get(cause, 0.0) + passed
        commands: list[Command] = []
        if isinstance(event, CancelRequested):
            self.cancel(event, commands)
        elif isinstance(event, StepSucceeded | StepFailed | StepReturned | SlotFreed):
            row = self.rows[self.plan.index_of[event.key]]
            if isinstance(event, SlotFreed):
                if row.holds_slot and row.state is not S.RUNNING and row.attempt == event.attempt:
                    row.holds_slot = False
            elif row.state is S.RUNNING and row.attempt == event.attempt:
                self.end(row, event, commands)
        return commands + self.settle(now)

    def end(self, row: Row, event: StepSucceeded | StepFailed | StepReturned, commands: list[Command]) -> None:
        """An attempt is over."""
        stopping, row.stopping, row.deadline = row.stopping, None, None
        row.holds_slot = not isinstance(event, StepReturned) and not event.freed
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
            if row.state in {S.WAITING, S.READY, S.BACKOFF}:
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
            row.state, row.holds_slot = S.RUNNING, True
            row.attempt += 1
            if row.step.timeout_s is not None:
                row.deadline = now + row.step.timeout_s
            causes = sorted((cause, round(seconds, 6)) for cause, seconds in row.waited.items())
            row.waited = {}
            commands.append(StartStep(row.step.key, row.attempt, tuple(cause for cause in causes if cause[1] > 0)))
        return commands

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
