"""The home folder: where runs are kept, one folder each, and which of them is alive.

``runs/<id>/`` holds a run's history, plan, values and lane logs; ``live/<id>`` marks a run that has not ended, so that
looking for runs that were cut off costs one listing. A run is alive while its driver holds the lock on
``alive.lock``: the kernel lets go of it when the driver dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import UnmetRequirement, UsageError
from executor.ledger.named import run_name
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Iterator

ID_ALPHABET = frozenset("0123456789abcdef-")
ID_LENGTH = 36

#: Among the values of a run that has ended: the folder of those that were in memory while it went on.
MOVED = "moved"


def home_folder() -> Path:
    """Where the home folder is: ``EXECUTOR_HOME``, else ``$XDG_STATE_HOME/executor``, else ``~/.local/state/executor``.

    It need not be there; see ``open_home``.
    """
    if chosen := os.environ.get("EXECUTOR_HOME"):
        return Path(chosen).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path there is invalid and to be ignored.
    base = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
    return base.absolute() / "executor"


def open_home(home: Path | None = None) -> Path:
    """The home folder, made with mode 0700 where it was not there; nobody else may write into it.

    Raises:
        UnmetRequirement: it cannot be made, belongs to somebody else, or others may write into it.
    """
    path = home_folder() if home is None else Path(home).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise UnmetRequirement(f"the home folder {path} is not a folder; remove it, or set EXECUTOR_HOME")
        if found.st_uid != os.geteuid():
            raise UnmetRequirement(
                f"the home folder {path} belongs to user {found.st_uid}, and you are user {os.geteuid()}; whoever can "
                "write there could run code as you. Set EXECUTOR_HOME to a folder of your own"
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UnmetRequirement(
                f"others may write into the home folder {path} (mode {stat.S_IMODE(found.st_mode):o}), so they could "
                f"run code as you; take that away with: chmod go-w {path}"
            )
        _make_private(path / "runs")
        _make_private(path / "live")
    except OSError as error:
        raise UnmetRequirement(
            f"the home folder {path} cannot be used: {error.strerror}; "
            "set EXECUTOR_HOME to a folder where you may write"
        ) from error
    return path


def _make_private(path: Path) -> None:
    """Make a folder that only its owner may enter, whatever the umask is; one that is there is left as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    path.chmod(0o700)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, and where in it things are."""

    path: Path

    @property
    def run_id(self) -> str:
        """The id of the run, which is the folder's name."""
        return self.path.name

    @property
    def home(self) -> Path:
        """The home folder that this run is in."""
        return self.path.parent.parent

    @property
    def events(self) -> Path:
        """The run's history."""
        return self.path / "events.jsonl"

    @property
    def plan(self) -> Path:
        """The run's plan, as JSON."""
        return self.path / "plan.json"

    @property
    def config(self) -> Path:
        """The run config, as JSON, without its secrets; not there where there was none."""
        return self.path / "config.json"

    @property
    def values(self) -> Path:
        """The folder of the values that are too large for the history."""
        return self.path / "values"

    @property
    def alive_lock(self) -> Path:
        """The file that the run's driver holds a lock on; its time of change is when the run was made."""
        return self.path / "alive.lock"

    @property
    def control(self) -> Path:
        """The FIFO through which the run's driver is asked to stop."""
        return self.path / "control"

    @property
    def live_marker(self) -> Path:
        """The file that is there from before the run's first event until after its last."""
        return self.home / "live" / self.run_id

    def lane_log(self, lane: int) -> Path:
        """What the steps on that lane wrote to stdout and stderr."""
        return self.path / f"lane-{lane}.log"

    def made_at_ns(self) -> int:
        """When the run was made, in nanoseconds since the epoch. Raises ``FileNotFoundError`` where it is gone."""
        try:
            return self.alive_lock.stat().st_mtime_ns
        except FileNotFoundError:  # its driver died between making the folder and the lock
            return self.path.stat().st_mtime_ns

    def size_bytes(self) -> int:
        """What the run takes on its disk; one look at each file."""
        total = 0
        for folder in (self.path, self.values, self.values / MOVED):
            with suppress(FileNotFoundError), os.scandir(folder) as files:
                for file in files:
                    with suppress(FileNotFoundError):
                        total += file.stat(follow_symlinks=False).st_blocks * 512
        return total

    def refuse_gone(self) -> None:
        """Nothing, as long as the folder is there.

        Raises:
            UsageError: the run was removed.
        """
        if not self.path.is_dir():
            raise UsageError(
                f"run {self.run_id} was removed: there is no folder {self.path} any more, and its events, output and "
                "values were in it. Old runs are removed by executor runs prune and when a run ends; to keep more of "
                "them, set retention.runs in executor.yaml"
            )

    def is_alive(self) -> bool:
        """Whether the run's driver lives."""
        try:
            fd = os.open(self.alive_lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)


class RunLock:
    """Says to everybody that a run is alive, until ``release`` or the death of this process.

    The lock belongs to the open file: a forked child that keeps the descriptor would keep the run alive, so the
    descriptor is registered to be closed in children.
    """

    def __init__(self, folder: RunFolder, fd: int) -> None:
        self.folder = folder
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor that holds the lock; -1 when released."""
        return self._fd

    def release(self, *, ended: bool = True) -> None:
        """Let go of the run. Safe to call twice.

        With ``ended=False`` it stays marked as one that has not ended: its last event could not be written, so the
        next look finds it and writes that.
        """
        if self._fd < 0:
            return
        if ended:
            self.folder.live_marker.unlink(missing_ok=True)
        fd, self._fd = self._fd, -1
        hygiene.close(fd)


def make_run(home: Path) -> RunLock:
    """A new run's folder, and the lock that says that the run is alive; ``home`` is as ``open_home`` gave it.

    Raises:
        UnmetRequirement: the folder cannot be made.
    """
    folder = RunFolder(home / "runs" / new_run_id())
    try:
        _make_private(folder.path)
        _make_private(folder.values)
        lock = lock_run(folder, make=True)
        # The lock comes first: whoever sees the marker and finds the lock free knows that the driver is dead.
        os.close(os.open(folder.live_marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        _remove(folder)
        raise UnmetRequirement(f"a folder for the run cannot be made in {home}: {error.strerror}") from error
    if lock is None:
        raise UnmetRequirement(f"the new run's folder {folder.path} is in use by somebody else")
    return lock


def forget_run(lock: RunLock) -> None:
    """Remove the folder of a run that has not begun, and give its lock back."""
    lock.release()
    _remove(lock.folder)


def _remove(folder: RunFolder) -> None:
    import shutil  # where something has gone wrong only

    with suppress(OSError):
        folder.live_marker.unlink(missing_ok=True)
    shutil.rmtree(folder.path, ignore_errors=True)


def new_run_id() -> str:
    """A UUID of version 4 (RFC 9562): random, so its first characters tell runs apart."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def lock_run(folder: RunFolder, *, make: bool = False) -> RunLock | None:
    """The lock of a run, or None where somebody holds it. Raises ``FileNotFoundError`` if there is none to hold."""
    fd = hygiene.register(os.open(folder.alive_lock, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600))
    if _try_lock(fd, fcntl.LOCK_EX):
        return RunLock(folder, fd)
    hygiene.close(fd)
    return None


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held_run(folder: RunFolder) -> Iterator[None]:
    """While somebody reads what a run that has ended left behind: nobody removes it.

    Raises:
        UsageError: it is being removed, or goes on.
    """
    try:
        fd = hygiene.register(os.open(folder.alive_lock, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise UsageError(f"run {folder.run_id} is gone, or never began") from None
    try:
        if not _try_lock(fd, fcntl.LOCK_SH):
            raise UsageError(
                f"run {folder.run_id} goes on; wait for its end, or end it: executor cancel {run_name(folder.run_id)}"
            )
        yield
    finally:
        hygiene.close(fd)


def find_run(home: Path, name: str) -> RunFolder:
    """The folder of the run whose id is, or begins with, ``name``; the newest run for ``last``.

    Raises:
        UsageError: there is none, or there are several.
    """
    runs = home / "runs"
    if name == "last":
        newest = max(run_ids(home), key=lambda run_id: _made_at(runs / run_id), default=None)
        if newest is None:
            raise UsageError(f"there is no run in {home}")
        return RunFolder(runs / newest)
    if not name or len(name) > ID_LENGTH or not ID_ALPHABET.issuperset(name):
        raise UsageError(f"{name!r} is no run id: give the first characters of one (0-9, a-f and -), or 'last'")
    found = [run_id for run_id in run_ids(home) if run_id.startswith(name)]
    if not found:
        raise UsageError(f"there is no run {name!r} in {home}")
    if len(found) > 1:
        raise UsageError(f"{len(found)} runs begin with {name!r}; give more characters: {', '.join(sorted(found)[:5])}")
    return RunFolder(runs / found[0])


def run_ids(home: Path) -> list[str]:
    """The ids of all runs in a home folder, in no order; one listing."""
    try:
        names = os.listdir(home / "runs")  # noqa: PTH208  (names are all it needs)
    except FileNotFoundError:
        return []
    return [name for name in names if is_run_id(name)]


def is_run_id(name: str) -> bool:
    """Whether a text has the form of a whole run id."""
    return len(name) == ID_LENGTH and ID_ALPHABET.issuperset(name)


def _made_at(run: Path) -> int:
    try:
        return RunFolder(run).alive_lock.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
