"""A run's values in memory: moved when it ends, and found when its driver died."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.config.storage import StorageSettings
from executor.errors import UnmetRequirement
from executor.outputs.value_file import copy_file
from executor.outputs.values import is_intact, load_value, store_value
from executor.outputs.writer import MEMORY, Storage
from executor.runs import memory
from executor.runs.home import RunFolder, make_run, open_home
from executor.runs.memory import BACK, MOVED, PREFIX, MemoryFolder, make_memory_folder, settle_dead, storage_of
from executor.scheduler.outcomes import StoredValue
from tests.outputs.blocks import BIG, block


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """A run that is alive."""
    lock = make_run(open_home(tmp_path / "home"))
    yield lock.folder
    lock.release()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the memory of runs is. On the test's disk: what is tested is the same there."""
    path = tmp_path / "shm"
    path.mkdir()
    return path


def made(folder: RunFolder, root: Path) -> MemoryFolder:
    found = make_memory_folder(StorageSettings(values="memory", memory_folder=str(root)), folder, keep_all=False)
    assert found is not None
    return found


def kept(folder: RunFolder, stem: str = "stem", value: object = BIG) -> StoredValue:
    return store_value("result", value, folder.values, stem, Storage("memory"))


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def die(held: MemoryFolder) -> None:
    """What the kernel does when the driver dies: the lock is free, and all else stays."""
    os.close(held._fd)  # nothing of it may run


# --- while the run lives ---------------------------------------------------------------------------------------------


def test_a_value_has_one_path_before_and_after_the_end_of_its_run(folder: RunFolder, root: Path) -> None:
    held = made(folder, root)
    needed, read = kept(folder, "needed"), kept(folder, "read")
    assert names(root / f"{PREFIX}{folder.run_id}") == ["needed", "read", BACK]
    assert load_value(needed, folder.values) == BIG
    assert held.settle(lambda path: path == needed.path) == []
    assert names(root) == []
    assert names(folder.values) == [MEMORY, MOVED]
    assert names(folder.values / MOVED) == ["needed"]
    assert load_value(needed, folder.values) == BIG
    assert is_intact(needed, folder.values)
    assert not is_intact(read, folder.values)
    assert held.settle(lambda _: True) == [], "a second time there is nothing to do"


def test_a_moved_value_has_a_checksum(folder: RunFolder, root: Path) -> None:
    held, stored = made(folder, root), kept(folder)
    held.settle(lambda _: True)
    assert stored.path is not None
    with open(folder.values / stored.path, "r+b") as file:
        file.seek(5000)
        file.write(b"?")
    assert not is_intact(stored, folder.values)


def test_nothing_is_left_of_a_run_without_values(folder: RunFolder, root: Path) -> None:
    held = made(folder, root)
    (root / f"{PREFIX}{folder.run_id}" / "half.tmp").write_bytes(b"cut off")
    held.settle(lambda _: True)
    assert (names(root), names(folder.values)) == ([], [])


def test_nobody_else_may_look_into_it(folder: RunFolder, root: Path) -> None:
    held = made(folder, root)
    assert held.path.stat().st_mode & 0o777 == 0o700
    held.settle(lambda _: False)


def test_a_value_for_which_there_is_no_room_is_told_and_the_others_move(
    folder: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = made(folder, root)
    small, large = kept(folder, "small", block(100_000)), kept(folder, "large")

    def full(source: str, target: str) -> None:
        if source.endswith("large"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy_file(source, target)

    monkeypatch.setattr(memory, "copy_file", full)
    assert held.settle(lambda _: True) == [
        f"a value could not be moved from memory to {folder.values}/{MOVED}/large: No space left on device"
    ]
    assert is_intact(small, folder.values)
    assert not is_intact(large, folder.values)
    assert names(root) == []


# --- which values go there -------------------------------------------------------------------------------------------


def test_the_disk_is_used_where_the_settings_say_so(folder: RunFolder, root: Path) -> None:
    settings = StorageSettings(values="disk", memory_folder=str(root))
    assert make_memory_folder(settings, folder, keep_all=False) is None
    assert storage_of(settings, None) == Storage("disk")


def test_what_is_kept_in_any_case_is_not_written_twice(folder: RunFolder) -> None:
    assert make_memory_folder(StorageSettings(), folder, keep_all=True) is None


@pytest.mark.parametrize("where", ["shm", "nowhere"])
def test_auto_does_without_a_file_system_in_memory(where: str, folder: RunFolder, root: Path) -> None:
    settings = StorageSettings(memory_folder=str(root.parent / where))
    assert make_memory_folder(settings, folder, keep_all=False) is None


def test_what_must_be_in_memory_and_cannot_is_an_error(folder: RunFolder) -> None:
    with pytest.raises(UnmetRequirement) as raised:
        made(folder, Path("/nowhere"))
    assert str(raised.value) == (
        "storage.values is memory, and values cannot be kept in /nowhere: No such file or directory; "
        "set it to auto or disk, or storage.memory_folder to a folder that can be used"
    )


def test_the_bound_is_a_part_of_the_file_system_and_of_the_memory(
    folder: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = made(folder, root)
    found = os.statvfs(root)
    monkeypatch.setattr(memory, "usable_memory", lambda: 4000)
    settings = StorageSettings(memory_folder=str(root))
    assert storage_of(settings, held) == Storage("auto", 1000)
    monkeypatch.setattr(memory, "usable_memory", lambda: 1 << 60)
    assert storage_of(settings, held) == Storage("auto", found.f_blocks * found.f_frsize // 2)
    assert storage_of(StorageSettings(memory_limit=7), held) == Storage("auto", 7)
    held.settle(lambda _: False)


# --- when its driver died --------------------------------------------------------------------------------------------


def test_the_next_run_moves_what_a_dead_one_had_in_memory(folder: RunFolder, root: Path) -> None:
    held, stored = made(folder, root), kept(folder)
    die(held)
    assert settle_dead(str(root)) == []
    assert names(root) == []
    assert is_intact(stored, folder.values)
    assert load_value(stored, folder.values) == BIG


def test_the_folder_of_a_run_that_lives_is_left_alone(folder: RunFolder, root: Path) -> None:
    held, stored = made(folder, root), kept(folder)
    settle_dead(str(root))
    assert is_intact(stored, folder.values)
    assert (folder.values / MEMORY).is_symlink()
    held.settle(lambda _: False)


def test_the_folder_of_a_run_that_was_removed_goes_too(folder: RunFolder, root: Path) -> None:
    held = made(folder, root)
    kept(folder)
    die(held)
    shutil.rmtree(folder.values)
    assert settle_dead(str(root)) == []
    assert names(root) == []


@pytest.mark.parametrize("died", ["before all was copied", "before the link led there", "before it was removed"])
def test_a_driver_that_died_while_it_moved_its_values_is_helped_to_the_end(
    died: str, folder: RunFolder, root: Path
) -> None:
    held, stored = made(folder, root), kept(folder)
    if died == "before all was copied":
        (folder.values / MOVED).mkdir()
        (folder.values / MOVED / "stem").write_bytes(b"half of one")
    else:
        (folder.values / MOVED).mkdir()
        copy_file(f"{held.path}/stem", f"{folder.values}/{MOVED}/stem")
        (folder.values / f"{MEMORY}.tmp").symlink_to(MOVED)
        if died == "before it was removed":
            (folder.values / f"{MEMORY}.tmp").replace(folder.values / MEMORY)
    die(held)
    settle_dead(str(root))
    assert names(root) == []
    assert names(folder.values) == [MEMORY, MOVED]
    assert is_intact(stored, folder.values)


def test_a_folder_that_cannot_be_written_to_loses_its_values_and_says_so(
    folder: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = made(folder, root)
    kept(folder)

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "replace", read_only)
    assert held.settle(lambda _: True) == [
        f"values could not be moved from memory to {folder.values}: Read-only file system"
    ]
    assert names(root) == []


def test_one_that_died_while_it_was_made_is_removed(root: Path) -> None:
    (root / f"{PREFIX}11111111-1111-4111-8111-111111111111").mkdir()
    assert settle_dead(str(root)) == []
    assert names(root) == []


def test_what_is_somebody_elses_is_left_alone(root: Path, tmp_path: Path) -> None:
    run_id = "11111111-1111-4111-8111-111111111111"
    for name in ("sem.mp", f"{PREFIX}notes", run_id):
        (root / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("of somebody")
    (root / f"{PREFIX}{run_id}").symlink_to(tmp_path / "elsewhere")
    settle_dead(str(root))
    assert len(names(root)) == 4
    assert names(tmp_path / "elsewhere") == ["file"]
    assert settle_dead(str(tmp_path / "nowhere")) == []


def test_one_that_is_taken_for_dead_before_it_is_locked_is_made_again(
    folder: RunFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, times = fcntl.flock, 0

    def late(fd: int, kind: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            settle_dead(str(root))
        flock(fd, kind)

    monkeypatch.setattr(memory.fcntl, "flock", late)
    held = made(folder, root)
    assert held.path.is_dir()
    assert kept(folder).path == f"{MEMORY}/stem"
    held.settle(lambda _: False)
