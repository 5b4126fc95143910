"""A value file while it is written: in memory or in the run's folder, under a temporary name until it is whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from executor.outputs.value_file import (
    HEADER_BYTES,
    buffer_table,
    checksum,
    copy_body,
    gap,
    pack_header,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.storage import ValuePlace

#: Inside the folder of a run's values: those that are in memory while the run lives (a link), and later their copies.
MEMORY = "memory"

#: What the system says where a file system, or the part of it that a user may fill, is full.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

# The room that is left is asked for anew after so many bytes: a look costs two microseconds, such a write milliseconds.
LOOK_EVERY_BYTES = 16 << 20

# A disk is not filled to its last byte by values: the run's history is on it, and a run that cannot write that stops.
# Room for tens of thousands of steps; of a small file system no more than its twentieth part.
RESERVED_BYTES = 32 << 20
RESERVED_PART = 20


class Storage(NamedTuple):
    """The rules by which a run's values are stored. Plain data, since workers are told them."""

    values: ValuePlace = "disk"
    memory_bytes: int = 0  #: ``auto`` fills the memory file system up to here, whoever uses it


def room_of(disk: os.statvfs_result) -> int:
    """Bytes that values may still take there; below 0 where none may be written."""
    reserved = min(RESERVED_BYTES, disk.f_blocks * disk.f_frsize // RESERVED_PART)
    return disk.f_bavail * disk.f_frsize - reserved


def lacks_inodes(disk: os.statvfs_result) -> bool:
    """Whether no file can be made there, however much room there is for what stands in files."""
    return disk.f_files > 0 and disk.f_favail == 0  # some file systems have no fixed number of them, and say 0


class ValueWriter:
    """One value file that is being written."""

    def __init__(self, folder: str | os.PathLike[str], stem: str, storage: Storage, expected: int) -> None:
        """Begin a file called ``stem``, never used before, for a pickle and buffers; ``expected``: bytes at least.

        Raises:
            OSError: it cannot be made, or there is no room for so much.
        """
        self._folder, self._stem, self._storage = os.fspath(folder), stem, storage
        self._at = HEADER_BYTES
        self._sum = 0
        self._looked_at = 0  #: the room was looked at when so much was written
        self._fd = -1
        self._memory = storage.values == "memory" or (storage.values == "auto" and self._fits_memory(expected))
        self._path = self._open(memory=self._memory)
        try:
            if not self._memory:
                self._check_disk(expected)
        except OSError:
            self.discard()
            raise

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write on. In ``auto``, a file that no longer fits into memory moves to the run's folder.

        Raises:
            OSError: there is no room.
        """
        size = memoryview(data).nbytes
        if not size:
            return
        if self._at + size - self._looked_at >= LOOK_EVERY_BYTES:
            self._look(self._at + size)
        try:
            write_all(self._fd, data, self._at)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._memory or self._storage.values != "auto":
                raise
            self._move_to_disk()
            write_all(self._fd, data, self._at)
        if not self._memory:
            self._sum = checksum(data, self._sum)
        self._at += size

    def finish(self, buffers: Sequence[memoryview]) -> tuple[str, int]:
        """Write these buffers, which follow the pickle, and give the file its name: path in the folder, and size.

        Raises:
            OSError: there is no room.
        """
        pickle_bytes = self._at - HEADER_BYTES
        if buffers:
            self._look(self._at + sum(buffer.nbytes for buffer in buffers))
            self.append(buffer_table([buffer.nbytes for buffer in buffers]))
            for buffer in buffers:
                self.append(bytes(gap(self._at)))
                self.append(buffer)
        body = None if self._memory else self._sum
        write_all(self._fd, pack_header(self._at, pickle_bytes, len(buffers), body), 0)
        fd, self._fd = self._fd, -1
        os.close(fd)
        # a name is only ever given to a whole value
        os.rename(self._path, self._path.removesuffix(".tmp"))  # noqa: PTH104  (pathlib would be in the memory of every worker)
        return f"{MEMORY}/{self._stem}" if self._memory else self._stem, self._at

    def discard(self) -> None:
        """Leave nothing of a file that was not finished."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108  (as above)

    def _open(self, *, memory: bool) -> str:
        inside = f"{MEMORY}/" if memory else ""
        path = os.path.join(self._folder, f"{inside}{self._stem}.tmp")  # noqa: PTH118  (as above)
        # read as well: it may move
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return path

    def _fits_memory(self, size: int) -> bool:
        """Whether the memory file system has room for ``size`` bytes below the bound."""
        try:
            found = os.statvfs(f"{self._folder}/{MEMORY}")
        except OSError:  # the run has none
            return False
        used = (found.f_blocks - found.f_bavail) * found.f_frsize
        return used + size <= self._storage.memory_bytes

    def _look(self, size: int) -> None:
        """See that there is room for a file that grows to ``size`` bytes."""
        self._looked_at = self._at
        if not self._memory:
            self._check_disk(size)
        elif self._storage.values == "auto" and not self._fits_memory(size - self._at):
            self._move_to_disk()
            self._check_disk(size)

    def _check_disk(self, size: int) -> None:
        if size - self._at > room_of(os.fstatvfs(self._fd)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _move_to_disk(self) -> None:
        memory, path = self._fd, self._path
        self._fd, self._memory = -1, False
        try:
            self._path = self._open(memory=False)
            self._sum = copy_body(memory, self._fd, self._at)
        finally:
            os.close(memory)
            os.unlink(path)  # noqa: PTH108  (as above)
