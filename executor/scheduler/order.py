"""In which order ready steps start when they cannot all start at once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.plan.paths import durations, longest_paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Plan


def start_order(plan: Plan, expected_s: Mapping[str, float] | None = None) -> list[int]:
    """Every step's index, first the one that starts first when all are ready. O(steps log steps + edges).

    Higher priority comes first; then the longest remaining path, by expected seconds where any are known and by steps
    where none are; then plan order. The order is total and does not change while the run goes on.
    """
    remaining = longest_paths(plan, durations(plan, expected_s))
    # Sorting is stable, also in reverse: equal steps stay in plan order, and the last sort weighs most.
    order = sorted(range(len(plan)), key=remaining.__getitem__, reverse=True)
    priorities = [step.priority for step in plan.steps]
    if len(set(priorities)) > 1:
        order.sort(key=priorities.__getitem__, reverse=True)
    return order
