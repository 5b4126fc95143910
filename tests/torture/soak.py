"""I34, the long form: the memory of a driver, of its template and of its live view while 100,000 steps go by.

``python -m tests.torture.soak [STEPS]`` prints what the kernel counts at each tenth of the run, and ends with 1 if any
of them has grown by more than a megabyte since the third.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from pathlib import Path

from executor.runs.follow import Follower
from executor.runs.home import RunFolder
from executor.scheduler.events import RunEnded, StepSucceeded

JOB = """
from executor import job, op

@op
def empty():
    pass

@job
def soak():
    for _ in range({steps}):
        empty()
"""

ROOT = Path(__file__).parents[2]
TENTHS = 10
SETTLED = 3  # tenths after which everything is there
GROWTH_BYTES = 1_000_000
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def soak(steps: int) -> bool:
    """Run so many empty steps in two persistent workers under a live view; whether memory was flat."""
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        (there / "soak_job.py").write_text(JOB.format(steps=steps))
        keys, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        threading.Thread(target=_read_all, args=[keys], daemon=True).start()
        command = [sys.executable, "-m", "executor.cli", "run", "soak_job.py", "--max-concurrent", "2"]
        with subprocess.Popen(
            [*command, "--steps-per-worker", "unlimited"],
            cwd=there,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "EXECUTOR_HOME": name, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        ) as running:
            while not (found := list(there.glob("runs/*/events.jsonl"))):
                assert running.poll() is None, "the run did not begin"
            looks = _watch(RunFolder(found[0].parent), running.pid, steps)
        os.close(terminal)
        assert running.returncode == 0
    settled = looks[SETTLED - 1]
    return all(
        size - settled.get(what, size) <= GROWTH_BYTES for look in looks[SETTLED:] for what, size in look.items()
    )


def _watch(folder: RunFolder, driver: int, steps: int) -> list[dict[str, int]]:
    looks: list[dict[str, int]] = []
    follower, over = Follower(folder), 0
    while True:
        for _, event in follower.read():
            over += isinstance(event, StepSucceeded)
            if isinstance(event, RunEnded):
                return looks
        while len(looks) < min(TENTHS - 1, over * TENTHS // steps):
            looks.append(_look(driver))
            sizes = ", ".join(f"{what} {size / 1e6:.1f} MB" for what, size in looks[-1].items())
            print(f"{len(looks) * 100 // TENTHS} % of {steps} steps: {sizes}", flush=True)
        follower.wait(1.0)


def _look(driver: int) -> dict[str, int]:
    found = {"driver": _resident(driver)}
    for child in Path(f"/proc/{driver}/task/{driver}/children").read_text().split():
        is_view = "executor.cli.live" in Path(f"/proc/{child}/cmdline").read_text()
        found["view" if is_view else "template"] = _resident(int(child))
    return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def _read_all(keys: int) -> None:
    try:
        while os.read(keys, 1 << 16):
            pass
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(0 if soak(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000) else 1)
