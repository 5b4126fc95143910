"""Standard input, output and error of steps: the log file of their lane, and the logger behind ``context.log``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence


class Lane:
    """The log file that standard output and error of the attempts on one lane go to."""

    __slots__ = ("_paths", "number")

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths  #: of all lanes' files
        self.number = -1

    def switch(self, number: int) -> None:
        """Send output to the log of lane ``number`` from now on."""
        if number != self.number:
            fd = os.open(
                self._paths[number], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)
            self.number = number

    @property
    def path(self) -> str:
        """The present log file."""
        return self._paths[self.number]

    def end(self) -> int:
        """Bytes in it so far, less what Python still buffers."""
        try:
            return os.lseek(1, 0, os.SEEK_END)  # it is only ever appended to, so the offset means nothing
        except OSError:  # the step closed its standard output: the next one gets it anew
            number, self.number = self.number, -1
            fill_streams()
            return os.stat(self._paths[number]).st_size if number >= 0 else 0  # noqa: PTH116  (a path as text)


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


def flush_output() -> None:
    """Write out what Python buffers for standard output and error; a stream that the step closed is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue


def replace_streams() -> None:
    """Let Python's standard streams be descriptors 0, 1 and 2 again, whatever the driver had put there.

    A step's input reads as empty.
    """
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    # these live as long as the process, and must not close the descriptors of a worker that replaces them
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
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
