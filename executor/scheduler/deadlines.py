"""When a step next needs attention although nothing happens: a timeout, or the end of a backoff. Pure."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf

# A heap smaller than this is never rebuilt: dropping a few stale entries costs more than keeping them.
SMALL = 64


class DueTimes:
    """At most one due time per step, and always the earliest of them in ``at``. O(log n) per change, amortised."""

    __slots__ = ("_due", "_heap", "at")

    def __init__(self) -> None:
        self.at = inf  #: the earliest due time, in seconds; ``inf`` where there is none
        self._due: dict[int, float] = {}
        # Every due time that stands in _due is here; entries that do not agree with _due are stale and passed over.
        self._heap: list[tuple[float, int]] = []

    def set(self, index: int, at: float) -> None:
        """Remember that this step is due at ``at``, in place of what was set for it before."""
        self._due[index] = at
        heappush(self._heap, (at, index))
        self._look()

    def clear(self, index: int) -> None:
        """Forget this step's due time, if it has one."""
        if self._due.pop(index, None) is not None:
            self._look()

    def pop(self, now: float) -> list[int]:
        """The steps that are due at ``now``, earliest first, forgotten here."""
        due = []
        while self.at <= now:
            index = heappop(self._heap)[1]
            del self._due[index]
            due.append(index)
            self._look()
        return due

    def _look(self) -> None:
        heap, due = self._heap, self._due
        if len(heap) > SMALL and len(heap) > 2 * len(due):
            # Long timeouts of steps that ended quickly would pile up otherwise.
            heap[:] = [(at, index) for index, at in due.items()]
            heapify(heap)
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        self.at = heap[0][0] if heap else inf
