"""How long a plan must take whatever the limits: the longest path from each step to the end. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.plan.plan import Plan


def durations(plan: Plan, expected_s: Mapping[str, float] | None = None) -> list[float]:
    """Seconds that each step is expected to take, by index.

    A step that ``expected_s`` does not name counts as the mean of those that it does. Where it names none, every step
    counts 1, so that a path is as long as its steps are many.
    """
    if not expected_s:
        return [1.0] * len(plan)
    found = [expected_s.get(step.key) for step in plan.steps]
    known = [seconds for seconds in found if seconds is not None]
    mean = sum(known) / len(known) if known else 1.0
    return [mean if seconds is None else float(seconds) for seconds in found]


def longest_paths(plan: Plan, duration_s: Sequence[float]) -> list[float]:
    """Seconds from the start of each step, by index, to the end of the longest path below it. O(steps + edges)."""
    remaining = list(duration_s)
    for index in range(len(plan) - 1, -1, -1):
        below = plan.downstream[index]
        if below:
            remaining[index] += max([remaining[step] for step in below])
    return remaining


def critical_path(plan: Plan, duration_s: Mapping[str, float] | None = None) -> tuple[tuple[str, ...], float]:
    """The keys of the longest path through the plan, first to last, and its seconds.

    No limit, however high, makes a run shorter than that. Of paths of the same length it is the one that comes first
    in plan order. Steps that ``duration_s`` does not name count as in ``durations``.
    """
    if not plan.steps:
        return (), 0.0
    remaining = longest_paths(plan, durations(plan, duration_s))
    at = max(range(len(plan)), key=remaining.__getitem__)
    total = remaining[at]
    keys = [plan.steps[at].key]
    while plan.downstream[at]:
        at = max(plan.downstream[at], key=remaining.__getitem__)
        keys.append(plan.steps[at].key)
    return tuple(keys), total
