"""What crosses a pipe between driver, template and workers: plain data, framed.

A frame is 8 bytes of header, which hold its length and a mark, and that many bytes of ``marshal`` (the interpreter's
own format for plain data, three times as fast as JSON and able to carry bytes). Both ends are always the same
interpreter. Nothing here is ever unpickled, so a driver never runs code that a worker sent. The mark tells a message
from what a step writes over a descriptor that is not its own; without it a reader might wait for gigabytes to come.
"""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 8

#: Added to the length: the upper three bytes of a header.
MARK = 0xE8EC01 << 40


def frame(message: Any) -> bytes:
    """The bytes that carry ``message``, which is made of tuples, lists, dicts, strings, bytes and numbers."""
    body = marshal.dumps(message)
    return (MARK + len(body)).to_bytes(HEADER_BYTES, "little") + body


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

    __slots__ = ("_missing", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  #: the begin of a message; joined once, or a large one would cost its square
        self._missing = 0  #: bytes without which nothing can be done with them

    @property
    def between_messages(self) -> bool:
        """Whether nothing of a message has come whose end is still to come."""
        return not self._parts

    def feed(self, data: bytes) -> list[Any]:
        """The messages that ``data`` completes.

        Raises:
            ValueError: the bytes are not what a worker of ours writes; the channel cannot be used any more.
        """
        messages: list[Any] = []
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return messages
            data = b"".join(self._parts)
            self._parts.clear()
        start, end = 0, len(data)
        while end - start >= HEADER_BYTES:
            length = int.from_bytes(data[start : start + HEADER_BYTES], "little") - MARK
            if not 0 < length < 1 << 40:
                raise ValueError("not a message: it has no mark")
            stop = start + HEADER_BYTES + length
            if stop > end:
                break
            try:
                messages.append(marshal.loads(data[start + HEADER_BYTES : stop]))  # noqa: S302  (as in parse)
            except (EOFError, TypeError, ValueError) as error:
                raise ValueError(f"not a message: {error}") from None
            start = stop
        if start < end:
            self._parts.append(data[start:])
            self._missing = (stop if end - start >= HEADER_BYTES else start + HEADER_BYTES) - end
        return messages
