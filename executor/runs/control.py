"""How somebody else's process asks a run to stop: a FIFO in the run's folder, which its driver waits for.

A request is one line of JSON, short enough to be written in one piece. The FIFO is opened by the driver alone for
reading, so whoever writes to it learns at once whether a driver is there. Nothing is answered: what was heard stands
in the run's history.
"""

from __future__ import annotations

import errno
import json
import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from executor.errors import UsageError
from executor.workers import hygiene

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

_READ_BYTES = 1 << 16


class CancelAsked(NamedTuple):
    """Somebody asks for a stop of steps, or of the whole run."""

    keys: tuple[str, ...]  #: empty: the run
    kill: bool
    reason: str


class Control:
    """The driver's end, while its run goes on; ``fileno`` can be read when something was asked."""

    __slots__ = ("_fd", "_path", "_rest")

    def __init__(self, folder: RunFolder) -> None:
        """Raises ``OSError`` where the file system has no FIFOs."""
        self._path = folder.control
        self._rest = b""
        os.mkfifo(self._path, 0o600)
        # Opened for writing as well, so that it never reads as closed when one who asked closes it.
        self._fd = hygiene.register(os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def take(self) -> list[CancelAsked]:
        """What was asked since the last call. A line that is no request is passed over: there is nobody to tell."""
        with suppress(BlockingIOError):
            self._rest += os.read(self._fd, _READ_BYTES)
        *lines, self._rest = self._rest.split(b"\n")
        asked = []
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                asked.append(CancelAsked(tuple(map(str, record["keys"])), bool(record["kill"]), str(record["reason"])))
        return asked

    def close(self) -> None:
        """Hear no more. Safe to call twice."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            fd, self._fd = self._fd, -1
            hygiene.close(fd)


def ask(folder: RunFolder, wish: CancelAsked) -> bool:
    """Ask the driver of a run; False if there is none that could hear it.

    Raises:
        UsageError: too many steps are named at once, or the driver has not heard what was asked before.
    """
    line = json.dumps(wish._asdict(), separators=(",", ":")).encode() + b"\n"
    if len(line) > select.PIPE_BUF:
        raise UsageError("so many steps cannot be named at once; cancel them one after another, or the whole run")
    try:
        fd = os.open(folder.control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return False
        raise
    try:
        os.write(fd, line)
    except BrokenPipeError:  # it has ended since the line above
        return False
    except BlockingIOError:
        raise UsageError(
            f"the driver of run {folder.run_id} has not heard what it was asked before; it is stopped, or busy"
        ) from None
    finally:
        os.close(fd)
    return True
