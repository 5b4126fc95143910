"""The driver's end of a lane's socket: messages in both directions, never blocking."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from executor.workers import hygiene, messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.workers.selector import Selector

READ_BYTES = 1 << 17


class Channel:
    """A socket to the workers of one lane. What they send goes to ``on_message``.

    ``on_end`` is called when the other end is closed: by the template's death, or shut down by a step. ``fd`` is -1
    once the socket is closed, by either side.
    """

    __slots__ = ("_on_end", "_on_garbage", "_on_message", "_outgoing", "_reader", "_selector", "fd")

    def __init__(
        self,
        fd: int,
        selector: Selector,
        *,
        on_message: Callable[[Any], None],
        on_garbage: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        os.set_blocking(fd, False)
        self.fd = hygiene.register(fd)
        self._selector, self._on_message = selector, on_message
        self._on_garbage, self._on_end = on_garbage, on_end
        self._reader = messages.FrameReader()
        self._outgoing = bytearray()  #: what the socket had no room for; it gives its front away without copying
        selector.add(fd, self._on_ready)

    def send(self, message: object) -> None:
        """Send ``message``, now or as soon as there is room. To a worker that died: silently nothing."""
        if self.fd < 0:
            return
        data = messages.frame(message)
        try:
            sent = os.write(self.fd, data) if not self._outgoing else 0
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            return
        if sent < len(data):
            if not self._outgoing:
                self._selector.watch_writing(self.fd, on=True)
            self._outgoing += data[sent:]

    @property
    def clean(self) -> bool:
        """Whether no message is on its way in part, in either direction."""
        return self.fd >= 0 and not self._outgoing and self._reader.between_messages

    def drain(self) -> None:
        """Take everything that a worker that is gone has sent."""
        with suppress(BlockingIOError):
            while self.fd >= 0:
                self._receive()

    def close(self) -> None:
        """Close our end. Safe to call twice."""
        if self.fd >= 0:
            self._selector.remove(self.fd)
            hygiene.close(self.fd)
            self.fd = -1

    def _on_ready(self) -> None:
        if self._outgoing:
            self._send_more()
        with suppress(BlockingIOError):
            if not self._receive():
                self._on_end()

    def _receive(self) -> bool:
        """Take what has come; False when the worker's end is closed, and so is ours now."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return False
        try:
            arrived = self._reader.feed(data)
        except ValueError:  # a step wrote over our socket
            self.close()
            self._on_garbage()
            return True
        for message in arrived:
            self._on_message(message)
        return True

    def _send_more(self) -> None:
        try:
            del self._outgoing[: os.write(self.fd, self._outgoing)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()
        if not self._outgoing:
            self._selector.watch_writing(self.fd, on=False)
