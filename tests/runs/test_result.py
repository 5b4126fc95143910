"""A result is what the run's history says."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from executor.errors import UsageError
from executor.outputs.values import store_value
from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan
from executor.plan.record import plan_to_record
from executor.runs.history import HistoryWriter
from executor.runs.home import RunFolder, make_run, open_home
from executor.runs.result import RunResult, read_result
from executor.runs.steps import collect_steps
from executor.scheduler.events import (
    CancelRequested,
    Event,
    Facts,
    RunEnded,
    RunNotice,
    RunStarted,
    SlotFreed,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.outcomes import StepError, StoredValue
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from pathlib import Path


def step(index: int, key: str, *reads: int, asset: str | None = None) -> Step:
    inputs = tuple(StepInput(name=f"x{above}", sources=(Source(above, "result"),)) for above in reads)
    outputs = (StepOutput(name="result", asset=asset), StepOutput(name="rest", required=False))
    return Step(index=index, key=key, compute=None, inputs=inputs, outputs=outputs)


PLAN = make_plan(
    "nightly",
    (
        step(0, "load", asset="raw/orders"),
        step(1, "train", 0),
        step(2, "report.draw", 1),
        step(3, "report.send", 2),
        step(4, "late"),
    ),
)
STARTED = RunStarted(run_id="r", job="nightly", at=1.0, pid=1, steps=5, max_concurrent=2)
VALUE = StoredValue("result", pickle.dumps({"rows": 3}), None, 10)
BOOM = StepError("exception", "ValueError: no rows", "Traceback ...")
EVENTS: list[tuple[float, Event]] = [
    (0.0, STARTED),
    (0.5, StepStarted("load", 1, 11, 0, (("max_concurrent", 0.5),))),
    (1.0, StepReturned("load", 1)),
    (1.5, StepStarted("load", 1, 12, 0, (("max_concurrent", 1.0), ("tag db=x", 0.25)))),
    (2.5, StepSucceeded("load", 1, (VALUE,), ("rest",), Facts(1.5, 2.25, 0.5, 1000, 12, 0, 0, 9))),
    (2.5, StepStarted("train", 1, 13, 1)),
    (3.5, StepFailed("train", 1, BOOM, 0.1, Facts(2.5, 3.25, 0.5, 3000, 13, 1), freed=False)),
    (3.5, StepWillRetry("train", 2, 1.0)),
    (3.75, SlotFreed("train", 1, lingered=True, exit_code=-9)),
    (4.75, StepStarted("train", 2, 14, 1, (("retry", 1.0),))),
    (5.75, StepFailed("train", 2, BOOM, 0.1, Facts(4.75, 5.5, 0.25, 2000, 14, 1, exit_code=1))),
    (5.75, StepNotRun("report.draw", "train")),
    (5.75, StepNotRun("report.send", "report.draw")),
    (5.75, StepSkipped("late", "load.rest")),
    (6.0, RunEnded("failed")),
]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """The folder of a run that went as EVENTS say."""
    return written(tmp_path, EVENTS)


def written(tmp_path: Path, events: list[tuple[float, Event]], plan: Plan = PLAN) -> RunFolder:
    lock = make_run(open_home(tmp_path / "home"))
    lock.folder.plan.write_text(json.dumps(plan_to_record(plan)))
    writer = HistoryWriter(lock.folder.events)
    for t, event in events:
        writer.write(event, t)
    writer.close()
    lock.release()
    return lock.folder


def test_status_and_id_are_known_without_reading_anything(tmp_path: Path) -> None:
    result = RunResult(RunFolder(tmp_path / "runs" / "abc"), "succeeded")
    assert (result.success, result.status, result.run_id, result.interrupted) == (True, "succeeded", "abc", False)
    assert repr(result) == "<RunResult abc succeeded>"


def test_a_step_has_its_attempts_with_times_facts_and_waits(folder: RunFolder) -> None:
    train = RunResult(folder, "failed").step("train")
    first, second = train.attempts
    assert (first.number, first.started_at, first.ended_at, first.outcome) == (1, 2.5, 3.25, "failed")
    assert (first.pid, first.exit_code, first.lingered) == (13, -9, True)
    assert (second.exit_code, second.lingered, second.waited) == (1, False, {"retry": 1.0})
    assert (train.state, train.success, train.error) == (StepState.FAILED, False, BOOM)
    assert (train.wall_s, train.cpu_s, train.peak_rss_bytes) == (1.5, 0.75, 3000)


def test_an_attempt_that_never_began_was_not_spent(folder: RunFolder) -> None:
    load = RunResult(folder, "failed").step("load")
    (attempt,) = load.attempts
    assert (attempt.number, attempt.pid, attempt.wall_s) == (1, 12, 0.75)
    assert load.waited == {"max_concurrent": 1.0, "tag db=x": 0.25}
    assert load.error is None


def test_what_did_not_run_says_why(folder: RunFolder) -> None:
    steps = RunResult(folder, "failed").steps
    assert list(steps) == ["load", "train", "report.draw", "report.send", "late"]
    assert [each.explain() for each in steps.values()] == [
        "succeeded",
        "failed: ValueError: no rows",
        "was not run, because 'train' did not succeed",
        "was not run, because 'report.draw' did not succeed",
        "was skipped, because 'load.rest' was left out",
    ]
    assert steps["late"].attempts == ()
    assert RunResult(folder, "failed").failures == {"train": "ValueError: no rows"}


def test_events_are_there_all_or_of_one_node_or_graph(folder: RunFolder) -> None:
    result = RunResult(folder, "failed")
    assert result.events == result.all_events == [event for _, event in EVENTS]
    assert result.timeline == EVENTS
    assert result.duration_s == 6.0
    assert len(result.events_for_node("load")) == 4
    assert [event.kind for event in result.events_for_node("report")] == ["step_not_run", "step_not_run"]
    with pytest.raises(UsageError, match="has no step 'lod'; did you mean 'load'"):
        result.events_for_node("lod")


def test_a_value_is_loaded_when_it_is_asked_for(folder: RunFolder) -> None:
    result = RunResult(folder, "failed")
    assert result.output_for_node("load") == {"rows": 3}
    assert result.output_for_node("load", "result") == {"rows": 3}
    for key in ("raw/orders", ["raw", "orders"], ("raw", "orders")):
        assert result.asset_value(key) == {"rows": 3}


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [
        ("trian", "result", "has no step 'trian'; did you mean 'train'"),
        ("train", "result", "step 'train' has no output 'result': it failed: ValueError: no rows"),
        ("report.send", "result", "it was not run, because 'report.draw' did not succeed"),
        ("load", "rest", "step 'load' left its optional output 'rest' out"),
        ("load", "reslut", r"has no output 'reslut'; did you mean 'result'\? \(it has: result, rest\)"),
    ],
)
def test_a_value_that_is_not_there_is_an_error_that_says_why(
    folder: RunFolder, name: str, output: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        RunResult(folder, "failed").output_for_node(name, output)


def test_an_asset_that_is_not_there_gets_a_near_name(folder: RunFolder) -> None:
    with pytest.raises(UsageError, match="has no asset 'raw/order'; did you mean 'raw/orders'"):
        RunResult(folder, "failed").asset_value("raw/order")


def test_a_result_pickles_without_what_can_be_read_again(folder: RunFolder) -> None:
    result = RunResult(folder, "failed", plan=make_plan("x", (step(0, "f"),)))
    result._plan = make_plan("x", (Step(index=0, key="f", compute=lambda: None),))
    again = pickle.loads(pickle.dumps(result))
    assert (again.run_id, again.status) == (result.run_id, "failed")
    assert again.plan == PLAN


def test_a_run_is_read_from_its_folder(folder: RunFolder, tmp_path: Path) -> None:
    assert read_result(folder).status == "failed"
    cut_off = written(tmp_path, EVENTS[:3])
    assert read_result(cut_off).status == "interrupted"
    lock = make_run(tmp_path / "home")
    with pytest.raises(UsageError, match="has no events: its driver died before it began"):
        read_result(lock.folder)
    lock.folder.events.write_bytes(cut_off.events.read_bytes())
    assert read_result(lock.folder).status == "running"
    lock.release()


def test_what_a_removed_run_is_asked_for_says_that_it_was_removed(folder: RunFolder) -> None:
    large = store_value("result", "x" * 1_000_000, folder.values, "0-1-0.value")
    folder.events.write_bytes(b"")
    writer = HistoryWriter(folder.events)
    for event in (STARTED, StepSucceeded("load", 1, (large,), ("rest",)), RunEnded("succeeded")):
        writer.write(event, 1.0)
    writer.close()
    looked_at, untouched = RunResult(folder, "succeeded"), RunResult(folder, "succeeded")
    assert looked_at.step("load").success
    shutil.rmtree(folder.path)
    removed = f"run {folder.run_id} was removed: there is no folder {folder.path} any more"
    for ask in (
        lambda: looked_at.output_for_node("load"),
        lambda: looked_at.asset_value("raw/orders"),
        lambda: untouched.output_for_node("load"),
        lambda: untouched.asset_value("raw/orders"),
        lambda: untouched.events,
        lambda: untouched.events_for_node("load"),
        lambda: untouched.step("load"),
        lambda: untouched.failures,
        lambda: untouched.duration_s,
        lambda: untouched.plan,
        lambda: read_result(folder),
    ):
        with pytest.raises(UsageError, match=re.escape(removed)):
            ask()
    assert repr(untouched) == f"<RunResult {folder.run_id} succeeded>"
    assert untouched._repr_html_()


def test_a_run_without_its_events_says_so(folder: RunFolder) -> None:
    folder.events.unlink()
    with pytest.raises(UsageError, match=r"has no events: there is no file .*/events\.jsonl"):
        RunResult(folder, "failed").events


def test_a_run_that_was_cut_off_says_where_each_step_stood() -> None:
    events: list[tuple[float, Event]] = [
        (0.0, STARTED),
        (0.0, StepStarted("a", 1, 5)),
        (0.0, StepStarted("b", 1)),
        (0.5, StepFailed("b", 1, BOOM)),
        (0.5, StepWillRetry("b", 2, 9.0)),
    ]
    steps = collect_steps(events, ["a", "b", "c"])
    assert [each.explain() for each in steps.values()] == [
        "was running when the run was cut off",
        "was waiting for its next attempt when the run was cut off",
        "was never reached",
    ]
    assert steps["a"].attempts[0].wall_s == 0.0
    assert steps["a"].attempts[0].outcome == "running"
    assert steps["b"].attempts[0].ended_at == 0.5


def test_what_ends_while_it_is_asked_to_stop_was_cancelled_unless_it_succeeded() -> None:
    events: list[tuple[float, Event]] = [
        *[(0.0, StepStarted(key, 1)) for key in "abc"],
        (1.0, CancelRequested()),
        (1.1, StepSucceeded("a", 1)),
        (1.2, StepFailed("b", 1, BOOM)),
        (1.3, StepFailed("c", 1, StepError("cancelled", "stopped"))),
        (1.3, StepCancelled("d")),
        (1.3, RunNotice("x")),
    ]
    states = {key: each.state for key, each in collect_steps(events).items()}
    cancelled = StepState.CANCELLED
    assert states == {"a": StepState.SUCCEEDED, "b": cancelled, "c": cancelled, "d": cancelled}


def test_only_the_steps_that_were_asked_to_stop_are_cancelled() -> None:
    events: list[tuple[float, Event]] = [
        *[(0.0, StepStarted(key, 1)) for key in "ab"],
        (1.0, CancelRequested(("a",))),
        (1.1, StepFailed("a", 1, BOOM)),
        (1.2, StepFailed("b", 1, BOOM)),
    ]
    states = {key: each.state for key, each in collect_steps(events).items()}
    assert states == {"a": StepState.CANCELLED, "b": StepState.FAILED}
