"""A run that goes on from an earlier one: which steps run, what they read, and what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_run import WrittenRun, plan_of, step

from executor import (
    DagsterRunStatus,
    Instance,
    JobDefinition,
    Out,
    Output,
    ReexecutionOptions,
    RunFailed,
    RunResult,
    RunsFilter,
    UsageError,
    asset,
    execute_job,
    job,
    materialize,
    op,
)
from executor.runs import resume
from executor.runs.home import find_run
from executor.runs.leftovers import look
from executor.runs.records import PARENT_TAG, ROOT_TAG
from executor.runs.result import read_result
from executor.runs.resume import plan_resume
from executor.scheduler.events import RunNotice, RunStarted, StepFailed, StepSucceeded
from executor.scheduler.outcomes import StepError, StoredValue

ROOT = Path(__file__).parents[2]


class Shop:
    """A job whose steps write down that they ran, and fail while they are told to."""

    def __init__(self, folder: Path, *, large: bool = False) -> None:
        ran, failing = folder / "ran", folder / "failing"
        folder.mkdir(exist_ok=True)
        ran.touch()
        failing.touch()
        self._ran, self._failing = ran, failing

        def note(name: str) -> None:
            with open(ran, "a") as file:
                file.write(f"{name}\n")
            if name in failing.read_text().split():
                raise ValueError(f"{name} fails")

        @op
        def load() -> list[int]:
            note("load")
            return list(range(100_000 if large else 3))

        @op
        def other() -> int:
            note("other")
            return 5

        @op
        def train(load: list[int]) -> int:
            note("train")
            return sum(load)

        @op
        def check(load: list[int]) -> int:
            note("check")
            return len(load)

        @op
        def report(train: int, check: int, other: int) -> int:
            note("report")
            return train + check + other

        @job(tags={"team": "core"})
        def shop() -> None:
            loaded = load()
            report(train(loaded), check(loaded), other())

        self.job: JobDefinition = shop

    def fail(self, *names: str) -> None:
        self._failing.write_text(" ".join(names))

    @property
    def ran(self) -> list[str]:
        """The steps that ran since this was last asked."""
        names = self._ran.read_text().split()
        self._ran.write_text("")
        return sorted(names)

    def run(self, **options: Any) -> RunResult:
        return execute_job(self.job, **options)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


@pytest.fixture
def large_shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop", large=True)


def notices(result: RunResult) -> list[str]:
    return [event.message for event in result.events if isinstance(event, RunNotice)]


def value_files(result: RunResult) -> list[Path]:
    """Those that are in the run's folder, also the ones that were in memory while it ran."""
    return sorted(path for path in result.folder.values.rglob("*") if path.is_file())


# --- what runs -------------------------------------------------------------------------------------------------------


def test_what_failed_and_what_is_below_it_runs_and_the_rest_is_read(shop: Shop) -> None:
    shop.fail("train")
    first = shop.run(tags={"day": "1"})
    assert first.status == "failed"
    assert shop.ran == ["check", "load", "other", "train"]
    shop.fail()
    second = shop.run(resume_from=first.run_id[:8])
    assert shop.ran == ["report", "train"]
    assert second.success
    assert second.output_for_node("report") == 3 + 3 + 5
    assert second.output_for_node("load") == [0, 1, 2]
    assert {key: step.reused_from for key, step in second.steps.items()} == {
        "load": first.run_id,
        "other": first.run_id,
        "check": first.run_id,
        "train": None,
        "report": None,
    }
    assert notices(second)[0] == f"goes on from run {first.run_id}: 3 steps reused, 2 steps to run: train, report"


def test_a_run_in_this_process_goes_on_from_one_of_workers_and_the_other_way_round(large_shop: Shop) -> None:
    large_shop.fail("train")
    first = large_shop.run()
    assert large_shop.ran == ["check", "load", "other", "train"]
    with pytest.raises(ValueError, match="train fails"):
        large_shop.job.execute_in_process(resume_from=first.run_id)
    assert large_shop.ran == ["train"]
    large_shop.fail("report")
    with pytest.raises(RunFailed):
        large_shop.job.execute(resume_from="last")
    large_shop.fail()
    assert large_shop.ran == ["report", "train"]
    last = large_shop.job.execute_in_process(resume_from="last")
    assert large_shop.ran == ["report"]
    assert last.output_for_node("report") == sum(range(100_000)) + 100_000 + 5


def test_assets_that_were_made_in_a_run_are_not_made_again(tmp_path: Path, default_home: Path) -> None:
    made = tmp_path / "made"

    @asset
    def orders() -> int:
        with open(made, "a") as file:
            file.write("orders\n")
        return 3

    @asset
    def report(orders: int) -> int:
        if not (tmp_path / "go").exists():
            raise FileNotFoundError("there are no tables")
        return orders + 1

    first = materialize([orders, report], raise_on_error=False)
    assert not first.success
    (tmp_path / "go").touch()
    result = materialize([orders, report], resume_from="last")
    assert (result.output_for_node("report"), made.read_text()) == (4, "orders\n")
    assert result.step("orders").reused_from == first.run_id


def test_the_new_run_names_its_parent_in_its_history_and_its_tags(shop: Shop) -> None:
    shop.fail("report")
    first = shop.run(tags={"day": "1"})
    second = shop.run(resume_from="last")
    shop.fail()
    third = shop.run(resume_from="last", tags={"day": "3"})
    started = third.events[0]
    assert isinstance(started, RunStarted)
    assert started.parent == second.run_id
    assert started.tags == {"team": "core", "day": "3", PARENT_TAG: second.run_id, ROOT_TAG: first.run_id}
    instance = Instance.get()
    (found,) = instance.get_runs(RunsFilter(tags={PARENT_TAG: second.run_id}))
    assert (found.run_id, found.parent_run_id, found.root_run_id) == (third.run_id, second.run_id, first.run_id)
    assert third.steps["load"].reused_from == first.run_id, "where it ran"
    assert third.output_for_node("report") == 11


def test_large_values_are_read_where_they_are_through_several_runs(large_shop: Shop) -> None:
    shop = large_shop
    shop.fail("check")
    first = shop.run()
    assert len(value_files(first)) == 1
    second = shop.run(resume_from="last")
    assert second.steps["check"].state.value == "failed"
    shop.fail("train")
    third = shop.run(reexecution_options=ReexecutionOptions(second.run_id, ["train*"]))
    assert third.status == "failed"
    shop.fail()
    assert shop.ran
    fourth = shop.run(resume_from="last")
    assert shop.ran == ["report", "train"]
    assert fourth.output_for_node("report") == sum(range(100_000)) + 100_000 + 5
    assert [value_files(run) for run in (second, third, fourth)] == [[], [], []]
    assert len(value_files(first)) == 1, "whoever has read it: it belongs to that run"


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_a_value_that_is_gone_is_made_again_with_all_that_was_made_from_it(large_shop: Shop, how: str) -> None:
    shop = large_shop
    shop.fail("train")
    first = shop.run()
    (file,) = value_files(first)
    if how == "gone":
        file.unlink()
    else:
        os.truncate(file, 100)
    shop.fail()
    assert shop.ran
    second = shop.run(resume_from="last")
    assert second.success
    assert shop.ran == ["check", "load", "report", "train"]
    assert "values that are gone or damaged are made again by load" in notices(second)


def test_a_value_that_is_gone_and_read_by_nobody_is_not_made_again(large_shop: Shop) -> None:
    shop = large_shop
    shop.fail("report")
    for file in value_files(shop.run()):
        file.unlink()
    shop.fail()
    assert shop.ran
    assert shop.run(resume_from="last").success
    assert shop.ran == ["report"]


def test_what_was_skipped_stays_skipped(tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.touch()

    @op(out={"rows": Out(), "rest": Out(is_required=False)})
    def load():
        yield Output(1, "rows")

    @op
    def takes_rest(rest):
        return rest

    @op
    def total(rows):
        if failing.exists():
            raise ValueError("not yet")
        return rows

    @job
    def forks():
        rows, rest = load()
        takes_rest(rest)
        total(rows)

    assert not forks.execute(raise_on_error=False).success
    failing.unlink()
    result = forks.execute(resume_from="last")
    assert notices(result)[0].endswith(": 1 step reused, 1 step to run: total")
    assert {key: step.state.value for key, step in result.steps.items()} == {
        "load": "succeeded",
        "takes_rest": "skipped",
        "total": "succeeded",
    }


def test_one_step_alone_or_from_one_step_on(shop: Shop) -> None:
    first = shop.run()
    assert shop.ran
    only = shop.run(reexecution_options=ReexecutionOptions(first.run_id, ["train"]))
    assert shop.ran == ["train"]
    assert sorted(only.steps) == ["check", "load", "other", "train"], "nothing that was made from the older value"
    later = shop.run(reexecution_options=ReexecutionOptions(first.run_id, ["train*"]))
    assert shop.ran == ["report", "train"]
    assert later.output_for_node("report") == 11
    every = shop.run(reexecution_options=ReexecutionOptions(first.run_id))
    assert shop.ran == ["check", "load", "other", "report", "train"]
    assert notices(every)[0].startswith(f"goes on from run {first.run_id}: 0 steps reused, 5 steps to run: load")


def test_a_step_that_is_asked_for_runs_with_those_whose_values_it_lacks(shop: Shop) -> None:
    shop.fail("train", "check")
    first = shop.run()
    shop.fail()
    assert shop.ran
    result = shop.run(reexecution_options=ReexecutionOptions(first.run_id, ["report"]))
    assert result.success
    assert shop.ran == ["check", "report", "train"]


def test_a_run_of_selected_steps_is_gone_on_with_as_that(shop: Shop) -> None:
    shop.fail("train")
    shop.run(selection=["load", "train"])
    shop.fail()
    assert shop.ran
    result = shop.run(resume_from="last")
    assert result.success
    assert (shop.ran, sorted(result.steps)) == (["train"], ["load", "train"])


# --- what is refused, and what is said -------------------------------------------------------------------------------


def test_what_cannot_be_gone_on_with_is_said(shop: Shop, default_home: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        shop.run(resume_from="last")
    done = shop.run()
    with pytest.raises(UsageError, match=r"every step of run .* succeeded, so nothing is left to run; .* --from STEP"):
        shop.run(resume_from="last")
    with pytest.raises(UsageError, match="neither failed nor was cut short: it is succeeded"):
        ReexecutionOptions.from_failure(done.run_id, Instance.get())
    with pytest.raises(UsageError, match="names no step; did you mean 'train'"):
        shop.run(reexecution_options=ReexecutionOptions(done.run_id, ["trian"]))
    with pytest.raises(UsageError, match=r"step_selection is a list: step_selection=\['train'\]"):
        ReexecutionOptions(done.run_id, "train")
    with pytest.raises(UsageError, match="give one of them"):
        shop.run(resume_from="last", reexecution_options=ReexecutionOptions(done.run_id))
    with pytest.raises(UsageError, match="has no selection"):
        shop.run(resume_from="last", selection="train")
    runs = len(Instance.get().get_runs())
    assert runs == 1, "nothing of these is left"
    with WrittenRun(default_home, step("load")) as going, pytest.raises(UsageError, match="goes on; wait for its end"):
        shop.run(resume_from=going.run_id)


def test_from_failure_takes_a_run_that_failed(shop: Shop) -> None:
    shop.fail("report")
    first = shop.run()
    shop.fail()
    assert shop.ran
    options = ReexecutionOptions.from_failure(first.run_id[:10], Instance.get())
    assert options == ReexecutionOptions(first.run_id, (), everything=False)
    assert shop.run(reexecution_options=options).success
    assert shop.ran == ["report"]


def test_a_graph_that_has_changed_is_gone_on_with_and_said(default_home: Path) -> None:
    old = WrittenRun(default_home, step("a"), step("b", "a"), step("c", "b"), step("gone", "a"))
    for key in "abc":
        old.tell(StepSucceeded(key, 1, (StoredValue("result", b"\x80\x05K\x01."),)), 1.0)
    old.tell(StepFailed("gone", 1, StepError("exception", "boom")), 2.0)
    old.end(2.0)
    plan = plan_of(step("a"), step("new"), step("b", "a", "new"), step("c", "b"), step("d", "a"))
    resumed = plan_resume(plan, default_home, ReexecutionOptions.unfinished("last"))
    assert [event.key for event in resumed.reused] == ["a"]
    assert resumed.runs == ("new", "b", "c", "d")
    assert resumed.notices[1:] == (
        "new in the job since then, so to run: new, d",
        "in the job no more, so left out: gone",
        "reads or gives something else than then, so to run with what is below: b",
    )
    with pytest.raises(UsageError, match=r"job 'nightly' has no step in common with run .* name that job with -j"):
        plan_resume(plan_of(step("x")), default_home, ReexecutionOptions.unfinished("last"))


# --- for any graph ---------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_nothing_is_reused_that_is_below_what_runs_and_all_that_is_read_is_there(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    size = data.draw(st.integers(1, 8))
    steps = []
    for number in range(size):
        reads = data.draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        steps.append(step(f"s{number}", *[f"s{other}" for other in reads]))
    run = WrittenRun(home, *steps, at_once=size)
    t = 0.0
    while running := [key for key in run.pids if run.scheduler.state(key).value == "running"]:
        t += 1.0
        key = data.draw(st.sampled_from(running))
        if data.draw(st.booleans()) or data.draw(st.booleans()):
            kept = data.draw(st.booleans())
            stored = StoredValue("result", b"x" if kept else None, None if kept else "lost", 1)
            run.tell(StepSucceeded(key, run.scheduler.attempt(key), (stored,)), t)
        else:
            run.tell(StepFailed(key, run.scheduler.attempt(key), StepError("exception", "boom")), t)
    run.end(t)
    plan = plan_of(*steps)
    try:
        resumed = plan_resume(plan, home, ReexecutionOptions.unfinished("last"))
    except UsageError:
        assert run.scheduler.status == "succeeded"
        return
    reused = {event.key: event for event in resumed.reused}
    assert [planned.key for planned in resumed.plan.steps] == [planned.key for planned in plan.steps]
    assert set(reused) | set(resumed.runs) == set(plan.index_of)
    for planned in plan.steps:
        above = {plan.steps[s.step].key for item in planned.inputs for s in item.sources}
        if planned.key in reused:
            assert above <= set(reused)
            assert run.scheduler.state(planned.key).value == "succeeded"
        else:
            assert all(value.path is None for key in above & set(reused) for value in reused[key].outputs)


# --- after a kill ----------------------------------------------------------------------------------------------------

KILLED = """
import os, sys, time
from pathlib import Path
from executor import job, op

work = Path(sys.argv[1])

@op
def load():
    with open(work / "ran", "a") as file:
        file.write("load\\n")
    return list(range(100000))

@op
def train(load):
    with open(work / "ran", "a") as file:
        file.write("train\\n")
    if not (work / "go").exists():
        print("begun", flush=True)
        os.write(int(sys.argv[2]), b"begun")
        time.sleep(600)
    return sum(load)

@op
def end(train):
    return train

@job
def long():
    end(train(load()))

if __name__ == "__main__":
    result = long.execute(resume_from=sys.argv[3] if sys.argv[3:] else None)
    print(result.output_for_node("end"))
"""


def test_a_run_is_gone_on_with_after_a_kill_of_its_driver(tmp_path: Path, default_home: Path) -> None:
    script = tmp_path / "long_job.py"
    script.write_text(KILLED)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    read_fd, write_fd = os.pipe()
    command = [sys.executable, str(script), str(tmp_path), str(write_fd)]
    driver = subprocess.Popen(command, env=environ, pass_fds=[write_fd], start_new_session=True)
    os.close(write_fd)
    assert os.read(read_fd, 5) == b"begun"
    os.close(read_fd)
    events = find_run(default_home, "last").events
    deadline = time.monotonic() + 100
    while '"key":"train"' not in events.read_text() and time.monotonic() < deadline:
        time.sleep(0.005)  # what happened is in the file some milliseconds later
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    (killed,) = Instance.get().get_runs()
    assert killed.status is DagsterRunStatus.INTERRUPTED
    (tmp_path / "go").touch()
    ended = subprocess.run([*command, "last"], env=environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, f"{sum(range(100000))}\n"), ended.stderr
    assert (tmp_path / "ran").read_text().split() == ["load", "train", "train"]
    result = read_result(find_run(default_home, "last"))
    assert result.success
    assert result.steps["load"].reused_from == killed.run_id
    assert any("was interrupted: its driver died" in notice for notice in notices(result))
    assert look(default_home) == []


def test_a_long_chain_of_values_that_are_gone_is_followed_to_its_top_with_one_look_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2000
    steps = [step(f"s{number}", *([f"s{number - 1}"] if number else [])) for number in range(size)]
    run = WrittenRun(tmp_path, *steps)
    for number in range(size - 1):
        run.tell(StepSucceeded(f"s{number}", 1, (StoredValue("result", None, f"gone-{number}", 1),)), float(number))
    run.tell(StepFailed(f"s{size - 1}", 1, StepError("exception", "boom")), float(size))
    run.end(float(size))
    looks: list[str | None] = []
    monkeypatch.setattr(resume, "is_intact", lambda stored, _: looks.append(stored.path))
    resumed = plan_resume(plan_of(*steps), tmp_path, ReexecutionOptions.unfinished("last"))
    assert len(resumed.runs) == size
    assert sorted(filter(None, looks)) == sorted(f"gone-{number}" for number in range(size - 1))
