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
from executor.scheduler.events import RunStarted, Told
from executor.scheduler.limits import Limits
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder

TOLD: tuple[type, ...] = get_args(Told)


def read_plan(folder: RunFolder) -> Plan:
    """The plan of a run, as it was written down when the run began; its steps carry no functions.

    Raises:
        UsageError: the run has no plan: its driver was killed before it began.
    """
    try:
        with open(folder.plan, encoding="utf-8") as file:
            return plan_from_record(json.load(file))
    except FileNotFoundError:
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
    scheduler = begin(plan, first, began)
    for t, event in events:
        if until_s is not None and t > until_s:
            break
        if isinstance(event, TOLD):
            scheduler.handle(event, t)  # type: ignore[arg-type]  # mypy does not follow get_args
    return scheduler


def begin(plan: Plan, started: RunStarted, began: float) -> Scheduler:
    """A scheduler that stands where the run's own stood after its first event."""
    scheduler = Scheduler(plan, read_limits(started), retries=started.retries, run_priority=run_priority(started.tags))
    scheduler.start(began)
    return scheduler


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
