"""The independent record of a torture: one file that every process appends to, in single writes.

A writer that is killed while its line crosses a page of the file leaves the begin of it. So each line begins with a
line end of its own and ends with a dot, and what has no dot was never written.

It knows nothing of the ledger's file. Times are nanoseconds of CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One line: what happened when, to which process and claim, and the rest."""

    kind: str
    at: int
    pid: int
    words: tuple[str, ...]


class Diary:
    """Appends; a line is there as a whole or is not read, also if its writer is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, kind: str, *words: object, pid: int | None = None, at: int | None = None) -> None:
        when = time.monotonic_ns() if at is None else at
        who = os.getpid() if pid is None else pid
        os.write(self._fd, line_of(kind, when, who, *words))

    def close(self) -> None:
        os.close(self._fd)


def line_of(*words: object) -> bytes:
    """How an entry stands in the file."""
    return f"\n{' '.join(map(str, words))} .\n".encode()


class DiaryReader:
    """Reads what was appended since it was last asked."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  (closed by close)
        self._rest = b""

    def read(self) -> Iterator[Entry]:
        self._rest += self._file.read()
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.endswith(b" .") or line.startswith(b"died "):  # the second are the ledger's own, at crash points
                kind, at, pid, *words = line.decode().removesuffix(" .").split(" ")
                yield Entry(kind, int(at), int(pid), tuple(words))

    def close(self) -> None:
        self._file.close()
