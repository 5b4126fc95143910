"""The driver dies by SIGKILL: its workers and all that they started are gone, and the next look says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from census import descendants, is_gone, state
from programs import result_of, start
from running import Mailbox, await_end, wait_until
from sample_ops import LONG_S

from executor.runs.home import RunFolder
from executor.runs.leftovers import look
from executor.runs.result import read_result
from executor.scheduler.states import StepState

#: Read by the census.
KILLS_DRIVERS = True

KINDS = [
    "one-shot-fork",
    "unlimited-fork",
    "one-shot-forkserver",
    "unlimited-forkserver",
    "one-shot-spawn",
    "unlimited-spawn",
]


def the_run(home: Path) -> RunFolder:
    """The only run there is."""
    (path,) = home.glob("runs/*")
    return RunFolder(path)


@pytest.mark.parametrize("kind", KINDS)
def test_workers_and_their_children_die_with_their_driver(
    kind: str, mailbox: Mailbox, tmp_path: Path, home: Path
) -> None:
    """No grace is waited for: it is an hour."""
    with start("waits_with_stubborn_children", kind, mailbox, folder=tmp_path, stop_grace_s=LONG_S) as program:
        strays = list(map(int, mailbox.wait(3)))
        wait_until(lambda: set(strays) <= set(descendants(program.pid)), "the worker has adopted them")
        below = descendants(program.pid)
        stranger = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
        program.kill()
        program.wait()
        wait_until(lambda: all(map(is_gone, below)), "all are gone")
        assert stranger.poll() is None, "nothing else was hurt"
        stranger.communicate(b"\n")
    (run,) = look(home)
    assert run.left == ()
    assert read_result(the_run(home)).status == "interrupted"
    assert read_result(the_run(home)).step("waits_with_stubborn_children").state is StepState.RUNNING


@pytest.mark.parametrize("kind", KINDS[:2])
def test_workers_that_are_stopped_die_with_their_driver_too(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    with start("waits", kind, mailbox, folder=tmp_path) as program:
        worker, template = map(int, mailbox.wait()[0].split())
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: state(worker) == "T", "the worker has stopped")
        program.kill()
        await_end(template)
        await_end(worker)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_workers_die_when_driver_and_template_are_killed_together_and_what_is_left_is_named(
    kind: str, mailbox: Mailbox, tmp_path: Path, home: Path
) -> None:
    with start("waits_with_stubborn_children", kind, mailbox, folder=tmp_path) as program:
        strays = list(map(int, mailbox.wait(3)))
        (template,) = {pid for pid in descendants(program.pid) if os.getsid(pid) == pid and pid not in strays}
        workers = [pid for pid in descendants(template) if pid not in strays]
        os.kill(template, signal.SIGSTOP)  # so that neither can do anything after the other's death
        program.send_signal(signal.SIGSTOP)
        os.kill(template, signal.SIGKILL)
        program.kill()
        program.wait()
        wait_until(lambda: all(map(is_gone, workers)), "the workers are gone")
    (run,) = look(home)
    assert sorted(left.pid for left in run.left) == sorted(strays)
    assert f"to end them: kill {' '.join(str(left.pid) for left in run.left)}" in str(run)
    for pid in strays:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_workers_of_a_stopped_template_outlive_their_driver_until_it_is_continued(
    kind: str, mailbox: Mailbox, tmp_path: Path
) -> None:
    """It is told of the driver's death and cannot act on it; and nobody else may kill what it holds together."""
    with start("waits_with_stubborn_children", kind, mailbox, folder=tmp_path, stop_grace_s=LONG_S) as program:
        strays = set(map(int, mailbox.wait(3)))
        wait_until(lambda: strays <= set(descendants(program.pid)), "the worker has adopted them")
        below = descendants(program.pid)
        (template,) = {pid for pid in below if os.getsid(pid) == pid} - strays
        os.kill(template, signal.SIGSTOP)
        wait_until(lambda: state(template) == "T", "the template has stopped")
        program.kill()
        program.wait()
        assert state(template) == "T"
        living = {pid for pid in below if not is_gone(pid)}
        assert {template, *strays} < living, "and the worker of the step"
        os.kill(template, signal.SIGCONT)
        wait_until(lambda: all(map(is_gone, below)), "all are gone")


def test_a_driver_that_is_killed_while_its_template_starts_leaves_nothing(
    mailbox: Mailbox, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module that the template imports waits, as one does that opens a connection."""
    says = f"with open({mailbox.path!r}, 'a') as file:\n    file.write('importing\\n')\n"
    source = f"import time\n{says}time.sleep({LONG_S})\n"
    (tmp_path / "slow_module.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    how = {"start_method": {"forkserver": {"preload_modules": ["slow_module"]}}}
    with start("waits", "one-shot-forkserver", mailbox, folder=tmp_path, **how) as program:
        mailbox.wait()
        below = descendants(program.pid)
        assert below
        program.kill()
        program.wait()
        for pid in below:
            await_end(pid)
    assert look(home) == [], "nothing had begun, so there is nothing to tell"


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_driver_that_is_stopped_and_continued_has_lost_nothing(kind: str, mailbox: Mailbox, tmp_path: Path) -> None:
    with start("stops_itself", kind, mailbox, folder=tmp_path) as program:
        worker = wait_for_stopped(program.pid)
        program.send_signal(signal.SIGSTOP)
        wait_until(lambda: state(program.pid) == "T", "the driver has stopped")
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: state(worker) in {"S", "Z", ""}, "its step has ended, unheard")
        program.send_signal(signal.SIGCONT)
        assert result_of(program) == (0, "succeeded", False)


def wait_for_stopped(driver: int) -> int:
    """The process below ``driver`` that has stopped itself."""
    found: list[int] = []

    def look_for_it() -> bool:
        found[:] = [pid for pid in descendants(driver) if state(pid) == "T"]
        return bool(found)

    wait_until(look_for_it, "a step has stopped itself")
    return found[0]


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_every_death_of_a_driver_takes_its_workers_along(tmp_path: Path) -> None:
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir()
        kind = KINDS[number % len(KINDS)]
        with Mailbox(folder) as mailbox, start("waits_with_stubborn_children", kind, mailbox, folder=folder) as program:
            mailbox.wait(3)
            below = descendants(program.pid)
            program.kill()
            wait_until(lambda: all(map(is_gone, below)), "all are gone")  # noqa: B023  (called before the loop goes on)
