"""The index of runs: what is found in it, who reads and writes it at once, and that nothing rests on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from written_run import WrittenRun, step

from executor import DagsterRunStatus, Instance, RunsFilter, UsageError, job, op
from executor.runs.home import RunFolder, make_run, open_home
from executor.runs.index import INDEX_FILE, RunIndex, find_runs, index_problems, read_run, rebuild
from executor.scheduler.events import RunEnded, RunNotice, StepFailed, StepSucceeded
from executor.scheduler.outcomes import StepError

ROOT = Path(__file__).parents[2]


@op
def one() -> int:
    return 1


@op
def fails() -> None:
    raise ValueError("no rows")


@job(tags={"team": "core"})
def good() -> None:
    one()


@job(tags={"team": "web"})
def bad() -> None:
    fails()


def written(home: Path, *, status: str = "succeeded") -> WrittenRun:
    """A run that a driver wrote which knew no index."""
    run = WrittenRun(home, step("a"))
    if status == "succeeded":
        run.tell(StepSucceeded("a", 1), 1.0)
    elif status == "failed":
        run.tell(StepFailed("a", 1, StepError("exception", "boom")), 1.0)
    if status == "killed":
        run._close()
    elif status != "running":
        run.end(1.0)
    return run


# --- asking ----------------------------------------------------------------------------------------------------------


def test_runs_are_found_by_what_is_known_of_them(default_home: Path) -> None:
    first = good.execute(tags={"day": "1"})
    second = bad.execute(raise_on_error=False, tags={"day": "2"})
    third = good.execute(tags={"day": "3"})
    instance = Instance.get()

    def ids(**wanted: object) -> list[str]:
        return [run.run_id for run in instance.get_runs(RunsFilter(**wanted))]

    assert ids() == [third.run_id, second.run_id, first.run_id]
    assert ids(job_name="good") == [third.run_id, first.run_id]
    assert ids(statuses=[DagsterRunStatus.FAILURE]) == ids(statuses=["failed"]) == ids(statuses=["FAILURE"])
    assert ids(statuses=["failed"]) == [second.run_id]
    assert ids(statuses=["failed", "succeeded"], tags={"day": ["1", "2"]}) == [second.run_id, first.run_id]
    assert ids(tags={"team": "core", "day": "3"}) == [third.run_id]
    assert ids(run_ids=[first.run_id, "none"]) == [first.run_id]
    assert ids(run_ids=[]) == []
    assert [run.run_id for run in instance.get_runs(limit=1)] == [third.run_id]
    found = instance.get_run_by_id(second.run_id)
    assert found is not None
    assert (found.status, found.job_name, found.steps, found.tags) == (
        DagsterRunStatus.FAILURE,
        "bad",
        1,
        {"team": "web", "day": "2"},
    )
    assert found.status == "failed"
    assert found.is_finished
    assert found.is_failure
    assert found.duration_s == second.duration_s
    assert found.size_bytes is not None
    assert found.size_bytes > 0
    assert instance.get_run_by_id("0" * 36) is None
    (record,) = instance.get_run_records(RunsFilter(job_name="bad"))
    assert record.dagster_run == found
    assert record.start_time is not None
    assert record.end_time is not None
    assert record.create_timestamp <= record.start_time <= record.end_time
    assert index_problems(default_home) == []


def test_a_status_that_is_none_is_told_with_the_right_one() -> None:
    with pytest.raises(
        UsageError, match=r"'faild' is no status of a run; did you mean 'failed'\? \(there are: not beg"
    ):
        RunsFilter(statuses=["faild"])
    with pytest.raises(UsageError, match=r"statuses is a list: statuses=\['failed'\]"):
        RunsFilter(statuses="failed")
    with pytest.raises(UsageError, match="run_ids is a list"):
        RunsFilter(run_ids="abc")


def test_runs_that_the_index_does_not_know_are_read_from_their_folders_and_entered(tmp_path: Path) -> None:
    runs = [written(tmp_path, status=status) for status in ("succeeded", "failed", "killed", "running")]
    empty = make_run(open_home(tmp_path))
    found = {run.run_id: run.status for run in find_runs(tmp_path)}
    with runs[-1]:
        assert [found[run.run_id].value for run in runs] == ["succeeded", "failed", "interrupted", "running"]
        assert found[empty.folder.run_id] is DagsterRunStatus.NOT_STARTED
        with RunIndex(tmp_path) as index:
            assert index.totals()[0] == 3, "those that have ended"
        assert {run.run_id: run.status for run in find_runs(tmp_path)} == found


def test_a_run_whose_driver_was_killed_shows_as_that_although_its_row_says_that_it_goes_on(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path, step("a"))
    with RunIndex(tmp_path) as index:
        index.begin(read_run(run.folder))
    assert find_runs(tmp_path)[0].status is DagsterRunStatus.STARTED
    run._close()
    assert find_runs(tmp_path, RunsFilter(statuses=["interrupted"]))[0].run_id == run.run_id
    assert find_runs(tmp_path, RunsFilter(statuses=["running"])) == []


def test_a_run_has_ended_when_its_history_says_so_although_its_driver_has_yet_to_write_its_row(tmp_path: Path) -> None:
    """Whoever waited for the end of a run read it there."""
    with WrittenRun(tmp_path, step("a")) as run:
        with RunIndex(tmp_path) as index:
            index.begin(read_run(run.folder))
        run._write(RunEnded("cancelled"), 1.0)
        assert run.folder.is_alive()
        assert find_runs(tmp_path)[0].status.value == "cancelled"


def test_the_next_run_corrects_the_row_of_one_that_was_killed(tmp_path: Path) -> None:
    killed = WrittenRun(tmp_path, step("a"))
    with RunIndex(tmp_path) as index:
        index.begin(read_run(killed.folder))
    killed.die(0.5)
    assert index_problems(tmp_path) != []
    good.execute(home=tmp_path)
    assert index_problems(tmp_path) == []


def test_a_run_whose_folder_was_removed_is_not_found(tmp_path: Path) -> None:
    kept, removed = good.execute(home=tmp_path), good.execute(home=tmp_path)
    shutil.rmtree(removed.folder.path)
    assert len(index_problems(tmp_path)) == 1
    assert [run.run_id for run in find_runs(tmp_path)] == [kept.run_id]
    assert index_problems(tmp_path) == [], "it was forgotten when it was not found"


def test_a_home_without_runs_has_none_and_is_not_made(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


# --- nothing rests on it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["overwritten", "truncated", "of another program", "a folder"])
def test_a_broken_index_stops_no_run_and_no_question_and_is_made_anew(tmp_path: Path, damage: str) -> None:
    first = good.execute(home=tmp_path)
    path = tmp_path / INDEX_FILE
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if damage == "overwritten":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table t (x)')",
                str(path),
            ],
            check=True,
        )
    second = good.execute(home=tmp_path)
    assert second.success
    notices = [event.message for event in second.events if isinstance(event, RunNotice)]
    assert any("doctor --repair" in message for message in notices)
    assert [run.run_id for run in find_runs(tmp_path)] == [second.run_id, first.run_id]
    if damage in {"overwritten", "truncated"}:
        assert rebuild(tmp_path) == 2
        assert index_problems(tmp_path) == []
        assert good.execute(home=tmp_path).success
        assert len(find_runs(tmp_path)) == 3


def test_the_index_is_rebuilt_while_a_run_goes_on(tmp_path: Path) -> None:
    done = written(tmp_path)
    with WrittenRun(tmp_path, step("a")) as going, RunIndex(tmp_path) as driver:
        driver.begin(read_run(going.folder))
        (tmp_path / "runs" / "no run").mkdir()
        assert rebuild(tmp_path) == 2
        going.tell(StepSucceeded("a", 1), 1.0)
        going.end(1.0)
        driver.end(read_run(going.folder))
    assert [(run.run_id, run.status.value) for run in find_runs(tmp_path)] == [
        (going.run_id, "succeeded"),
        (done.run_id, "succeeded"),
    ]
    assert index_problems(tmp_path) == []


def test_an_index_that_was_deleted_under_a_run_stops_it_not(tmp_path: Path) -> None:
    @op
    def deletes(context) -> None:
        for path in tmp_path.glob("history.*"):
            path.unlink()

    @job
    def careless() -> None:
        deletes()

    assert careless.execute(home=tmp_path).success
    assert [run.status.value for run in find_runs(tmp_path)] == ["succeeded"]


# --- many at once ----------------------------------------------------------------------------------------------------

DRIVER = """
import sys
from executor import job, op
from executor.runs.index import RunIndex

RunIndex.__init__.__kwdefaults__["timeout_s"] = 100.0  # however busy the machine is

@op
def one():
    return 1

@job
def small():
    one()

print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    result = small.execute_in_process(home=sys.argv[1])
    assert result.success
    assert [event for event in result.events if event.kind == "run_notice"] == [], result.events
print("done")
"""

READER = """
import os, sys
from pathlib import Path
from executor.runs import index
from executor.runs.index import find_runs

home = Path(sys.argv[1])
print("ready", flush=True)
os.set_blocking(0, False)
looks = most = 0
while True:
    index._rows(home)  # any trouble with the file is raised
    runs = find_runs(home)
    assert len(runs) >= most, (len(runs), most)
    most = len(runs)
    looks += 1
    if sys.stdin.buffer.read() == b"":
        break
print("looks", looks)
"""


def test_two_drivers_and_ten_readers_at_once_never_see_a_database_that_is_locked(tmp_path: Path) -> None:
    good.execute(home=tmp_path)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(program: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )

    drivers, readers = [start(DRIVER) for _ in range(2)], [start(READER) for _ in range(10)]
    for process in (*drivers, *readers):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for driver in drivers:
        out, err = driver.communicate("go\n", timeout=200)
        assert (driver.returncode, out, err) == (0, "done\n", "")
    for reader in readers:
        out, err = reader.communicate(timeout=200)
        assert (reader.returncode, err) == (0, "")
        assert int(out.split()[1]) > 0
    assert len(find_runs(tmp_path)) == 21
    assert index_problems(tmp_path) == []


def test_a_driver_that_is_killed_is_found_interrupted_and_can_be_named_by_its_status(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom executor import job, op\n\n"
        "@op\ndef sleeps():\n    print('begun', flush=True)\n    time.sleep(600)\n\n"
        "@job\ndef long():\n    sleeps()\n\n"
        "long.execute_in_process(home=sys.argv[1])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    (run,) = find_runs(tmp_path, RunsFilter(statuses=[DagsterRunStatus.STARTED]))
    with RunIndex(tmp_path) as index:
        assert index.totals()[0] == 1, "entered when it began"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (found,) = find_runs(tmp_path)
    assert (found.run_id, found.status) == (run.run_id, DagsterRunStatus.INTERRUPTED)
    assert RunFolder(tmp_path / "runs" / run.run_id).events.exists()


def test_json_of_a_status_is_its_word() -> None:
    assert json.dumps(DagsterRunStatus.SUCCESS) == '"succeeded"'
