"""``executor cancel`` and ``executor logs`` on runs that another process drives."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor import Instance, UsageError
from executor.runs.cancel import NotHeard, cancel
from executor.runs.home import RunFolder, find_run
from executor.runs.result import read_result

LONG = """
import sys, time
from executor import RetryPolicy, job, op

def wait():
    from pathlib import Path
    while not Path("go").exists():
        time.sleep(0.02)

@op
def talk():
    print("first", flush=True)
    wait()
    print("second")

@op
def other():
    wait()

@op
def after(other):
    print("after")

@job
def long():
    talk()
    after(other())

@op(retry_policy=RetryPolicy(max_retries=1))
def twice(context):
    print("attempt", context.attempt)
    sys.stderr.write("an error\\x1b[31m\\n")
    sys.stdout.flush()
    if context.attempt == 1:
        raise ValueError("again")

@op
def silent():
    pass

@op
def speaks(silent):
    print("no end", end="")

@job
def short():
    twice()
    speaks(silent())
"""


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


class Going:
    """The job ``long``, run by the command in a process of its own; its two steps run until there is a file ``go``."""

    def __init__(self, folder: Path, home: Path, *words: str, steps: int = 2) -> None:
        self.work = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "executor.cli", "run", "long_jobs.py", "-j", "long", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(lambda: list((home / "live").glob("*")), "a run that lives")
        self.folder: RunFolder = find_run(home, "last")
        until(lambda: self.written.count('"step_started"') == steps, "steps that run")

    @property
    def written(self) -> str:
        return self.folder.events.read_text() if self.folder.events.exists() else ""

    def go(self) -> None:
        (self.work / "go").touch()

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=200)
        return self.process.returncode, out


@pytest.fixture
def start(write, own_home: Path) -> Iterator[Callable[..., Going]]:
    path = write("long_jobs.py", LONG)
    started: list[Going] = []

    def begin(*words: str, **options: int) -> Going:
        started.append(Going(path.parent, own_home, *words, **options))
        return started[-1]

    yield begin
    for going in started:
        if going.process.poll() is None:
            going.process.send_signal(signal.SIGCONT)
            going.process.kill()
        with going.process:  # closes its output, and waits
            pass


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_run_is_stopped_from_elsewhere(start, executor) -> None:
    going = start("--max-concurrent", "2")
    ended = executor("cancel", going.folder.run_id[:8])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"run \w{8} has ended: cancelled; to go on from there: executor resume \w{8}\n", ended.stdout)
    code, out = going.end()
    assert code == 3
    assert re.search(r"run is asked to stop: asked by process \d+\n", out)
    result = read_result(going.folder)
    assert {key: step.state.value for key, step in result.steps.items()} == {
        "talk": "cancelled",
        "other": "cancelled",
        "after": "cancelled",
    }
    assert not going.folder.control.exists()
    again = executor("cancel", "last")
    assert (again.returncode, again.stderr) == (2, f"Error: run {going.folder.run_id} has ended: cancelled\n")


def test_one_step_is_stopped_and_the_rest_goes_on(start, executor) -> None:
    going = start("--max-concurrent", "2")
    ended = executor("cancel", "last", "other", "--kill")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "other was cancelled\n", "")
    told = executor("cancel", "last", "after")
    assert told.returncode == 2
    assert "step 'after' was not run, because 'other' did not succeed, so there is nothing to stop" in told.stderr
    assert "did you mean 'talk'" in executor("cancel", "last", "tlak").stderr
    going.go()
    assert going.end()[0] == 1
    states = {key: step.state.value for key, step in read_result(going.folder).steps.items()}
    assert states == {"talk": "succeeded", "other": "cancelled", "after": "not_run"}


def test_a_step_that_waits_is_cancelled_before_it_starts(start, executor) -> None:
    going = start("--max-concurrent", "2")
    ended = executor("cancel", "last", "after")
    assert (ended.returncode, ended.stdout) == (0, "after was cancelled\n")
    going.go()
    assert going.end()[0] == 1
    assert "after" not in executor("logs", "last").stdout


def test_from_python(start) -> None:
    going = start("--max-concurrent", "2")
    instance = Instance.get()
    instance.cancel_run(going.folder.run_id, "talk")
    assert read_result(going.folder).steps["talk"].state.value == "cancelled"
    instance.cancel_run("last", kill=True)
    assert instance.get_runs()[0].status.value == "cancelled"
    assert going.end()[0] == 3


def test_a_driver_that_is_stopped_hears_it_when_it_goes_on(start) -> None:
    going = start("--max-concurrent", "2")
    going.process.send_signal(signal.SIGSTOP)
    pid = going.process.pid
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "a stopped driver")
    with pytest.raises(NotHeard, match=rf"process {pid}, is stopped, and hears it when it goes on: kill -CONT {pid}"):
        cancel(going.folder, patience_s=0.05)
    going.process.send_signal(signal.SIGCONT)
    assert going.end()[0] == 3


def test_a_step_inside_of_its_driver_is_named(start) -> None:
    going = start("--in-process", steps=1)
    with pytest.raises(NotHeard, match=r"step '\w+' runs inside of its driver, process .*, which hears it when"):
        cancel(going.folder, patience_s=0.05)
    going.go()
    assert going.end()[0] == 3
    states = sorted(step.state.value for step in read_result(going.folder).steps.values())
    assert states == ["cancelled", "cancelled", "succeeded"]


def test_a_driver_that_has_died_is_said_with_what_to_do(start, executor) -> None:
    going = start("--max-concurrent", "2")
    going.process.kill()
    going.process.communicate()
    ended = executor("cancel", "last")
    assert ended.returncode == 2
    assert "has died, so there is nothing to stop" in ended.stderr
    assert f"to go on from there: executor resume {going.folder.run_id[:8]}" in ended.stderr
    with pytest.raises(UsageError, match="has died"):
        Instance.get().cancel_run(going.folder.run_id)


def test_what_is_no_request_disturbs_no_driver(start, executor) -> None:
    going = start("--max-concurrent", "2")
    fd = os.open(going.folder.control, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b'nonsense\n{"keys": 5}\n[]\n\xff\n{"keys": ["nobody"], "kill": true, "reason": "x"}\n')
    os.close(fd)
    going.go()
    assert going.end()[0] == 0


# --- logs ------------------------------------------------------------------------------------------------------------


def test_what_steps_wrote_is_printed_by_attempt(start, executor) -> None:
    assert executor("run", "long_jobs.py", "-j", "short", "--max-concurrent", "1").returncode == 0
    ended = executor("logs", "last", "twice")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "attempt 1\nan error\x1b[31m\n== twice, attempt 2 ==\nattempt 2\nan error\x1b[31m\n"
    assert executor("logs", "last", "twice", "--attempt", "1").stdout == "attempt 1\nan error\x1b[31m\n"
    whole = executor("logs", "last").stdout
    assert "== twice, attempt 1 ==\nattempt 1\nan error\x1b[31m\n" in whole
    assert "== speaks, attempt 1 ==\nno end" in whole
    assert executor("logs", "last", "-f").stdout == whole
    assert executor("logs", "last", "speaks").stdout == "no end"
    nothing = executor("logs", "last", "silent")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert re.fullmatch(r"step silent of run \w{8} wrote nothing\n", nothing.stderr)
    wrong = executor("logs", "last", "twicce")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'twice'?" in wrong.stderr


def test_what_a_step_writes_is_printed_while_it_runs_until_the_run_ends(start, executor) -> None:
    going = start("--max-concurrent", "2")
    assert executor("logs", "last", "talk").stdout == "first\n"
    for words, head in (["talk"], ""), ([], "== talk, attempt 1 ==\n"):
        (going.work / "go").unlink(missing_ok=True)
        if going.process.poll() is not None:
            going = start("--max-concurrent", "2")
        follower = subprocess.Popen(
            [sys.executable, "-m", "executor.cli", "logs", "last", *words, "-f"], stdout=subprocess.PIPE, text=True
        )
        assert follower.stdout is not None
        seen = ""
        while "first\n" not in seen:
            line = follower.stdout.readline()
            assert line, "it ended before the run did"
            seen += line
        assert seen == f"{head}first\n"
        assert going.process.poll() is None
        going.go()
        with follower:
            rest = follower.stdout.read()
        assert "second\n" in rest  # whichever of the two steps ends first
        assert ("after\n" in rest) == (not words)
        assert follower.returncode == 0
        assert going.end()[0] == 0


def test_a_follower_ends_when_the_driver_is_killed(start) -> None:
    going = start("--max-concurrent", "2")
    follower = subprocess.Popen(
        [sys.executable, "-m", "executor.cli", "logs", "last", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "== talk, attempt 1 ==\n"
    going.process.kill()
    with follower:
        assert follower.stdout.read() == "first\n"
        assert follower.stderr is not None
        err = follower.stderr.read()
    assert err == f"run {going.folder.run_id[:8]} interrupted\n"


def test_on_a_terminal_what_could_move_the_cursor_is_escaped(start, executor) -> None:
    assert executor("run", "long_jobs.py", "-j", "short").returncode == 0
    main, terminal = os.openpty()
    subprocess.run(
        [sys.executable, "-m", "executor.cli", "logs", "last", "twice", "--attempt", "1"], stdout=terminal, check=True
    )
    os.close(terminal)
    assert os.read(main, 1000) == b"attempt 1\r\nan error\\x1b[31m\r\n"
    os.close(main)


def test_steps_whose_output_was_not_kept_say_so(start, executor) -> None:
    assert executor("run", "long_jobs.py", "-j", "short", "--in-process").returncode == 0
    ended = executor("logs", "last", "speaks")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "ran inside of its driver's process" in ended.stderr
    assert "wrote anything that was kept" in executor("logs", "last").stderr
