"""Notices from the kernel that a file was closed by one who could write to it: how the end of a process is heard of.

The kernel closes the files of a process that ends, however it ends; and a file that was inherited is closed when the
last that has it ends. The notice comes a few microseconds before the locks on the file are dropped.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x1000000

# struct inotify_event: watch, mask, cookie, length of the name that follows
_EVENT = struct.Struct("iIII")
_READ_BYTES = 1 << 16


class Closed(NamedTuple):
    """A file was closed; or, with watch -1, so many that the kernel has lost count."""

    watch: int
    name: str  #: in a watched folder; empty for a watched file


@cache
def _libc() -> Any:
    import ctypes  # some milliseconds, for those who wait only

    return ctypes.CDLL(None, use_errno=True)


class CloseWatch:
    """What is watched by this process; ``fileno`` can be read when something was closed.

    Raises:
        OSError: the kernel has none for us; the user's number of them is limited (fs.inotify.max_user_instances).
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        fd: int = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise _error("inotify_init1")
        self._fd = hygiene.register(fd)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def add(self, path: str, *, folder: bool = False, written: bool = False) -> int | None:
        """Watch a file, or every file in a folder: the number that its notices carry; None if it is not there.

        ``written``: there is a notice also when something was written into it.

        Raises:
            OSError: too many are watched (fs.inotify.max_user_watches).
        """
        mask = _IN_CLOSE_WRITE | (_IN_ONLYDIR if folder else 0) | (_IN_MODIFY if written else 0)
        watch: int = _libc().inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch < 0:
            error = _error(path)
            if isinstance(error, FileNotFoundError):
                return None
            raise error
        return watch

    def remove(self, watch: int) -> None:
        """Watch that no longer. One that went with its file is no error."""
        _libc().inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[Closed]:
        """What was closed since this was last asked."""
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                name = data[at : at + length].rstrip(b"\0")
                at += length
                if mask & _IN_Q_OVERFLOW:
                    yield Closed(-1, "")
                elif not mask & _IN_IGNORED:
                    yield Closed(watch, os.fsdecode(name))

    def close(self) -> None:
        """Watch nothing any more. Safe to call twice."""
        hygiene.close(self._fd)


def _error(what: str) -> OSError:
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
