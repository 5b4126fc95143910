"""The rule of who gets slots, written down in the obvious way: every claim is looked at, anew after every grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from executor.ledger.claims import Needs

PASSES = 16


@dataclass
class Waiting:
    seq: int
    owner: str
    priority: int
    needs: Needs
    overdue: bool
    passed: int


def slow_grant(
    waiting: Sequence[Waiting], limits: Mapping[str, int | None], held: Mapping[str, int], dead: set[str]
) -> tuple[list[int], dict[int, int]]:
    """The claims that are granted, in order; and how often claims were passed by now, for those that were."""
    left = [w for w in waiting if w.owner not in dead]
    taken = dict(held)
    counts = {w.seq: w.passed for w in left}
    granted: list[int] = []
    while (found := next_grant(left, limits, taken, counts)) is not None:
        winner, passed = found
        granted.append(winner.seq)
        left.remove(winner)
        for pool, weight in winner.needs:
            taken[pool] += weight
        for seq in passed:
            counts[seq] += 1
    changed = {w.seq: counts[w.seq] for w in waiting if w.seq in counts and counts[w.seq] != w.passed}
    return granted, changed


def next_grant(
    waiting: Sequence[Waiting], limits: Mapping[str, int | None], taken: Mapping[str, int], counts: Mapping[int, int]
) -> tuple[Waiting, list[int]] | None:
    """Who is granted next, and whom he passes; None: nobody."""
    reserved: set[str] = set()
    refused: dict[tuple[Needs, bool, bool], Waiting] = {}  #: the first of each kind
    for w in sorted(waiting, key=lambda w: (0, 0, w.seq) if w.overdue else (1, -w.priority, w.seq)):
        limited = {pool: weight for pool, weight in w.needs if limits[pool] is not None}
        if any(weight > (limits[pool] or 0) for pool, weight in limited.items()):
            continue
        lacking = {pool for pool, weight in limited.items() if taken[pool] + weight > (limits[pool] or 0)}
        if not lacking and not reserved & limited.keys():
            return w, [first.seq for first in refused.values() if limited.keys() & {pool for pool, _ in first.needs}]
        often = counts[w.seq] >= PASSES
        reserved |= set(limited) if w.overdue or often else lacking
        refused.setdefault((w.needs, w.overdue, often), w)
    return None
