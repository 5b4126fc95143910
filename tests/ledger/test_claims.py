"""Who gets the free slots of pools, by examples."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from random import Random
from types import FrameType

import pytest
from claims_world import outrank, pass_often, play

from executor.ledger.claims import (
    PASSES,
    Decisions,
    Line,
    Needs,
    Pool,
    Urgency,
    Waiter,
    can_ever_fit,
    grant,
    line_up,
)

A: Needs = (("a", 1),)
B: Needs = (("b", 1),)
BOTH: Needs = (("a", 1), ("b", 1))
TWO: Needs = (("a", 2),)

Claim = tuple[Waiter, Needs, bool]


def claim(
    seq: int, needs: Needs = A, *, owner: str = "o", priority: int = 0, passed: int = 0, late: bool = False
) -> Claim:
    return Waiter(seq, owner, priority, passed), needs, late


def decide(*waiting: Claim, is_alive: Callable[[str], bool] = lambda _: True, **pools: Pool | int | None) -> Decisions:
    numbers = {name: pool if isinstance(pool, Pool) else Pool(pool) for name, pool in pools.items()}
    return grant(line_up(waiting), numbers, is_alive=is_alive, last_token=100)


def granted(*waiting: Claim, **pools: Pool | int | None) -> list[int]:
    return [each.seq for each in decide(*waiting, **pools).granted]


def test_the_oldest_claim_comes_first() -> None:
    assert granted(claim(2), claim(1), claim(3), a=2) == [1, 2]


def test_a_higher_priority_comes_before_an_older_claim() -> None:
    assert granted(claim(1), claim(2, priority=1), claim(3, priority=-1), a=2) == [2, 1]


def test_a_claim_that_waited_too_long_comes_before_any_priority() -> None:
    assert granted(claim(1, late=True), claim(2, priority=9), a=1) == [1]


def test_of_claims_that_waited_too_long_the_oldest_comes_first_whatever_its_priority() -> None:
    assert granted(claim(1, late=True), claim(2, priority=9, late=True), a=1) == [1]


def test_tokens_follow_the_last_one_in_the_order_of_the_grants() -> None:
    assert [(each.seq, each.token) for each in decide(claim(1), claim(2, priority=1), a=2).granted] == [
        (2, 101),
        (1, 102),
    ]


def test_a_claim_of_several_pools_gets_all_of_its_slots_or_none() -> None:
    assert granted(claim(1, BOTH), a=1, b=Pool(1, 1)) == []
    assert granted(claim(1, BOTH), a=1, b=1) == [1]


def test_a_pool_without_a_limit_always_has_room() -> None:
    assert granted(claim(1), claim(2, TWO), a=None) == [1, 2]


def test_what_is_held_above_a_lowered_limit_leaves_no_room() -> None:
    assert granted(claim(1), a=Pool(1, 3)) == []


def test_a_large_claim_is_not_starved_by_small_ones_behind_it() -> None:
    assert granted(claim(1, TWO), claim(2, A), a=Pool(2, 1)) == []


def test_a_full_pool_does_not_delay_a_claim_that_does_not_need_it() -> None:
    assert granted(claim(1, BOTH), claim(2, B), a=Pool(1, 1), b=1) == [2]


def test_a_claim_that_was_passed_often_enough_keeps_all_of_its_pools_free() -> None:
    assert granted(claim(1, BOTH, passed=PASSES), claim(2, B), a=Pool(1, 1), b=1) == []


def test_an_overdue_claim_keeps_all_of_its_pools_free() -> None:
    assert granted(claim(1, BOTH, late=True), claim(2, B, priority=7), a=Pool(1, 1), b=1) == []


def test_only_claims_that_come_later_are_kept_out_by_one_that_was_passed_often() -> None:
    assert granted(claim(1, BOTH, passed=PASSES), claim(2, B, priority=1), a=Pool(1, 1), b=1) == [2]


def test_being_passed_is_counted_for_the_first_of_those_that_need_the_same() -> None:
    decisions = decide(claim(1, BOTH, passed=3), claim(2, BOTH), claim(3, B), claim(4, B), a=Pool(1, 1), b=9)
    assert decisions.passed == {1: 5}


def test_nobody_is_passed_more_often_than_allowed_in_one_transaction() -> None:
    many = [claim(seq, B) for seq in range(2, 100)]
    decisions = decide(claim(1, BOTH), *many, a=Pool(1, 1), b=1000)
    assert decisions.passed == {1: PASSES}
    assert len(decisions.granted) == PASSES


def test_taking_slots_of_another_pool_passes_nobody() -> None:
    assert decide(claim(1, BOTH), claim(2, (("c", 1),)), a=Pool(1, 1), b=1, c=1).passed == {}


@pytest.mark.parametrize("limit", [0, 1])
def test_what_no_release_can_help_keeps_nobody_out(limit: int) -> None:
    assert granted(claim(1, (("a", 2), ("b", 1)), late=True), claim(2, B), a=limit, b=1) == [2]
    assert not can_ever_fit((("a", 2), ("b", 1)), {"a": Pool(limit), "b": Pool(1)})


def test_the_dead_are_dropped_and_keep_nobody_out() -> None:
    decisions = decide(
        claim(1, (("a", 2),), owner="dead"), claim(2, A, owner="dead"), claim(3), a=Pool(2, 1),
        is_alive=lambda owner: owner != "dead",
    )  # fmt: skip
    assert [each.seq for each in decisions.granted] == [3]
    assert decisions.dead == [1, 2]


def test_nobody_asks_whether_owners_live_where_there_is_no_room() -> None:
    def is_alive(owner: str) -> bool:
        raise AssertionError(owner)

    assert decide(claim(1), claim(2, priority=3), a=Pool(1, 1), is_alive=is_alive).granted == []


def test_of_ten_thousand_that_need_the_same_only_as_many_as_are_granted_are_read_and_one_more() -> None:
    read: list[int] = []

    def waiters() -> Iterator[Waiter]:
        for seq in range(1, 10_001):
            read.append(seq)
            yield Waiter(seq, "o")

    decisions = grant([Line(TWO, Urgency.USUAL, waiters())], {"a": Pool(5)}, is_alive=lambda _: True)
    assert [each.seq for each in decisions.granted] == [1, 2] == read[:2]
    assert len(read) == 3


def test_a_line_whose_pools_are_full_is_not_read_at_all() -> None:
    def waiters() -> Iterator[Waiter]:
        raise AssertionError
        yield

    assert grant([Line(A, Urgency.USUAL, waiters())], {"a": Pool(1, 1)}, is_alive=lambda _: True).granted == []


def calls_of_a_grant(count: int) -> int:
    """How many functions are called to grant so many claims, each of a pool of its own."""
    lines = [Line(((f"p{seq}", 1),), Urgency.USUAL, iter([Waiter(seq, "o")])) for seq in range(count)]
    pools = {f"p{seq}": Pool(1) for seq in range(count)}
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        decisions = grant(lines, pools, is_alive=lambda _: True)
    finally:
        sys.setprofile(before)
    assert len(decisions.granted) == count
    return calls


def test_looking_at_a_claim_costs_the_same_number_of_calls_however_many_are_looked_at() -> None:
    """What a claim costs in microseconds, with all that belongs to it, is measured by ``benchmarks/ledger.py``."""
    few = calls_of_a_grant(100)
    assert few <= 100 * 40
    assert calls_of_a_grant(1000) <= 10 * few


def test_a_claim_of_two_pools_that_fill_up_in_turns_has_its_turn() -> None:
    pass_often()


def test_a_wide_claim_is_granted_once_it_is_overdue_however_many_others_come() -> None:
    outrank()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_sets_of_pools_everybody_gets_through(seed: int) -> None:
    play(Random(seed), steps=120)
