"""Plans in one line, for tests of the scheduler."""

from __future__ import annotations

from typing import Any

from executor.config.settings import TagLimit
from executor.plan.plan import Plan, Source, Step, StepInput, make_plan
from executor.scheduler.limits import Limits
from executor.scheduler.scheduler import Scheduler


def step(key: str, reads: str = "", **fields: Any) -> tuple[str, str, dict[str, Any]]:
    """A step for ``plan_of``: its key, the keys that it reads from, and other fields of ``Step``."""
    return key, reads, fields


def plan_of(*steps: tuple[str, str, dict[str, Any]] | str) -> Plan:
    """A plan of these steps; a mere key is a step that reads nothing. ``load.maybe`` reads another output."""
    index_of: dict[str, int] = {}
    made = []
    for index, each in enumerate(steps):
        key, reads, fields = step(each) if isinstance(each, str) else each
        inputs = []
        for name in reads.split():
            above, _, output = name.partition(".")
            inputs.append(StepInput(name=name, sources=(Source(index_of[above], output or "result"),)))
        index_of[key] = index
        made.append(Step(**({"index": index, "key": key, "compute": None, "inputs": tuple(inputs)} | fields)))
    return make_plan("test", tuple(made))


def chain(size: int) -> Plan:
    """Steps s0, s1, …, each reading from the one before it."""
    return plan_of(*[step(f"s{index}", f"s{index - 1}" if index else "") for index in range(size)])


def scheduler_of(
    *steps: tuple[str, str, dict[str, Any]] | str, at_once: int = 1, tags: tuple[TagLimit, ...] = (), **fields: Any
) -> Scheduler:
    return Scheduler(plan_of(*steps), Limits(max_concurrent=at_once, tags=tags), **fields)
