"""Why a step is not running, as people read it."""

from __future__ import annotations

from builders import scheduler_of, step

from executor.authoring.retry import RetryPolicy
from executor.config.settings import TagLimit
from executor.scheduler.events import CancelRequested, StepError, StepFailed, StepSucceeded, Woke
from executor.scheduler.states import StepState
from executor.scheduler.why import LimitUse

BOOM = StepError("exception", "boom")
WAREHOUSE = TagLimit(key="db", value="warehouse", limit=1)
DB = {"db": "warehouse"}


def test_a_waiting_step_names_what_it_waits_for_and_how_that_stands() -> None:
    scheduler = scheduler_of("a", "b", step("c", "a b"))
    scheduler.start(now=0.0)
    why = scheduler.why("c", now=0.0)
    assert why.upstream == (("a", StepState.RUNNING), ("b", StepState.READY))
    assert str(why) == "step 'c' waits for 'a' (running), 'b' (ready)"
    scheduler.handle(StepSucceeded("a", 1), now=1.0)
    assert scheduler.why("c", now=1.0).upstream == (("b", StepState.RUNNING),)


def test_a_ready_step_names_every_limit_that_is_full_and_who_holds_it() -> None:
    scheduler = scheduler_of(step("a", tags=DB), "b", step("c", tags=DB), at_once=2, tags=(WAREHOUSE,))
    scheduler.start(now=0.0)
    why = scheduler.why("c", now=0.0)
    assert why.full == (
        LimitUse("max_concurrent", 2, 2, ("a", "b")),
        LimitUse("tag db=warehouse", 1, 1, ("a",)),
    )
    assert str(why) == (
        "step 'c' is ready and waits for max_concurrent (2 of 2, held by 'a', 'b') "
        "and tag db=warehouse (1 of 1, held by 'a')"
    )
    scheduler.handle(StepSucceeded("b", 1), now=1.0)
    assert [use.name for use in scheduler.why("c", now=1.0).full] == ["tag db=warehouse"]


def test_a_ready_step_says_how_many_are_before_it() -> None:
    scheduler = scheduler_of("a", "b", "c", "d")
    scheduler.start(now=0.0)
    assert scheduler.why("b", now=0.0).ahead == 0
    assert scheduler.why("d", now=0.0).ahead == 2
    assert str(scheduler.why("d", now=0.0)).endswith("; 2 ready steps are before it")
    assert str(scheduler.why("c", now=0.0)).endswith("; 1 ready step is before it")


def test_a_long_list_of_holders_is_counted() -> None:
    scheduler = scheduler_of(*[f"s{number}" for number in range(9)], at_once=8)
    scheduler.start(now=0.0)
    assert str(scheduler.why("s8", now=0.0)) == (
        "step 's8' is ready and waits for max_concurrent "
        "(8 of 8, held by 's0', 's1', 's2', 's3', 's4' and 3 more steps)"
    )


def test_a_step_between_two_attempts_says_for_how_long() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1, delay=10.0)))
    scheduler.start(now=0.0)
    scheduler.handle(StepFailed("a", 1, BOOM), now=1.0)
    why = scheduler.why("a", now=4.0)
    assert why.retry_in_s == 7.0
    assert str(why) == "step 'a' failed in attempt 1; the next starts in 7.0 s at the earliest"


def test_a_step_whose_processes_have_not_ended_says_so() -> None:
    scheduler = scheduler_of(step("a", retry=RetryPolicy(1)))
    scheduler.start(now=0.0)
    scheduler.handle(StepFailed("a", 1, BOOM, freed=False), now=1.0)
    why = scheduler.why("a", now=4.0)
    assert why.lingering
    assert str(why).endswith("; processes of attempt 1 have not ended yet and keep its slot")


def test_a_running_step_says_whether_it_was_told_to_stop() -> None:
    scheduler = scheduler_of(step("a", timeout_s=5.0))
    scheduler.start(now=0.0)
    assert str(scheduler.why("a", now=0.0)) == "step 'a' is running (attempt 1)"
    scheduler.handle(Woke(), now=5.0)
    assert str(scheduler.why("a", now=5.0)) == "step 'a' is running (attempt 1) and was stopped: timed_out"


def test_a_step_that_will_never_run_names_the_reason() -> None:
    scheduler = scheduler_of("bad", "branch", "never", step("below", "bad"), step("skipped", "branch"), at_once=2)
    scheduler.start(now=0.0)
    scheduler.handle(CancelRequested(keys=("never",)), now=0.0)
    scheduler.handle(StepFailed("bad", 1, BOOM), now=1.0)
    scheduler.handle(StepSucceeded("branch", 1, missing=("result",)), now=1.0)
    assert str(scheduler.why("bad", now=2.0)) == "step 'bad' failed in attempt 1"
    assert str(scheduler.why("below", now=2.0)) == "step 'below' was not run, because 'bad' did not succeed"
    assert str(scheduler.why("skipped", now=2.0)) == "step 'skipped' was skipped, because branch.result was left out"
    assert str(scheduler.why("never", now=2.0)) == "step 'never' was cancelled"
