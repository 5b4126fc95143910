"""Which ready step may start now under every limit: the first by the order whose limits all have room. Pure.

Steps with the same signature, which is the set of tag limits that they count against, wait in one queue, best first.
Only the best step of each queue, its *head*, is ever looked at. A queue is *open* while nobody has found it blocked,
and its head then stands among the heads to choose from. A queue found blocked by a full tag limit is *parked* on that
limit, and not looked at again until the limit has room; then the best queue that is parked there is opened. If it turns
out to be blocked by another limit it is parked on that one and the next is opened, so room is never left to nobody.

What must hold whenever a step is chosen: if a limit has room for n steps, and queues are parked on it, then n open
queues that count against it have better heads than those. Starting a step keeps this true by itself: it takes one of
the n and uses up one of the places. Everything else that could break it opens a queue.

The heaps hold ranks, which are positions in the order and stand for a step each. An entry may be stale: the step has
started, or its queue has been parked or opened since. It is recognised by not being the head of its queue there, and
passed over, once. To look at a queue costs O(log n); a change looks at one queue for each limit that it gives room, and
at one more for each that it finds blocked by another limit. How many steps wait in a queue makes no difference.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.scheduler.limits import BoundLimits
    from executor.scheduler.waits import WaitClock

#: Where a queue stands that is parked on no limit.
OPEN = -1


class ReadyQueue:
    """The steps that are ready, and how much room each limit has."""

    __slots__ = (
        "_capacity",
        "_clock",
        "_gone",
        "_heads",
        "_order",
        "_parked",
        "_parked_on",
        "_queues",
        "_rank",
        "_signature_of",
        "_signatures",
        "room",
        "used",
    )

    def __init__(self, bound: BoundLimits, max_concurrent: int, order: Sequence[int], clock: WaitClock) -> None:
        self._signatures = bound.signatures
        self._signature_of = bound.signature_of
        self._capacity = bound.capacity
        self._order = order
        self._rank = [0] * len(order)
        for rank, index in enumerate(order):
            self._rank[index] = rank
        self._clock = clock
        self._queues: list[list[int]] = [[] for _ in bound.signatures]  #: of each signature: a heap of ranks
        self._parked_on = [OPEN] * len(bound.signatures)
        self._heads: list[int] = []  #: of the open queues
        self._parked: list[list[int]] = [
            [] for _ in bound.capacity
        ]  #: of each tag limit: heads of what is parked on it
        self._gone: set[int] = set()  #: ranks of steps that were discarded from the middle of their queue
        self.room = max_concurrent  #: how many more steps max_concurrent admits now
        self.used = [0] * len(bound.capacity)  #: of each tag limit: steps that count against it now

    def add(self, index: int) -> None:
        """Let a step wait that has become ready."""
        rank = self._rank[index]
        signature = self._signature_of[index]
        queue = self._queues[signature]
        heappush(queue, rank)
        if queue[0] == rank:
            self._announce(signature)

    def take(self) -> int | None:
        """Take the step that starts next, with its share of every limit; None: none may start now."""
        heads = self._heads
        while heads and self.room:
            rank = heads[0]
            index = self._order[rank]
            signature = self._signature_of[index]
            queue = self._queues[signature]
            if not queue or queue[0] != rank or self._parked_on[signature] != OPEN:
                heappop(heads)
                continue
            counters = self._signatures[signature]
            full = self._full(counters) if counters else None
            if full is not None:
                heappop(heads)
                self._parked_on[signature] = full
                heappush(self._parked[full], rank)
                self._open_next(counters)
                continue
            heappop(queue)
            if self._gone:
                self._drop_gone(queue)
            if queue:
                heapreplace(heads, queue[0])
            else:
                heappop(heads)
            self.room -= 1
            for counter in counters:
                self.used[counter] += 1
                if self.used[counter] == self._capacity[counter]:
                    self._clock.filled(counter)
            return index
        return None

    def release(self, index: int) -> None:
        """Give back the share of every limit that a step took."""
        self.room += 1
        counters = self._signatures[self._signature_of[index]]
        if counters:
            for counter in counters:
                if self.used[counter] == self._capacity[counter]:
                    self._clock.freed(counter)
                self.used[counter] -= 1
            self._open_next(counters)

    def discard(self, index: int) -> None:
        """Let a waiting step wait no longer, without starting it."""
        rank = self._rank[index]
        signature = self._signature_of[index]
        queue = self._queues[signature]
        self._gone.add(rank)
        if queue[0] == rank:
            self._drop_gone(queue)
            if queue:
                self._announce(signature)
            # The head that is gone may have been what the room of a limit was kept for.
            self._open_next(self._signatures[signature])

    def clear(self) -> None:
        """Let no step wait any longer."""
        for queue in self._queues:
            queue.clear()
        for parked in self._parked:
            parked.clear()
        self._heads.clear()
        self._gone.clear()

    def ahead(self, index: int) -> int:
        """How many waiting steps come before this one, whatever holds them back. O(n): for people who ask why."""
        rank = self._rank[index]
        return sum(other < rank and other not in self._gone for queue in self._queues for other in queue)

    def _full(self, counters: tuple[int, ...]) -> int | None:
        for counter in counters:
            if self.used[counter] >= self._capacity[counter]:
                return counter
        return None

    def _announce(self, signature: int) -> None:
        """Put the head of a queue where it is looked for."""
        limit = self._parked_on[signature]
        if limit != OPEN and self.used[limit] < self._capacity[limit]:
            # The limit has room, kept for the open queue that was best until now: this one may be better.
            self._parked_on[signature] = limit = OPEN
        heappush(self._heads if limit == OPEN else self._parked[limit], self._queues[signature][0])

    def _open_next(self, counters: tuple[int, ...]) -> None:
        """Open the best queue that is parked on each of these limits, if the limit has room."""
        for counter in counters:
            parked = self._parked[counter]
            if not parked or self.used[counter] >= self._capacity[counter]:
                continue
            while parked:
                rank = heappop(parked)
                signature = self._signature_of[self._order[rank]]
                queue = self._queues[signature]
                if self._parked_on[signature] == counter and queue and queue[0] == rank:
                    self._parked_on[signature] = OPEN
                    heappush(self._heads, rank)
                    break

    def _drop_gone(self, queue: list[int]) -> None:
        while queue and queue[0] in self._gone:
            self._gone.remove(heappop(queue))
