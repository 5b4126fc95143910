"""The queue of ready steps beside one that looks at every step each time, and what its work costs."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from slow_queue import play_queue

from executor.scheduler import ready
from executor.scheduler.limits import BoundLimits
from executor.scheduler.ready import ReadyQueue
from executor.scheduler.waits import WaitClock

if TYPE_CHECKING:
    from executor.scheduler.commands import Wanted


def queue_of(
    signatures: list[tuple[int, ...]],
    of_step: list[int],
    capacity: list[int],
    max_concurrent: int = 100,
    wanted: tuple[Wanted, ...] = (),
) -> ReadyQueue:
    """A queue of steps that start in the order of their indexes."""
    bound = BoundLimits(
        names=tuple(f"limit {number}" for number in range(len(capacity))),
        capacity=tuple(capacity),
        signatures=tuple(signatures),
        signature_of=tuple(of_step),
        unmatched=(),
        wanted=wanted,
    )
    return ReadyQueue(bound, max_concurrent, range(len(of_step)), WaitClock(bound))


def take_all(queue: ReadyQueue) -> list[int]:
    taken = []
    while (index := queue.take()) is not None:
        taken.append(index)
    return taken


@pytest.mark.parametrize("block", range(4))
def test_the_queue_takes_what_a_look_at_every_step_would_take(block: int) -> None:
    for seed in range(block * 150, block * 150 + 150):
        play_queue(Random(seed))


def test_a_better_step_of_a_parked_queue_comes_before_the_one_that_the_room_was_kept_for() -> None:
    # Steps 0 and 3 count against limit 0 alone, 1 and 2 also against limit 1: two queues on one limit.
    queue = queue_of([(0,), (0, 1)], [0, 1, 1, 0], [1, 5], max_concurrent=1)
    queue.add(2)
    assert queue.take() == 2
    queue.add(3)
    queue.add(1)
    assert queue.take() is None
    queue.release(2)
    queue.add(0)
    assert queue.take() == 0


def test_room_kept_for_a_cancelled_step_goes_to_the_next_that_is_parked() -> None:
    queue = queue_of([(0,), (0, 1)], [0, 0, 1], [1, 1])
    for index in range(3):
        queue.add(index)
    assert take_all(queue) == [0]
    queue.release(0)
    queue.discard(1)
    assert take_all(queue) == [2]


def test_a_limit_that_is_full_does_not_hold_back_the_steps_of_another() -> None:
    queue = queue_of([(0,), (1,), (0, 1)], [0, 2, 1, 0], [1, 2])
    for index in range(4):
        queue.add(index)
    assert take_all(queue) == [0, 2]


def test_nothing_waits_after_clear() -> None:
    queue = queue_of([(), (0,)], [0, 1, 1], [1], max_concurrent=3)
    for index in range(3):
        queue.add(index)
    assert queue.take() == 0
    queue.clear()
    queue.release(0)
    assert queue.take() is None


@pytest.mark.parametrize(
    "signatures",
    [[()], [(0,), (1,), ()], [(0,), (0, 1), (0, 1, 2), (2,), ()], [(0, number) for number in range(1, 33)]],
    ids=["no limit", "two limits", "limits in common", "one limit and one of each value"],
)
def test_a_step_costs_the_same_number_of_heap_operations_however_many_wait(
    signatures: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = 0

    def counted(name: str) -> None:
        plain = getattr(ready, name)

        def count(*args: object) -> object:
            nonlocal operations
            operations += 1
            return plain(*args)

        monkeypatch.setattr(ready, name, count)

    for name in ("heappush", "heappop", "heapreplace"):
        counted(name)
    pools: tuple[Wanted, ...] = ((("db", 1),),) * len(signatures)

    def operations_per_claim(size: int) -> float:
        """As below, but every claim has to wait before it is granted."""
        nonlocal operations
        operations = 0
        capacity = [2] * (1 + max((counter for signature in signatures for counter in signature), default=0))
        random = Random(size)
        queue = queue_of(signatures, [random.randrange(len(signatures)) for _ in range(size)], capacity, 4, pools)
        for index in random.sample(range(size), size):
            queue.add(index)
        waiting: list[int] = []
        running: list[int] = []
        finished = 0
        while finished < size:
            while asked := take_all(queue):
                for index in asked:
                    queue.wait(index)
                waiting += asked
            random.shuffle(waiting)
            for index in waiting[:3]:
                waiting.remove(index)
                if queue.grant(index, ()) is None:
                    queue.add(index)
                else:
                    running.append(index)
            while running:
                queue.release(running.pop())
                finished += 1
        return operations / size

    def operations_per_step(size: int) -> float:
        nonlocal operations
        operations = 0
        capacity = [2] * (1 + max((counter for signature in signatures for counter in signature), default=0))
        random = Random(size)
        queue = queue_of(signatures, [random.randrange(len(signatures)) for _ in range(size)], capacity, 4)
        for index in random.sample(range(size), size):
            queue.add(index)
        running = take_all(queue)
        finished = 0
        while running:
            queue.release(running.pop(random.randrange(len(running))))
            finished += 1
            running += take_all(queue)
        assert finished == size
        return operations / size

    few, many = operations_per_step(500), operations_per_step(8000)
    assert many < 1.1 * few
    assert many < 12
    few, many = operations_per_claim(500), operations_per_claim(8000)
    assert many < 1.1 * few
    assert many < 24
