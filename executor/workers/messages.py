"""What crosses a pipe between driver, template and workers: plain data, framed.

A frame is a 4-byte little-endian length and that many bytes of ``marshal`` (the interpreter's own format for plain
data, three times as fast as JSON and able to carry bytes). Both ends are always the same interpreter. Nothing here is
ever unpickled, so a driver never runs code that a worker sent.
"""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = 4


def frame(message: Any) -> bytes:
    """The bytes that carry ``message``, which is made of tuples, lists, dicts, strings, bytes and numbers."""
    body = marshal.dumps(message)
    return len(body).to_bytes(_HEADER, "little") + body


def send(fd: int, message: object) -> None:
    """Write one message to a blocking descriptor.

    Raises:
        OSError: the other end is closed.
    """
    data = frame(message)
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def incoming(fd: int, begin: bytes = b"") -> Iterator[Any]:
    """The messages from a blocking descriptor until its other end is closed; ``begin`` was read from it before."""
    reader = FrameReader()
    yield from reader.feed(begin)
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except ConnectionResetError:  # the other end was killed with our bytes unread
            return
        if not data:
            return
        yield from reader.feed(data)


def packet(message: Any) -> bytes:
    """The bytes of ``message`` for a socket that keeps packets apart."""
    return marshal.dumps(message)


def parse(data: bytes) -> Any:
    """The message of one packet."""
    return marshal.loads(data)  # noqa: S302  (plain data of a process that we started)


class FrameReader:
    """Puts messages together from whatever bytes a non-blocking descriptor has."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Any]:
        """The messages that ``data`` completes.

        Raises:
            ValueError: the bytes are not what a worker of ours writes; the channel cannot be used any more.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[Any] = []
        start, end = 0, len(buffer)
        while end - start >= _HEADER:
            stop = start + _HEADER + int.from_bytes(buffer[start : start + _HEADER], "little")
            if stop > end:
                break
            try:
                messages.append(marshal.loads(buffer[start + _HEADER : stop]))  # noqa: S302  (as in receive)
            except (EOFError, TypeError, ValueError) as error:
                raise ValueError(f"not a message: {error}") from None
            start = stop
        self._buffer = buffer[start:] if start else buffer
        return messages
