"""A home folder on a disk that is too small, lacks inodes, or turns read-only: a mount of the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from running import PATIENCE_S

#: Runs a job twice on a file system of four megabytes, and says how it went. What the steps do is in ``argv[2]``.
PROGRAM = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from executor import job, op
from executor.api import execute_job
from executor.runs.replay import replay

home, what = Path(sys.argv[1]), sys.argv[2]

@op
def small() -> bytes:
    return os.urandom(300_000)

@op
def large() -> bytes:
    if what == "read-only" and not (home / "again").exists():
        (values,) = home.glob("runs/*/values")
        subprocess.run(["mount", "--bind", values, values], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", values], check=True)
        return os.urandom(200_000)
    if what == "no-inodes" and not (home / "again").exists():
        (home / "files").mkdir()
        try:
            for number in range(100_000):
                (home / "files" / str(number)).touch()
        except OSError:
            return os.urandom(200_000)
        raise AssertionError("there is no end of inodes")
    return os.urandom(200_000 if (home / "again").exists() else 10_000_000)

@op
def length(value: bytes) -> int:
    return len(value)

@job
def tried():
    length.alias("length_of_small")(small())
    length.alias("length_of_large")(large())

home.mkdir(mode=0o700)
(home / "executor.yaml").write_text("storage: {values: disk}")
told = []
for _ in range(2):
    result = execute_job(tried, {"execution": {"config": {"max_concurrent": 1, "steps_per_worker": "unlimited"}}})
    states = {key: step.state.value for key, step in result.steps.items()}
    replayed = {key: replay(result.folder).state(key).value for key in states}
    files = [path.name for path in result.folder.values.iterdir()]
    told.append([result.status, states, states == replayed, result.failures, files])
    shutil.rmtree(home / "files", ignore_errors=True)
    (home / "again").touch()
print(json.dumps(told))
"""


def words(folder: Path, size: str) -> list[str]:
    """The words before a command that let it see a file system of that size there."""
    mount = f'mount -t tmpfs -o size={size},nr_inodes=2000 tmpfs "$0" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(folder)]


@cache
def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*words(Path("/mnt"), "1m"), "true"], capture_output=True, check=False)
    return done.returncode == 0


def run_on_small_disk(folder: Path, what: str) -> list[list[object]]:
    """What the program tells of each of its two runs."""
    if not may_mount():
        pytest.skip("this process may not mount anything, not even for itself")
    disk = folder / "disk"
    disk.mkdir()
    command = [*words(disk, "4m"), sys.executable, "-c", PROGRAM, str(disk / "home"), what]
    environ = {**os.environ, "EXECUTOR_HOME": str(disk / "home")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environ, timeout=PATIENCE_S, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("full", "No space left on device; make room there"),
        ("read-only", "Read-only file system"),
        (
            "no-inodes",
            "make room there by removing files: its file system has no inode left for another one",
        ),
    ],
)
def test_a_disk_that_is_full_or_read_only_or_has_no_inodes_fails_the_step_and_the_run_is_whole(
    what: str, why: str, tmp_path: Path
) -> None:
    first, again = run_on_small_disk(tmp_path, what)
    status, states, replays, failures, files = first
    assert status == "failed"
    assert states == {
        "small": "succeeded",
        "length_of_small": "succeeded",
        "large": "failed",
        "length_of_large": "not_run",
    }
    assert replays, "every event of it is in the history"
    assert list(failures) == ["large"]  # type: ignore[call-overload]
    message = failures["large"]  # type: ignore[index]
    assert re.match("the value of output .result. could not be written to [^:]*/values: ", message)
    assert message.endswith(why)
    assert files == [] or what == "read-only", "where nothing can be removed, what was read stays"
    assert (again[0], again[3]) == ("succeeded", {}), "there is room again"


#: Fills the disk of ``argv[1]`` but for some kilobytes, and runs a job whose plan is larger; says what is left of it.
BEGINS = """
import os, sys
from pathlib import Path
from executor import HistoryLost, Instance, job, op
from executor.api import execute_job

@op
def one():
    pass

@job
def wide():
    for number in range(3000):
        one.alias(f"one_of_{'very_' * 50}many_steps_{number}")()

home = Path(sys.argv[1])
Instance(home).get_runs()
free = os.statvfs(home.parent)
(home.parent / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - 200_000))
try:
    execute_job(wide, home=home)
except HistoryLost as error:
    print(error)
print([path.name for name in ("runs", "live") for path in (home / name).iterdir()])
(home.parent / "filler").unlink()
print([run.run_id for run in Instance(home).get_runs()])
"""


def test_a_run_whose_plan_has_no_room_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("this process may not mount anything, not even for itself")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*words(disk, "4m"), sys.executable, "-c", BEGINS, str(disk / "home")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said, *left = done.stdout.splitlines()
    assert said.startswith(f"the history of the run could not be written to {disk}/home/runs/")
    assert "/plan.json: No space left on device; the run was stopped" in said, done.stdout
    assert left == ["[]", "[]"]
