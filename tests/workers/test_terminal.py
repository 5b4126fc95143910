"""Ctrl-C, Ctrl-Z, a closed window, and what the system sends: exit codes, no survivors, no time lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from census import descendants, is_gone, state
from programs import Terminal, command, result_of, start
from running import Mailbox, await_end, wait_until

from executor.runs.home import RunFolder
from executor.runs.result import read_result
from executor.scheduler.events import CancelRequested, StepStarted
from executor.scheduler.states import StepState

KINDS = ["in-process", "one-shot-fork", "unlimited-fork", "one-shot-forkserver", "one-shot-spawn"]
PROCESSES = KINDS[1:]


def the_run(home: Path) -> RunFolder:
    """The only run there is."""
    (path,) = home.glob("runs/*")
    return RunFolder(path)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_stops_the_run_and_its_steps(
    kind: str, signum: signal.Signals, mailbox: Mailbox, tmp_path: Path, home: Path
) -> None:
    with start("waits", kind, mailbox, folder=tmp_path) as program:
        mailbox.wait()
        below = descendants(program.pid)
        program.send_signal(signum)
        assert result_of(program) == (3, "cancelled", True)
        assert all(map(is_gone, below))
    events = read_result(the_run(home)).events
    assert [event.reason for event in events if isinstance(event, CancelRequested)] == [signum.name]
    assert read_result(the_run(home)).step("waits").state is StepState.CANCELLED


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_second_signal_kills_what_ignores_the_first(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    with start("waits_with_stubborn_children", kind, mailbox, folder=tmp_path, stop_grace_s=60) as program:
        mailbox.wait(3)
        below = descendants(program.pid)
        program.send_signal(signal.SIGINT)
        program.send_signal(signal.SIGTERM)
        assert result_of(program) == (3, "cancelled", True)
        assert all(map(is_gone, below))


def test_no_step_starts_after_the_signal(mailbox: Mailbox, tmp_path: Path, home: Path) -> None:
    with start("cleans_up_slowly", "one-shot-fork", mailbox, folder=tmp_path, max_concurrent=1) as program:
        mailbox.wait()
        program.send_signal(signal.SIGINT)
        assert result_of(program) == (3, "cancelled", True)
    kinds = [type(event) for event in read_result(the_run(home)).events]
    assert StepStarted not in kinds[kinds.index(CancelRequested) :]


@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork", "one-shot-forkserver"])
def test_a_program_that_ignores_hangups_is_not_stopped_by_one(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    with start("waits_for_word", kind, mailbox, folder=tmp_path, before=["nohup"]) as program:
        mailbox.wait()
        program.send_signal(signal.SIGHUP)
        told.write_text("now end")
        assert result_of(program) == (0, "succeeded", False)


# --- a real terminal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_stops_the_run(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    with Terminal(tmp_path, command("waits", kind, mailbox, tmp_path)) as terminal:
        worker = int(mailbox.wait()[0].split()[0])
        terminal.type(b"\x03")
        assert terminal.told.wait() == ["ended 3"]
        assert is_gone(worker)
        assert '["cancelled", true]' in terminal.output()


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_z_stops_the_steps_and_the_time_of_the_run_until_fg(
    kind: str, mailbox: Mailbox, tmp_path: Path, home: Path
) -> None:
    """That a step's timeout stands still as well: ``tests/runs/test_driver.py`` and ``test_inline.py``."""
    told = tmp_path / "told"
    os.mkfifo(told)
    began = time.monotonic()
    with Terminal(tmp_path, command("waits_for_word", kind, mailbox, tmp_path)) as terminal:
        worker = int(mailbox.wait()[0])
        terminal.type(b"\x1a")
        assert terminal.told.wait() == ["stopped"]
        wait_until(lambda: state(worker) == "T", "the step has stopped as well")
        stopped = time.monotonic()
        time.sleep(2 * (stopped - began))  # most of the time that all of this takes, on whatever machine
        assert state(worker) == "T"
        paused_s = time.monotonic() - stopped
        terminal.go_on()
        told.write_text("now end")
        assert terminal.told.wait() == ["ended 0"]
    result = read_result(the_run(home))
    assert result.step("waits_for_word").success
    assert result.duration_s + paused_s <= time.monotonic() - began


@pytest.mark.parametrize("kind", PROCESSES)
def test_ctrl_c_works_after_ctrl_z_and_fg(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    with Terminal(tmp_path, command("waits", kind, mailbox, tmp_path)) as terminal:
        worker = int(mailbox.wait()[0].split()[0])
        for _ in range(2):
            terminal.type(b"\x1a")
            assert terminal.told.wait() == ["stopped"]
            wait_until(lambda: state(worker) == "T", "the step has stopped as well")
            terminal.go_on()
            wait_until(lambda: state(worker) == "S", "the step goes on")
        terminal.type(b"\x03")
        assert terminal.told.wait() == ["ended 3"]


@pytest.mark.parametrize("kind", PROCESSES)
def test_what_is_typed_while_steps_run_is_the_programs(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    words = command("tries_to_read", kind, mailbox, tmp_path, "--then-read-a-line")
    with Terminal(tmp_path, words) as terminal:
        mailbox.wait()
        terminal.type(b"for the program\n")
        told.write_text("now end")
        assert terminal.told.wait() == ["ended 0"]
        assert "read for the program" in terminal.output()


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_closed_window_stops_the_run(kind: str, mailbox: Mailbox, tmp_path: Path, home: Path) -> None:
    with Terminal(tmp_path, command("waits", kind, mailbox, tmp_path)) as terminal:
        worker = int(mailbox.wait()[0].split()[0])
        terminal.close()
        await_end(worker)
        wait_until(lambda: b'"run_ended"' in the_run(home).events.read_bytes(), "the run has ended")
    assert read_result(the_run(home)).step("waits").state is StepState.CANCELLED
