"""What is shown of a run while it goes on: events in, a frame out."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from written_run import plan_of, step

from executor.config.settings import TagLimit
from executor.plan.plan import Plan
from executor.runs.remaining import Remaining
from executor.runs.view import Failed, Frame, Held, RunView
from executor.scheduler.commands import Command, Record, StartStep
from executor.scheduler.events import (
    CancelRequested,
    Event,
    Facts,
    RunEnded,
    RunStarted,
    SlotsGranted,
    SlotsWaiting,
    StepFailed,
    StepReturned,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
    Woke,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import StepError
from executor.scheduler.scheduler import Scheduler
from executor.scheduler.states import FINAL, StepState

sys.path.insert(0, str(Path(__file__).parents[1] / "scheduler"))  # test folders are no packages here

from world import random_step, random_world

S = StepState
BOOM = StepError("exception", "ValueError: no rows")


def started(limits: Limits, **fields: Any) -> RunStarted:
    tags = tuple(
        {"key": t.key, "limit": t.limit, "value": t.value, "per_unique_value": t.per_unique_value} for t in limits.tags
    )
    fields = {"run_id": "7f3a12cd", "job": "nightly", "at": 0.0, "pid": 1, "steps": 0, "limits": tags} | fields
    return RunStarted(max_concurrent=limits.max_concurrent, **fields)


class Watched:
    """A run by a real scheduler, whose events, as its driver would write them, are told to a view."""

    def __init__(self, plan: Plan, at_once: int = 4, tags: tuple[TagLimit, ...] = ()) -> None:
        limits = Limits(max_concurrent=at_once, tags=tags)
        self.scheduler = Scheduler(plan, limits)
        self.view = RunView(plan, started(limits))
        self.began: dict[str, float] = {}
        self._perform(self.scheduler.start(0.0), 0.0)

    def tell(self, event: Any, t: float) -> None:
        self.view.tell(event, t)
        self._perform(self.scheduler.handle(event, t), t)

    def succeed(self, key: str, t: float) -> None:
        facts = Facts(started_at=self.began[key], ended_at=t, pid=1, lane=0)
        self.tell(StepSucceeded(key, 1, facts=facts), t)

    def _perform(self, commands: list[Command], t: float) -> None:
        for command in commands:
            if isinstance(command, StartStep):
                self.began[command.key] = t
                self.view.tell(StepStarted(command.key, command.attempt, 100 + len(self.began), 0, command.waited), t)
            elif isinstance(command, Record):
                self.view.tell(command.event, t)

    def frame(self, now: float, rows: int = 8) -> Frame:
        return self.view.frame(now, rows=rows)


def wide(count: int, **fields: Any) -> Plan:
    return plan_of(*[step(f"s_{number}", **fields) for number in range(1, count + 1)])


# --- what runs, and what is over -------------------------------------------------------------------------------------


def test_running_steps_have_their_time_their_pid_and_their_attempt() -> None:
    run = Watched(plan_of(step("load"), step("train", "load")))
    frame = run.frame(2.5)
    (row,) = frame.running
    assert (row.key, row.attempt, row.pid, row.took_s) == ("load", 1, 101, 2.5)
    assert (frame.steps, frame.over, frame.counts[S.RUNNING], frame.counts[S.WAITING]) == (2, 0, 1, 1)
    assert (frame.run_id, frame.job, frame.status, frame.at_s) == ("7f3a12cd", "nightly", "running", 2.5)
    run.succeed("load", 3.0)
    frame = run.frame(3.0)
    assert [row.key for row in frame.running] == ["train"]
    assert (frame.over, frame.counts[S.SUCCEEDED]) == (1, 1)


def test_more_steps_than_rows_are_counted() -> None:
    frame = Watched(wide(20), at_once=20).frame(1.0, rows=3)
    assert [row.key for row in frame.running] == ["s_1", "s_2", "s_3"]
    assert frame.more_running == 17


def test_a_failed_step_is_named_once_it_has_failed_for_good() -> None:
    from executor import RetryPolicy

    run = Watched(plan_of(step("load", retry=RetryPolicy(max_retries=1, delay=5.0)), step("train", "load")))
    run.tell(StepFailed("load", 1, BOOM), 1.0)
    frame = run.frame(2.0)
    assert not frame.failed
    assert [(each.key, each.attempt, each.in_s) for each in frame.retrying] == [("load", 2, 4.0)]
    run.view.tell(StepStarted("load", 2, 102, 0), 6.0)
    assert not run.frame(6.0).retrying


def test_a_failure_for_good_takes_what_is_below_it_along() -> None:
    run = Watched(plan_of(step("load"), step("train", "load")))
    run.tell(StepFailed("load", 1, BOOM), 1.0)
    frame = run.frame(1.0)
    assert frame.failed == (Failed("load", "ValueError: no rows"),)
    assert (frame.over, frame.counts[S.FAILED], frame.counts[S.NOT_RUN]) == (2, 1, 1)


def test_a_run_that_is_being_stopped_says_why_and_expects_no_end() -> None:
    run = Watched(wide(4), at_once=2)
    run.succeed("s_1", 1.0)
    assert run.frame(1.0).left_s is not None
    run.tell(CancelRequested((), kill=False, reason="SIGINT"), 1.5)
    frame = run.frame(1.5)
    assert frame.stopping == "SIGINT"
    assert frame.left_s is None
    assert all(row.stopping for row in frame.running)


def test_the_end_of_the_run_is_its_status() -> None:
    run = Watched(wide(1))
    run.succeed("s_1", 1.0)
    run.view.tell(RunEnded("succeeded"), 1.25)
    frame = run.view.frame()
    assert (frame.status, frame.at_s, frame.left_s, frame.running, frame.held) == ("succeeded", 1.25, None, (), ())


def test_an_old_attempt_that_is_told_again_ends_no_new_one() -> None:
    from executor import RetryPolicy

    run = Watched(plan_of(step("load", retry=RetryPolicy(max_retries=1))))
    run.tell(StepFailed("load", 1, BOOM), 1.0)
    run.view.tell(StepFailed("load", 1, BOOM), 1.5)
    run.view.tell(StepReturned("load", 1), 1.5)
    assert [row.attempt for row in run.frame(2.0).running] == [2]


# --- what is held back -----------------------------------------------------------------------------------------------


def test_steps_that_max_concurrent_holds_back_are_counted() -> None:
    assert Watched(wide(10), at_once=3).frame(1.0).held == (Held("max_concurrent", 7, "3 of 3"),)


def test_a_full_tag_limit_names_who_holds_it_and_comes_before_max_concurrent() -> None:
    tags = (TagLimit(key="database", limit=1, value="warehouse"),)
    queries = [step(f"query_{number}", tags={"database": "warehouse"}) for number in range(1, 5)]
    run = Watched(plan_of(*queries, step("a"), step("b")), at_once=2, tags=tags)
    assert run.frame(1.0).held == (
        Held("tag database=warehouse", 3, "1 of 1, held by query_1"),
        Held("max_concurrent", 1, "2 of 2"),
    )


def test_claims_that_wait_are_told_with_what_the_ledger_says() -> None:
    run = Watched(wide(5, pools={"database": 1}), at_once=2)
    reason = "1 of 1 slots of pool 'database' are held by step 'load' of run 9b0c4e11"
    run.tell(SlotsWaiting("s_1", 1, ("database",), "full", reason), 0.5)
    assert Held("pool database", 1, reason) in run.frame(1.0).held
    run.tell(SlotsWaiting("s_2", 1, ("database",), "busy", "the ledger could not be asked"), 0.5)
    run.tell(SlotsWaiting("s_3", 1, ("database",), "full", reason), 0.5)
    frame = run.frame(1.0)
    assert frame.counts[S.CLAIMING] == 3
    assert frame.held == (Held("pool database", 5, reason),)
    run.tell(SlotsGranted("s_1", 1, 7), 2.0)
    assert [row.key for row in run.frame(2.0).running] == ["s_1"]
    assert run.frame(2.0).held[0].steps == 4


# --- how long it goes on, and what is slow ----------------------------------------------------------------------------


def test_a_chain_of_equal_steps_ends_when_each_has_taken_as_long() -> None:
    plan = plan_of(step("s_1"), *[step(f"s_{number}", f"s_{number - 1}") for number in range(2, 11)])
    run = Watched(plan)
    assert run.frame(1.0).left_s is None  # nothing has ended
    for number in range(1, 6):
        run.succeed(f"s_{number}", 2.0 * number)
    assert run.frame(10.0).left_s == pytest.approx(10.0)
    assert run.frame(11.0).left_s == pytest.approx(9.0)


def test_work_that_runs_side_by_side_ends_earlier() -> None:
    run = Watched(wide(12), at_once=4)
    for number in range(1, 9):
        run.succeed(f"s_{number}", 3.0 if number <= 4 else 6.0)
    assert run.frame(6.0).left_s == pytest.approx(3.0)


def test_a_run_cannot_end_before_the_longest_path_that_is_left() -> None:
    sources = [step(f"load_{number}") for number in range(1, 5)]
    tail = [step("report_1", "load_1"), *[step(f"report_{n}", f"report_{n - 1}") for n in range(2, 6)]]
    run = Watched(plan_of(*sources, *tail), at_once=4)
    for number in range(1, 5):
        run.succeed(f"load_{number}", 2.0)
    assert run.frame(2.0).left_s == pytest.approx(10.0)


def test_a_kind_that_was_measured_counts_with_its_own_mean() -> None:
    plan = plan_of(step("long_1"), step("short_1", "long_1"), step("short_2", "short_1"), step("short_3", "short_2"))
    run = Watched(plan, at_once=1)
    run.succeed("long_1", 100.0)
    run.succeed("short_1", 101.0)
    assert run.frame(101.0).left_s == pytest.approx(2.0)


def test_a_step_that_has_not_run_yet_counts_with_what_it_took_in_earlier_runs() -> None:
    plan = plan_of(step("load"), step("clean_1", "load"), step("clean_2", "clean_1"), step("train", "clean_2"))
    earlier = {"load": 5.0, "clean_1": 2.0, "clean_2": 4.0, "train": 10.0, "gone": 100.0}
    remaining = Remaining(plan, earlier)
    assert remaining.left_s(0.0, []) is None, "it has not begun"
    remaining.began(0.0)
    assert remaining.left_s(1.0, [(0, 0.0)]) == pytest.approx(4.0 + 3.0 + 3.0 + 10.0)
    remaining.measured(0, 2.0, 2.0)
    remaining.over(0)
    assert remaining.left_s(2.0, [(1, 2.0)]) == pytest.approx(3.0 + 3.0 + 10.0)
    remaining.measured(1, 1.0, 3.0)
    remaining.over(1)
    assert remaining.left_s(3.0, [(2, 3.0)]) == pytest.approx(1.0 + 10.0), "what it took now comes before"


def test_a_step_of_a_new_kind_counts_with_the_mean_of_the_others() -> None:
    remaining = Remaining(plan_of(step("load"), step("train", "load")), {"load": 4.0})
    remaining.began(0.0)
    assert remaining.left_s(1.0, [(0, 0.0)]) == pytest.approx(3.0 + 4.0)
    remaining.measured(0, 5.0, 5.0)
    remaining.over(0)
    assert remaining.left_s(5.0, [(1, 5.0)]) == pytest.approx(5.0)


def test_a_step_is_slow_that_takes_much_longer_than_in_earlier_runs() -> None:
    remaining = Remaining(plan_of(step("load"), step("quick")), {"load": 300.0, "quick": 0.01})
    assert not remaining.slow(0, 899.0)
    assert remaining.slow(0, 900.0)
    assert not remaining.slow(1, 0.9)
    assert remaining.slow(1, 1.0)


def test_a_step_is_slow_that_takes_much_longer_than_those_like_it() -> None:
    run = Watched(wide(5), at_once=5)
    for number in range(1, 4):
        run.succeed(f"s_{number}", 2.0)
    assert not any(row.slow for row in run.frame(5.9).running)
    slow = run.frame(6.0).running[0]
    assert (slow.key, slow.slow, slow.usual_s) == ("s_4", True, 2.0)


def test_a_slow_step_comes_first_also_where_it_began_last() -> None:
    plan = plan_of(*[step(f"quick_{number}") for number in range(1, 5)], *[step(f"deep_{n}") for n in range(1, 20)])
    run = Watched(plan, at_once=23)
    for number in range(1, 4):
        run.succeed(f"quick_{number}", 1.0)
    frame = run.frame(30.0, rows=2)
    assert [(row.key, row.slow) for row in frame.running] == [("quick_4", True), ("deep_1", False)]


def test_a_step_of_which_nothing_is_known_is_slow_after_a_minute() -> None:
    run = Watched(wide(1))
    assert not run.frame(59.0).running[0].slow
    assert run.frame(60.0).running[0].slow


# --- any run ----------------------------------------------------------------------------------------------------------


class Recorded(Scheduler):
    """A scheduler that notes what its driver would have written down."""

    timeline: list[tuple[Event, float]]
    options: dict[str, Any]

    def __init__(self, plan: Plan, limits: Limits, **options: Any) -> None:
        super().__init__(plan, limits, **options)
        self.timeline, self.options = [], options

    def start(self, now: float) -> list[Command]:
        return self._noted(super().start(now), now)

    def handle(self, event: Any, now: float) -> list[Command]:
        # A start is written down where it was commanded; told again later it only says what time it is.
        self.timeline.append((Woke() if isinstance(event, StepStarted) else event, now))
        return self._noted(super().handle(event, now), now)

    def _noted(self, commands: list[Command], now: float) -> list[Command]:
        for command in commands:
            if isinstance(command, StartStep):
                self.timeline.append((StepStarted(command.key, command.attempt, 7, 0, command.waited), now))
            elif isinstance(command, Record):
                self.timeline.append((command.event, now))
        return commands


@settings(max_examples=200, deadline=None)
@given(random=st.randoms(use_true_random=False), rows=st.integers(1, 5))
def test_a_frame_agrees_with_the_run_after_any_events(random: Random, rows: int) -> None:
    world = random_world(random, Recorded)
    real = world.real
    assert isinstance(real, Recorded)
    assume(not real.options["expected_s"])  # which the history of a run does not have
    begun = started(world.limits, retries=real.options["retries"], tags={})
    view = RunView(world.plan, begun)
    going = True
    while going:
        events, real.timeline = real.timeline, []
        for event, t in events:
            view.tell(event, t)
        frame = view.frame(world.now, rows=rows)
        assert frame.counts == real.counts()
        assert frame.over == sum(real.counts()[state] for state in FINAL)
        assert len(frame.running) + frame.more_running == len(world.running)
        assert {row.key for row in frame.running} <= set(world.running)
        assert len(frame.running) <= rows
        assert len(frame.held) <= rows
        every = view.frame(world.now, rows=1000)
        held = sum(each.steps for each in every.held)
        assert real.counts()[S.READY] <= held <= real.counts()[S.READY] + real.counts()[S.CLAIMING]
        assert {each.key for each in every.retrying} >= {
            step.key for step in world.plan.steps if real.state(step.key) is S.BACKOFF
        }
        assert frame.left_s is None or frame.left_s >= 0.0
        going = random_step(random, world)
    assert view.frame().over == len(world.plan)


@settings(max_examples=100, deadline=None)
@given(ends=st.lists(st.tuples(st.integers(0, 9), st.floats(0.01, 100.0)), max_size=30))
def test_what_is_left_is_the_sum_over_the_kinds_in_any_order(ends: list[tuple[int, float]]) -> None:
    plan = plan_of(*[step(f"{'abc'[number % 3]}_{number}") for number in range(1, 11)])
    remaining = Remaining(plan)
    remaining.began(0.0)
    seconds: dict[int, list[float]] = {}
    over: set[int] = set()
    for t, (index, took) in enumerate(ends, 1):
        remaining.measured(index, took, float(t))
        remaining.over(index)
        seconds.setdefault(index, []).append(took)
        over.add(index)
    means = {kind: [took for index, each in seconds.items() if index % 3 == kind for took in each] for kind in range(3)}
    every = [took for each in seconds.values() for took in each]
    if not every:
        assert remaining.left_s(1.0, []) is None
        return
    expected = sum(
        sum(means[index % 3] or every) / len(means[index % 3] or every) for index in range(10) if index not in over
    )
    now = float(len(ends))
    speed = sum(took for _, took in ends) / now
    longest = max([0.0, *[sum(means[i % 3] or every) / len(means[i % 3] or every) for i in range(10) if i not in over]])
    assert remaining.left_s(now, []) == pytest.approx(max(expected / speed, longest))


# --- the cost ---------------------------------------------------------------------------------------------------------


def test_a_frame_costs_no_more_calls_however_many_steps_there_are() -> None:
    looks: list[int] = []
    for count in (1_000, 20_000):
        run = Watched(wide(count), at_once=4)
        for number in range(1, 200):
            run.succeed(f"s_{number}", float(number))
        calls = 0

        def counted(frame: Any, what: str, arg: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(counted)
        run.frame(200.0)
        sys.setprofile(None)
        looks.append(calls)
    assert looks[1] <= looks[0]


def test_a_retry_that_is_overdue_is_due_now() -> None:
    run = Watched(wide(1))
    run.view.tell(StepWillRetry("s_1", 2, 3.0), 1.0)
    assert [each.in_s for each in run.frame(10.0).retrying] == [0.0]
