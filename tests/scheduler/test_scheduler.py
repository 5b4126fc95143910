"""What the scheduler answers, one sentence at a time; longer stories are in ``golden/``."""

from __future__ import annotations

import pytest
from builders import chain, plan_of, scheduler_of, step

from executor.authoring.retry import Jitter, RetryPolicy
from executor.config.settings import TagLimit
from executor.plan.plan import Source, Step, StepInput, make_plan
from executor.scheduler.commands import Record, StartStep, StopStep
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
    Woke,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import StepError
from executor.scheduler.scheduler import Scheduler
from executor.scheduler.states import StepState

BOOM = StepError("exception", "boom")
TIMED_OUT = StepError("timed_out", "it took too long")


def test_a_step_starts_when_the_step_that_it_reads_from_has_succeeded() -> None:
    scheduler = scheduler_of("load", step("train", "load"))
    assert scheduler.start(now=0.0) == [StartStep("load", 1)]
    assert scheduler.handle(StepSucceeded("load", 1), now=1.0) == [StartStep("train", 1)]
    assert scheduler.handle(StepSucceeded("train", 1), now=2.0) == []
    assert scheduler.finished
    assert scheduler.status == "succeeded"


def test_a_plan_without_steps_has_succeeded_when_it_starts() -> None:
    scheduler = scheduler_of()
    assert scheduler.start(now=0.0) == []
    assert scheduler.finished
    assert scheduler.status == "succeeded"


def test_a_run_that_goes_on_has_no_status() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    assert not scheduler.finished
    assert scheduler.status is None


def test_two_inputs_from_one_step_wait_for_it_once() -> None:
    scheduler = scheduler_of("load", step("train", "load load.other"))
    scheduler.start(now=0.0)
    assert scheduler.handle(StepSucceeded("load", 1), now=1.0) == [StartStep("train", 1)]


def test_word_that_an_attempt_started_changes_nothing() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    assert scheduler.handle(StepStarted("a", 1), now=0.0) == []
    assert scheduler.state("a") is StepState.RUNNING


@pytest.mark.parametrize(
    "event",
    [
        StepStarted("b", 1),
        StepSucceeded("b", 1),
        StepFailed("b", 1, BOOM),
        StepReturned("b", 1),
        SlotFreed("b", 1),
        CancelRequested(keys=("a", "b")),
    ],
    ids=lambda event: event.kind,
)
def test_an_event_about_a_step_that_the_plan_does_not_have_is_an_error(event: StepStarted) -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    with pytest.raises(ValueError, match="the plan of job 'test' has no step 'b'"):
        scheduler.handle(event, now=1.0)
    assert scheduler.state("a") is StepState.RUNNING


def test_asking_about_a_step_that_the_plan_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step 'b'"):
        scheduler_of("a").state("b")


def test_attempts_are_counted_from_one() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1)))
    assert scheduler.attempt("a") == 0
    scheduler.start(now=0.0)
    assert scheduler.attempt("a") == 1
    scheduler.handle(StepFailed("a", 1, BOOM), now=1.0)
    assert scheduler.attempt("a") == 2


def test_jitter_takes_its_chance_from_the_event() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1, delay=8.0, jitter=Jitter.FULL)))
    scheduler.start(now=0.0)
    assert scheduler.handle(StepFailed("a", 1, BOOM, chance=0.25), now=1.0) == [Record(StepWillRetry("a", 2, 2.0))]
    assert scheduler.wake_at == 3.0
    assert scheduler.handle(Woke(), now=3.0) == [StartStep("a", 2, (("retry", 2.0),))]


def test_any_event_notices_a_time_that_has_come() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1, delay=1.0)), "b", at_once=2)
    scheduler.start(now=0.0)
    scheduler.handle(StepFailed("a", 1, BOOM), now=1.0)
    assert scheduler.handle(StepSucceeded("b", 1), now=2.0) == [StartStep("a", 2, (("retry", 1.0),))]


def test_a_success_that_is_told_when_the_timeout_has_come_but_before_the_stop_counts() -> None:
    scheduler = scheduler_of(step("a", timeout_s=5.0))
    scheduler.start(now=0.0)
    assert scheduler.handle(StepSucceeded("a", 1), now=6.0) == []
    assert scheduler.status == "succeeded"


def test_a_success_after_the_stop_for_the_timeout_is_a_failure_that_follows_the_policy() -> None:
    scheduler = scheduler_of(step("a", timeout_s=5.0, retry=RetryPolicy(1, delay=1.0)))
    scheduler.start(now=0.0)
    assert scheduler.handle(Woke(), now=5.0) == [StopStep("a", 1, "timed_out")]
    assert scheduler.handle(StepSucceeded("a", 1), now=6.0) == [Record(StepWillRetry("a", 2, 1.0))]
    assert scheduler.handle(Woke(), now=7.0) == [StartStep("a", 2, (("retry", 1.0),))]
    assert scheduler.handle(Woke(), now=12.0) == [StopStep("a", 2, "timed_out")]
    scheduler.handle(StepSucceeded("a", 2), now=13.0)
    assert scheduler.state("a") is StepState.FAILED


def test_a_success_after_a_stop_because_of_a_cancel_counts() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    assert scheduler.handle(CancelRequested(), now=1.0) == [StopStep("a", 1, "cancelled")]
    assert scheduler.handle(StepSucceeded("a", 1), now=2.0) == []
    assert scheduler.status == "succeeded"


def test_a_cancel_takes_the_place_of_a_timeout() -> None:
    scheduler = scheduler_of(step("a", timeout_s=5.0, retry=RetryPolicy(1)))
    scheduler.start(now=0.0)
    scheduler.handle(Woke(), now=5.0)
    assert scheduler.handle(CancelRequested(), now=5.5) == [StopStep("a", 1, "cancelled")]
    assert scheduler.handle(StepFailed("a", 1, TIMED_OUT), now=6.0) == []
    assert scheduler.state("a") is StepState.CANCELLED
    assert scheduler.status == "cancelled"


def test_a_step_that_was_cancelled_has_no_timeout_any_more() -> None:
    scheduler = scheduler_of(step("a", timeout_s=5.0))
    scheduler.start(now=0.0)
    scheduler.handle(CancelRequested(), now=1.0)
    assert scheduler.wake_at is None
    assert scheduler.handle(Woke(), now=9.0) == []


def test_a_cancelled_step_that_was_never_begun_does_not_start_again() -> None:
    scheduler = scheduler_of("a", step("b", "a"))
    scheduler.start(now=0.0)
    scheduler.handle(CancelRequested(keys=("a",)), now=1.0)
    assert scheduler.handle(StepReturned("a", 1), now=2.0) == [
        Record(StepCancelled("a")),
        Record(StepNotRun("b", "a")),
    ]
    assert scheduler.status == "failed"


def test_a_run_is_not_finished_before_its_last_slot_is_free() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    scheduler.handle(StepSucceeded("a", 1, freed=False), now=1.0)
    assert not scheduler.finished
    scheduler.handle(SlotFreed("a", 1), now=2.0)
    assert scheduler.finished


def test_a_cancelled_run_waits_for_the_slot_of_a_step_between_two_attempts() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1, delay=9.0)))
    scheduler.start(now=0.0)
    scheduler.handle(StepFailed("a", 1, BOOM, freed=False), now=1.0)
    assert scheduler.handle(CancelRequested(), now=2.0) == [Record(StepCancelled("a"))]
    assert not scheduler.finished
    assert scheduler.handle(SlotFreed("a", 1), now=3.0) == []
    assert scheduler.status == "cancelled"


def test_a_run_that_is_cancelled_when_all_has_succeeded_has_succeeded() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    scheduler.handle(StepSucceeded("a", 1), now=1.0)
    scheduler.handle(CancelRequested(), now=2.0)
    assert scheduler.status == "succeeded"


def test_expected_durations_put_the_longer_path_first() -> None:
    plan = plan_of("quick", "slow", step("after_quick", "quick"))
    limits = Limits(max_concurrent=1)
    by_steps = Scheduler(plan, limits)
    by_seconds = Scheduler(plan, limits, expected_s={"quick": 1.0, "after_quick": 1.0, "slow": 9.0})
    assert by_steps.start(now=0.0) == [StartStep("quick", 1)]
    assert by_seconds.start(now=0.0) == [StartStep("slow", 1)]


def test_waits_are_told_by_cause() -> None:
    db = {"tags": {"db": "x"}}
    scheduler = scheduler_of(
        step("a", **db), "b", step("c", **db), at_once=2, tags=(TagLimit(key="db", value="x", limit=1),)
    )
    scheduler.start(now=0.0)
    scheduler.handle(StepSucceeded("b", 1), now=3.0)
    # From 0 to 3 both places were taken; from 3 to 7 one was free, but the tag was not.
    assert scheduler.handle(StepSucceeded("a", 1), now=7.0) == [
        StartStep("c", 1, (("max_concurrent", 3.0), ("tag db=x", 4.0)))
    ]


def test_a_failure_at_the_top_of_a_very_long_chain_is_told_to_its_end() -> None:
    size = 100_000
    scheduler = Scheduler(chain(size), Limits(max_concurrent=1))
    scheduler.start(now=0.0)
    commands = scheduler.handle(StepFailed("s0", 1, BOOM), now=1.0)
    assert commands[0] == Record(StepNotRun("s1", "s0"))
    assert commands[-1] == Record(StepNotRun(f"s{size - 1}", f"s{size - 2}"))
    assert scheduler.counts()[StepState.NOT_RUN] == size - 1
    assert scheduler.status == "failed"


def test_an_output_left_out_at_the_top_of_a_very_long_chain_skips_it_to_its_end() -> None:
    size = 100_000
    scheduler = Scheduler(chain(size), Limits(max_concurrent=1))
    scheduler.start(now=0.0)
    commands = scheduler.handle(StepSucceeded("s0", 1, missing=("result",)), now=1.0)
    assert commands[-1] == Record(StepSkipped(f"s{size - 1}", f"s{size - 2}.result"))
    assert scheduler.status == "succeeded"


def test_what_is_below_both_a_failure_and_an_output_left_out_goes_by_what_came_first() -> None:
    steps = ["bad", "branch", step("both", "bad branch")]
    failure, left_out = StepFailed("bad", 1, BOOM), StepSucceeded("branch", 1, missing=("result",))
    first_failed, first_left_out = scheduler_of(*steps, at_once=2), scheduler_of(*steps, at_once=2)
    first_failed.start(now=0.0)
    assert first_failed.handle(failure, now=1.0) == [Record(StepNotRun("both", "bad"))]
    assert first_failed.handle(left_out, now=2.0) == []
    first_left_out.start(now=0.0)
    assert first_left_out.handle(left_out, now=1.0) == [Record(StepSkipped("both", "branch.result"))]
    assert first_left_out.handle(failure, now=2.0) == []


def test_a_fan_in_of_many_of_which_one_is_left_out_waits_for_the_rest() -> None:
    size = 200
    sources = tuple(Source(index, "result") for index in range(size))
    gather = Step(index=size, key="gather", compute=None, inputs=(StepInput(name="all", sources=sources, fan_in=True),))
    parts = [Step(index=index, key=f"part{index}", compute=None) for index in range(size)]
    scheduler = Scheduler(make_plan("test", (*parts, gather)), Limits(max_concurrent=size))
    scheduler.start(now=0.0)
    for index in range(size):
        assert scheduler.state("gather") is StepState.WAITING
        missing = () if index else ("result",)
        commands = scheduler.handle(StepSucceeded(f"part{index}", 1, missing=missing), now=1.0)
    assert commands == [StartStep("gather", 1)]


def test_no_step_may_move_against_the_table() -> None:
    scheduler = scheduler_of("a")
    scheduler.start(now=0.0)
    with pytest.raises(RuntimeError, match="step 'a' cannot go from running to skipped"):
        scheduler._move(0, StepState.SKIPPED)


# --- what an earlier run has done ------------------------------------------------------------------------------------


def test_a_step_of_an_earlier_run_does_not_start_and_what_reads_it_does() -> None:
    scheduler = scheduler_of("load", step("clean", "load"), step("train", "clean"), step("end", "train"))
    reused = [StepReused("load", "7f3a"), StepReused("clean", "7f3a")]
    assert scheduler.start(0.0, reused) == [StartStep("train", 1)]
    assert (scheduler.state("load"), scheduler.attempt("load")) == (StepState.SUCCEEDED, 0)
    assert scheduler.handle(StepSucceeded("train", 1), 1.0) == [StartStep("end", 1)]
    scheduler.handle(StepSucceeded("end", 1), 2.0)
    assert scheduler.status == "succeeded"


def test_a_step_of_an_earlier_run_holds_nothing_of_a_limit() -> None:
    scheduler = scheduler_of("a", "b", "c", at_once=1)
    assert scheduler.start(0.0, [StepReused("a", "7f3a"), StepReused("b", "7f3a")]) == [StartStep("c", 1)]


def test_what_an_earlier_run_skipped_is_skipped_again() -> None:
    scheduler = scheduler_of("load", step("train", "load"), step("end", "train"), "other")
    commands = scheduler.start(0.0, [StepReused("load", "7f3a", (), ("result",))])
    assert commands == [
        Record(StepSkipped("train", "load.result")),
        Record(StepSkipped("end", "train.result")),
        StartStep("other", 1),
    ]


def test_a_run_of_which_everything_was_done_is_finished_when_it_begins() -> None:
    scheduler = scheduler_of("load", step("train", "load"))
    assert scheduler.start(0.0, [StepReused("train", "7f3a"), StepReused("load", "7f3a")]) == []
    assert scheduler.finished
    assert scheduler.status == "succeeded"
