"""Waiting for what a run writes next, without looking again and again: the kernel gives notice (inotify).

Where it has no notices left, what is there is looked at some times a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from executor.workers import hygiene

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

_IN_MODIFY, _IN_CLOSE_WRITE, _IN_CREATE = 0x2, 0x8, 0x100
_READ_BYTES = 1 << 16

# The death of a driver gives notice a moment before its lock is free, so that is looked at besides; and so is
# everything where there are no notices.
LOOK_EVERY_S = 1.0
WITHOUT_NOTICES_S = 0.25


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


class Changes:
    """Changes of the files in a run's folder, from the moment when it is made. A ``with`` block closes it."""

    __slots__ = ("_fd",)

    def __init__(self, folder: RunFolder) -> None:
        self._fd: int = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd >= 0:
            hygiene.register(self._fd)
            mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_CREATE
            if _libc().inotify_add_watch(self._fd, os.fsencode(folder.path), mask) < 0:
                self.close()

    def wait(self, timeout_s: float = LOOK_EVERY_S) -> None:
        """Return when something has changed since the last call, or after so many seconds."""
        if self._fd < 0:
            time.sleep(min(timeout_s, WITHOUT_NOTICES_S))
            return
        if select.select([self._fd], [], [], timeout_s)[0]:
            os.read(self._fd, _READ_BYTES)

    def close(self) -> None:
        """Watch nothing any more. Safe to call twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            hygiene.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
