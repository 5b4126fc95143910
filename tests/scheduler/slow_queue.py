"""A ready queue that is slow and obvious, and random use of the real one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.scheduler.limits import BoundLimits
from executor.scheduler.ready import ReadyQueue
from executor.scheduler.waits import WaitClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


class SlowQueue:
    """Says what ``ReadyQueue`` should say: looks at every waiting step, in order, each time."""

    def __init__(self, bound: BoundLimits, max_concurrent: int, order: Sequence[int]) -> None:
        self.bound, self.max_concurrent, self.order = bound, max_concurrent, order
        self.waiting: set[int] = set()
        self.running: set[int] = set()
        self.claiming: set[int] = set()  #: steps whose claims wait

    def counters(self, index: int) -> tuple[int, ...]:
        return self.bound.signatures[self.bound.signature_of[index]]

    def used(self, counter: int) -> int:
        return sum(counter in self.counters(index) for index in self.running)

    def free_capacity(self, index: int) -> int:
        free = [self.bound.capacity[counter] - self.used(counter) for counter in self.counters(index)]
        return min([self.max_concurrent - len(self.running), *free])

    def is_crowded(self, index: int) -> bool:
        signature = self.bound.signature_of[index]
        if not self.bound.wanted or not self.bound.wanted[signature]:
            return False
        like = sum(self.bound.signature_of[other] == signature for other in self.claiming)
        return like > self.free_capacity(index)

    def take(self) -> int | None:
        for index in self.order:
            if index in self.waiting and self.free_capacity(index) > 0 and not self.is_crowded(index):
                self.waiting.remove(index)
                self.running.add(index)
                return index
        return None


def random_bound(random: Random, size: int) -> BoundLimits:
    """Steps that count against up to three of up to four tag limits, in up to six signatures; some want slots."""
    counters = random.randint(1, 4)
    wanted = {
        tuple(sorted(random.sample(range(counters), random.randint(0, min(3, counters)))))
        for _ in range(random.randint(1, 6))
    }
    signatures = tuple(sorted(wanted))
    if random.random() < 0.3:
        signatures *= 2  # the same limits, with and without pools
    pools = tuple(random.choice([(), (("db", 1),)]) for _ in signatures) if random.random() < 0.5 else ()
    return BoundLimits(
        names=tuple(f"limit {counter}" for counter in range(counters)),
        capacity=tuple(random.randint(1, 4) for _ in range(counters)),
        signatures=signatures,
        signature_of=tuple(random.randrange(len(signatures)) for _ in range(size)),
        unmatched=(),
        wanted=pools,
    )


def play_queue(random: Random, queue: type[ReadyQueue] = ReadyQueue, size: int = 16, changes: int = 300) -> None:
    """Add, take, release, discard, and let claims wait at random; check each step taken, and the room that is left."""
    bound = random_bound(random, size)
    order = random.sample(range(size), size)
    max_concurrent = random.randint(2, 8)
    real = queue(bound, max_concurrent, order, WaitClock(bound))
    slow = SlowQueue(bound, max_concurrent, order)
    idle = set(range(size))
    adds, releases, discards = random.choice([(0.3, 0.3, 0.005), (0.3, 0.3, 0.015), (0.4, 0.35, 0.03)])
    for _ in range(changes):
        roll = random.random()
        if roll < adds and idle:
            index = random.choice(sorted(idle))
            idle.remove(index)
            slow.waiting.add(index)
            real.add(index)
        elif roll < adds + releases and slow.running:
            index = random.choice(sorted(slow.running))
            slow.running.remove(index)
            if bound.wanted and bound.wanted[bound.signature_of[index]] and random.random() < 0.6:
                slow.claiming.add(index)
                real.wait(index)
            else:
                idle.add(index)
                real.release(index)
        elif roll < adds + releases + 0.08 and slow.claiming:
            index = random.choice(sorted(slow.claiming))
            slow.claiming.remove(index)
            if random.random() < 0.3:
                idle.add(index)
                real.withdraw(index)
            elif slow.free_capacity(index) > 0:
                assert real.grant(index, ()) == []
                slow.running.add(index)
            else:
                assert real.grant(index, ()) is None
                slow.waiting.add(index)
                real.add(index)
        elif roll > 1 - discards and slow.waiting:
            index = random.choice(sorted(slow.waiting))
            slow.waiting.remove(index)
            real.discard(index)
        else:
            # As the scheduler does: everything that may start, not only one.
            while (expected := slow.take()) is not None:
                assert real.take() == expected
            assert real.take() is None
        assert real.room == max_concurrent - len(slow.running)
        assert real.used == [slow.used(counter) for counter in range(len(bound.capacity))]
    for index in slow.waiting:
        first = order.index(index)
        assert real.ahead(index) == sum(order.index(other) < first for other in slow.waiting)
