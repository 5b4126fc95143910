"""For how long a ready step was held back, and by which limit. Pure; O(signature) per step, nothing while it waits.

A step that is ready and does not start waits for one of two reasons: all of ``max_concurrent`` is taken, or there is
room and a tag limit of the step is full. So two kinds of clock are enough, however many steps wait. One runs while
there is room (*idle* time). Each tag limit has one that adds up the idle time in which that limit was full. A step
notes them when it becomes ready and reads them when it starts. Two tag limits of one step that were full at the same
time both count that time.

A step that wants slots of pools is ready until the ledger is asked for them. When neither max_concurrent nor a tag
limit holds it back, it waits behind claims that want the same, so that time is the pools'. One more kind of clock, for
each set of tag limits that such steps have, adds up the idle time in which none of them was full. How long the claim
itself waits is measured in ``claims.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.scheduler.limits import BoundLimits

#: The causes of a wait that are no tag limits; those of pools are made by ``pool_cause``.
MAX_CONCURRENT = "max_concurrent"
RETRY = "retry"

#: Seconds by cause, as ``StartStep`` and ``StepStarted`` carry them.
Waited = tuple[tuple[str, float], ...]

# Microseconds: finer than what a driver can measure, and coarse enough to hide the rounding of sums.
DIGITS = 6


def pool_cause(pools: Iterable[str]) -> str:
    """The cause of waiting for slots of these pools: ``pool database``, or ``pool api + database``."""
    return "pool " + " + ".join(pools)


class WaitClock:
    """Seconds by cause since each step became ready."""

    __slots__ = (
        "_at",
        "_clear",
        "_full",
        "_full_s",
        "_idle_s",
        "_marked",
        "_marks",
        "_names",
        "_pool_causes",
        "_ready_at",
        "_signature_of",
        "_signatures",
        "_watched",
    )

    def __init__(self, bound: BoundLimits) -> None:
        self._names = bound.names
        self._signatures = bound.signatures
        self._signature_of = bound.signature_of
        self._at = 0.0  #: up to when the clocks are told
        self._idle_s = 0.0  #: how long max_concurrent has had room
        #: Of each tag limit: idle time in which it was full. While it is full, less the idle time when it became so.
        self._full_s = [0.0] * len(bound.names)
        self._full = [False] * len(bound.names)
        self._ready_at = [0.0] * len(bound.signature_of)
        #: what the clocks said when a step became ready that has tag limits or wants slots
        self._marks: dict[int, tuple[float, ...]] = {}
        #: of each signature: what a step waits for that no limit of the run holds back; None: it wants no slots
        self._pool_causes = [pool_cause(pool for pool, _ in wanted) if wanted else None for wanted in bound.wanted]
        self._pool_causes = self._pool_causes or [None] * len(bound.signatures)
        #: of each signature: whether steps that have it note what the clocks say
        self._marked = [
            bool(counters) or cause is not None
            for counters, cause in zip(bound.signatures, self._pool_causes, strict=True)
        ]
        #: of each set of tag limits that steps with pools have: how long none of them was full
        self._clear: dict[tuple[int, ...], _Clear] = {}
        self._watched: dict[int, list[_Clear]] = {}  #: tag limit -> those that it is one of
        for counters, cause in zip(bound.signatures, self._pool_causes, strict=True):
            if counters and cause is not None and counters not in self._clear:
                clear = self._clear[counters] = _Clear()
                for counter in counters:
                    self._watched.setdefault(counter, []).append(clear)

    def advance(self, now: float, *, idle: bool) -> None:
        """Tell the clocks that it is ``now``, and whether max_concurrent had room since they were last told."""
        if idle:
            self._idle_s += now - self._at
        self._at = now

    def filled(self, counter: int) -> None:
        """Start the clock of a tag limit that has no room any more."""
        self._full[counter] = True
        self._full_s[counter] -= self._idle_s
        if self._watched:
            for clear in self._watched.get(counter, ()):
                clear.filled(self._idle_s)

    def freed(self, counter: int) -> None:
        """Stop the clock of a tag limit that has room again."""
        self._full[counter] = False
        self._full_s[counter] += self._idle_s
        if self._watched:
            for clear in self._watched.get(counter, ()):
                clear.freed(self._idle_s)

    def ready(self, index: int, now: float) -> None:
        """Note that a step became ready."""
        self._ready_at[index] = now
        signature = self._signature_of[index]
        if self._marked[signature]:
            counters = self._signatures[signature]
            marks = [self._read(counter) for counter in counters]
            if self._pool_causes[signature] is not None:
                marks.append(self._clear_s(counters))
            self._marks[index] = (self._idle_s, *marks)

    def waited(self, index: int, now: float) -> Waited:
        """What held a step back that is ready no longer; causes of less than a microsecond are left out."""
        total = now - self._ready_at[index]
        if total <= 0:
            self._marks.pop(index, None)
            return ()
        signature = self._signature_of[index]
        if not self._marked[signature]:
            return ((MAX_CONCURRENT, round(total, DIGITS)),)
        counters, pool_cause = self._signatures[signature], self._pool_causes[signature]
        idle_mark, *marks = self._marks.pop(index)
        causes = [(MAX_CONCURRENT, round(total - (self._idle_s - idle_mark), DIGITS))]
        if pool_cause is not None:
            causes.append((pool_cause, round(self._clear_s(counters) - marks.pop(), DIGITS)))
        for counter, mark in zip(counters, marks, strict=True):
            causes.append((self._names[counter], round(self._read(counter) - mark, DIGITS)))
        return tuple([cause for cause in causes if cause[1] > 0])

    def _read(self, counter: int) -> float:
        return self._full_s[counter] + self._idle_s if self._full[counter] else self._full_s[counter]

    def _clear_s(self, counters: tuple[int, ...]) -> float:
        """Idle time in which none of these tag limits was full."""
        return self._clear[counters].read(self._idle_s) if counters else self._idle_s


class _Clear:
    """The idle time in which none of some tag limits was full."""

    __slots__ = ("_full", "_seconds")

    def __init__(self) -> None:
        self._full = 0  #: how many of them are full
        self._seconds = 0.0  #: while none is: less the idle time since when none is

    def filled(self, idle_s: float) -> None:
        if not self._full:
            self._seconds += idle_s
        self._full += 1

    def freed(self, idle_s: float) -> None:
        self._full -= 1
        if not self._full:
            self._seconds -= idle_s

    def read(self, idle_s: float) -> float:
        return self._seconds if self._full else self._seconds + idle_s
