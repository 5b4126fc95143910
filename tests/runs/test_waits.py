"""For what each step had waited, read from the history: causes, seconds, and who was in the way."""

from __future__ import annotations

import pytest
from written_run import plan_of, step

from executor.runs.waits import Wait, waits_of, waits_text
from executor.scheduler.events import RunEnded, SlotsGranted, SlotsWaiting, StepCancelled, StepFailed, StepStarted
from executor.scheduler.outcomes import StepError

PLAN = plan_of(step("train", pools={"database": 1}), step("other", pools={"api": 1, "database": 2}), step("plain"))

BY_LOAD = "1 of 1 slots of pool 'database' are held by step 'load' of run 7f3a12cd (pid 77) since 12:03:04"
BY_SAVE = "1 of 1 slots of pool 'database' are held by step 'save' of run 9b0c (pid 78) since 12:04:00; 2 claims before"


def test_the_reason_that_held_longest_is_told() -> None:
    timeline = [
        (1.0, SlotsWaiting("train", 1, ("database",), "full", BY_SAVE)),
        (4.0, SlotsWaiting("train", 1, ("database",), "full", BY_LOAD)),
        (42.0, SlotsGranted("train", 1, 7)),
        (42.0, StepStarted("train", 1, waited=(("pool database", 41.0), ("max_concurrent", 3.2)))),
    ]
    (wait, other) = waits_of(timeline, PLAN)["train"]
    assert wait == Wait("pool database", 41.0, BY_LOAD, others=True)
    assert wait.held_by == "by step 'load' of run 7f3a12cd (pid 77) since 12:03:04 and others"
    assert other == Wait("max_concurrent", 3.2)
    assert waits_text((wait, other)) == (
        "44.2 s: 41.0 s pool database (held by step 'load' of run 7f3a12cd (pid 77) since 12:03:04 and others), "
        "3.2 s max_concurrent"
    )


def test_who_is_named_ends_where_the_sentence_goes_on() -> None:
    assert Wait("pool database", 1.0, BY_SAVE).held_by == "by step 'save' of run 9b0c (pid 78) since 12:04:00"
    needs = "1 of 2 slots of pool 'database' are held by step 'a' of this run since 12:04:00, and the step needs 2"
    assert Wait("pool database", 1.0, needs).held_by == "by step 'a' of this run since 12:04:00"
    paused = Wait("pool database", 1.0, "pool 'database' is paused (limit 0)")
    assert (paused.held_by, str(paused)) == ("", "1.0 s pool database (pool 'database' is paused (limit 0))")


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
        (0.0, SlotsWaiting("train", 1, ("database",), "full", BY_LOAD)),
        (1.0, StepStarted("train", 1, waited=(("pool database", 1.5),))),
        (3.0, SlotsWaiting("train", 2, ("database",), "full", BY_LOAD)),
        (5.0, end),
    ]
    assert waits_of(timeline, PLAN) == {"train": (Wait("pool database", 3.5, BY_LOAD),)}


def test_one_holder_of_which_different_things_were_told_is_one() -> None:
    timeline = [
        (0.0, SlotsWaiting("train", 1, ("database",), "full", BY_LOAD + "; 1 claim comes before it")),
        (1.0, SlotsWaiting("train", 1, ("database",), "full", BY_LOAD)),
        (3.0, StepStarted("train", 1, waited=(("pool database", 3.0),))),
    ]
    (wait,) = waits_of(timeline, PLAN)["train"]
    assert not wait.others


def test_one_cause_is_told_without_a_sum_and_short_ones_not_at_all() -> None:
    assert waits_text([Wait("max_concurrent", 2.0)]) == "2.0 s max_concurrent"
    assert waits_text([Wait("max_concurrent", 0.01)]) == ""
    assert waits_text([Wait("retry", 1.0), Wait("max_concurrent", 0.01)]) == "1.0 s retry"
