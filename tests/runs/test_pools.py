"""Pools end to end: real runs, real worker processes, several drivers, and what is left when some of them are killed.

An oracle that knows nothing of the ledger judges, from a diary that the steps write themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workers"))  # test folders are no packages here

import pool_ops as ops
from census import Census, descendants, is_gone, state
from pool_programs import Hold, Place, most_at_once, outcome
from running import KINDS, job_of, wait_until

from executor import AssetExecutionContext, OpDefinition, RunResult, UnmetRequirement, asset, materialize, op
from executor.api import execute_in_process, execute_job
from executor.authoring.jobs import JobDefinition
from executor.database.errors import DatabaseBusy
from executor.errors import UsageError
from executor.instance import stopping
from executor.instance.pool_ledger import PoolLedger
from executor.ledger.ledger import Ledger
from executor.ledger.liveness import live_steps
from executor.runs import pools
from executor.runs.history import read_history
from executor.runs.home import RunFolder
from executor.runs.why import why
from executor.scheduler.events import (
    Event,
    RunNotice,
    SlotsGranted,
    SlotsWaiting,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from tests.by_force import take_away


@pytest.fixture
def place(tmp_path: Path, default_home: Path) -> Iterator[Place]:
    """A home folder whose ledger the test looks at; no process is left after it."""
    with Census(kills_drivers=True):
        made = Place(tmp_path, default_home)
        try:
            yield made
        finally:
            made.close()


def run(
    place: Place,
    what: JobDefinition | list[OpDefinition],
    on_event: Callable[[Event], object] | None = None,
    *,
    in_process: bool = False,
    tags: dict[str, object] | None = None,
    **config: Any,
) -> RunResult:
    """The result of a run in this process; ``on_event`` is told of everything and may change the ledger."""
    job = what if isinstance(what, JobDefinition) else job_of(what)
    options: dict[str, Any] = {"tags": place.tags | (tags or {}), "raise_on_error": False}
    if on_event is not None:
        options["on_event"] = lambda event, _: on_event(event)
    if in_process:
        return execute_in_process(job, **options)
    return execute_job(job, {"execution": {"config": {"max_concurrent": 2} | config}}, **options)


def events_of(result: RunResult | RunFolder, kind: type) -> list[Any]:
    folder = result if isinstance(result, RunFolder) else result.folder
    return [event for _, event in read_history(folder.events) if isinstance(event, kind)]


def waits_of(result: RunResult | RunFolder) -> list[SlotsWaiting]:
    """What was said of waits, but for moments in which another process was writing the ledger."""
    return [event for event in events_of(result, SlotsWaiting) if event.cause != "busy"]


def slots(pool: str) -> Callable[[str], int]:
    """How many slots of a pool the steps of ``pool_ops`` take."""
    weights = {"database": {"query": 1, "holds": 1, "wide": 2}, "left": {"both": 1}, "right": {"both": 1, "right": 1}}[
        pool
    ]
    return lambda step: weights.get(step.split("_")[0], 0)


# --- who may run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_with_a_pool_runs_with_a_token_of_its_own_on_every_kind_of_worker(kind: str, place: Place) -> None:
    place.set_limits(database=1)
    result = run(place, ops.many_queries, in_process=KINDS[kind] is None, **(KINDS[kind] or {}))
    assert result.success
    tokens = [result.output_for_node(key) for key in result.steps]
    assert len(set(tokens)) == 25
    assert sorted(tokens) == [event.token for event in events_of(result, SlotsGranted)]
    assert most_at_once(place.intervals(), slots("database")) == 1
    assert place.claims_left() == []


def test_two_runs_share_a_limit_and_the_one_that_waits_says_for_whom(place: Place) -> None:
    place.set_limits(database=1)
    first = place.start("one_holder")
    ((_, _, holder),) = [line.split() for line in place.mailbox.wait()]
    second = place.start("one_query")
    place.waits_for("query")
    place.gate.open()
    assert outcome(first)[0] == "succeeded"
    status, folder = outcome(second)
    assert status == "succeeded"
    waiting = waits_of(folder)[0]
    assert (waiting.key, waiting.pools, waiting.cause) == ("query", ("database",), "full")
    text = f"1 of 1 slots of pool 'database' are held by step 'holds' of run {holder[:8]} (pid {first.pid}, since "
    assert waiting.reason.startswith(text)
    (started,) = events_of(folder, StepStarted)
    assert dict(started.waited).keys() == {"pool database"}


@pytest.mark.parametrize("inside", ["process", "child"])
def test_a_run_that_waits_for_the_step_in_which_it_was_started_says_so(place: Place, inside: str) -> None:
    """Or nobody would see that neither can go on."""
    place.set_limits(database=1)
    outer = place.start("run_in_run", inside=inside)
    place.waits_for("query")
    with place.view() as view:
        (waiting,) = view.waiters("database")
    folder = RunFolder(place.home / "runs" / waiting.view.run)
    step = why(folder).steps["query"]
    place.set_limits(database=2)
    assert outcome(outer)[0] == "succeeded"
    (holder,) = waits_of(folder)[0].held_by
    assert (holder.step, holder.pid, holder.encloses) == ("holds_while_another_run_goes_on", outer.pid, True)
    assert waits_of(folder)[0].reason.endswith(", until this run ends, which was started in it)")
    assert ", until this run ends, which was started in it)" in step.text
    assert step.ends == "somebody raises the limit: executor instance concurrency set database 2"


def test_no_limit_is_exceeded_by_runs_in_several_programs(place: Place) -> None:
    place.set_limits(database=3, left=1, right=2)
    programs = [
        place.start("mixed", config)
        for config in ({}, {"steps_per_worker": "unlimited"}, {"max_concurrent": 8, "steps_per_worker": "unlimited"})
    ]
    assert [outcome(program)[0] for program in programs] == ["succeeded"] * 3
    intervals = place.intervals()
    assert len(intervals) == 3 * 40
    assert most_at_once(intervals, slots("database")) <= 3
    assert most_at_once(intervals, slots("right")) <= 2
    assert most_at_once(intervals, slots("left")) == 1
    assert place.claims_left() == []


class Told:
    """Remembers the events of a run, and acts at the first one of each kind and step that it is given an action for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._actions: dict[tuple[type, str], Callable[[], object]] = {}

    def on(self, kind: type, key: str, action: Callable[[], object]) -> Told:
        self._actions[kind, key] = action
        return self

    def __call__(self, event: Event) -> None:
        if isinstance(event, SlotsWaiting) and event.cause == "busy":
            return
        self.events.append(event)
        action = self._actions.pop((type(event), getattr(event, "key", "")), None)
        if action is not None:
            action()

    def order(self, kind: type) -> list[str]:
        return [event.key for event in self.events if isinstance(event, kind)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("command", "yaml", "default", "at_once"),
    [(2, 3, 1, 2), (None, 3, 1, 3), (None, None, 2, 2), (None, None, None, 4)],
    ids=["a command", "the file", "the default", "none"],
)
def test_the_limit_of_a_command_beats_the_file_s_beats_the_default_beats_none(
    command: int | None, yaml: int | None, default: int | None, at_once: int, place: Place
) -> None:
    pools: dict[str, object] = {"limits": {} if yaml is None else {"database": yaml}}
    if default is not None:
        pools["default_limit"] = default
    (place.home / "executor.yaml").write_text(json.dumps({"concurrency": {"pools": pools}}))  # JSON is YAML as well
    if command is not None:
        with Ledger(place.home) as ledger:
            ledger.set_limit("database", command)

    told = Told()
    begun = 0

    def on_event(event: Event) -> None:
        nonlocal begun
        told(event)
        begun += isinstance(event, StepStarted)
        # As many as may have begun, and each of the others has been told that it waits: nothing else can happen.
        if begun == at_once and len(set(told.order(SlotsWaiting))) == 4 - at_once:
            place.mailbox.wait(at_once)
            place.gate.open(4)
            begun = 99

    result = run(place, [ops.holds] * 4, on_event, max_concurrent=4)
    assert result.success
    notices = [notice.message for notice in events_of(result, RunNotice)]
    free = "pool 'database' has no limit, so it holds nobody back; to set one: "
    assert notices == ([f"{free}executor instance concurrency set database 1"] if at_once == 4 else [])
    intervals = place.intervals()
    assert most_at_once(intervals, lambda _: 1) == at_once


@pytest.mark.parametrize("in_process", [False, True])
def test_a_pool_with_limit_0_is_paused_until_somebody_raises_it(in_process: bool, place: Place) -> None:
    place.set_limits(database=0)
    told = Told().on(SlotsWaiting, "query", lambda: place.set_limits(database=1))
    result = run(place, ops.one_query, told, in_process=in_process)
    assert result.success
    waiting = waits_of(result)[0]
    assert waiting.cause == "paused"
    assert waiting.reason == (
        "pool 'database' is paused (limit 0) until somebody raises it: executor instance concurrency set database 1"
    )


def test_a_limit_that_becomes_smaller_than_a_step_needs_is_shown_as_such_until_it_is_raised(place: Place) -> None:
    place.set_limits(database=2)
    hold = place.holder(database=2)

    def on_event(event: Event) -> None:
        if not isinstance(event, SlotsWaiting):
            return
        if event.cause == "full":
            place.set_limits(database=1)
        elif event.cause == "unsatisfiable":
            hold.give_back()
            place.set_limits(database=2)

    result = run(place, [ops.wide], on_event)
    assert result.success
    full, small, *_ = waits_of(result)
    assert full.reason.endswith(", and the step needs 2")
    assert small.reason == (
        "the step needs 2 slots of pool 'database', which has 1 in all; to raise its limit: "
        "executor instance concurrency set database 2"
    )


def test_more_slots_than_a_pool_has_are_refused_before_anything_runs(place: Place) -> None:
    place.set_limits(database=1)
    with pytest.raises(UnmetRequirement, match=r"step 'wide' wants 2 slots .* whose limit is 1.* set database 2"):
        run(place, [ops.wide])
    with pytest.raises(UnmetRequirement, match="step 'wide' wants 2 slots"):
        run(place, [ops.wide], in_process=True)
    assert list(place.home.glob("own/*")) == []


def test_all_slots_of_several_pools_are_had_at_once_or_none(place: Place) -> None:
    place.set_limits(left=1, right=1)
    left = place.holder(left=1)
    other = []

    def look() -> None:
        other.append(place.holder(right=1))  # nothing of the right pool is taken by who waits for the left one
        other[0].give_back()
        left.give_back()

    result = run(place, [ops.both], Told().on(SlotsWaiting, "both", look))
    assert result.success
    waiting = waits_of(result)[0]
    assert waiting.pools == ("left",)
    assert len(other) == 1


@pytest.mark.parametrize("what", [ops.fails_once, ops.killed_once], ids=lambda what: what.name)
def test_between_two_attempts_the_slots_are_for_whoever_waits(what: OpDefinition, place: Place) -> None:
    place.set_limits(database=1)
    waiter: list[Hold] = []

    def ask() -> None:
        waiter.append(Hold(place.stranger(), {"database": 1}))
        assert not waiter[0].has()

    def on_event(event: Event) -> None:
        told(event)
        if isinstance(event, SlotsWaiting):
            waiter[0].wait()
            waiter[0].give_back()

    told = Told().on(SlotsGranted, what.name, ask)
    result = run(place, [what], on_event)
    assert result.success
    (failed,) = events_of(result, StepFailed)
    assert failed.error.kind == ("worker_died" if what is ops.killed_once else "exception")
    first, second = (event.token for event in events_of(result, SlotsGranted))
    assert first < second == result.output_for_node(what.name)
    assert waiter[0].has()


def test_a_limit_that_is_lowered_below_its_use_stops_new_grants_only(place: Place) -> None:
    place.set_limits(database=2)
    begun: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepStarted):
            begun.append(event.key)
            if len(begun) == 2:
                place.set_limits(database=1)
                place.gate.open(4)

    result = run(place, [ops.holds] * 4, on_event, max_concurrent=4)
    assert result.success
    intervals = sorted(place.intervals())
    assert all(interval.begin >= max(one.end for one in intervals[:2]) for interval in intervals[2:])
    assert most_at_once(intervals[2:], lambda _: 1) == 1


def test_a_step_that_waits_for_a_pool_holds_no_worker_and_no_tag_slot_and_delays_no_other_pool(place: Place) -> None:
    place.set_limits(database=1, right=1)
    hold = place.holder(database=1)
    tagged = {"site": "x"}

    @op(pool="database", tags=tagged, priority=9)
    def blocked() -> None: ...

    @op(tags=tagged)
    def same_tag() -> None: ...

    @op(pool="right", tags=tagged)
    def other_pool() -> None: ...

    done: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepSucceeded):
            done.append(event.key)
            if len(done) == 2:
                hold.give_back()

    limits = [{"key": "site", "limit": 1}]
    result = run(place, [blocked, same_tag, other_pool], on_event, max_concurrent=1, tag_concurrency_limits=limits)
    assert result.success
    assert sorted(done[:2]) == ["other_pool", "same_tag"]


def test_a_higher_priority_comes_first_and_that_of_the_run_is_added(place: Place) -> None:
    place.set_limits(database=1)
    hold = place.holder(database=1)

    @op(pool="database")
    def usual() -> None: ...

    @op(pool="database", priority=3)
    def urgent() -> None: ...

    priorities: dict[str, int] = {}

    def on_event(event: Event) -> None:
        told(event)
        if isinstance(event, SlotsWaiting) and len(told.order(SlotsWaiting)) == 2:
            with place.view() as view:
                priorities.update({wait.view.step: wait.view.priority for wait in view.waiters()})
            hold.give_back()

    told = Told()
    result = run(place, [usual, urgent], on_event, tags={"dagster/priority": 10})
    assert result.success
    assert priorities == {"usual": 10, "urgent": 13}
    assert told.order(StepStarted) == ["urgent", "usual"]


def test_who_asked_first_is_served_first(place: Place) -> None:
    place.set_limits(database=1)
    hold = place.holder(database=1)
    later: list[Hold] = []

    def ask_later() -> None:
        later.append(Hold(place.stranger(), {"database": 1}))
        hold.give_back()

    def check() -> None:
        assert not later[0].has()

    told = Told().on(SlotsWaiting, "query", ask_later).on(StepStarted, "query", check)
    assert run(place, ops.one_query, told).success
    later[0].wait()


def test_a_grant_that_meets_a_full_run_goes_to_another_run_at_once(place: Place) -> None:
    """Pool of 1; the only worker of run A, which is next, is busy elsewhere: run B has the slot meanwhile."""
    place.set_limits(database=1)
    hold = place.holder(database=1)
    first = place.start("busy_and_query", {"max_concurrent": 1})
    ((_, _, first_run),) = [line.split() for line in place.mailbox.wait()]
    place.waits_for("query", first_run)
    second = place.start("one_holder")
    place.waits_for("holds")
    hold.give_back()
    ((what, _, second_run),) = [line.split() for line in place.mailbox.wait()]
    assert (what, second_run == first_run) == ("holds", False)
    with place.view() as view:
        assert [claim.state for claim in view.claims_of(first_run)] == ["parked"]
    place.gate.open(2)
    assert [outcome(program)[0] for program in (second, first)] == ["succeeded", "succeeded"]


# --- when something dies ----------------------------------------------------------------------------------------------


def two(place: Place, first: str, second: str = "one_query", **options: Any) -> tuple[Any, Any, list[str]]:
    """Two programs; the first one's step tells that it holds the only slot, and the second one's waits for it."""
    holder = place.start(first, **options)
    words = place.mailbox.wait()[0].split()
    waiter = place.start(second)
    place.waits_for("query")
    return holder, waiter, words


KILLABLE = [{}, {"steps_per_worker": "unlimited"}]


@pytest.mark.parametrize("config", KILLABLE, ids=["one-shot", "unlimited"])
def test_a_driver_that_is_killed_gives_its_slot_to_whoever_waits(config: dict[str, Any], place: Place) -> None:
    place.set_limits(database=1)
    holder, waiter, (_, worker, _) = two(place, "one_holder", config=config)
    killed_at = time.monotonic_ns()
    holder.kill()
    assert outcome(waiter)[0] == "succeeded"
    wait_until(lambda: is_gone(int(worker)), "the worker died with its driver")
    held, next_one = sorted(place.intervals(lambda _: killed_at))
    assert (held.step, next_one.step) == ("holds", "query")
    assert next_one.begin >= killed_at
    assert place.claims_left() == []


def test_a_waiter_that_is_killed_takes_no_slot_with_it(place: Place) -> None:
    place.set_limits(database=1)
    holder, waiter, _ = two(place, "one_holder")
    last = place.start("one_last_query")
    place.waits_for("query_last")
    waiter.kill()
    waiter.wait()
    place.gate.open()
    assert outcome(holder)[0] == outcome(last)[0] == "succeeded"
    assert {interval.step for interval in place.intervals()} == {"holds", "query_last"}
    assert place.claims_left() == []


def test_a_driver_that_dies_knowing_of_its_grant_before_its_step_has_the_lock_leaves_no_slot_taken(
    place: Place,
) -> None:
    place.set_limits(database=1)
    hold = place.holder(database=1)
    dies = place.start("one_query", env={"EXECUTOR_CRASH_POINTS": "granted:1"})
    place.waits_for("query")
    lives = place.start("one_last_query")
    place.waits_for("query_last")
    hold.give_back()
    assert outcome(lives)[0] == "succeeded"
    assert dies.wait(60) == -signal.SIGKILL
    assert [interval.step for interval in place.intervals()] == ["query_last"]


def test_a_worker_that_dies_as_it_takes_its_lock_has_begun_nothing_and_holds_nothing(place: Place) -> None:
    place.set_limits(database=1)
    dies = place.start("one_query", env={"EXECUTOR_CRASH_POINTS": "step-locked:1"})
    status, folder = outcome(dies)
    assert status == "failed"
    (failed,) = events_of(folder, StepFailed)
    assert "5 worker processes in a row ended before they began it" in failed.error.message
    assert not place.diary.exists()
    assert place.claims_left() == []


@pytest.mark.parametrize("config", KILLABLE, ids=["one-shot", "unlimited"])
def test_a_child_that_outlives_driver_template_and_worker_keeps_the_slot_until_it_ends(
    config: dict[str, Any], place: Place
) -> None:
    place.set_limits(database=1)
    holder, waiter, (_, worker, child, template) = two(place, "one_with_child", config=config)
    os.kill(int(template), signal.SIGSTOP)  # so that neither can do anything after the other's death
    holder.send_signal(signal.SIGSTOP)
    os.kill(int(template), signal.SIGKILL)
    holder.kill()
    wait_until(lambda: is_gone(int(worker)) and is_gone(holder.pid), "driver and worker are gone")
    look = Hold(place.stranger(), {"database": 1}, priority=99)
    assert not look.has(), "a look at the holders of the slot frees it"
    assert not is_gone(int(child))
    place.gate.open()
    look.wait()
    look.give_back()
    assert outcome(waiter)[0] == "succeeded"


def test_a_child_that_outlives_template_and_worker_keeps_the_slot_while_its_driver_goes_on(place: Place) -> None:
    """Nobody is left who could kill the child; its driver hears of its end and gives the slot back then."""
    place.set_limits(database=1)
    child: list[int] = []

    def kill_template() -> None:
        _, _, pid, template = place.mailbox.wait()[0].split()
        child.append(int(pid))
        os.kill(int(template), signal.SIGKILL)

    def let_child_end() -> None:
        assert not is_gone(child[0])
        place.gate.open()

    name = "leaves_a_child"
    told = Told().on(StepStarted, name, kill_template).on(SlotsWaiting, name, let_child_end)
    result = run(place, ops.one_with_child, told)
    assert result.success
    (failed,) = events_of(result, StepFailed)
    assert failed.error.kind == "worker_died"
    waiting = waits_of(result)[0]
    assert f"held by step {name!r} (since " in waiting.reason
    assert [(holder.step, holder.run) for holder in waiting.held_by] == [(name, "")]
    assert is_gone(child[0])


@pytest.mark.parametrize("config", KILLABLE, ids=["one-shot", "unlimited"])
def test_a_holder_that_is_stopped_keeps_its_slot(config: dict[str, Any], place: Place) -> None:
    place.set_limits(database=1)
    holder, waiter, (_, worker, _) = two(place, "one_holder", config=config)
    for pid in (holder.pid, int(worker)):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(holder.pid) == state(int(worker)) == "T", "both have stopped")
    look = Hold(place.stranger(), {"database": 1}, priority=99)
    assert not look.has()
    for pid in (int(worker), holder.pid):
        os.kill(pid, signal.SIGCONT)
    place.gate.open()
    look.wait()
    look.give_back()
    assert outcome(holder)[0] == outcome(waiter)[0] == "succeeded"
    assert most_at_once(place.intervals(), slots("database")) == 1


def test_a_waiter_that_is_stopped_has_its_slot_when_it_goes_on(place: Place) -> None:
    place.set_limits(database=1)
    holder, waiter, _ = two(place, "one_holder")
    waiter.send_signal(signal.SIGSTOP)
    wait_until(lambda: state(waiter.pid) == "T", "it has stopped")
    place.gate.open()
    assert outcome(holder)[0] == "succeeded"
    wait_until(lambda: place.claims_left() == ["query granted"], "it was granted while it was stopped")
    waiter.send_signal(signal.SIGCONT)
    assert outcome(waiter)[0] == "succeeded"


def test_a_run_that_is_interrupted_gives_back_what_it_holds_and_waits_for(place: Place) -> None:
    place.set_limits(database=1)
    holder = place.start("holds_and_query")
    place.mailbox.wait()
    place.waits_for("query")
    holder.send_signal(signal.SIGINT)
    status, _ = outcome(holder)
    assert status == "cancelled"
    assert place.claims_left() == []
    assert list(place.home.glob("own/*")) == []


def test_an_error_of_the_caller_gives_back_what_the_run_holds_and_waits_for(place: Place) -> None:
    place.set_limits(database=1)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(place, ops.holds_and_query, Told().on(SlotsWaiting, "query", fail))
    assert place.claims_left() == []
    assert list(place.home.glob("own/*")) == []


# --- what a step has of its slots ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "in-process"])
def test_while_a_step_runs_its_input_and_output_carry_its_lock_and_then_nothing_does(kind: str, place: Place) -> None:
    place.set_limits(database=1)
    carried: list[str] = []
    number: list[int] = []
    folder: list[RunFolder] = []

    def look() -> None:
        _, _, run_id = place.mailbox.wait()[0].split()
        folder.append(RunFolder(place.home / "runs" / run_id))
        with place.view() as view:
            number.append(view.claims_of(run_id)[0].claim)
        carried.extend(live_steps(folder[0].path, number)[number[0]])
        place.gate.open()

    def look_again() -> None:
        if not kind.startswith("one-shot"):  # a worker that goes on has let go of it before it reports
            assert live_steps(folder[0].path, number) == {}

    told = Told().on(StepStarted, "holds", look).on(StepSucceeded, "holds", look_again)
    result = run(place, ops.one_holder, told, **(KINDS[kind] or {}))
    assert result.success
    assert sorted(Path(path).name for path in carried) == ["lane-0.in", "lane-0.log"]
    (granted,) = events_of(result, SlotsGranted)
    assert granted.token == result.output_for_node("holds")
    assert live_steps(folder[0].path, number) == {}


def test_a_step_without_pools_has_the_token_0(place: Place) -> None:
    place.set_limits(database=1)
    result = run(place, [ops.plain, ops.query])
    assert result.output_for_node("plain") == 0
    assert result.output_for_node("query") > 0


def test_assets_use_pools_as_ops_do(place: Place) -> None:
    place.set_limits(database=1)

    @asset(pool="database")
    def orders(context: AssetExecutionContext) -> int:
        return context.fencing_token

    @asset(pools={"database": 1, "api": 2})
    def report(context: AssetExecutionContext, orders: int) -> bool:
        return 0 < orders < context.fencing_token

    result = materialize([orders, report])
    assert result.asset_value("report") is True
    assert place.claims_left() == []


def test_in_process_a_forked_child_keeps_the_slot_until_it_ends(place: Place) -> None:
    place.set_limits(database=1)
    told = Told().on(SlotsWaiting, "query_after", place.gate.open)
    result = run(place, ops.fork_then_query, told, in_process=True)
    assert result.success
    waiting = waits_of(result)[0]
    assert "held by step 'forks_a_child' (since " in waiting.reason


# --- every run is an owner, and what happens without a ledger --------------------------------------------------------


@pytest.mark.parametrize("in_process", [False, True])
def test_every_run_is_an_owner_while_it_goes_on(in_process: bool, place: Place) -> None:
    owners: list[str] = []

    def look() -> None:
        owners.extend(path.name for path in place.home.glob("own/*"))

    result = run(place, ops.one_plain, Told().on(StepStarted, "plain", look), in_process=in_process)
    assert result.success
    assert len(owners) == 1
    assert list(place.home.glob("own/*")) == list(place.home.glob("bell/*")) == []
    assert list(result.folder.path.glob("lane-*.in")) == []


@pytest.mark.parametrize("in_process", [False, True])
def test_without_a_ledger_a_run_without_pools_says_so_and_goes_on_and_one_with_pools_is_refused(
    in_process: bool, place: Place
) -> None:
    (place.home / "ledger.db").write_text("this is not a database, and it is longer than nothing" * 20)
    result = run(place, ops.one_plain, in_process=in_process)
    assert result.success
    (notice,) = events_of(result, RunNotice)
    text = "no step of this run uses pools, so it goes on without the ledger of pools, which cannot be used: "
    assert notice.message.startswith(text)
    assert "is damaged" in notice.message
    with pytest.raises(UnmetRequirement, match="is damaged"):
        run(place, ops.one_query, in_process=in_process)
    assert len(list(place.home.glob("runs/*"))) == 1, "the run that was refused left its folder"


def test_a_ledger_that_somebody_holds_and_does_not_go_on_holds_up_no_run_without_pools(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "LONG_PATIENCE_S", 0.0)
    monkeypatch.setattr(pools, "PATIENCE_S", 0.0)
    with Ledger(place.home) as ledger, ledger.database.transaction():
        result = run(place, ops.one_plain)
        with pytest.raises(DatabaseBusy, match=f"process {os.getpid()} holds it and does not go on"):
            run(place, ops.one_query)
    assert result.success
    (notice,) = events_of(result, RunNotice)
    assert f"process {os.getpid()} holds it and does not go on" in notice.message


def test_a_run_that_cannot_say_that_it_is_over_says_so_and_is_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "PATIENCE_S", 0.0)
    place.set_limits(database=1)
    holding: list[object] = []

    def hold_lock() -> None:
        fd = os.open(place.home / "ledger.lock", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        holding.append(fd)

    result = run(place, ops.one_plain, Told().on(StepSucceeded, "plain", hold_lock))
    os.close(holding[0])  # type: ignore[arg-type]
    assert result.success
    (notice,) = events_of(result, RunNotice)
    assert notice.message.startswith("the ledger of pools could not be told that this run is over")
    hold = place.holder(database=1)  # and whoever comes next has cleared up
    assert len(list(place.home.glob("own/*"))) == 1
    hold.give_back()


@pytest.mark.parametrize("in_process", [False, True])
def test_a_run_whose_ledger_is_deleted_fails_what_waits_for_slots_and_does_all_else(
    in_process: bool, place: Place
) -> None:
    place.set_limits(database=1)
    hold = place.holder(database=1)

    @op(pool="right")
    def other_pool() -> int:
        return 1

    @op
    def nothing() -> int:
        return 2

    def lose() -> None:
        for path in place.home.glob("ledger.db*"):
            path.unlink()

    told = Told().on(SlotsWaiting, "query", lose)
    result = run(place, [ops.query, nothing, other_pool], told, in_process=in_process, max_concurrent=1)
    assert hold.has()
    assert result.status == "failed"
    assert result.step("nothing").success
    assert result.failures.keys() >= {"query"}
    assert result.step("query").attempts[-1].error is not None
    assert "was deleted while it was in use" in result.failures["query"]
    lost = [notice.message for notice in events_of(result, RunNotice) if "can be had any more" in notice.message]
    assert len(lost) == 1


def test_a_step_whose_worker_is_stopped_before_it_begins_is_not_freed_by_force(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would begin when it goes on, with slots that are somebody else's by then."""
    monkeypatch.setattr(stopping, "BEGIN_WAIT_S", 0.1)
    place.set_limits(database=1)
    hold = place.holder(database=1)
    program = place.start("one_query")
    place.waits_for("query")
    with place.view() as view:
        (wait,) = [wait.view for wait in view.waiters() if wait.view.step == "query"]
    again = Hold(place.stranger(), {"database": 1})
    stopped = descendants(program.pid)
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        hold.give_back()
        wait_until(lambda: f"{wait.step} granted" in place.claims_left(), "it is granted")
        with pytest.raises(UsageError, match="holds its slots and no process works on it yet"):
            PoolLedger(place.home).free(wait.run, "query", force=True)
        assert not again.has()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert outcome(program)[0] == "succeeded"
    again.wait()


def test_a_result_whose_slots_were_freed_by_force_meanwhile_does_not_count(place: Place) -> None:
    place.set_limits(database=1)

    def free() -> None:
        _, _, run_id = place.mailbox.wait()[0].split()
        take_away(place.home, run_id)
        place.gate.open()

    result = run(place, ops.one_holder, Told().on(StepStarted, "holds", free))
    assert result.status == "failed"
    assert result.failures["holds"].startswith("its slots were freed by force while it ran")


def test_a_guarded_write_of_a_late_step_is_refused() -> None:
    """The recipe of docs/pools.md, with tokens as the ledger gives them: a later holder's is larger."""
    import sqlite3

    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE report (name TEXT PRIMARY KEY, text TEXT, token INTEGER)")

    def write(text: str, token: int) -> bool:
        done = database.execute(
            "INSERT INTO report VALUES ('daily', ?1, ?2) "
            "ON CONFLICT (name) DO UPDATE SET text = ?1, token = ?2 WHERE token < ?2",
            (text, token),
        )
        return done.rowcount == 1

    assert write("by the first holder", 7)
    assert write("by the second holder", 8)
    assert not write("by the first holder, late", 7)
    assert not write("by nobody", 0)
    assert database.execute("SELECT text FROM report").fetchone() == ("by the second holder",)
    database.close()
