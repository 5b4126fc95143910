"""Lines to stdout or stderr that can never stall or end a run.

A pager that is not read, a terminal stopped with Ctrl-S, or a ``| head`` that has gone must not hold up a driver
that has steps to watch: lines wait here until they can be written without blocking, and are dropped where nobody
reads any more.
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque

# A pipe that is ready takes this much without blocking (POSIX: PIPE_BUF is the smallest room that counts as ready).
CHUNK_BYTES = select.PIPE_BUF
# Some megabytes of lines; whoever reads so slowly has the run's history to read.
LINES_KEPT = 50_000


class LineStream:
    """Writes lines to a descriptor as soon as it takes them; never blocks before ``finish``, never raises.

    ``keep_all``: no line is dropped, however slowly they are read, because they are data.
    """

    def __init__(self, fd: int, *, keep_all: bool = False) -> None:
        self.trouble: str | None = None  #: why lines could not be written, unless it is that nobody wants them any more
        self._fd = fd
        self._keep_all = keep_all
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._gone = False  # whoever read has gone
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, text: str) -> None:
        """Take one line or several, without the last line end, and write what can be written now."""
        if self._gone:
            return
        self._lines.append(text.encode("utf-8", "backslashreplace") + b"\n")
        if len(self._lines) > LINES_KEPT and not self._keep_all:
            self._lines.popleft()
            self._dropped += 1
        self._drain(block=False)

    def finish(self) -> None:
        """Write what is left, and wait for that. To be called when the run has ended."""
        self._drain(block=True)

    def _drain(self, *, block: bool) -> None:
        try:
            while self._lines and not self._gone:
                if not block and not self._poll.poll(0):
                    return
                if self._dropped:
                    self._lines.appendleft(f"... {self._dropped} lines left out: nobody was reading\n".encode())
                    self._dropped = 0
                line = self._lines[0]
                taken = os.write(self._fd, line[:CHUNK_BYTES])
                if taken == len(line):
                    self._lines.popleft()
                else:
                    self._lines[0] = line[taken:]
        except BlockingIOError:
            # The descriptor does not block by somebody else's wish, and is full.
            if block:
                self._poll.poll()
                self._drain(block=True)
        except OSError as error:  # the reader has gone (EPIPE), the terminal too (EIO), or a disk is full
            self._gone = True
            if error.errno not in (errno.EPIPE, errno.EIO):
                self.trouble = error.strerror
            self._lines.clear()
            read_by_nobody(self._fd)


def read_by_nobody(fd: int) -> None:
    """Let the descriptor lead nowhere: whoever writes to it later, the ending interpreter too, does not fail."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, fd)
        os.close(nowhere)
    except OSError:
        return
