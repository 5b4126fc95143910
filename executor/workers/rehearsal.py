"""The life of a worker, played through in the template before any is forked.

The interpreter rewrites code that runs often (PEP 659), and remembers where it found an attribute. Done once, before
the forks, that is not done again in each of them, where it would take a copy of every page that it stands on.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from executor.authoring.ops import op
from executor.workers import messages
from executor.workers.child import BEGUN_BYTES, Worker
from executor.workers.job import WorkerJob
from executor.workers.runner import StepRunner
from executor.workers.sockets import stream_pair
from executor.workers.streams import flush_output, open_log

if TYPE_CHECKING:
    from typing import Self

TIMES = 16  # more than the interpreter's threshold for rewriting a function


@op
def rehearsal() -> int:
    """A step that does nothing."""
    return 0


def forked_child() -> int:
    """In the place of ``os.fork``: what it gives in the child."""
    return 0


def go_on(code: int) -> None:
    """In the place of the end of a process."""


class Rehearsal:
    """A worker and a lane to play with; standard output and error are put back at the end."""

    def __init__(self, channel: int) -> None:
        """``channel``: where the worker finds its socket."""
        os.dup2(0, channel)  # nothing that is opened here shall come to stand there
        job = WorkerJob("", "", {}, os.devnull, os.devnull)
        begun = mmap.mmap(-1, BEGUN_BYTES)
        runner = StepRunner(job, None)
        self.worker = Worker(job, (rehearsal,), begun, attempts=1, channel=channel, runner=runner)
        self._driver_end, socket = stream_pair()
        self.lane = (socket, open_log(os.devnull))  #: the worker's socket and log
        self._channel = channel

    def send_task(self) -> None:
        """What the worker does next."""
        messages.send(self._driver_end, (0, 1, 0, "rehearsal", None, (), 0, 0))

    def __enter__(self) -> Self:
        flush_output()
        self._streams = os.dup(1), os.dup(2)
        return self

    def __exit__(self, *_: object) -> None:
        for number, fd in enumerate(self._streams, 1):
            os.dup2(fd, number)
        for fd in (*self._streams, *self.lane, self._driver_end, self._channel):
            os.close(fd)
