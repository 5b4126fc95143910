"""How a run asks for slots of pools, one sentence at a time; longer stories are in ``golden/pool_*``."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from builders import plan_of, scheduler_of, step

from executor.authoring.retry import RetryPolicy
from executor.config.settings import TagLimit
from executor.scheduler.commands import (
    ClaimSlots,
    HandBackSlots,
    Record,
    ReleaseSlots,
    StartStep,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import (
    CancelRequested,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSucceeded,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import StepError
from executor.scheduler.scheduler import Scheduler
from executor.scheduler.simulated_ledger import SimulatedLedger
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from executor.plan.plan import Plan

DB = (("db", 1),)


def query(key: str, reads: str = "", **fields: object) -> tuple[str, str, dict[str, object]]:
    """A step that wants one slot of the pool ``db``."""
    return step(key, reads, pools={"db": 1}, **fields)


def test_a_step_starts_with_the_token_of_its_grant_and_releases_it_at_its_end() -> None:
    scheduler = scheduler_of(query("a"))
    assert scheduler.start(now=0.0) == [ClaimSlots("a", 1, DB, 0)]
    assert scheduler.state("a") is StepState.CLAIMING
    assert scheduler.handle(SlotsGranted("a", 1, 7), now=0.0) == [StartStep("a", 1, (), 7)]
    assert scheduler.handle(StepSucceeded("a", 1), now=1.0) == [ReleaseSlots("a", 1, 7)]
    assert scheduler.status == "succeeded"


def test_a_claim_names_its_pools_in_alphabetical_order_and_adds_the_priorities_of_run_and_step() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 2, "api": 1}, priority=3), run_priority=10)
    assert scheduler.start(now=0.0) == [ClaimSlots("a", 1, (("api", 1), ("db", 2)), 13)]


def test_what_ends_gives_its_slots_back_before_what_it_made_ready_asks_in_the_same_answer() -> None:
    scheduler = scheduler_of(query("a"), query("b", "a"), at_once=2)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 1), now=0.0)
    assert scheduler.handle(StepSucceeded("a", 1), now=1.0) == [ReleaseSlots("a", 1, 1), ClaimSlots("b", 1, DB, 0)]


def test_a_step_asks_only_when_it_could_start_under_the_limits_of_the_run() -> None:
    tags = {"site": "x"}
    limit = TagLimit(key="site", limit=1)
    scheduler = scheduler_of(step("a", tags=tags), query("b", tags=tags), "c", query("d"), at_once=2, tags=(limit,))
    assert scheduler.start(now=0.0) == [StartStep("a", 1), StartStep("c", 1)]
    assert scheduler.handle(StepSucceeded("c", 1), now=1.0) == [ClaimSlots("d", 1, DB, 0)]
    assert scheduler.state("b") is StepState.READY


def test_while_the_ledger_is_asked_nobody_who_comes_later_takes_the_room() -> None:
    scheduler = scheduler_of(query("first"), "second", at_once=1)
    assert scheduler.start(now=0.0) == [ClaimSlots("first", 1, DB, 0)]
    assert scheduler.handle(SlotsGranted("first", 1, 1), now=0.0) == [StartStep("first", 1, (), 1)]


def test_when_the_claim_has_to_wait_the_room_is_free_at_once() -> None:
    scheduler = scheduler_of(query("first"), "second", at_once=1)
    scheduler.start(now=0.0)
    assert scheduler.handle(SlotsWaiting("first", 1), now=0.0) == [StartStep("second", 1)]


def test_a_free_pool_is_used_although_steps_without_pools_are_ready_all_the_time() -> None:
    plan = plan_of(query("first", priority=1), *[f"s{number}" for number in range(50)])
    scheduler, ledger = Scheduler(plan, Limits(max_concurrent=1)), SimulatedLedger({"db": 1})
    ledger.held["db"] = 1  # by another run
    commands = scheduler.start(now=0.0)
    for _, answer in ledger.exchange(commands):
        commands = scheduler.handle(answer, now=0.0)
    assert commands == [StartStep("s0", 1)]
    ledger.held["db"] = 0
    [(_, grant)] = ledger.exchange([WithdrawClaim("nothing", 1)])  # any change makes the ledger look
    commands = scheduler.handle(grant, now=1.0)
    assert commands == [HandBackSlots("first", 1, 1)]
    assert ledger.exchange(commands) == []
    commands = scheduler.handle(StepSucceeded("s0", 1), now=2.0)
    assert commands == [UnparkClaim("first", 1)]
    [(_, grant)] = ledger.exchange(commands)
    waited = (("pool db", 1.0), ("max_concurrent", 1.0))
    assert scheduler.handle(grant, now=2.0) == [StartStep("first", 1, waited, 2)]


def test_a_run_whose_only_worker_is_busy_leaves_the_slot_to_another_run_at_once() -> None:
    ledger = SimulatedLedger({"db": 1})
    busy = scheduler_of(query("a"), "long", at_once=1)
    other = scheduler_of(query("b"))
    ledger.held["db"] = 1
    [(_, answer)] = ledger.exchange(busy.start(now=0.0), "busy")
    assert busy.handle(answer, now=0.0) == [StartStep("long", 1)]
    [(_, answer)] = ledger.exchange(other.start(now=1.0), "other")
    assert answer == SlotsWaiting("b", 1, ("db",))
    other.handle(answer, now=1.0)
    ledger.held["db"] = 0
    [(run, grant)] = ledger.exchange([WithdrawClaim("nothing", 1)])
    assert run == "busy"
    [(run, grant)] = ledger.exchange(busy.handle(grant, now=2.0), "busy")
    assert run == "other"
    assert other.handle(grant, now=2.0) == [StartStep("b", 1, (("pool db", 1.0),), 2)]


def test_at_most_the_free_capacity_and_one_more_claims_wait_for_the_same_slots() -> None:
    scheduler = scheduler_of(*[query(f"s{number}") for number in range(20)], at_once=3)
    commands = scheduler.start(now=0.0)
    asked = []
    while commands:
        asked += commands
        commands = [more for command in commands for more in scheduler.handle(SlotsWaiting(command.key, 1), now=0.0)]
    assert asked == [ClaimSlots(f"s{number}", 1, DB, 0) for number in range(4)]


def test_claims_for_other_slots_go_out_beside_those_that_wait() -> None:
    scheduler = scheduler_of(*[query(f"s{number}") for number in range(9)], step("api", pools={"api": 1}), at_once=1)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("s0", 1), now=0.0)
    assert scheduler.handle(SlotsWaiting("s1", 1), now=0.0) == [ClaimSlots("api", 1, (("api", 1),), 0)]


def test_who_is_granted_slots_after_waiting_gets_the_room_that_is_kept_for_a_question() -> None:
    scheduler = scheduler_of(query("a"), query("b"), at_once=1)
    scheduler.start(now=0.0)
    assert scheduler.handle(SlotsWaiting("a", 1), now=0.0) == [ClaimSlots("b", 1, DB, 0)]
    assert scheduler.handle(SlotsGranted("a", 1, 1), now=1.0) == [StartStep("a", 1, (("pool db", 1.0),), 1)]
    assert scheduler.handle(SlotsWaiting("b", 1), now=1.0) == []
    assert scheduler.handle(SlotsGranted("b", 1, 2), now=2.0) == [HandBackSlots("b", 1, 2)]


def test_what_is_said_of_a_claim_too_late_changes_nothing() -> None:
    scheduler = scheduler_of(query("a"), query("b"), query("c"), at_once=1)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 1), now=0.0)
    assert scheduler.handle(SlotsWaiting("a", 1), now=1.0) == []
    assert scheduler.why("b", now=1.0).claims_before == 0
    assert scheduler.handle(StepSucceeded("a", 1), now=2.0) == [ReleaseSlots("a", 1, 1), ClaimSlots("b", 1, DB, 0)]
    assert scheduler.handle(SlotsWaiting("a", 1), now=3.0) == []
    assert scheduler.handle(SlotsGranted("a", 1, 2), now=3.0) == []


def test_an_urgent_step_asks_although_as_many_others_wait_as_may() -> None:
    scheduler = scheduler_of("load", query("a"), query("b"), query("c"), query("urgent", "load", priority=9), at_once=2)
    assert scheduler.start(now=0.0) == [StartStep("load", 1), ClaimSlots("a", 1, DB, 0)]
    assert scheduler.handle(SlotsWaiting("a", 1), now=0.0) == [ClaimSlots("b", 1, DB, 0)]
    assert scheduler.handle(SlotsWaiting("b", 1), now=0.0) == []
    assert scheduler.handle(StepSucceeded("load", 1), now=1.0) == [ClaimSlots("urgent", 1, DB, 9)]


def test_an_attempt_that_was_never_begun_asks_anew_and_an_old_grant_does_not_start_it() -> None:
    scheduler = scheduler_of(query("a"))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 5), now=0.0)
    assert scheduler.handle(StepReturned("a", 1), now=1.0) == [ReleaseSlots("a", 1, 5), ClaimSlots("a", 1, DB, 0)]
    assert scheduler.handle(SlotsGranted("a", 1, 5), now=1.0) == []
    assert scheduler.handle(SlotsGranted("a", 1, 6), now=1.0) == [StartStep("a", 1, (), 6)]


@pytest.mark.parametrize("answered", [False, True])
def test_a_claim_is_withdrawn_when_its_step_is_cancelled_and_the_next_step_gets_its_room(answered: bool) -> None:
    scheduler = scheduler_of(query("a"), "b", at_once=1)
    scheduler.start(now=0.0)
    if answered:
        assert scheduler.handle(SlotsWaiting("a", 1), now=0.0) == [StartStep("b", 1)]
    started = [] if answered else [StartStep("b", 1, (("max_concurrent", 1.0),))]
    withdrawn = [WithdrawClaim("a", 1), Record(StepCancelled("a"))]
    assert scheduler.handle(CancelRequested(keys=("a",)), now=1.0) == withdrawn + started
    assert scheduler.handle(SlotsGranted("a", 1, 1), now=2.0) == []


def test_a_run_is_not_finished_while_a_claim_waits() -> None:
    scheduler = scheduler_of(query("a"))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1), now=0.0)
    assert not scheduler.finished
    scheduler.handle(CancelRequested(), now=1.0)
    assert scheduler.status == "cancelled"


def test_the_wait_for_slots_is_told_by_the_pools_that_were_in_the_way_then() -> None:
    scheduler = scheduler_of(step("a", pools={"db": 1, "api": 1}))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1), now=1.0)
    scheduler.handle(SlotsWaiting("a", 1, ("db",)), now=3.0)
    scheduler.handle(SlotsWaiting("a", 1, ("api",)), now=7.0)
    assert scheduler.handle(SlotsGranted("a", 1, 1), now=15.0) == [
        StartStep("a", 1, (("pool api + db", 3.0), ("pool db", 4.0), ("pool api", 8.0)), 1)
    ]


def test_the_time_behind_claims_for_the_same_slots_is_the_pools() -> None:
    scheduler = scheduler_of(query("a"), query("b"), query("c"), at_once=1)
    scheduler.start(now=0.0)
    scheduler.handle(SlotsWaiting("a", 1), now=0.0)
    scheduler.handle(SlotsWaiting("b", 1), now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 1), now=4.0)
    assert scheduler.handle(StepSucceeded("a", 1), now=6.0) == [ReleaseSlots("a", 1, 1), ClaimSlots("c", 1, DB, 0)]
    assert scheduler.handle(SlotsGranted("c", 1, 2), now=7.0) == [
        StartStep("c", 1, (("max_concurrent", 2.0), ("pool db", 5.0)), 2)
    ]


@pytest.mark.parametrize("event", [SlotsGranted("b", 1, 1), SlotsWaiting("b", 1)], ids=lambda event: event.kind)
def test_an_answer_about_a_step_that_the_plan_does_not_have_is_an_error(event: SlotsGranted) -> None:
    scheduler = scheduler_of(query("a"))
    scheduler.start(now=0.0)
    with pytest.raises(ValueError, match="the plan of job 'test' has no step 'b'"):
        scheduler.handle(event, now=1.0)


@pytest.mark.parametrize("event", [SlotsGranted("a", 1, 1), SlotsWaiting("a", 1)], ids=lambda event: event.kind)
def test_an_answer_about_a_step_without_pools_changes_nothing(event: SlotsGranted) -> None:
    for others in ([], [query("b")]):
        scheduler = scheduler_of("a", *others)
        scheduler.start(now=0.0)
        assert scheduler.handle(event, now=1.0) == []
        assert scheduler.state("a") is StepState.RUNNING


def test_a_thousand_steps_that_want_the_same_cost_one_claim_each() -> None:
    plan = plan_of(*[query(f"s{number}") for number in range(1000)])
    order, ledger = run_all([plan], SimulatedLedger({"db": 3}), Random(1), at_once=[8])
    assert len(order) == 1000
    assert ledger.held == {"db": 0}


@pytest.mark.parametrize("seed", range(40))
def test_runs_that_share_pools_all_end_and_no_limit_is_exceeded(seed: int) -> None:
    random = Random(seed)
    limits = {"db": random.randint(1, 3), "api": random.randint(1, 2), "gpu": 1}
    plans = []
    for _ in range(random.randint(2, 4)):
        steps = []
        for number in range(random.randint(1, 12)):
            wanted = random.sample(sorted(limits), random.randint(0, 3))
            pools = {pool: random.randint(1, limits[pool]) for pool in wanted}
            above = f"s{random.randrange(number)}" if number and random.random() < 0.4 else ""
            steps.append(step(f"s{number}", above, pools=pools, priority=random.randint(0, 2)))
        plans.append(plan_of(*steps))
    order, ledger = run_all(plans, SimulatedLedger(limits), random, at_once=[random.randint(1, 3) for _ in plans])
    assert len(order) == sum(map(len, plans))
    assert set(ledger.held.values()) == {0}


def run_all(
    plans: list[Plan], ledger: SimulatedLedger, random: Random, at_once: list[int]
) -> tuple[list[tuple[str, str]], SimulatedLedger]:
    """Run these plans beside each other on one ledger, each step ending when chance says; gives the order of starts."""
    runs = {
        str(number): Scheduler(plan, Limits(max_concurrent=most), run_priority=number)
        for number, (plan, most) in enumerate(zip(plans, at_once, strict=True))
    }
    running: list[tuple[str, StartStep]] = []
    order = []
    work = [(name, run.start(now=0.0)) for name, run in runs.items()]
    while work or running:
        if work:
            name, commands = work.pop(0)
            answers = ledger.exchange(commands, name)
            random.shuffle(answers)
            work += [(run, runs[run].handle(answer, now=0.0)) for run, answer in answers]
            started = [(name, command) for command in commands if isinstance(command, StartStep)]
            running += started
            order += [(run, command.key) for run, command in started]
            held: dict[str, int] = {}
            for run, command in running:
                for pool, slots in plans[int(run)].step(command.key).pools.items():
                    held[pool] = held.get(pool, 0) + slots
            assert all(slots <= ledger.limits[pool] for pool, slots in held.items())
        else:
            run, command = running.pop(random.randrange(len(running)))
            work.append((run, runs[run].handle(StepSucceeded(command.key, command.attempt), now=0.0)))
    assert all(run.finished for run in runs.values())
    return order, ledger


LOST = StepError("slots_lost", "the ledger is gone")


def test_a_step_whose_slots_nobody_can_grant_any_more_fails_without_having_started() -> None:
    scheduler = scheduler_of(query("a", retry=RetryPolicy(max_retries=3)), step("below", "a"), "other", at_once=1)
    scheduler.start(now=0.0)
    assert scheduler.handle(StepFailed("a", 1, LOST), now=1.0) == [
        WithdrawClaim("a", 1),
        Record(StepNotRun("below", "a")),
        StartStep("other", 1, (("max_concurrent", 1.0),)),
    ]
    assert (scheduler.state("a"), scheduler.attempt("a")) == (StepState.FAILED, 1)


def test_a_claim_that_waits_can_be_refused_too_and_one_of_an_earlier_attempt_is_not() -> None:
    scheduler = scheduler_of(query("a", retry=RetryPolicy(max_retries=1)))
    scheduler.start(now=0.0)
    scheduler.handle(SlotsGranted("a", 1, 1), now=0.0)
    scheduler.handle(StepFailed("a", 1, StepError("exception", "boom")), now=1.0)
    scheduler.handle(SlotsWaiting("a", 2), now=1.0)
    assert scheduler.handle(StepFailed("a", 1, LOST), now=2.0) == []
    assert scheduler.handle(StepFailed("a", 2, LOST), now=3.0) == [WithdrawClaim("a", 2)]
    assert scheduler.status == "failed"
