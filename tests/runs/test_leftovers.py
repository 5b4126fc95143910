"""A run whose driver was killed is found at the next look, and what it left is named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from executor.runs.history import HistoryWriter, read_history
from executor.runs.home import RunFolder, RunLock, make_run, open_home
from executor.runs.leftovers import look, processes_of
from executor.scheduler.events import RunEnded, RunNotice, RunStarted, StepStarted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def begun(home: Path, *, ended: bool = False) -> RunLock:
    """A run with a history that began, as its driver leaves it when it is killed: nothing is tidied up."""
    lock = make_run(home)
    writer = HistoryWriter(lock.folder.events)
    run_id = lock.folder.run_id
    writer.write(RunStarted(run_id=run_id, job="nightly", at=1.0, pid=1, steps=2, max_concurrent=1), 0.0)
    writer.write(StepStarted("load", 1, 4711, 0), 1.5)
    if ended:
        writer.write(RunEnded("succeeded"), 2.0)
    writer.close()
    return lock


def killed(lock: RunLock) -> RunFolder:
    """What the kernel does when the driver dies: the lock is free, the marker stays."""
    lock.release(ended=False)
    return lock.folder


def test_a_home_without_runs_has_nothing_to_show(tmp_path: Path) -> None:
    assert look(tmp_path / "nowhere") == []
    assert look(open_home(tmp_path / "home")) == []


def test_a_run_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    lock = begun(open_home(tmp_path / "home"))
    before = lock.folder.events.read_bytes()
    assert look(tmp_path / "home") == []
    assert lock.folder.events.read_bytes() == before
    assert lock.folder.live_marker.exists()
    lock.release()


def test_a_run_that_was_cut_off_is_named_once_and_gets_its_last_event(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    folder = killed(begun(home))
    with open(folder.events, "a") as file:
        file.write('{"t":1.7,"e":"step_succ')
    (run,) = look(home)
    assert (run.folder, run.job, run.left) == (folder, "nightly", ())
    assert str(run) == f"run {folder.run_id} of job 'nightly' was interrupted: its driver died"
    assert list(read_history(folder.events))[-1] == (1.5, RunEnded("interrupted"))
    assert look(home) == []
    assert not folder.live_marker.exists()
    assert [type(event) for _, event in read_history(folder.events)].count(RunEnded) == 1


def test_a_run_that_had_ended_when_its_driver_was_killed_is_not_touched(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    folder = killed(begun(home, ended=True))
    before = folder.events.read_bytes()
    assert look(home) == []
    assert folder.events.read_bytes() == before
    assert not folder.live_marker.exists()


def test_a_run_that_never_wrote_an_event_or_whose_folder_is_gone_is_forgotten(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    silent = killed(make_run(home))
    gone = killed(make_run(home))
    gone.alive_lock.unlink()
    (home / "live" / "something else").write_text("")
    assert look(home) == []
    assert not silent.live_marker.exists()
    assert not gone.live_marker.exists()


def test_a_run_whose_history_is_damaged_is_named_and_not_written_to(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    folder = killed(begun(home))
    folder.events.write_text("\0\0\0\n")
    (run,) = look(home)
    assert str(run) == f"run {folder.run_id} was interrupted: its driver died"
    assert folder.events.read_text() == "\0\0\0\n"
    assert look(home) == []


def test_a_run_that_cannot_be_marked_now_is_left_for_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(tmp_path / "home")
    folder = killed(begun(home))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(os.open("/dev/full", os.O_WRONLY), data))
        assert look(home) == []
    assert folder.live_marker.exists()
    assert len(look(home)) == 1


def test_a_process_that_lives_on_is_named_with_its_lane_and_how_to_end_it(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    lock = begun(home)
    script = "import sys; sys.stdin.read()"
    with (
        open(lock.folder.lane_log(3), "ab") as log,
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=log, stderr=log) as child,
    ):
        folder = killed(lock)
        (run,) = look(home)
        (left,) = run.left
        assert (left.pid, left.lane) == (child.pid, 3)
        assert script in left.command
        program = sys.executable.rpartition("/")[2]
        assert f"still running from it: pid {child.pid} ({program} -c import" in str(run)
        assert str(run).endswith(f"lane 3); to end it: kill {child.pid}")
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
        assert processes_of(folder) == []


def test_looking_again_while_another_process_looks_reports_nothing_twice(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    folders = [killed(begun(home)) for _ in range(3)]
    script = (
        "import sys; from pathlib import Path; from executor.runs.leftovers import look;"
        "print(*(run.folder.run_id for run in look(Path(sys.argv[1]))), sep='\\n')"
    )
    lookers = [
        subprocess.Popen([sys.executable, "-c", script, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [line for looker in lookers for line in looker.communicate()[0].split()]
    assert sorted(said) == sorted(folder.run_id for folder in folders)
    for folder in folders:
        assert [event for _, event in read_history(folder.events)].count(RunEnded("interrupted")) == 1


def test_a_notice_of_the_run_itself_does_not_count_as_its_end(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    folder = killed(begun(home))
    writer = HistoryWriter(folder.events)
    writer.write(RunNotice("a worker was restarted"), 1.75)
    writer.close()
    assert len(look(home)) == 1
