"""What the keys of a terminal do to a run: Ctrl-C once and twice, Ctrl-Z and fg, and closing the terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
from pathlib import Path

import pytest

from executor.runs.history import read_history
from executor.runs.home import find_run
from executor.scheduler.events import CancelRequested, RunEnded
from tests.window import CTRL_C, CTRL_Z, SHELL

JOBS = """
import signal, time
from executor import job, multiprocess_executor, op

@op
def forever():
    while True:
        time.sleep(1)

@op
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf now", flush=True)
    while True:
        time.sleep(1)

@job
def endless():
    forever()

@job(executor_def=multiprocess_executor.configured({"stop_grace_s": 600}))
def deaf():
    stubborn()
"""


class Terminal:
    """A terminal with a shell in it that runs one command."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.said = ""
        self.shell, self.keys = pty.fork()
        if self.shell == 0:
            os.chdir(folder)
            os.execv(sys.executable, [sys.executable, "-c", SHELL, *words])

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next place where the pattern stands in what is shown."""
        while (found := re.search(pattern, self.said)) is None:
            ready, _, _ = select.select([self.keys], [], [], 60)
            assert ready, f"nothing more is shown than {self.said!r}"
            try:
                self.said += os.read(self.keys, 4096).decode()
            except OSError:
                raise AssertionError(f"the terminal ended without {pattern!r}: {self.said!r}") from None
        self.said = self.said[found.end() :]
        return found

    def press(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def close(self) -> None:
        if self.keys >= 0:
            os.close(self.keys)
            self.keys = -1
            os.waitpid(self.shell, 0)


@pytest.fixture
def terminal(write, folder: Path, monkeypatch: pytest.MonkeyPatch):
    write("jobs.py", JOBS)
    monkeypatch.setenv("NO_COLOR", "1")
    opened: list[Terminal] = []

    def run(*words: str) -> Terminal:
        opened.append(Terminal(folder, "run", "jobs.py", "--progress", "plain", *words))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def state(pid: int) -> str:
    """The process state as the kernel names it; X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def wait_until(pid: int, states: str) -> None:
    while state(pid) not in states:
        os.sched_yield()


def test_ctrl_c_stops_the_run_and_its_steps(terminal, own_home: Path) -> None:
    shown = terminal("-j", "endless")
    step = int(shown.wait_for(r"started \(attempt 1, pid (\d+)").group(1))
    shown.press(CTRL_C)
    shown.wait_for("run is asked to stop: SIGINT")
    shown.wait_for("forever  was stopped after")
    shown.wait_for("shell: ended with 3")
    assert state(step) in "XZ"
    asked = [
        event for _, event in read_history(find_run(own_home, "last").events) if isinstance(event, CancelRequested)
    ]
    assert len(asked) == 1


def test_ctrl_c_twice_kills_what_does_not_stop(terminal, own_home: Path) -> None:
    shown = terminal("-j", "deaf")
    step = int(shown.wait_for(r"started \(attempt 1, pid (\d+)").group(1))
    log = find_run(own_home, "last").lane_log(0)
    while not log.exists() or "deaf now" not in log.read_text():  # before that it would stop like any other
        os.sched_yield()
    shown.press(CTRL_C)
    shown.wait_for("run is asked to stop")
    shown.press(CTRL_C)
    shown.wait_for("run is killed")
    shown.wait_for("shell: ended with 3")
    assert state(step) in "XZ"


def test_ctrl_z_stops_the_steps_too_and_fg_continues_them(terminal) -> None:
    shown = terminal("-j", "endless")
    step = int(shown.wait_for(r"started \(attempt 1, pid (\d+)").group(1))
    shown.press(CTRL_Z)
    shown.wait_for("shell: stopped")
    wait_until(step, "T")
    shown.press(b"fg\n")
    wait_until(step, "SR")
    shown.press(CTRL_C)
    shown.wait_for("shell: ended with 3")
    assert state(step) in "XZ"


def test_closing_the_terminal_stops_the_run(terminal, own_home: Path) -> None:
    shown = terminal("-j", "endless")
    step = int(shown.wait_for(r"started \(attempt 1, pid (\d+)").group(1))
    events = find_run(own_home, "last").events
    shown.close()
    wait_until(step, "XZ")
    while '"e":"run_ended"' not in events.read_text():
        os.sched_yield()
    assert list(read_history(events))[-1][1] == RunEnded("cancelled")
    assert [event.reason for _, event in read_history(events) if isinstance(event, CancelRequested)] == [
        signal.SIGHUP.name
    ]
