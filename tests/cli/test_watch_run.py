"""``executor watch``: a run that was started elsewhere, while it goes on and when it has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.runs.home import find_run, make_run, open_home
from tests.window import CTRL_C, Window, gate

JOBS = """
from executor import job, op

@op
def load():
    open("load-gate").read()

@op
def bad(load):
    raise ValueError("no rows")

@job
def nightly():
    bad(load())
"""


@pytest.fixture
def elsewhere(write, folder: Path, own_home: Path) -> Iterator[Any]:
    """A run that goes on in another process, which waits at its gate, and what lets it through."""
    write("jobs.py", JOBS)
    go_on = gate(folder, "load-gate")
    command = [sys.executable, "-m", "executor.cli", "run", "jobs.py"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        while b"load  started" not in running.stdout.readline():
            pass
        yield running, go_on
        running.kill()


@pytest.fixture
def watching(folder: Path) -> Iterator[Any]:
    opened: list[Window] = []

    def watch(*words: str) -> Window:
        opened.append(Window(folder, "watch", *words))
        return opened[-1]

    yield watch
    for each in opened:
        each.close()


def test_a_run_that_goes_on_elsewhere_is_shown_live_and_told_at_its_end(elsewhere, watching) -> None:
    running, go_on = elsewhere
    shown = watching("last")
    shown.wait_for("● load", "0/2")
    go_on()
    assert shown.end() == 1
    assert "of job nightly" in shown.text
    assert "run failed after" in shown.text
    assert "bad failed: ValueError: no rows" in shown.text
    assert "●" not in shown.text
    assert running.wait() == 1


def test_ctrl_c_ends_the_watching_and_leaves_the_run_alone(elsewhere, watching, own_home: Path) -> None:
    running, go_on = elsewhere
    shown = watching(find_run(own_home, "last").run_id[:8])
    shown.wait_for("● load")
    shown.press(CTRL_C)
    assert shown.end() == 3
    assert shown.rows[-1] == "interrupted"
    assert shown.cursor_is_shown
    assert running.poll() is None
    go_on()
    assert running.wait() == 1


def test_a_driver_that_is_killed_is_told_to_whoever_watches(elsewhere, watching) -> None:
    running, _ = elsewhere
    shown = watching("last")
    shown.wait_for("● load")
    running.kill()
    assert shown.end() == 3
    assert "the driver of this run" in shown.text
    assert "run interrupted after" in shown.text


def test_a_driver_that_stands_still_is_told_to_whoever_watches(elsewhere, watching) -> None:
    running, go_on = elsewhere
    shown = watching("last")
    shown.wait_for("● load")
    os.kill(running.pid, signal.SIGSTOP)
    shown.wait_for("stands still: its driver is stopped")
    os.kill(running.pid, signal.SIGCONT)
    go_on()
    assert shown.end() == 1


def test_piped_it_follows_line_by_line_to_the_end(elsewhere, folder: Path) -> None:
    _, go_on = elsewhere
    command = [sys.executable, "-m", "executor.cli", "watch", "last"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        lines = [watching.stdout.readline(), watching.stdout.readline()]
        go_on()
        lines += watching.stdout.readlines()
        assert "bad failed: ValueError: no rows" in watching.stderr.read()
    assert watching.returncode == 1
    assert [line.split("  ")[1].split()[0] for line in lines[:5]] == ["run", "load", "load", "bad", "bad"]
    assert lines[6].startswith("run failed after")


@pytest.mark.parametrize("words", [[], ["--progress", "none"], ["--progress", "plain"]])
def test_a_run_that_has_ended_is_told_with_its_summary(write, executor, words: list[str], folder: Path) -> None:
    write("jobs.py", JOBS.replace('open("load-gate").read()', "pass"))
    assert executor("run", "jobs.py").returncode == 1
    done = executor("watch", "last", *words)
    assert done.returncode == 1
    assert "run failed after" in done.stdout
    assert ("load  succeeded in" in done.stdout) == (words != ["--progress", "none"])
    assert "bad failed: ValueError: no rows" in done.stderr


def test_a_run_that_has_ended_is_told_on_a_terminal_without_a_view(write, executor, watching) -> None:
    write("jobs.py", JOBS.replace('open("load-gate").read()', "pass"))
    assert executor("run", "jobs.py").returncode == 1
    shown = watching("last")
    assert shown.end() == 1
    assert shown.rows[1].startswith("run failed after")


def test_a_run_that_is_not_there_is_an_error(executor) -> None:
    done = executor("watch", "7f3a")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no run '7f3a'" in done.stderr
    assert executor("watch", "last", "--progress", "live").returncode == 2


@pytest.mark.parametrize("words", [(), ("--progress", "none")])
def test_a_run_that_never_began_is_told_as_that(executor, own_home: Path, words: tuple[str, ...]) -> None:
    lock = make_run(open_home(own_home))
    lock.release()
    ended = executor("watch", "last", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"Error: run {lock.folder.run_id} has no events: its driver died before it began\n"
