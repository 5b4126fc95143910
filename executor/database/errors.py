"""What can go wrong with a database file: each error says to which file, and what to do next."""

from __future__ import annotations

from executor.errors import ExecutorError, UnmetRequirement


class DatabaseUnusable(UnmetRequirement):
    """The file or its place cannot be used as it is: another format, no permission, a network file system."""


class DatabaseLost(ExecutorError):
    """The file was deleted, truncated or replaced while it was in use. It is never made anew under running work."""


class DatabaseFull(ExecutorError):
    """Nothing was written, because the disk is full or has failed; the same may be tried again later."""


class DatabaseBusy(ExecutorError):
    """Another process holds the file's lock for too long; ``pid`` is that process, None where it cannot be known."""

    def __init__(self, path: str, waited_s: float, pid: int | None) -> None:
        super().__init__(path, waited_s, pid)
        self.path, self.waited_s, self.pid = path, waited_s, pid

    def __str__(self) -> str:
        text = f"the lock of {self.path} could not be had within {self.waited_s:g} s"
        if self.pid is None:
            return f"{text}; to see who holds it: fuser -v {self.path}"
        return (
            f"{text}: process {self.pid} holds it and does not go on; if it is stopped, continue it with "
            f"kill -CONT {self.pid}, or end it with kill -KILL {self.pid} (what it has not finished is undone)"
        )


class Forked(ExecutorError):
    """A connection was used in a child of the process that opened it, where it must not be touched."""
