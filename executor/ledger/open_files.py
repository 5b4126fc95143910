"""Which processes have which files open, as the kernel shows it under ``/proc``: to name them to people.

Nobody's slots depend on it: who is alive is told by locks (``liveness.py``). To look at every process takes
milliseconds.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from executor.ledger import liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def working_on(folder: str, claims: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Each other process that works on these claims, in this folder of a run, and the file that shows it.

    They carry the locks of the claims: on their standard streams, or on any other file where the step runs inside of
    its driver's process. The template may have the same files open, and carries no lock.
    """
    live = liveness.live_steps(folder, claims)
    real = {os.path.realpath(file) for files in live.values() for file in files}
    carries = partial(liveness.carries_lock, claims=live)
    return having_open(real.__contains__, None, carries) if real else iter(())


def is_inside(claim: int) -> bool:
    """Whether this process was started in the attempt with that claim, whose slots so stay taken until it ends."""
    return any(_is_file(fd) and liveness.carries_lock(os.getpid(), fd, {claim}) for fd in (0, 1, 2))


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # it is closed
        return False


def having_open(
    is_wanted: Callable[[str], bool],
    fds: Iterable[int] | None,
    is_it: Callable[[int, int], bool] | None = None,
) -> Iterator[tuple[int, str]]:
    """Each other process that has a wanted file open as one of these descriptors, and the first such file.

    None: as any descriptor. ``is_it`` has the last word, by pid and descriptor.
    """
    try:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except FileNotFoundError:  # no Linux
        return
    for pid in sorted(pids):
        if pid == os.getpid():
            continue
        file = next(
            (
                name
                for fd in (_fds(pid) if fds is None else fds)
                if is_wanted(name := _open_file(pid, fd)) and (is_it is None or is_it(pid, fd))
            ),
            None,
        )
        if file is not None:
            yield pid, file


def _fds(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  (names are all it needs)
    except OSError:  # it is gone, or belongs to somebody else
        return []


def _open_file(pid: int, fd: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    except OSError:  # it is gone, has none, or belongs to somebody else
        return ""
