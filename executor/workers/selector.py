"""The one place where a driver waits: descriptors and what to call when they can be read."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable


# The kernel counts a wait in milliseconds of 32 bits, which end after 24 days.
LONGEST_WAIT_S = 86400.0


class Selector:
    """``epoll`` with a callback per descriptor. Not safe for several threads: each run has its own."""

    __slots__ = ("_callbacks", "_epoll")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        hygiene.register(self._epoll.fileno())
        self._callbacks: dict[int, Callable[[], object]] = {}

    def add(self, fd: int, callback: Callable[[], object]) -> None:
        """Call ``callback`` in ``wait`` whenever ``fd`` can be read or its other end is closed."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """Call back as well when ``fd`` has room to be written to, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if on else select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Stop watching ``fd``; must come before it is closed. Safe to call twice."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Block until a descriptor is ready or ``timeout_s`` seconds have passed (None: for ever), and call back.

        A wait for longer than ``LONGEST_WAIT_S`` ends after that.
        """
        # epoll counts in milliseconds and would round 0.2 ms down to a busy loop
        timeout = -1.0 if timeout_s is None else 0.0 if timeout_s <= 0 else min(max(timeout_s, 0.001), LONGEST_WAIT_S)
        callbacks = self._callbacks
        ready = [(fd, callbacks.get(fd)) for fd, _ in self._epoll.poll(timeout)]
        for fd, callback in ready:
            # an earlier callback of this round may have removed it, and the number may be another descriptor's by now,
            # of which nothing is known yet: whoever read from it would wait, for ever perhaps
            if callback is not None and callbacks.get(fd) is callback:
                callback()

    def close(self) -> None:
        """Give the descriptor back; those that were watched stay open."""
        if not self._epoll.closed:
            hygiene.forget(self._epoll.fileno())
            self._epoll.close()
        self._callbacks.clear()
