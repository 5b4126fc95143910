"""The lock that every writer of a database file holds: ``flock`` on a file of its own beside it.

SQLite's own waiting sleeps in steps of up to 100 ms; this lock is tried without blocking, often and briefly, so that
waits are short and a driver that cannot have it goes on with its loop. The kernel lets go of it when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Protocol

from executor.database.errors import DatabaseBusy, DatabaseUnusable

if TYPE_CHECKING:
    from pathlib import Path

# A transaction takes some 30 us, so this waits for a few of them; epoll could wait for no less than 1 ms.
TRIES = 10
BETWEEN_TRIES_S = 50e-6

# What a caller that may block sleeps between two rounds of tries: from about a round's own length up to what nobody
# at a terminal notices.
SHORTEST_SLEEP_S = 0.001
LONGEST_SLEEP_S = 0.02


class Descriptors(Protocol):
    """Who keeps our open files from forked children: it closes in them whatever was registered."""

    def register(self, fd: int) -> int:
        """Remember ``fd`` as ours, and give it back."""

    def close(self, fd: int) -> None:
        """Close a descriptor of ours; safe to call twice."""


class FileLock:
    """An exclusive or shared lock on ``path``, between processes and between threads that opened it each by itself."""

    __slots__ = ("_descriptors", "_fd", "_identity", "_text", "path")

    def __init__(self, path: Path, descriptors: Descriptors) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DatabaseUnusable(
                f"the lock file {path} cannot be opened: {error.strerror}; "
                "set EXECUTOR_HOME to a folder where you may write"
            ) from error
        descriptors.register(self._fd)
        self._descriptors = descriptors
        self._text = str(path)
        found = os.fstat(self._fd)
        self._identity = found.st_dev, found.st_ino

    def fileno(self) -> int:
        """The descriptor that carries the lock."""
        return self._fd

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, within about a millisecond; whether it was free in that time."""
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        for left in range(TRIES - 1, -1, -1):
            try:
                fcntl.flock(self._fd, kind)
            except BlockingIOError:
                if left:
                    time.sleep(BETWEEN_TRIES_S)
            else:
                return True
        return False

    def acquire(self, timeout_s: float, *, shared: bool = False) -> None:
        """Take the lock, however long its holders need for it.

        Raises:
            DatabaseBusy: it was not free for ``timeout_s`` seconds; the text names the process that holds it.
        """
        begin = time.monotonic()
        sleep_s = SHORTEST_SLEEP_S
        while not self.try_acquire(shared=shared):
            if time.monotonic() - begin >= timeout_s:
                raise DatabaseBusy(str(self.path), timeout_s, self.holder())
            time.sleep(sleep_s)
            sleep_s = min(2 * sleep_s, LONGEST_SLEEP_S)

    def release(self) -> None:
        """Let go of it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def is_there(self) -> bool:
        """Whether the file of this lock is still the one that others find: else it excludes nobody who comes later."""
        try:
            found = os.stat(self._text)  # noqa: PTH116  (half the time of Path.stat, at every transaction)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def holder(self) -> int | None:
        """The pid of a process that holds the lock now; None if nobody does, or it is not in this pid namespace."""
        found = os.fstat(self._fd)
        # /proc/locks: "1: FLOCK  ADVISORY  WRITE 4711 fd:01:131090 0 EOF", the device in hexadecimal
        file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        try:
            with open("/proc/locks", encoding="ascii") as locks:
                for line in locks:
                    words = line.split()
                    if len(words) >= 6 and words[1] == "FLOCK" and words[5] == file and int(words[4]) > 0:
                        return int(words[4])
        except OSError:
            pass
        return None

    def close(self) -> None:
        """Give the descriptor back, and with it the lock. Safe to call twice."""
        self._descriptors.close(self._fd)
