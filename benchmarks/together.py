"""Runs several programs of ``slots.py`` at the same time, and reads when their steps had the slot."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from harness import HERE, TIMEOUT_S, MeasurementFailed, environment, run_process
from slots import NOTE

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = HERE / "slots.py"


class Held(NamedTuple):
    """A step had the slot."""

    began: float  #: its first line
    ended: float  #: its last line
    gone: float  #: the end of its process, as this process heard of it; that of its last line where the process goes on
    run: str


def give_limit(function: str, home: Path) -> None:
    """Give the pool its one slot, by that function of ``slots.py``."""
    run_process([sys.executable, str(PROGRAMS), function], home)


def run_together(kind: str, count: int, steps: int, hold_s: float, home: Path, folder: Path) -> list[Held]:
    """When the steps of ``count`` programs had the slot, the earliest first; the programs begin at the same moment.

    Raises:
        MeasurementFailed: one of them fails, or does not end in time.
    """
    notes = folder / "notes"
    fifos = {name: str(folder / name.lower()) for name in ("READY", "BEGIN", "PIDS")}
    for path in fifos.values():
        os.mkfifo(path)
    # Opened for both ways, so that nobody reads an end before the programs are there.
    ready, begin, pids = (os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in fifos.values())
    programs = []
    try:
        for number in range(count):
            with (folder / f"errors-{number}").open("wb") as errors:
                programs.append(
                    subprocess.Popen(
                        [sys.executable, str(PROGRAMS), kind, f"run{number}", str(steps), str(hold_s)],
                        env=environment(home) | fifos | {"NOTES": str(notes)},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                        start_new_session=True,
                    )
                )
        _await(programs, ready, folder)
        os.write(begin, b"!" * count)
        ends = _watch_steps(programs, pids)
    finally:
        for fd in (ready, begin, pids):
            os.close(fd)
        for program in programs:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    if any(program.returncode for program in programs):
        raise MeasurementFailed(_last_words(folder))
    held = []
    records = list(NOTE.iter_unpack(notes.read_bytes()))
    if not all(ended for _, _, _, ended in records):
        raise MeasurementFailed("a step began and did not end")
    steps_of = Counter(pid for _, pid, _, _ in records)
    for run, pid, began, ended in records:
        gone = ends.get(pid, 0.0) if steps_of[pid] == 1 else 0.0
        held.append(Held(began, ended, max(gone, ended), run.rstrip(b"\0").decode()))
    return sorted(held)


def most_at_once(held: list[Held]) -> int:
    """How many had the slot at the same time, at most."""
    most = running = 0
    # Who ended at the very moment at which another began is not counted with him.
    for _, change in sorted([(one.began, 1) for one in held] + [(one.ended, -1) for one in held]):
        running += change
        most = max(most, running)
    return most


def _await(programs: list[subprocess.Popen[bytes]], ready: int, folder: Path) -> None:
    """Block until every program is ready to begin."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    ends = [os.pidfd_open(program.pid) for program in programs]
    for end in ends:
        poll.register(end, select.POLLIN)
    try:
        said = 0
        while said < len(programs):
            if ready not in {fd for fd, _ in poll.poll(TIMEOUT_S * 1000)}:
                raise MeasurementFailed(f"a program did not begin: {_last_words(folder)}")
            said += len(os.read(ready, len(programs)))
    finally:
        for end in ends:
            os.close(end)


def _watch_steps(programs: list[subprocess.Popen[bytes]], pids: int) -> dict[int, float]:
    """When each step's process ended, by its pid, of those that ended before their program; returns with the last.

    Raises:
        MeasurementFailed: the programs do not end in time.
    """
    poll = select.poll()
    poll.register(pids, select.POLLIN)
    watched = {os.pidfd_open(program.pid): program.pid for program in programs}
    left = set(watched)
    for fd in watched:
        poll.register(fd, select.POLLIN)
    gone: dict[int, float] = {}
    rest = b""
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while left:
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            now = time.monotonic()
            if not events:
                raise MeasurementFailed(f"it did not end within {TIMEOUT_S:g} s")
            for fd, _ in events:
                if fd == pids:
                    *lines, rest = (rest + os.read(pids, 4096)).split(b"\n")
                    for pid in {int(line) for line in lines} - set(watched.values()):
                        with suppress(ProcessLookupError):
                            watched[end := os.pidfd_open(pid)] = pid
                            poll.register(end, select.POLLIN)
                else:
                    poll.unregister(fd)
                    left.discard(fd)
                    gone[watched.pop(fd)] = now
                    os.close(fd)
    finally:
        for fd in watched:
            os.close(fd)
    return gone


def _last_words(folder: Path) -> str:
    """The last lines of what the programs wrote to stderr."""
    lines = [line for file in sorted(folder.glob("errors-*")) for line in file.read_text(errors="replace").splitlines()]
    return " | ".join(lines[-3:]) or "a program failed"
