"""What a test must leave as it found it: the children of this process, its descriptors, and who waits for whom."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Self

from executor.workers import process

#: What was told to end has ended by then, on any machine; a process that is not gone after it was never told.
PATIENCE_S = 60.0


class Census:
    """While it is entered, whatever a run leaves behind becomes a child of this process, so nothing can hide.

    On leaving, a living child is an error, and so is a template that nobody waited for, or a new descriptor.
    """

    def __init__(self, *, kills_drivers: bool = False) -> None:
        """``kills_drivers``: the templates of drivers that the test kills come to this process as well."""
        self._kills_drivers = kills_drivers

    def __enter__(self) -> Self:
        process.adopt_orphans()
        self._descriptors = descriptors()
        self._children = set(children())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process.adopt_orphans(on=False)
        templates = [pid for pid in self._new_children() if is_zombie(pid) and os.getsid(pid) == pid]
        left = self._left()
        named = {pid: command(pid) for pid in left}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if kind is not None:  # the test has failed already: do not hide why
            return
        assert self._kills_drivers or templates == [], "templates that their driver did not wait for"
        assert named == {}, "processes that outlived their run"
        now = descriptors()
        assert {fd: now[fd] for fd in now if now[fd] != self._descriptors.get(fd)} == {}, "descriptors that leaked"

    def _new_children(self) -> list[int]:
        return [pid for pid in children() if pid not in self._children]

    def _left(self) -> list[int]:
        """Living children, after what is dead or dying was waited for."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for pid in self._new_children():
                if is_zombie(pid):
                    os.waitpid(pid, 0)
            left = self._new_children()
            if not left or time.monotonic() > deadline:
                return left
            os.sched_yield()


def children(pid: int | None = None) -> list[int]:
    """The direct children of a process, zombies included."""
    found = []
    for task in Path(f"/proc/{pid or os.getpid()}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            continue
    return found


def descendants(pid: int) -> list[int]:
    """All that it started, and what those started, read until two looks in a row agree.

    A process whose parent ends between two lines of one look may stand in neither its old nor its new parent's list.
    """
    before, found = None, _descendants(pid)
    while set(found) != before:
        before, found = set(found), _descendants(pid)
    return found


def _descendants(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        found.append(child)
        try:
            found += _descendants(child)
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


def descriptors() -> dict[int, str]:
    """The open descriptors of this process, and what each is of."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # of the listing itself
            continue
    return found


def state(pid: int) -> str:
    """The letter of the kernel for what it does: R, S, D, T (stopped), Z (ended, not waited for); '' when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_zombie(pid: int) -> bool:
    """Whether it has ended and its parent has not waited for it."""
    return state(pid) == "Z"


def is_gone(pid: int) -> bool:
    """Whether it runs no more."""
    return state(pid) in {"", "Z", "X"}


def command(pid: int) -> str:
    """Its command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
