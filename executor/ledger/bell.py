"""How a driver is told that it was granted something: one FIFO per owner, with no meaning but "read your rows".

It can also be *announced* that it will be rung in a moment. That promises nothing: whoever is told may get ready, so
that processes which have slept are awake, and what they need is in the processor's caches, when it is rung.

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

_RUNG, _ANNOUNCED = b"!", b"."


def bell_file(home: Path, owner: str) -> str:
    """The FIFO of an owner."""
    return f"{home}/bell/{owner}"


class Bell:
    """The bell of this process; ``fileno`` can be read when it was rung."""

    __slots__ = ("_fd", "announced")

    def __init__(self, home: Path, owner: str) -> None:
        self.announced = False  #: it was said that it will be rung in a moment; set back by whoever acts on it
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
                data = os.read(self._fd, _DRAIN_BYTES)
            except BlockingIOError:
                return rung
            if _ANNOUNCED in data:
                self.announced = True
            whole = len(data) < _DRAIN_BYTES
            rung = rung or _RUNG in data or not whole  # a ring had no room perhaps
            if whole:
                return rung

    def close(self) -> None:
        """Give the descriptor back; the file is removed with the owner's row. Safe to call twice."""
        hygiene.close(self._fd)


def ring(home: Path, owner: str) -> bool:
    """Ring an owner's bell; False if nobody hears it, which is so when the owner has ended."""
    return _write(home, owner, _RUNG)


def announce(home: Path, owner: str) -> bool:
    """Tell an owner that its bell may be rung in a moment; False as of ``ring``."""
    return _write(home, owner, _ANNOUNCED)


def _write(home: Path, owner: str, what: bytes) -> bool:
    try:
        fd = os.open(bell_file(home, owner), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    try:
        os.write(fd, what)
    except BlockingIOError:  # it is full of rings that were not heard yet
        pass
    except BrokenPipeError:  # the owner has ended since the line above
        return False
    finally:
        os.close(fd)
    return True
