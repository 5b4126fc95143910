"""The part of a run's values that waits in a memory file system while the run lives.

``<memory folder>/executor-<run id>/`` is made by the driver, which holds a lock on it. The run's ``values/memory`` is a
link to it, so a value has one path all its life: when the run ends, what is still needed is copied to ``values/moved``,
and then the link leads there. The folder of a driver that died is found by its free lock, wherever its home folder is,
and the next run does for it what its own driver could not do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from executor.config.machine import usable_memory
from executor.errors import UnmetRequirement
from executor.outputs.value_file import NotAValueFile, copy_file
from executor.outputs.writer import MEMORY, Storage
from executor.runs.home import ID_ALPHABET, ID_LENGTH, MOVED, RunFolder
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from executor.config.storage import StorageSettings

PREFIX = "executor-"

#: Inside such a folder: a link to the folder of the run's values.
BACK = "values"

# Half of the file system is left to others (joblib and PyTorch put things there as well), and three quarters of the
# memory to the steps.
PART_OF_FILE_SYSTEM = 2
PART_OF_MEMORY = 4

# Somebody who looks for dead folders may see a new one before it is locked; nobody is that unlucky three times.
TRIES = 3


class MemoryFolder:
    """A run's folder in memory, until ``settle`` or the death of this process."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def settle(self, is_needed: Callable[[str], bool]) -> list[str]:
        """Move to the run's folder those of its values that are needed, by their path in it, and remove the rest.

        A sentence for each value that could not be moved. Nothing happens when it was done already.
        """
        if self._fd < 0:
            return []
        try:
            return _settle(self.path, is_needed)
        finally:
            fd, self._fd = self._fd, -1
            hygiene.close(fd)


def make_memory_folder(settings: StorageSettings, folder: RunFolder, *, keep_all: bool) -> MemoryFolder | None:
    """The folder in memory of a new run; None where its values go to the disk, by the settings or as there is none.

    Raises:
        UnmetRequirement: values must be in memory, and cannot be.
    """
    if settings.values == "disk" or (settings.values == "auto" and keep_all):
        return None  # what is kept in any case is written to the disk once, and not to memory before
    root = Path(settings.memory_folder)
    try:
        if settings.values == "auto" and root.stat().st_dev == folder.values.stat().st_dev:
            return None  # no file system of its own, so it would gain nothing
        for _ in range(TRIES):
            if (made := _make(root / f"{PREFIX}{folder.run_id}", folder.values)) is not None:
                return made
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    except OSError as error:
        if settings.values == "auto":
            return None
        raise UnmetRequirement(
            f"storage.values is memory, and values cannot be kept in {root}: {error.strerror}; "
            "set it to auto or disk, or storage.memory_folder to a folder that can be used"
        ) from error


def storage_of(settings: StorageSettings, memory: MemoryFolder | None) -> Storage:
    """The rules that workers are told."""
    if memory is None:
        return Storage("disk")
    limit = settings.memory_limit
    if limit is None:
        found = os.statvfs(memory.path)
        limit = min(found.f_blocks * found.f_frsize // PART_OF_FILE_SYSTEM, usable_memory() // PART_OF_MEMORY)
    return Storage(settings.values, limit)


def _make(path: Path, values: Path) -> MemoryFolder | None:
    """Make and lock it; None where somebody took it for dead in between."""
    path.mkdir(mode=0o700)  # whoever else can write to its parent cannot have guessed the run's id
    fd = hygiene.register(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            (path / BACK).symlink_to(values)
            (values / MEMORY).symlink_to(path)
            return MemoryFolder(path, fd)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        hygiene.close(fd)
        shutil.rmtree(path, ignore_errors=True)
        raise
    hygiene.close(fd)
    return None


def settle_dead(root: str) -> list[str]:
    """Do for the folders of dead drivers in ``root`` what those could not do; a sentence for each value that is lost.

    All of their values are kept, since nobody knows here which of them a resumed run will read.
    """
    lost: list[str] = []
    for path, fd in _opened(root):
        with suppress(OSError):  # its driver lives, or somebody else is at it
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lost += _settle(path, lambda _: True)
    return lost


class InMemory(NamedTuple):
    """What a run has in memory, as others see it."""

    path: Path
    run: RunFolder  #: if its driver is dead, the next run that has a folder there does what is left to do
    size_bytes: int


def in_memory(root: str) -> list[InMemory]:
    """The folders of this user's runs in ``root``. Takes no lock: one that is just being made would be in the way."""
    found = []
    for path, _ in _opened(root):
        with suppress(OSError):
            size = sum(file.lstat().st_blocks * 512 for file in path.iterdir())
            found.append(InMemory(path, RunFolder((path / BACK).readlink().parent), size))
    return found


def _opened(root: str) -> Iterator[tuple[Path, int]]:
    """The folders of this user's runs in ``root``, each with a descriptor that is closed when the next is asked for."""
    try:
        names = os.listdir(root)  # noqa: PTH208  (names are all it needs)
    except OSError:
        return
    for name in names:
        run_id = name.removeprefix(PREFIX)
        if run_id == name or len(run_id) != ID_LENGTH or not ID_ALPHABET.issuperset(run_id):
            continue
        try:
            fd = os.open(f"{root}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # it is gone, or belongs to somebody else
            continue
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                yield Path(root, name), fd
        finally:
            os.close(fd)


def _settle(path: Path, is_needed: Callable[[str], bool]) -> list[str]:
    """Move the needed values of a folder in memory to their run's folder, and remove it; its lock is held."""
    lost: list[str] = []
    with suppress(FileNotFoundError):  # it had not been made to the end
        values = (path / BACK).readlink()
        if values.is_dir() and not _is_moved(values):  # or the run's folder was removed
            try:
                _move(path, values, is_needed, lost)
            except OSError as error:
                lost.append(f"values could not be moved from memory to {values}: {error.strerror}")
    shutil.rmtree(path, ignore_errors=True)
    return lost


def _is_moved(values: Path) -> bool:
    try:
        return str((values / MEMORY).readlink()) == MOVED
    except FileNotFoundError:
        return False


def _move(path: Path, values: Path, is_needed: Callable[[str], bool], lost: list[str]) -> None:
    """Copy what is needed, and let the link lead to the copies; what could not be copied goes to ``lost``."""
    moved = values / MOVED
    shutil.rmtree(moved, ignore_errors=True)
    names = sorted(name for name in os.listdir(path) if name != BACK and not name.endswith(".tmp"))  # noqa: PTH208  (as above)
    wanted = [name for name in names if is_needed(f"{MEMORY}/{name}")]
    for name in wanted:
        try:
            moved.mkdir(mode=0o700, exist_ok=True)
            copy_file(str(path / name), str(moved / name))
        except OSError as error:
            lost.append(f"a value could not be moved from memory to {moved / name}: {error.strerror}")
        except NotAValueFile as error:
            lost.append(f"a value was not moved from memory to {moved / name}: its file {error}")
    if not moved.exists():
        (values / MEMORY).unlink(missing_ok=True)
        return
    link = values / f"{MEMORY}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(MOVED)
    link.replace(values / MEMORY)  # in one step: whoever reads a value finds it before and after
