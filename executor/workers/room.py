"""The range of descriptors that is the template's alone: a worker lets go of all of it by one call."""

from __future__ import annotations

import errno
import fcntl
import os


class Room:
    """The widest room that descriptors have here: ``begin`` is for a worker's socket, what is kept stands above it.

    Usually above all others; but one that was inherited may stand just below the limit.
    """

    __slots__ = ("_top", "begin", "end")

    def __init__(self) -> None:
        limit = os.sysconf("SC_OPEN_MAX")  # the soft limit of this process
        taken = sorted({2, *map(int, os.listdir("/proc/self/fd"))})  # noqa: PTH208  (names, not paths)
        taken = [fd for fd in taken if 2 <= fd < limit]
        room, below = max((above - fd, fd) for fd, above in zip(taken, [*taken[1:], limit], strict=True))
        self.begin = below + 1
        self._top = below + room  # from here on it is not ours
        self.end = self.begin + 1  #: nothing was ever kept from here on

    def keep(self, fd: int) -> int:
        """Move a descriptor to where no worker keeps it. Raises ``OSError`` where there is no room."""
        try:
            room = self.begin + 1 < self._top
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.begin + 1) if room else -1
            if moved >= self._top:
                os.close(moved)
            if not 0 <= moved < self._top:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self.end = max(self.end, moved + 1)
            return moved
        finally:
            os.close(fd)
