"""Telling a run's history to a new scheduler, which then stands where the run's own scheduler stood.

The same object that ran the job explains it afterwards: what a step waited for at any moment, or what would have come
next.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from executor.authoring.tags import tagged_priority
from executor.errors import UsageError
from executor.plan.record import plan_from_record
from executor.scheduler.events import RunStarted, StepReused, Told
from executor.scheduler.limits import Limits
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event

TOLD: tuple[type, ...] = get_args(Told)


def read_plan(folder: RunFolder) -> Plan:
    """The plan of a run, as it was written down when the run began; its steps carry no functions.

    Raises:
        UsageError: the run has no plan: its driver was killed before it began, or it was removed.
    """
    try:
        with open(folder.plan, encoding="utf-8") as file:
            return plan_from_record(json.load(file))
    except FileNotFoundError:
        folder.refuse_gone()
        raise UsageError(f"run {folder.run_id} has no plan: its driver died before it began") from None


def replay(folder: RunFolder, *, until_s: float | None = None) -> Scheduler:
    """A scheduler that was told what the run's own was told, at the same times; ``until_s`` stops at that second.

    Raises:
        UsageError: the run has no plan or no first event: its driver was killed before it began.
        HistoryUnreadable: the history is damaged.
    """
    from executor.runs.history import read_history

    plan = read_plan(folder)
    events = read_history(folder.events)
    began, first = next(events, (0.0, None))
    if not isinstance(first, RunStarted):
        raise UsageError(f"run {folder.run_id} has no first event: its driver died before it began")
    telling = Replay(plan, first, began)
    for t, event in events:
        if until_s is not None and t > until_s:
            break
        telling.tell(event, t)
    telling.begin()
    return telling.scheduler


class Replay:
    """A scheduler that is told the events of a run, one after another, from the one after the first."""

    def __init__(self, plan: Plan, started: RunStarted, began: float) -> None:
        """``started`` is the first event of the run, and ``began`` its time."""
        self.scheduler = Scheduler(
            plan, read_limits(started), retries=started.retries, run_priority=run_priority(started.tags)
        )
        self._began = began
        self._reused: list[StepReused] | None = []  #: None: the scheduler has begun
        if not started.parent:  # there are none
            self.begin()

    def tell(self, event: Event, t: float) -> None:
        """Something happened ``t`` seconds after the run began."""
        if isinstance(event, StepReused):  # all of them follow the first event at once
            if self._reused is not None:
                self._reused.append(event)
            return
        self.begin()
        if isinstance(event, TOLD):
            self.scheduler.handle(event, t)  # type: ignore[arg-type]  # mypy does not follow get_args

    def begin(self) -> None:
        """Let the scheduler begin, if it has not: there are no more steps that are reused."""
        if self._reused is not None:
            reused, self._reused = self._reused, None
            self.scheduler.start(self._began, reused)


def run_priority(tags: Mapping[str, str]) -> int:
    """The priority of a run with these tags, which is added to that of each of its claims.

    Raises:
        DefinitionError: the tag ``dagster/priority`` is not a whole number.
    """
    return tagged_priority("the run", tags) or 0


def read_limits(started: RunStarted) -> Limits:
    """The limits of a run, as its first event has them."""
    from executor.config.settings import TagLimit

    tags = []
    for record in started.limits:
        fields: dict[str, Any] = dict(record)
        tags.append(TagLimit(**fields))
    return Limits(max_concurrent=started.max_concurrent, tags=tuple(tags))
