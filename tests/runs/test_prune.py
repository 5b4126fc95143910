"""Which runs are removed, and that no run is that somebody still needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from written_run import WrittenRun, step

from executor import DagsterRunStatus, Instance, job, op
from executor.config.instance_file import RetentionSettings
from executor.runs.home import RunFolder, held_run, make_run, open_home
from executor.runs.index import find_runs, index_problems
from executor.runs.prune import GIB, REMOVED, choose, empty, prune
from executor.runs.records import DagsterRun
from executor.scheduler.events import StepSucceeded

NO_BOUND = RetentionSettings(max_count=None, max_days=None, max_gib=None)
ONE = RetentionSettings(max_count=1, max_days=None, max_gib=None)
NOW = 1e9
DAY_S = 86400.0


def run(number: int, *, age_s: float = 0.0, size: int = 0, status: str = "succeeded", parent: int | None = None):
    return DagsterRun(
        run_id=f"r{number}",
        status=DagsterRunStatus(status),
        made_at=NOW - age_s,
        size_bytes=size,
        parent_run_id=None if parent is None else f"r{parent}",
    )


def chosen(runs: list[DagsterRun], settings: RetentionSettings) -> dict[str, str]:
    return {removal.run.run_id: removal.reason for removal in choose(runs, settings, NOW)}


# --- which -----------------------------------------------------------------------------------------------------------


def test_the_newest_are_kept_as_many_as_long_and_as_large_as_is_said() -> None:
    runs = [run(number, age_s=number * DAY_S, size=GIB) for number in range(5)]
    assert chosen(runs, NO_BOUND) == {}
    assert chosen(runs, RetentionSettings()) == {}
    assert chosen(runs, RetentionSettings(max_count=3)) == {"r3": "beyond the newest 3", "r4": "beyond the newest 3"}
    assert chosen(runs, RetentionSettings(max_days=3)) == {"r4": "older than 3 days"}
    assert chosen(runs, RetentionSettings(max_gib=4)) == {"r4": "beyond the newest 4.0 GiB"}


def test_the_newest_and_those_that_go_on_are_kept_whatever_is_said() -> None:
    tight = RetentionSettings(max_count=1, max_days=1, max_gib=1)
    runs = [run(0, age_s=99 * DAY_S, size=5 * GIB), run(1, age_s=99 * DAY_S, status="running"), run(2)]
    assert list(chosen(runs, tight)) == ["r2"]


def test_what_a_kept_run_goes_on_from_is_kept_with_all_that_that_goes_on_from() -> None:
    runs = [run(0, parent=2), run(1), run(2, parent=4), run(3, parent=1), run(4), run(5)]
    assert list(chosen(runs, ONE)) == ["r1", "r3", "r5"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["succeeded", "failed", "running", "interrupted"]), st.none() | st.integers(1, 9)),
        max_size=10,
    ),
    st.integers(1, 5),
)
def test_no_run_goes_on_from_one_that_is_removed_while_it_is_kept(said, most: int) -> None:
    count = len(said)
    runs = [
        run(number, status=status, parent=number + back if back is not None and number + back < count else None)
        for number, (status, back) in enumerate(said)
    ]
    gone = chosen(runs, RetentionSettings(max_count=most))
    for each in runs:
        if each.run_id not in gone:
            assert each.parent_run_id not in gone
        else:
            assert each.status is not DagsterRunStatus.STARTED


# --- removing --------------------------------------------------------------------------------------------------------


def written(home: Path) -> WrittenRun:
    made = WrittenRun(home, step("a"))
    made.tell(StepSucceeded("a", 1), 1.0)
    made.end(1.0)
    (made.folder.values / "large").write_bytes(b"x" * 100_000)
    return made


def ids(home: Path) -> list[str]:
    return sorted(found.run_id for found in find_runs(home))


def test_runs_are_removed_with_all_that_they_left(tmp_path: Path) -> None:
    old, new = written(tmp_path), written(tmp_path)
    (told,) = prune(tmp_path, ONE, dry_run=True)
    assert told.run.run_id == old.run_id
    assert told.run.size_bytes is not None
    assert told.run.size_bytes >= 100_000
    assert ids(tmp_path) == sorted([old.run_id, new.run_id])
    assert [removal.run.run_id for removal in prune(tmp_path, ONE)] == [old.run_id]
    assert ids(tmp_path) == [new.run_id]
    assert index_problems(tmp_path) == []
    assert list((tmp_path / REMOVED).iterdir()) == []
    assert prune(tmp_path, ONE) == []


def test_without_the_time_for_it_what_was_removed_is_deleted_by_the_next(tmp_path: Path) -> None:
    old, new = written(tmp_path), written(tmp_path)
    (tmp_path / REMOVED).mkdir()
    old.folder.path.rename(tmp_path / REMOVED / old.run_id)
    empty(tmp_path, end=0.0)
    assert (tmp_path / REMOVED / old.run_id).exists()
    assert prune(tmp_path, ONE, budget_s=100.0) == []
    assert not (tmp_path / REMOVED / old.run_id).exists()
    assert ids(tmp_path) == [new.run_id]


def test_a_run_that_lives_one_that_is_read_and_one_whose_step_lives_are_kept(tmp_path: Path) -> None:
    with WrittenRun(tmp_path, step("a")) as alive:
        beginning = make_run(open_home(tmp_path))
        read, left = written(tmp_path), WrittenRun(tmp_path, step("a"))
        left._close()
        with open(left.folder.lane_log(0), "wb") as log:
            child = subprocess.Popen(["sleep", "600"], stdout=log)
        newest = written(tmp_path)
        try:
            with held_run(read.folder):
                assert prune(tmp_path, ONE) == []
            assert prune(tmp_path, ONE, dry_run=True) != []
            assert [removal.run.run_id for removal in prune(tmp_path, ONE)] == [read.run_id]
        finally:
            child.kill()
            child.wait()
        kept = {alive.run_id, beginning.folder.run_id, left.run_id, newest.run_id}
        assert set(ids(tmp_path)) == kept
        assert [removal.run.run_id for removal in prune(tmp_path, ONE)] == [left.run_id], "its last process has ended"
        beginning.release()
        assert [removal.run.run_id for removal in prune(tmp_path, ONE)] == [beginning.folder.run_id]


def test_each_run_removes_at_its_end_what_is_not_kept(tmp_path: Path) -> None:
    @op
    def one() -> int:
        return 1

    @job
    def small() -> None:
        one()

    instance = Instance.get(tmp_path)
    (instance.home / "executor.yaml").write_text("retention:\n  runs:\n    max_count: 2\n")
    runs = [small.execute(home=tmp_path).run_id for _ in range(5)]
    assert [found.run_id for found in instance.get_runs()] == runs[:2:-1]
    assert instance.prune_runs() == []
    (instance.home / "executor.yaml").write_text("retention:\n  runs:\n    max_count: 1\n")
    assert [found.run_id for found in instance.prune_runs(dry_run=True)] == [runs[3]]
    assert [found.run_id for found in instance.prune_runs()] == [runs[3]]


def test_a_run_that_another_goes_on_from_stays_as_long_as_that(tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.touch()

    @op
    def large() -> list[int]:
        return list(range(100_000))

    @op
    def total(large: list[int]) -> int:
        if failing.exists():
            raise ValueError("not yet")
        return sum(large)

    @job
    def sums() -> None:
        total(large())

    home = tmp_path / "home"
    first = sums.execute(home=home, raise_on_error=False)
    Instance.get(home)
    (home / "executor.yaml").write_text("retention:\n  runs:\n    max_count: 1\n")
    failing.unlink()
    second = sums.execute(home=home, resume_from="last")
    assert ids(home) == sorted([first.run_id, second.run_id])
    assert second.output_for_node("large")[-1] == 99_999
    third = sums.execute(home=home)
    assert ids(home) == [third.run_id]


def test_the_command_says_what_it_removes(tmp_path: Path) -> None:
    old, _ = written(tmp_path), written(tmp_path)
    (tmp_path / "executor.yaml").write_text("retention:\n  runs: {max_count: 1, max_days: null}\n")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "EXECUTOR_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(
            [sys.executable, "-m", "executor.cli", "runs", "prune", *words],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    told = command("--dry-run")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[1].startswith(f"{old.run_id[:8]}  succeeded  nightly")
    assert told.stdout.splitlines()[1].endswith("beyond the newest 1")
    assert told.stdout.splitlines()[2] == "1 run to be removed, 0 MiB"
    assert RunFolder(old.folder.path).events.exists()
    assert command().stdout.splitlines()[2] == "1 run removed, 0 MiB"
    assert command().stdout == "every run is kept\n"
    (tmp_path / "executor.yaml").write_text("retention:\n  runs: {max_count: 0, max_dys: 3}\nretenton: {}\n")
    wrong = command()
    assert wrong.returncode == 2
    assert "executor.yaml:2:21: 0 is not allowed; write a whole number from 1, or null for no bound" in wrong.stderr
    assert "unknown key 'max_dys' under retention.runs; did you mean 'max_days'?" in wrong.stderr
    assert "executor.yaml:3:1: unknown key 'retenton'; did you mean 'retention'?" in wrong.stderr
