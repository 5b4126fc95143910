"""For how long a ready step was held back, and by which limit. Pure; O(signature) per step, nothing while it waits.

A step that is ready and does not start waits for one of two reasons: all of ``max_concurrent`` is taken, or there is
room and a tag limit of the step is full. So two kinds of clock are enough, however many steps wait. One runs while
there is room (*idle* time). Each tag limit has one that adds up the idle time in which that limit was full. A step
notes them when it becomes ready and reads them when it starts. Two tag limits of one step that were full at the same
time both count that time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.scheduler.limits import BoundLimits

#: The cause of a wait that is none of the tag limits.
MAX_CONCURRENT = "max_concurrent"
RETRY = "retry"

#: Seconds by cause, as ``StartStep`` and ``StepStarted`` carry them.
Waited = tuple[tuple[str, float], ...]

# Microseconds: finer than what a driver can measure, and coarse enough to hide the rounding of sums.
DIGITS = 6


class WaitClock:
    """Seconds by cause since each step became ready."""

    __slots__ = ("_at", "_full", "_full_s", "_idle_s", "_marks", "_names", "_ready_at", "_signature_of", "_signatures")

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
        self._marks: dict[int, tuple[float, ...]] = {}  #: what the clocks said when a step with tag limits became ready

    def advance(self, now: float, *, idle: bool) -> None:
        """Tell the clocks that it is ``now``, and whether max_concurrent had room since they were last told."""
        if idle:
            self._idle_s += now - self._at
        self._at = now

    def filled(self, counter: int) -> None:
        """Start the clock of a tag limit that has no room any more."""
        self._full[counter] = True
        self._full_s[counter] -= self._idle_s

    def freed(self, counter: int) -> None:
        """Stop the clock of a tag limit that has room again."""
        self._full[counter] = False
        self._full_s[counter] += self._idle_s

    def ready(self, index: int, now: float) -> None:
        """Note that a step became ready."""
        self._ready_at[index] = now
        counters = self._signatures[self._signature_of[index]]
        if counters:
            self._marks[index] = (self._idle_s, *[self._read(counter) for counter in counters])

    def waited(self, index: int, now: float) -> Waited:
        """What held a step back that was ready and starts now; causes of less than a microsecond are left out."""
        total = now - self._ready_at[index]
        if total <= 0:
            self._marks.pop(index, None)
            return ()
        counters = self._signatures[self._signature_of[index]]
        if not counters:
            return ((MAX_CONCURRENT, round(total, DIGITS)),)
        idle_mark, *marks = self._marks.pop(index)
        causes = [(MAX_CONCURRENT, round(total - (self._idle_s - idle_mark), DIGITS))]
        for counter, mark in zip(counters, marks, strict=True):
            causes.append((self._names[counter], round(self._read(counter) - mark, DIGITS)))
        return tuple([cause for cause in causes if cause[1] > 0])

    def _read(self, counter: int) -> float:
        return self._full_s[counter] + self._idle_s if self._full[counter] else self._full_s[counter]
