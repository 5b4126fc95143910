"""How a driver is told that it was granted something: one FIFO per owner, with no meaning but "read your rows".

Whoever is rung reads his rows under the ledger's lock, and whoever rings does so before the commit, under the same
lock: so a bell is heard after what it is about can be seen, or not at all because that never happened. A bell too many
costs one read. Nothing is read from the FIFO but the fact that there was something.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from executor.workers import hygiene

if TYPE_CHECKING:
    from pathlib import Path

_DRAIN_BYTES = 4096


def bell_file(home: Path, owner: str) -> str:
    """The FIFO of an owner."""
    return f"{home}/bell/{owner}"


class Bell:
    """The bell of this process; ``fileno`` can be read when it was rung."""

    __slots__ = ("_fd",)

    def __init__(self, home: Path, owner: str) -> None:
        path = bell_file(home, owner)
        os.mkfifo(path, 0o600)
        # Opened for writing as well, so that it never reads as closed when a ringer closes it.
        self._fd = hygiene.register(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def heard(self) -> bool:
        """Whether it was rung since this was last asked."""
        rung = False
        while True:
            try:
                if len(os.read(self._fd, _DRAIN_BYTES)) < _DRAIN_BYTES:
                    return True
            except BlockingIOError:
                return rung
            rung = True

    def close(self) -> None:
        """Give the descriptor back; the file is removed with the owner's row. Safe to call twice."""
        hygiene.close(self._fd)


def ring(home: Path, owner: str) -> bool:
    """Ring an owner's bell; False if nobody hears it, which is so when the owner has ended."""
    try:
        fd = os.open(bell_file(home, owner), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    try:
        os.write(fd, b"!")
    except BlockingIOError:  # it is full of rings that were not heard yet
        pass
    except BrokenPipeError:  # the owner has ended since the line above
        return False
    finally:
        os.close(fd)
    return True
