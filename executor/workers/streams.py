"""Standard input, output and error of steps: the log file of their lane, and the logger behind ``context.log``."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import logging
    from typing import BinaryIO


def open_log(path: str) -> int:
    """A descriptor of a lane's log file, which is made where there is none, and only ever appended to.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def log_size(path: str) -> int:
    """Bytes in a log, for somebody who has not got it open; 0 where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  (a path as text)
    except OSError:
        return 0


def write_to(path: str) -> None:
    """Let standard output and error be this log file from now on, whatever they were, or if they were closed."""
    fill_streams()  # or else the file would be opened in the place of one that is closed
    fd = open_log(path)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def read_nothing() -> None:
    """Let standard input be empty from now on."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


def fill_streams() -> None:
    """Put the null device where a standard stream is closed, so that nothing else is opened in its place."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest place that is free: this one


def lane_file(number: int) -> str:
    """The name of a lane's log file in the folder of its run."""
    return f"lane-{number}.log"


class LaneStream(io.TextIOWrapper):
    """Standard output or error of steps, which knows whether anybody has used it: one that nobody has is not flushed.

    Only the first use is seen, and what it does stands in the stream itself from then on.
    """

    used = False

    def _use(self) -> None:
        self.used = True
        self.write = super().write  # type: ignore[method-assign]  # from now on, without this detour

    def write(self, text: str, /) -> int:
        """As of any text stream."""
        self._use()
        return super().write(text)

    @property
    def buffer(self) -> BinaryIO:
        """As of any text stream."""
        self._use()
        return cast("BinaryIO", super().buffer)

    def detach(self) -> BinaryIO:
        """As of any text stream."""
        self._use()
        return cast("BinaryIO", super().detach())


def flush_output() -> None:
    """Write out what Python buffers for standard output and error; a stream that the step closed is no error."""
    for stream in (sys.stdout, sys.stderr):
        if type(stream) is LaneStream and not stream.used:
            continue
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


def replace_streams() -> None:
    """Let Python's standard streams be descriptors 0, 1 and 2 again, whatever the driver had put there.

    A step's input reads as empty.
    """
    read_nothing()
    # these live as long as the process, and must not close the descriptors of a worker that replaces them
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, fd in (("stdout", 1), ("stderr", 2)):
        raw = open(fd, "wb", closefd=False)  # noqa: SIM115  (as above)
        stream = LaneStream(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(stream, "mode", "w")  # noqa: B010  (as ``open`` does, where the types call it read-only)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def step_log() -> logging.Logger:
    """The logger behind ``context.log``: every level, to the present standard error, with time and level."""
    import logging

    log = logging.getLogger("executor.step")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers[:] = [handler]
    return log
