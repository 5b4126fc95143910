"""The home folder is private, and knows which runs are alive."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from executor.errors import UnmetRequirement, UsageError
from executor.runs.home import RunFolder, find_run, home_folder, lock_run, make_run, open_home

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EXECUTOR_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert home_folder() == tmp_path / ".local" / "state" / "executor"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert home_folder() == tmp_path / ".local" / "state" / "executor"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert home_folder() == tmp_path / "state" / "executor"
    monkeypatch.setenv("EXECUTOR_HOME", "")
    assert home_folder() == tmp_path / "state" / "executor"
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "mine"))
    assert home_folder() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXECUTOR_HOME", "here")
    assert home_folder() == tmp_path / "here"


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_home_and_run_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "a").mkdir()
    old = os.umask(umask)
    try:
        home = open_home(tmp_path / "a" / "home")
        lock = make_run(home)
    finally:
        os.umask(old)
    folder = lock.folder
    for path in (home, home / "runs", home / "live", folder.path, folder.values):
        assert mode(path) == 0o700, path
    assert mode(folder.alive_lock) & 0o077 == 0
    lock.release()


def test_a_home_that_is_there_already_is_used(tmp_path: Path) -> None:
    open_home(tmp_path / "home")
    assert open_home(tmp_path / "home") == tmp_path / "home"


def test_a_home_into_which_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o770)
    with pytest.raises(UnmetRequirement, match=r"others may write into .*mode 770.*chmod go-w"):
        open_home(tmp_path / "home")


def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_home(tmp_path / "home")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(UnmetRequirement, match=r"belongs to user .* you are user 54321.*Set EXECUTOR_HOME"):
        open_home(tmp_path / "home")


def test_a_home_that_is_no_folder_or_cannot_be_made_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnmetRequirement, match="is not a folder"):
        open_home(tmp_path / "file")
    with pytest.raises(UnmetRequirement, match=r"cannot be used: .*; set EXECUTOR_HOME"):
        open_home(tmp_path / "file" / "home")


def test_a_run_is_alive_until_its_lock_is_released(tmp_path: Path) -> None:
    lock = make_run(open_home(tmp_path / "home"))
    folder = lock.folder
    assert folder.is_alive()
    assert folder.live_marker.exists()
    assert not os.get_inheritable(lock.fileno())
    assert lock_run(folder) is None
    lock.release()
    lock.release()
    assert not folder.is_alive()
    assert not folder.live_marker.exists()


def test_a_run_is_dead_as_soon_as_its_driver_is_although_a_forked_child_lives_on(tmp_path: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from executor.runs.home import make_run, open_home
lock = make_run(open_home(Path(sys.argv[1])))
ready, tell = os.pipe()
if os.fork() == 0:
    os.write(tell, b"x")
    os.close(1)
    sys.stdin.read()
    os._exit(0)
os.read(ready, 1)
print(lock.folder.path, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "home")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        folder = RunFolder(tmp_path.__class__(driver.stdout.read().strip()))
        assert driver.wait() == -9
        assert not folder.is_alive()
        assert folder.live_marker.exists()


def test_a_run_is_found_by_its_id_by_its_beginning_and_as_the_last_one(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    locks = [make_run(home) for _ in range(3)]
    for number, lock in enumerate(locks):
        os.utime(lock.folder.alive_lock, (number, number))
        assert find_run(home, lock.folder.run_id) == lock.folder
        assert find_run(home, lock.folder.run_id[:35]) == lock.folder
        lock.release()
    assert find_run(home, "last") == locks[2].folder


@pytest.mark.parametrize("name", ["", "..", "../../etc", "A", "é", "0" * 37, "last/"])
def test_a_name_that_is_no_run_id_is_refused_before_any_file_is_looked_at(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no run id"):
        find_run(tmp_path, name)


def test_a_run_that_is_not_there_or_not_the_only_one_is_an_error_that_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(UsageError, match="there is no run in"):
        find_run(home, "last")
    open_home(home)
    with pytest.raises(UsageError, match="there is no run in"):
        find_run(home, "last")
    with pytest.raises(UsageError, match="there is no run 'abc' in"):
        find_run(home, "abc")
    for end in ("a", "b"):
        (home / "runs" / ("0" * 35 + end)).mkdir()
    with pytest.raises(UsageError, match="2 runs begin with '00'; give more characters"):
        find_run(home, "00")


def test_a_run_folder_says_where_things_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "abc")
    assert (folder.run_id, folder.home) == ("abc", tmp_path)
    names = [path.name for path in (folder.events, folder.plan, folder.values, folder.lane_log(3))]
    assert names == ["events.jsonl", "plan.json", "values", "lane-3.log"]
