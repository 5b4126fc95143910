"""One value in one file: a header, the pickle, and after it the large buffers, which a reader maps and does not copy.

```
0    magic, checksum, version, flags, alignment, bytes of the file, of the pickle, number of buffers
64   the pickle
     bytes of each buffer, 8 each
     each buffer, beginning at a multiple of 64
```

Written under a temporary name, renamed when whole, and never changed again. The checksum covers every byte after
itself. It is kept for files on a disk, where a crash of the machine may leave half of one; a file in memory is gone
after a crash, and gets its checksum when it is copied to a disk. Readers within a run look at the lengths alone:
checking costs more than mapping (``docs/adr/0022-value-files.md``).
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from struct import Struct, pack, unpack_from
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"\x93EXVALUE"
VERSION = 1

#: Every buffer begins at a multiple of it: a cache line, and the widest registers that numpy and Arrow compute with.
ALIGNMENT = 64

HEADER = Struct("<8sIHHIQQQ")
HEADER_BYTES = 64

#: The first byte that the checksum covers: the one after it.
COVERED_FROM = 12

#: Flag: the file has a checksum.
CHECKED = 1

# Large enough that system calls do not count, small enough to stay in the processor's cache between read and write.
CHUNK_BYTES = 1 << 20


class Header(NamedTuple):
    """What stands at the beginning of a value file, as far as it differs between files."""

    checksum: int | None  #: None: it has none
    size: int  #: bytes of the whole file
    pickle_bytes: int
    buffers: int  #: how many there are


class NotAValueFile(Exception):
    """What was read is no value file of this version, or not a whole one; the text says why, after "it"."""


def write_all(fd: int, data: bytes | bytearray | memoryview, at: int) -> None:
    """Write all of ``data`` at this place of the file, in as many calls as it takes. Raises ``OSError``."""
    view = memoryview(data)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    while view:
        written = os.pwrite(fd, view, at)
        at += written
        view = view[written:]


def gap(at: int) -> int:
    """Bytes from ``at`` to the next multiple of ``ALIGNMENT``."""
    return -at % ALIGNMENT


def checksum(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC-32 of ``data``, going on from that of what stands before it."""
    from zlib import crc32  # not in the memory of every worker

    return crc32(data, before)


def pack_header(size: int, pickle_bytes: int, buffers: int, body_checksum: int | None) -> bytes:
    """The header of a file; ``body_checksum`` is that of all after the header, None for a file without one."""
    flags = 0 if body_checksum is None else CHECKED
    fields = (VERSION, flags, ALIGNMENT, size, pickle_bytes, buffers)
    header = HEADER.pack(MAGIC, 0, *fields).ljust(HEADER_BYTES, b"\0")
    if body_checksum is None:
        return header
    # the header's own part comes last, because lengths are known only then
    whole = checksum(header[COVERED_FROM:], body_checksum)
    return HEADER.pack(MAGIC, whole, *fields).ljust(HEADER_BYTES, b"\0")


def unpack_header(data: bytes | memoryview) -> Header:
    """The header that ``data`` begins with.

    Raises:
        NotAValueFile: it begins with something else.
    """
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        raise NotAValueFile("does not begin as a value file does")
    _, whole, version, flags, alignment, size, pickle_bytes, buffers = HEADER.unpack_from(data)
    if (version, alignment) != (VERSION, ALIGNMENT):
        raise NotAValueFile(f"is of version {version}, and this program reads version {VERSION}; run its step again")
    if size < HEADER_BYTES + pickle_bytes + 8 * buffers:
        raise NotAValueFile("is damaged: the lengths in its header do not fit together")
    return Header(whole if flags & CHECKED else None, size, pickle_bytes, buffers)


def parts(view: memoryview) -> tuple[memoryview, Sequence[memoryview]]:
    """The pickle and the buffers of a whole file, without a copy.

    Raises:
        NotAValueFile: it is none, or is damaged.
    """
    header = unpack_header(view)
    if header.size != len(view):
        raise NotAValueFile(f"has {len(view)} bytes, and {header.size} by its header")
    end = HEADER_BYTES + header.pickle_bytes
    pickled = view[HEADER_BYTES:end]
    if not header.buffers:
        return pickled, ()
    at = end + 8 * header.buffers
    buffers = []
    for size in unpack_from(f"<{header.buffers}Q", view, end):
        at += gap(at)
        buffers.append(view[at : at + size])
        at += size
    if at != header.size:
        raise NotAValueFile("is damaged: the lengths of its buffers do not fit its own")
    return pickled, buffers


def view_of(fd: int, size: int, *, copy: bool = False) -> memoryview:
    """The bytes of an open file: mapped, so that what is written to them is seen by nobody else; ``copy``: read.

    Raises:
        OSError: it cannot be read, or there is no memory for it.
    """
    if not copy and sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY, trackfd=False))
    if not copy and _can_spare_descriptor(fd):
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
    view = memoryview(bytearray(size))
    at = 0
    while at < size:
        taken = os.preadv(fd, [view[at:]], at)
        if taken == 0:
            raise OSError(f"it ends after {at} of {size} bytes")
        at += taken
    return view


def _can_spare_descriptor(fd: int) -> bool:
    """Whether less than half of the descriptors that this process may have are taken."""
    # up to Python 3.12 a mapping holds one, and a step that reads thousands of values shall not run out of them
    try:
        lowest_free = os.dup(fd)
    except OSError:
        return False
    os.close(lowest_free)
    return lowest_free < os.sysconf("SC_OPEN_MAX") // 2


def whole_checksum(fd: int) -> int:
    """The checksum of an open value file, from what stands in it; what its header says is not looked at."""
    header = os.pread(fd, HEADER_BYTES, 0)
    found, at = 0, HEADER_BYTES
    while data := os.pread(fd, CHUNK_BYTES, at):
        found = checksum(data, found)
        at += len(data)
    return checksum(header[COVERED_FROM:], found)


def copy_file(source: str, target: str) -> None:
    """Copy a value file to the new file ``target``, with a checksum; on an error nothing of it is left.

    Raises:
        OSError: it cannot be read, or not be written.
        NotAValueFile: it is none.
    """
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = unpack_header(os.pread(fd, HEADER_BYTES, 0))
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            body = copy_body(fd, copy, header.size)
            write_all(copy, pack_header(header.size, header.pickle_bytes, header.buffers, body), 0)
        except BaseException:
            with suppress(OSError):
                os.unlink(target)  # noqa: PTH108  (pathlib would be in the memory of every worker)
            raise
        finally:
            os.close(copy)
    finally:
        os.close(fd)


def copy_body(source: int, target: int, end: int) -> int:
    """Copy what stands between the header and ``end``: the checksum of it."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    found, at = 0, HEADER_BYTES
    while at < end:
        taken = os.preadv(source, [buffer[: end - at]], at)
        if taken == 0:
            raise NotAValueFile(f"ends after {at} of {end} bytes")
        write_all(target, buffer[:taken], at)
        found = checksum(buffer[:taken], found)
        at += taken
    return found


def buffer_table(sizes: Sequence[int]) -> bytes:
    """The lengths of the buffers, as they stand after the pickle."""
    return pack(f"<{len(sizes)}Q", *sizes)
