"""The next look: runs that were cut off by the death of their driver, and processes that they left behind.

Workers die with their driver. A process that a step started may outlive both, if driver and template were killed
together; it is found by its stdin, stdout or stderr, which is a file of the run. Nothing is killed here: it is named.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.ledger.open_files import having_open, working_on
from executor.runs.history import HistoryLost, HistoryUnreadable, HistoryWriter, read_history, read_last
from executor.runs.home import RunFolder, RunLock, is_run_id, lock_run
from executor.scheduler.events import RunEnded, RunStarted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COMMAND_SHOWN = 60  # characters of a command line: enough to know it again, short enough for one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that lives on after the run whose step started it."""

    pid: int
    command: str
    lane: int | None  #: the lane whose log it holds open; None where it is another file of the run

    def __str__(self) -> str:
        lane = "" if self.lane is None else f", lane {self.lane}"
        return f"pid {self.pid} ({self.command}{lane})"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedRun:
    """A run whose driver died before the run ended."""

    folder: RunFolder
    job: str | None  #: None where its history cannot be read
    left: tuple[Leftover, ...]

    def __str__(self) -> str:
        what = f"run {self.folder.run_id}" + (f" of job {self.job!r}" if self.job else "")
        text = f"{what} was interrupted: its driver died"
        if self.left:
            text += f"; still running from it: {', '.join(map(str, self.left))}"
            text += f"; to end {'them' if len(self.left) > 1 else 'it'}: kill {' '.join(str(p.pid) for p in self.left)}"
        return text


def look(home: Path) -> list[InterruptedRun]:
    """The runs in ``home`` that were cut off since the last look; each is marked in its history as interrupted.

    One listing where there is none. ``str`` of a result is a notice for people. A run that cannot be marked now (the
    disk is full) is left for the next look.
    """
    try:
        names = [path.name for path in (home / "live").iterdir()]
    except FileNotFoundError:
        return []
    found = []
    for name in sorted(names):
        if not is_run_id(name):
            continue
        folder = RunFolder(home / "runs" / name)
        try:
            lock = lock_run(folder)
        except FileNotFoundError:  # somebody removed the run's folder
            folder.live_marker.unlink(missing_ok=True)
            continue
        if lock is not None and (run := _close_run(lock)) is not None:
            found.append(run)
    return found


def _close_run(lock: RunLock) -> InterruptedRun | None:
    """Give a run whose driver is dead its last event. None if it has one, or has none at all, or cannot be given one.

    The history has one writer: whoever holds the run's lock.
    """
    folder = lock.folder
    job: str | None = None
    try:
        last = read_last(folder.events)
        if last is None or isinstance(last[1], RunEnded):
            lock.release()
            return None
        first = next(read_history(folder.events))[1]
        if isinstance(first, RunStarted):
            job = first.job
        writer = HistoryWriter(folder.events)
        try:
            # When it died is not known; it was not before the last thing that it wrote.
            writer.write(RunEnded(status="interrupted"), last[0])
        finally:
            writer.close()
    except HistoryLost:
        lock.release(ended=False)
        return None
    except FileNotFoundError:
        lock.release()
        return None
    except HistoryUnreadable:
        pass  # nothing can be added to a damaged file that would make it better; say that the run is gone
    left = processes_of(folder)
    lock.release()
    return InterruptedRun(folder=folder, job=job, left=tuple(left))


def processes_of(folder: RunFolder) -> list[Leftover]:
    """The processes whose stdin, stdout or stderr is a file in the folder of this run."""
    inside = os.path.realpath(folder.path) + "/"
    return [
        Leftover(pid=pid, command=_command(pid), lane=_lane(file.removeprefix(inside)))
        for pid, file in having_open(lambda file: file.startswith(inside), (0, 1, 2))
    ]


def processes_of_claims(folder: str, claims: Iterable[int]) -> list[Leftover]:
    """The processes that work on these claims of the ledger, in this folder of a run.

    They carry the locks of the claims. The template may have the same files open, and carries no lock.
    """
    return [
        Leftover(pid=pid, command=_command(pid), lane=_lane(file.rpartition("/")[2]))
        for pid, file in working_on(folder, claims)
    ]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [word.decode("utf-8", "replace") for word in file.read(4096).split(b"\0") if word]
    except OSError:
        words = []
    # the program without its folder, which says little and would take all the room
    text = " ".join([*(word.rpartition("/")[2] for word in words[:1]), *words[1:]])
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= COMMAND_SHOWN else text[: COMMAND_SHOWN - 3] + "..."


def _lane(name: str) -> int | None:
    number = name.removeprefix("lane-").removesuffix(".log").removesuffix(".in")
    return int(number) if number.isdecimal() else None
