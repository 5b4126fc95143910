"""Sockets between our own processes: one that keeps packets apart and carries descriptors, one that is a plain stream.

Taken from ``_socket``, the C half of the standard module: the Python half makes enums of every constant when it is
imported, half a megabyte that each fork of the template would copy the page tables of.
"""

from __future__ import annotations

import _socket
from contextlib import suppress
from sys import byteorder
from typing import TYPE_CHECKING, Any

from executor.workers import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

# A packet holds one message, so that a descriptor can ride on it.
PACKET_BYTES = 1 << 16

# Linux takes up to 253 descriptors at once (SCM_MAX_FD).
FDS_PER_PACKET = 64

_INT_BYTES = 4
_ANCILLARY_BYTES = _socket.CMSG_SPACE(_INT_BYTES * FDS_PER_PACKET)


class ControlSocket:
    """One end of the link between a driver and its template."""

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)

    def fileno(self) -> int:
        """Its descriptor; -1 when closed."""
        return self._socket.fileno()

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Send one message, and descriptors with it. To an end that is closed: silently nothing, its end is seen."""
        rights = []
        if fds:
            packed = b"".join([fd.to_bytes(_INT_BYTES, byteorder) for fd in fds])
            rights.append((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed))
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendmsg([messages.packet(message)], rights)

    def receive(self) -> tuple[Any | None, list[int]]:
        """The next message and the descriptors that came with it; None when the other end is closed. Blocks."""
        try:
            packet, rights, _, _ = self._socket.recvmsg(PACKET_BYTES, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None, []
        packed = rights[0][2] if rights else b""
        fds = [int.from_bytes(packed[at : at + _INT_BYTES], byteorder) for at in range(0, len(packed), _INT_BYTES)]
        return (messages.parse(packet) if packet else None), fds

    def detach(self) -> int:
        """Its descriptor, which this object no longer stands for."""
        return self._socket.detach()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def control_pair() -> tuple[ControlSocket, ControlSocket]:
    """Two connected ends."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return ControlSocket(ours.detach()), ControlSocket(theirs.detach())


def stream_pair() -> tuple[int, int]:
    """The descriptors of two connected ends of a stream; like all of Python's they are not inherited over an exec.

    Raises:
        OSError: there are too many descriptors.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()
