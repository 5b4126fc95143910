"""As process 1 the command passes signals on, reaps orphans, and ends as its child ends."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

# Not process 1 here, but a subreaper: orphans come to it in the same way.
PRELUDE = """
import ctypes, os, signal, sys, time
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
from executor.cli.init import split_from_init
first = os.getpid()
split_from_init()
assert os.getpid() != first and os.getppid() == first
"""


def run(script: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script], check=False, capture_output=True, text=True, timeout=60, **options
    )


@pytest.mark.parametrize(("script", "code"), [("sys.exit(3)", 3), ("", 0), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_it_ends_as_its_child_ends(script: str, code: int) -> None:
    assert run(script).returncode == code


def test_orphans_are_reaped_while_the_child_works() -> None:
    script = """
ready, tell = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while os.getppid() != first:  # its own parent ends, so it comes to the first process
            time.sleep(0.001)
        os.write(tell, b"%d" % os.getpid())
    os._exit(0)
os.wait()
orphan = int(os.read(ready, 100))
while os.path.exists(f"/proc/{orphan}"):
    time.sleep(0.001)
print("reaped")
"""
    ended = run(script)
    assert (ended.stdout, ended.returncode) == ("reaped\n", 0), ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on_once(number: signal.Signals) -> None:
    script = f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])
print("ready", flush=True)
signal.sigwait([{int(number)}])
print(sorted(signal.sigpending()), flush=True)
sys.exit(7)
"""
    with subprocess.Popen([sys.executable, "-c", PRELUDE + script], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        first.send_signal(number)
        assert first.stdout.read() == "[]\n"
        assert first.wait(60) == 7


def test_the_child_has_the_signal_mask_that_the_command_was_started_with() -> None:
    ended = run("print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))")
    assert ended.stdout == "[]\n", ended.stderr


NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def as_first_process(executor):
    """Runs the command as process 1 of a process namespace, as in a container."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode != 0:
        pytest.skip("this user may not make a process namespace (needs unshare and the right to use it)")

    def run_first(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*NAMESPACE, sys.executable, "-m", "executor.cli", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)

    return run_first


def test_the_command_runs_as_process_1_and_leaves_no_zombie(as_first_process, write) -> None:
    write(
        "jobs.py",
        """
import os, pathlib
from executor import job, op

@op
def orphan():
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            os._exit(0)
        os._exit(0)
    os.wait()

@op
def census(after):
    first = pathlib.Path("/proc/1/stat").read_text().rpartition(")")[2].split()[1]
    def zombies():
        stats = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/stat")]
        return [stat for stat in stats if stat.rpartition(")")[2].split()[0] == "Z"]
    while zombies():  # one that is never reaped keeps this from ending
        pass
    print("parent of process 1:", first, "zombies: 0")

@job
def first():
    census(orphan())
""",
    )
    ended = as_first_process("run", "jobs.py", "--output", "all")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "  | parent of process 1: 0 zombies: 0\n" in ended.stdout
