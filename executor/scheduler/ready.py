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

A step that wants slots of pools is taken like any other, and has its share of the limits while the ledger is asked. So
nobody who comes after it starts in its place if its slots are free. If they are not, its *claim* waits and the share is
given back. A step whose claim had waited needs room when it is granted: it gets it before those that are asked, for
what is granted to them is not certain. The steps of one signature may have one claim more waiting than could start at
once, which is the *free capacity*: the least room that max_concurrent and the tag limits of the signature have. With
that, whatever the pools grant finds a claim, and nobody else's turn is taken by claims that this run could not use. A
queue that has as many is *crowded*. It is parked where there is too little room for one more claim, under the room that
would do.
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from executor.scheduler.limits import BoundLimits
    from executor.scheduler.waits import WaitClock

#: Where a queue stands that is parked on no limit.
OPEN = -1
#: Where a queue stands whose signature has as many waiting claims as it may have.
CROWDED = -2
#: What stands for max_concurrent among the numbers of the tag limits.
ROOM = -1
#: What stands for the number of waiting claims of a signature that wants no slots.
NO_POOL = -1


class ReadyQueue:
    """The steps that are ready, and how much room each limit has."""

    __slots__ = (
        "_capacity",
        "_claims",
        "_clock",
        "_crowd_of",
        "_crowds",
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
        #: of each signature: its claims that wait, or NO_POOL
        self._claims = [0 if wanted else NO_POOL for wanted in bound.wanted] or [NO_POOL] * len(bound.signatures)
        #: limit and the room that it must have -> signatures whose queues are crowded until it has (a dict: in order)
        self._crowds: dict[tuple[int, int], dict[int, None]] = {}
        self._crowd_of: dict[int, tuple[int, int]] = {}  #: of each crowded signature: where it stands in _crowds
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
        """Take the step whose turn it is; None: it is nobody's now.

        It has its share of every limit from here on, until ``release``, or until its claim has to ``wait``.
        """
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
            claims = self._claims[signature]
            if claims != NO_POOL:
                scarce = self._scarce(counters, claims)
                if scarce is not None:
                    heappop(heads)
                    self._crowd(signature, scarce, claims)
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
            if counters:
                self._count(counters)
            return index
        return None

    def wait(self, index: int) -> None:
        """Give back the share of a step that was taken: its claim waits, until ``grant`` or ``withdraw``."""
        self._claims[self._signature_of[index]] += 1
        self.release(index)

    def grant(self, index: int, asked: Iterable[int]) -> list[int] | None:
        """Let the claim of a step wait no longer, and the step take its share of every limit.

        Those that are ``asked`` have a share that they may not need. If it has to be, they give it back, the last in
        the order first; those that did are given. None: one of the limits has no room even then, so the step has no
        share of any, and is to be added again.
        """
        self.withdraw(index)
        counters = self._signatures[self._signature_of[index]]
        giving = [] if self.room and self._full(counters) is None else self._would_give_way(counters, asked)
        if giving is None:
            return None
        for other in giving:
            self.wait(other)
        self.room -= 1
        self._count(counters)
        return giving

    def withdraw(self, index: int) -> None:
        """Let the claim of a step wait no longer."""
        signature = self._signature_of[index]
        self._claims[signature] -= 1
        where = self._crowd_of.get(signature)
        if where is not None:
            # One less is enough room for one more; or, if room was taken with it, less room is needed than before.
            crowd = self._crowds[where]
            del crowd[signature]
            if not crowd:
                del self._crowds[where]
            self._open_crowded(signature)

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
        if self._crowds:
            self._open_crowds(ROOM, self.room)
            for counter in counters:
                self._open_crowds(counter, self._capacity[counter] - self.used[counter])

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

    def waiting(self) -> Iterator[tuple[int, int]]:
        """Each signature of which steps wait, and how many. O(1) each, unless steps were discarded."""
        gone = self._gone
        for signature, queue in enumerate(self._queues):
            if queue:
                yield signature, sum(rank not in gone for rank in queue) if gone else len(queue)

    def ahead(self, index: int) -> int:
        """How many waiting steps come before this one, whatever holds them back. O(n): for people who ask why."""
        rank = self._rank[index]
        return sum(other < rank and other not in self._gone for queue in self._queues for other in queue)

    def _full(self, counters: tuple[int, ...]) -> int | None:
        for counter in counters:
            if self.used[counter] >= self._capacity[counter]:
                return counter
        return None

    def _count(self, counters: tuple[int, ...]) -> None:
        """Count one step more against these limits."""
        used, capacity = self.used, self._capacity
        for counter in counters:
            used[counter] += 1
            if used[counter] == capacity[counter]:
                self._clock.filled(counter)

    def _announce(self, signature: int) -> None:
        """Put the head of a queue where it is looked for."""
        limit = self._parked_on[signature]
        if limit == CROWDED:
            return  # its head is looked up when it is opened
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

    def _would_give_way(self, counters: tuple[int, ...], asked: Iterable[int]) -> list[int] | None:
        """Which of the steps that are asked have to give back their share so that all of these limits have room."""
        room = self.room
        left = {counter: self._capacity[counter] - self.used[counter] for counter in counters}
        giving = []
        for other in sorted(asked, key=self._rank.__getitem__, reverse=True):
            shared = [counter for counter in self._signatures[self._signature_of[other]] if counter in left]
            if room and not any(left[counter] == 0 for counter in shared):
                continue  # it is in nobody's way
            giving.append(other)
            room += 1
            for counter in shared:
                left[counter] += 1
        return giving if room and all(left.values()) else None

    def _scarce(self, counters: tuple[int, ...], least: int) -> int | None:
        """The first limit with less room than that; None: all have as much."""
        if self.room < least:
            return ROOM
        for counter in counters:
            if self._capacity[counter] - self.used[counter] < least:
                return counter
        return None

    def _crowd(self, signature: int, limit: int, least: int) -> None:
        """Park a queue until the limit has that much room, or until one of its claims waits no longer."""
        self._parked_on[signature] = CROWDED
        self._crowd_of[signature] = (limit, least)
        self._crowds.setdefault((limit, least), {})[signature] = None

    def _open_crowds(self, limit: int, room: int) -> None:
        """Open every queue that waited for a limit to have that much room: each may have one more claim."""
        for signature in self._crowds.pop((limit, room), ()):
            self._open_crowded(signature)

    def _open_crowded(self, signature: int) -> None:
        del self._crowd_of[signature]
        self._parked_on[signature] = OPEN
        queue = self._queues[signature]
        if queue:
            heappush(self._heads, queue[0])

    def _drop_gone(self, queue: list[int]) -> None:
        while queue and queue[0] in self._gone:
            self._gone.remove(heappop(queue))
