"""Why a step is not running, as people read it."""

from __future__ import annotations

import pytest
from builders import scheduler_of, step

from executor.authoring.retry import RetryPolicy
from executor.config.settings import TagLimit
from executor.scheduler.events import (
    CancelRequested,
    SlotsGranted,
    SlotsWaiting,
    StepFailed,
    StepSucceeded,
    WaitCause,
    Woke,
)
from executor.scheduler.outcomes import StepError
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


def test_a_step_that_waits_for_slots_names_them_and_says_for_how_long() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 2, "api": 1}))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1, ("db",)), now=1.0)
    why = scheduler.why("a", now=3.5)
    assert why.state is StepState.CLAIMING
    assert why.wanted == (("api", 1), ("db", 2))
    assert str(why) == (
        "step 'a' has waited 3.5 s for 1 slot of pool 'api' and 2 slots of pool 'db': "
        "too few slots of pool 'db' are free"
    )


def test_what_the_ledger_says_of_a_wait_is_said_in_its_own_words() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 1}))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1, ("db",), "full", "pool 'db' (1 of 1 held by run 7f3a load)"), now=0.0)
    assert str(scheduler.why("a", now=2.0)) == (
        "step 'a' has waited 2.0 s for 1 slot of pool 'db': pool 'db' (1 of 1 held by run 7f3a load)"
    )


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        ("full", ": too few slots of pool 'db' are free"),
        ("reserved", ": the free slots of pool 'db' are kept for a claim that comes first"),
        ("paused", ": pool 'db' is paused"),
        (
            "unsatisfiable",
            ", which is unsatisfiable until a limit is raised: there are fewer slots of pool 'db' in all",
        ),
        ("busy", ": the ledger could not be asked yet about pool 'db'"),
    ],
)
def test_every_cause_of_a_wait_for_slots_has_its_words(cause: WaitCause, text: str) -> None:
    scheduler = scheduler_of(step("a", pools={"db": 3}))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1, cause=cause), now=0.0)
    assert str(scheduler.why("a", now=0.0)) == f"step 'a' has waited 0.0 s for 3 slots of pool 'db'{text}"


def test_a_step_whose_claim_is_parked_says_so_beside_the_limit_that_holds_it_back() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 1}), "long", at_once=1)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1), now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 1), now=1.0)
    assert str(scheduler.why("a", now=2.0)) == (
        "step 'a' is ready and waits for max_concurrent (1 of 1, held by 'long'); "
        "its claim of 1 slot of pool 'db' is parked, and keeps its place until this run has room"
    )


def test_a_step_behind_claims_for_the_same_slots_says_how_many() -> None:
    scheduler = scheduler_of(*[step(key, pools={"db": 1}) for key in "abc"], at_once=1)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1), now=0.0)
    scheduler.handle(SlotsWaiting("b", 1), now=0.0)
    assert str(scheduler.why("c", now=0.0)) == (
        "step 'c' is ready; for 1 slot of pool 'db', 2 claims of steps like it are looked at first"
    )


def test_room_that_is_kept_while_the_ledger_is_asked_counts_as_held() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 1}), "b", at_once=1)
    scheduler.start(now=0.0)
    assert scheduler.why("b", now=0.0).full == (LimitUse("max_concurrent", 1, 1, ("a",)),)
