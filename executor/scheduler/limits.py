"""The caps inside one run, and which of them each step counts against. Pure.

Limits of pools are no part of this: they belong to all runs, and the ledger holds them. A run only knows which slots
its steps want.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.config.settings import TagLimit
    from executor.plan.plan import Plan
    from executor.scheduler.commands import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may do at once.

    Raises:
        ValueError: a limit below 1, under which its steps would wait for ever.
    """

    max_concurrent: int  #: steps at once, 1 or more
    tags: tuple[TagLimit, ...] = ()

    def __post_init__(self) -> None:
        if self.max_concurrent < 1:
            raise ValueError(f"max_concurrent is {self.max_concurrent}; it must be 1 or more")
        for limit in self.tags:
            if limit.limit < 1:
                raise ValueError(f"the limit of {limit} is {limit.limit}; it must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundLimits:
    """The limits of a run, spread over the steps of a plan.

    A *limit* here is one counter: a tag limit with ``per_unique_value`` has one for each value that stands in the
    plan. A step's *signature* is the tuple of counters that it counts against; steps that share one wait together.

    The signature of a step that uses pools also has the slots that it wants, and its priority: the number of claims
    that wait is bounded for each signature, and those of low priority must not be in the way of an urgent one.
    """

    names: tuple[str, ...]  #: of each counter, for people: ``tag database=warehouse``
    capacity: tuple[int, ...]  #: of each counter
    signatures: tuple[tuple[int, ...], ...]  #: the counters of each distinct signature, ascending
    signature_of: tuple[int, ...]  #: step index -> position in ``signatures``
    unmatched: tuple[TagLimit, ...]  #: limits that no step of the plan counts against
    wanted: tuple[Wanted, ...] = ()  #: slots of pools that each signature wants; empty: no step of the plan uses pools


def bind(limits: Limits, plan: Plan) -> BoundLimits:
    """Which counters each step of ``plan`` counts against. O(steps x tag limits)."""
    names: list[str] = []
    capacity: list[int] = []
    counter_of: dict[tuple[int, str], int] = {}
    signature_ids: dict[tuple[tuple[int, ...], Wanted, int], int] = {}
    unlimited: tuple[tuple[int, ...], Wanted, int] = ((), (), 0)
    signature_of: list[int] = []
    matched: set[int] = set()
    # A value with a limit of its own beside the one of each value: the two names must differ.
    fixed = {(limit.key, limit.value) for limit in limits.tags}
    for step in plan.steps:
        counters: list[int] = []
        for number, limit in enumerate(limits.tags) if step.tags else ():
            value = step.tags.get(limit.key)
            if value is None or (limit.value is not None and value != limit.value):
                continue
            matched.add(number)
            distinct = value if limit.per_unique_value else ""
            counter = counter_of.setdefault((number, distinct), len(names))
            if counter == len(names):
                name = f"tag {limit.key}={value}" if limit.per_unique_value else str(limit)
                names.append(f"{name} (each value)" if limit.per_unique_value and (limit.key, value) in fixed else name)
                capacity.append(limit.limit)
            counters.append(counter)
        signature = unlimited
        if step.pools:
            signature = (tuple(sorted(counters)), tuple(sorted(step.pools.items())), step.priority)
        elif counters:
            signature = (tuple(sorted(counters)), (), 0)
        signature_of.append(signature_ids.setdefault(signature, len(signature_ids)))
    wanted_by = tuple([wanted for _, wanted, _ in signature_ids])
    return BoundLimits(
        names=tuple(names),
        capacity=tuple(capacity),
        signatures=tuple([counters for counters, _, _ in signature_ids]),
        signature_of=tuple(signature_of),
        unmatched=tuple(limit for number, limit in enumerate(limits.tags) if number not in matched),
        wanted=wanted_by if any(wanted_by) else (),
    )
