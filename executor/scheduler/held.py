"""Which limits hold ready steps back, and how many: a run as a whole, for those who watch it. Pure."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.waits import MAX_CONCURRENT, pool_cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from executor.scheduler.limits import BoundLimits
    from executor.scheduler.ready import ReadyQueue

# Whoever shows it has room for a few lines; a run may have a signature for each of its steps.
MOST_SIGNATURES = 500
NAMES = 3


class HeldBack(NamedTuple):
    """Ready steps that one limit holds back."""

    name: str  #: ``max_concurrent``, ``tag database=warehouse``, ``pool database``
    steps: int
    used: int = 0  #: of a limit of the run: steps that count against it now
    limit: int = 0  #: 0: of a pool, whose limit the run does not know
    held_by: tuple[str, ...] = ()  #: keys of some of the steps that count against it, where ``steps`` wait for them


def held_back(
    bound: BoundLimits, max_concurrent: int, queue: ReadyQueue, holders: Iterable[int], keys: Sequence[str]
) -> list[HeldBack]:
    """The limits in the way of ready steps, those that hold back the most first.

    A step is counted once: for the first of its tag limits that is full, else for ``max_concurrent`` where that is,
    else for the pools that claims of steps like it wait for. With very many signatures some steps are left out.
    O(signatures looked at + holders).
    """
    found: dict[int | str, int] = {}
    for signature, steps in islice(queue.waiting(), MOST_SIGNATURES):
        full = next((each for each in bound.signatures[signature] if queue.used[each] >= bound.capacity[each]), None)
        cause: int | str
        if full is not None:
            cause = full
        elif queue.room <= 0 or not bound.wanted or not bound.wanted[signature]:
            cause = MAX_CONCURRENT
        else:
            cause = pool_cause(pool for pool, _ in bound.wanted[signature])
        found[cause] = found.get(cause, 0) + steps
    told = []
    for cause, steps in sorted(found.items(), key=lambda each: -each[1]):
        if isinstance(cause, int):
            held_by = [keys[step] for step in holders if cause in bound.signatures[bound.signature_of[step]]]
            used, limit = queue.used[cause], bound.capacity[cause]
            told.append(HeldBack(bound.names[cause], steps, used, limit, tuple(held_by[:NAMES])))
        elif cause == MAX_CONCURRENT:
            told.append(HeldBack(cause, steps, max_concurrent - queue.room, max_concurrent))
        else:
            told.append(HeldBack(cause, steps))
    return told
