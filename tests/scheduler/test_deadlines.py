"""Due times: one per step, the earliest at hand, and no more kept than there are."""

from __future__ import annotations

from math import inf
from random import Random

from executor.scheduler.deadlines import DueTimes


def test_the_earliest_is_at_hand() -> None:
    due = DueTimes()
    assert due.at == inf
    due.set(1, 5.0)
    due.set(2, 3.0)
    assert due.at == 3.0


def test_what_is_due_comes_once_and_earliest_first() -> None:
    due = DueTimes()
    for index, at in [(1, 5.0), (2, 3.0), (3, 9.0), (4, 3.0)]:
        due.set(index, at)
    assert due.pop(4.0) == [2, 4]
    assert due.pop(5.0) == [1]
    assert due.pop(5.0) == []
    assert due.at == 9.0


def test_a_new_time_takes_the_place_of_the_old() -> None:
    due = DueTimes()
    due.set(1, 5.0)
    due.set(1, 8.0)
    assert due.pop(6.0) == []
    assert due.pop(8.0) == [1]


def test_a_time_that_was_cleared_does_not_come() -> None:
    due = DueTimes()
    due.set(1, 5.0)
    due.clear(1)
    due.clear(2)
    assert due.at == inf
    assert due.pop(9.0) == []


def test_long_timeouts_of_quick_steps_do_not_pile_up() -> None:
    due = DueTimes()
    due.set(0, 1.0)
    for index in range(1, 10_000):
        due.set(index, 3600.0 + index)
        due.clear(index)
    assert len(due._heap) < 200
    assert due.pop(4.0) == [0]


def test_it_agrees_with_a_dict_that_is_searched() -> None:
    random, due, plain = Random(1), DueTimes(), {}
    for _ in range(3000):
        index = random.randrange(300)
        roll = random.random()
        if roll < 0.7:
            plain[index] = random.randrange(1000) / 4
            due.set(index, plain[index])
        elif roll < 0.97:
            plain.pop(index, None)
            due.clear(index)
        else:
            now = random.randrange(100) / 4
            expected = sorted((at, index) for index, at in plain.items() if at <= now)
            assert due.pop(now) == [index for _, index in expected]
            plain = {index: at for index, at in plain.items() if at > now}
        assert due.at == min(plain.values(), default=inf)
