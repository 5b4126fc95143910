"""Who is alive: told by locks that the kernel drops when the last process that holds them ends, however it ends.

Every owner (the driver of a run) holds a lock on ``own/<id>.lock``. Every attempt that holds slots has a lock, at the
offset that is its claim's number, on the files that are its standard input, output and error; whatever it starts
inherits these, so the slots stay taken until the last of its processes has ended. No time of any clock is asked.

The locks are OFD locks: they belong to an open file, not to a process. A probe asks the kernel who would be in the way
(F_OFD_GETLK) and takes nothing, so two that probe at once do not see each other.

A slot may be taken away only if the owner's lock *and* the step's lock are free. Between the grant and the step's lock
there is a moment when a dead owner's slot looks abandoned. So a worker takes its step's lock first and looks at its
owner then; whoever clears up looks at the owner first and at the step then. One of the two sees the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING

from executor.database.crash_points import crash_point
from executor.workers import hygiene, process

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

# Linux has them since 3.15; Python names them where its C library did when it was built.
F_OFD_GETLK: int = getattr(fcntl, "F_OFD_GETLK", 36)
F_OFD_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 37)

# struct flock: type, whence, start, length, pid; the pid must be 0
_FLOCK = struct.Struct("hhqqi0q")

LANE_SUFFIX = ".log"
INPUT_SUFFIX = ".in"


def _flock(kind: int, offset: int, length: int = 1) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, offset, length, 0)


def lock_byte(fd: int, offset: int) -> bool:
    """Lock one byte of an open file for as long as this description of it lives; False if somebody else has it."""
    try:
        fcntl.fcntl(fd, F_OFD_SETLK, _flock(fcntl.F_WRLCK, offset))
    except BlockingIOError:
        return False
    return True


def is_locked(fd: int, offset: int, length: int = 1) -> bool:
    """Whether another description of this open file has these bytes locked (length 0: any from there on).

    Takes no lock, disturbs nobody.
    """
    answer = fcntl.fcntl(fd, F_OFD_GETLK, _flock(fcntl.F_WRLCK, offset, length))
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def probe(path: str | Path, offsets: Iterable[int]) -> set[int]:
    """Those of ``offsets`` that somebody has locked in this file; none where there is no file.

    It is opened for reading: to close a descriptor that could write would wake everybody who watches the file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return set()
    try:
        return {offset for offset in offsets if is_locked(fd, offset)}
    finally:
        os.close(fd)


# --- owners ----------------------------------------------------------------------------------------------------------


def new_owner() -> str:
    """A name for an owner that no other has."""
    return os.urandom(8).hex()


def owner_file(home: Path, owner: str) -> str:
    """The file that carries an owner's lock."""
    return f"{home}/own/{owner}.lock"


def owner_is_alive(home: Path, owner: str) -> bool:
    """Whether the process that registered as this owner still has its lock. An owner without a file is dead."""
    return bool(probe(owner_file(home, owner), (0,)))


def lock_owner(home: Path, owner: str) -> int:
    """Make the file of a new owner and take its lock: the descriptor that carries it, until the end of the process.

    The caller holds the ledger's lock, or somebody might take the file for one that was left behind.
    """
    path = owner_file(home, owner)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    hygiene.register(fd)
    if not lock_byte(fd, 0):  # nobody knows the name, which is random
        hygiene.close(fd)
        raise RuntimeError(f"the new lock file {path} is locked by somebody else")
    return fd


# --- steps -----------------------------------------------------------------------------------------------------------


def input_file(lane_log: str) -> str:
    """The empty file that is the standard input of the attempts on a lane, beside its log."""
    return lane_log.removesuffix(LANE_SUFFIX) + INPUT_SUFFIX


class StepLock:
    """The lock of one attempt, carried by the descriptors that shall be its standard input, output and error.

    ``dup2`` them to 0, 1 and 2. A process that ends drops it by that; one that goes on calls ``unlock``.
    """

    __slots__ = ("_claim", "_files", "input_fd", "output_fd")

    def __init__(self, lane_log: str, claim: int) -> None:
        self._claim = claim
        # Opened afresh for every attempt: a description that outlives the attempt would keep its slots.
        flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._files: list[tuple[int, tuple[int, int]]] = []  #: descriptors, and which files they are
        try:
            self.output_fd = self._open(lane_log, os.O_WRONLY | os.O_APPEND | flags)
            self.input_fd = self._open(input_file(lane_log), os.O_RDWR | flags)
            if not (lock_byte(self.output_fd, claim) and lock_byte(self.input_fd, claim)):
                raise RuntimeError(f"claim {claim} is being worked on by another process, on lane {lane_log}")
        except BaseException:
            self.close()
            raise
        crash_point("step-locked")

    def _open(self, path: str, flags: int) -> int:
        fd = hygiene.register(os.open(path, flags, 0o600))
        self._files.append((fd, _identity(fd)))
        return fd

    def unlock(self) -> None:
        """Drop the lock, also where it was duplicated or inherited. Raises ``OSError`` if the originals are closed."""
        nothing = _flock(fcntl.F_UNLCK, self._claim)
        for fd, identity in self._files:
            if _identity(fd) != identity:
                raise OSError(errno.EBADF, "a step has closed it, and its number is another file's now")
            fcntl.fcntl(fd, F_OFD_SETLK, nothing)

    def close(self) -> None:
        """Close the originals; what was duplicated keeps the lock. Safe to call twice, and where a step closed them."""
        for fd, identity in self._files:
            if _identity(fd) == identity:
                hygiene.close(fd)
            else:
                hygiene.forget(fd)
        self._files.clear()


def _identity(fd: int) -> tuple[int, int]:
    """Which file a descriptor is; of one that is closed, none."""
    try:
        found = os.fstat(fd)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def take_step_lock(home: Path, owner: str, lane_log: str, claim: int) -> StepLock | None:
    """What a worker calls before the step's own code: its lock, or None if it must end at once, its owner being dead.

    In the second case the slots may have been given to somebody else already.
    """
    lock = StepLock(lane_log, claim)
    if owner_is_alive(home, owner):
        return lock
    lock.close()
    return None


def carriers(lane_log: str) -> tuple[str, str]:
    """The files of a lane that can carry the lock of an attempt on it."""
    return lane_log, input_file(lane_log)


def lane_files(folder: str | Path) -> list[str]:
    """The files in a run's folder that can carry step locks."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  (names are all that is needed)
    except FileNotFoundError:
        return []
    return [f"{folder}/{name}" for name in names if name.startswith("lane-") and name.endswith((".log", ".in"))]


def is_locked_anywhere(path: str) -> bool:
    """Whether somebody has any byte of this file locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return is_locked(fd, 0, 0)
    finally:
        os.close(fd)


def live_steps(folder: str | Path, claims: Iterable[int]) -> dict[int, list[str]]:
    """Those of ``claims`` that a process is still working on, each with the files that show it.

    To be asked after the owner, never before. Where somebody has removed the folder there are no files to show, and
    the processes of this machine that can be seen are looked at instead.
    """
    wanted = tuple(claims)
    if wanted and not os.path.isdir(folder):  # noqa: PTH112  (a text, and no Path is made of it)
        return {claim: [] for claim in _in_removed_files(f"{os.path.realpath(folder)}/lane-", wanted)}
    found: dict[int, list[str]] = {}
    for path in lane_files(folder) if wanted else ():
        for claim in probe(path, wanted):
            found.setdefault(claim, []).append(path)
    return found


def _in_removed_files(prefix: str, claims: tuple[int, ...]) -> set[int]:
    """Those of these claims whose locks are on open files that had such names and have none any more."""
    found: set[int] = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208  (names are all that is needed)
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208  (as above)
        except OSError:  # it is gone, or belongs to somebody else
            continue
        for number in numbers:
            try:
                name = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115  (as above)
            except OSError:
                continue
            if name.startswith(prefix):
                found.update(claim for claim in claims if carries_lock(int(pid), int(number), {claim}))
    return found


# --- processes, for people -------------------------------------------------------------------------------------------


def carries_lock(pid: int, fd: int, claims: Container[int]) -> bool:
    """Whether the lock of one of these claims is on that very descriptor of a process, rather than on the same file."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
            lines = file.read().splitlines()
    except OSError:  # it is gone, or belongs to somebody else
        return False
    # lock:  1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234 17 17
    locks = [line.split() for line in lines if line.startswith(b"lock:")]
    return any(words[2] == b"OFDLCK" and int(words[7]) in claims for words in locks)


def start_time_of(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if there is none.

    With its pid it tells a process from a later one: for display, and before a signal is sent, never for liveness.
    """
    fields = process.stat_of(pid)
    return None if fields is None else int(fields[19])
