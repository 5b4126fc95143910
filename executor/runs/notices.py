"""What a person should know before a run begins, and that does not stop it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import did_you_mean
from executor.scheduler.limits import bind

if TYPE_CHECKING:
    from executor.config.settings import TagLimit
    from executor.plan.plan import Plan
    from executor.scheduler.limits import Limits

NAMES_SHOWN = 5  # of tags or values that there are, where none is near


def limit_notices(plan: Plan, limits: Limits) -> list[str]:
    """A sentence for each tag limit that no step of the plan counts against, with what may have been meant."""
    unmatched = bind(limits, plan).unmatched
    if not unmatched:
        return []
    values: dict[str, set[str]] = {}
    for step in plan.steps:
        for key, value in step.tags.items():
            values.setdefault(key, set()).add(value)
    return [_notice(limit, values) for limit in unmatched]


def _notice(limit: TagLimit, values: dict[str, set[str]]) -> str:
    text = f"the limit on {limit} limits nothing: no step of this run has "
    if limit.key not in values:
        known = _known("tags", values) if values else "; no step has any tag"
        return f"{text}the tag {limit.key!r}{did_you_mean(limit.key, values) or known}"
    there = values[limit.key]
    return f"{text}that value{did_you_mean(limit.value or '', there) or _known('values', there)}"


def _known(what: str, names: dict[str, set[str]] | set[str]) -> str:
    shown = sorted(names)
    more = ", ..." if len(shown) > NAMES_SHOWN else ""
    return f"; {what} that there are: {', '.join(map(repr, shown[:NAMES_SHOWN]))}{more}"
