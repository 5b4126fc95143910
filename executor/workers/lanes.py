"""A lane, seen from the driver: a place for one worker process at a time, with a socket, a log and an entry in memory.

These outlast the workers that come and go on it, so that a new worker costs no more than its fork. Only a worker that
died in the middle of an attempt leaves its lane's socket unclean; the next one then finds a new socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.workers import hygiene
from executor.workers.channel import Channel
from executor.workers.sockets import stream_pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.workers.assignment import Assignment
    from executor.workers.selector import Selector


class Lane:
    """One lane, with the worker that is on it: ``pid`` 0 while there is none."""

    __slots__ = ("because", "channel", "condemned", "log_end", "number", "pid", "pidfd", "task", "used")

    def __init__(self, number: int) -> None:
        self.number = number
        self.channel: Channel | None = None  #: None or closed: needs a new one before the next worker comes
        self.log_end = 0  #: bytes of its log that belong to attempts that are over
        self.pidfd = -1  #: to see its worker's end when the template is dead and cannot tell
        self.end_worker()

    def end_worker(self) -> None:
        """Forget the worker, which is gone."""
        self.pid = 0
        self.task: Assignment | None = None
        self.used = 0  #: attempts handed to it
        self.condemned = False  #: gets nothing more to do
        self.because: str | None = None  #: why it was given up before its attempt was reported

    @property
    def open(self) -> bool:
        """Whether its socket can serve a worker."""
        return self.channel is not None and self.channel.fd >= 0

    def connect(
        self,
        selector: Selector,
        *,
        on_message: Callable[[Lane, Any], None],
        on_garbage: Callable[[Lane], None],
        on_end: Callable[[Lane], None],
    ) -> int:
        """Give it a new socket; the other end, for its workers.

        Raises:
            OSError: there are too many descriptors.
        """
        ours, theirs = stream_pair()
        self.channel = Channel(
            ours,
            selector,
            on_message=lambda message: on_message(self, message),
            on_garbage=lambda: on_garbage(self),
            on_end=lambda: on_end(self),
        )
        return theirs

    def send(self, message: object) -> None:
        """Send ``message`` to its worker."""
        if self.channel is not None:
            self.channel.send(message)

    def settle(self, *, whole: bool) -> None:
        """The worker is gone: take what it has sent, unless that is ``whole`` already; keep the socket if clean."""
        if self.channel is None:
            return
        if not whole:
            self.channel.drain()
        if not whole or not self.channel.clean:
            self.channel.close()

    def disconnect(self, selector: Selector) -> None:
        """Give its descriptors back. Safe to call twice."""
        if self.channel is not None:
            self.channel.close()
        self.forget_pidfd(selector)

    def forget_pidfd(self, selector: Selector) -> None:
        """Stop watching for the end of its worker."""
        if self.pidfd >= 0:
            selector.remove(self.pidfd)
            hygiene.close(self.pidfd)
            self.pidfd = -1
