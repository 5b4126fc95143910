"""For what each step had waited, read from the history: causes, seconds, and who was in the way."""

from __future__ import annotations

import pytest
from written_run import plan_of, step

from executor.runs.waits import Wait, waits_of, waits_text
from executor.scheduler.events import (
    RunEnded,
    SlotFreed,
    SlotHolder,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from executor.scheduler.outcomes import StepError

PLAN = plan_of(step("train", pools={"database": 1}), step("other", pools={"api": 1, "database": 2}), step("plain"))

LOAD = SlotHolder("load", "7f3a12cd-0", 77)
SAVE = SlotHolder("save", "9b0c", 78)


def held(key: str, *holders: SlotHolder, attempt: int = 1, said: str = "it is full") -> SlotsWaiting:
    """The pool is full, and these hold its slots."""
    return SlotsWaiting(key, attempt, ("database",), "full", said, holders)


def test_the_reason_that_held_longest_is_told() -> None:
    timeline = [
        (1.0, held("train", SAVE)),
        (4.0, held("train", LOAD)),
        (42.0, SlotsGranted("train", 1, 7)),
        (42.0, StepStarted("train", 1, waited=(("pool database", 41.0), ("max_concurrent", 3.2)))),
    ]
    (wait, other) = waits_of(timeline, PLAN)["train"]
    assert wait == Wait("pool database", 41.0, "it is full", (LOAD,), others=True)
    assert other == Wait("max_concurrent", 3.2)
    assert waits_text((wait, other)) == (
        "44.2 s: 41.0 s pool database (held by step 'load' of run 7f3a12cd (pid 77) and others), 3.2 s max_concurrent"
    )


def test_holders_are_named_whatever_their_names_and_the_sentence_are() -> None:
    odd = SlotHolder("held by; x, and the step needs", "7f3a12cd-0", 77, outlived=True)
    (wait,) = waits_of([(0.0, held("train", odd, SAVE)), (1.0, StepCancelled("train"))], PLAN)["train"]
    assert str(wait) == (
        "1.0 s pool database (held by step 'held by; x, and the step needs' of run 7f3a12cd (its driver died, pid 77 "
        "of the step lives) and step 'save' of run 9b0c (pid 78))"
    )
    assert not wait.others


def test_of_many_holders_two_are_named() -> None:
    many = [SlotHolder(name) for name in "abc"]
    (wait,) = waits_of([(0.0, held("train", *many)), (1.0, StepCancelled("train"))], PLAN)["train"]
    assert str(wait) == "1.0 s pool database (held by step 'a' and step 'b' and others)"


def test_a_holder_that_came_back_is_counted_for_all_of_its_time() -> None:
    timeline = [
        (0.0, held("train", LOAD)),
        (2.0, held("train", SAVE)),
        (5.0, held("train", LOAD._replace(since=1.0))),
        (7.0, StepCancelled("train")),
    ]
    (wait,) = waits_of(timeline, PLAN)["train"]
    assert (wait.seconds, wait.held_by, wait.others) == (7.0, (LOAD._replace(since=1.0),), True)


def test_where_nobody_holds_it_what_was_said_is_told() -> None:
    paused = SlotsWaiting("train", 1, ("database",), "paused", "pool 'database' is paused (limit 0)")
    (wait,) = waits_of([(0.0, paused), (1.0, StepCancelled("train"))], PLAN)["train"]
    assert str(wait) == "1.0 s pool database (pool 'database' is paused (limit 0))"


def test_attempts_are_added_up_and_a_busy_ledger_names_nobody() -> None:
    timeline = [
        (0.0, SlotsWaiting("other", 1, (), "busy", "the ledger is being written by another process")),
        (1.0, SlotsWaiting("other", 1, ("api",), "full", "who knows")),
        (2.0, StepStarted("other", 1, waited=(("pool api + database", 1.0), ("pool api", 1.0)))),
        (5.0, SlotsWaiting("other", 2, ("api",), "full", "who knows")),
        (6.0, StepStarted("other", 2, waited=(("pool api", 1.0),))),
    ]
    assert waits_of(timeline, PLAN) == {
        "other": (Wait("pool api", 2.0, "who knows"), Wait("pool api + database", 1.0)),
    }


def test_what_did_not_wait_is_left_out() -> None:
    assert waits_of([(0.0, StepStarted("plain", 1)), (1.0, StepCancelled("train"))], PLAN) == {}


GONE = StepFailed("train", 1, StepError("slots_lost", "no slots can be had any more"))


@pytest.mark.parametrize("end", [StepCancelled("train"), GONE, RunEnded(status="interrupted")], ids=repr)
def test_what_never_began_had_waited_until_it_was_given_up(end: StepCancelled | StepFailed | RunEnded) -> None:
    timeline = [
        (0.0, held("train", LOAD)),
        (1.0, StepStarted("train", 1, waited=(("pool database", 1.5),))),
        (3.0, held("train", LOAD, attempt=2)),
        (5.0, end),
    ]
    assert waits_of(timeline, PLAN) == {"train": (Wait("pool database", 3.5, "it is full", (LOAD,)),)}


def test_one_holder_of_which_different_things_were_told_is_one() -> None:
    timeline = [
        (0.0, held("train", LOAD, said="it is full; 1 claim comes before it")),
        (1.0, held("train", LOAD)),
        (3.0, StepStarted("train", 1, waited=(("pool database", 3.0),))),
    ]
    (wait,) = waits_of(timeline, PLAN)["train"]
    assert not wait.others


@pytest.mark.parametrize("others", [False, True])
def test_after_the_holder_of_the_same_run_has_ended_it_is_others_who_hold_the_slots(others: bool) -> None:
    """Who came after it nobody was told, if it was soon over."""
    granted_at = 3.0 if others else 1.01
    timeline = [
        (0.0, held("train", SlotHolder("load"), SlotHolder("save"))),
        (0.5, StepFailed("save", 1, StepError("exception", "x"))),
        (0.5, StepSucceeded("load", 1, freed=False)),
        (1.0, SlotFreed("load", 1)),
        (granted_at, StepStarted("train", 1, waited=(("pool database", granted_at),))),
    ]
    (wait,) = waits_of(timeline, PLAN)["train"]
    assert (wait.seconds, wait.others) == (granted_at, others)
    assert [holder.step for holder in wait.held_by] == ["load", "save"]


def test_one_cause_is_told_without_a_sum_and_short_ones_not_at_all() -> None:
    assert waits_text([Wait("max_concurrent", 2.0)]) == "2.0 s max_concurrent"
    assert waits_text([Wait("max_concurrent", 0.01)]) == ""
    assert waits_text([Wait("retry", 1.0), Wait("max_concurrent", 0.01)]) == "1.0 s retry"
