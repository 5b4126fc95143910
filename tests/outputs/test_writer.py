"""Where a value's file goes, what happens when there is no room, and that nothing half is left behind."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executor.outputs import value_file, writer
from executor.outputs.value_file import unpack_header
from executor.outputs.values import ValueNotPicklable, ValueNotStored, is_intact, load_value, store_value
from executor.outputs.writer import LOOK_EVERY_BYTES, MEMORY, Storage
from tests.outputs.blocks import BIG, block

GIB = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run's values, with a part of it elsewhere, as in memory."""
    values, memory = tmp_path / "values", tmp_path / "somewhere"
    values.mkdir()
    memory.mkdir()
    (values / MEMORY).symlink_to(memory)
    return values


def room(monkeypatch: pytest.MonkeyPatch, *, used: Callable[[], int] = lambda: 0, free: int = GIB) -> None:
    """A memory file system of which so many bytes are used, and a disk with so many free ones."""

    def statvfs(_: object) -> Any:
        return SimpleNamespace(f_blocks=used() + GIB, f_bavail=GIB, f_frsize=1, f_files=1000, f_favail=900)

    def fstatvfs(fd: int) -> Any:
        return SimpleNamespace(f_blocks=100 * GIB, f_bavail=free - os.fstat(fd).st_size, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(os, "fstatvfs", fstatvfs)


def all_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in [*folder.iterdir(), *(folder / MEMORY).iterdir()])


def test_a_value_goes_to_memory_while_it_fits_below_the_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, used=lambda: 10_000_000)
    storage = Storage("auto", 11_000_000)
    inside = store_value("result", BIG, folder, "inside", storage)
    outside = store_value("result", [BIG, block(first=1)], folder, "outside", storage)
    assert (inside.path, outside.path) == (f"{MEMORY}/inside", "outside")
    assert all_files(folder) == [MEMORY, f"{MEMORY}/inside", "outside"]
    assert load_value(inside, folder) == BIG
    assert is_intact(inside, folder)
    assert unpack_header((folder / MEMORY / "inside").read_bytes()).checksum is None
    assert unpack_header((folder / "outside").read_bytes()).checksum is not None


def test_without_a_folder_in_memory_it_goes_to_the_disk(tmp_path: Path) -> None:
    assert store_value("result", BIG, tmp_path, "stem", Storage("auto", GIB)).path == "stem"


def test_a_pickle_that_grows_over_the_bound_moves_to_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, used=lambda: sum(path.stat().st_size for path in (folder / MEMORY).iterdir()))
    value = [os.urandom(1) * (1 << 20) for _ in range(40)]
    stored = store_value("result", value, folder, "stem", Storage("auto", LOOK_EVERY_BYTES * 3 // 2))
    assert stored.path == "stem"
    assert all_files(folder) == [MEMORY, "stem"]
    assert is_intact(stored, folder)
    assert load_value(stored, folder) == value


def test_memory_that_is_full_before_its_bound_is_left_for_the_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch)
    written = 0

    def pwrite(fd: int, data: memoryview, at: int) -> int:
        nonlocal written
        if str(folder.parent / "somewhere") in os.readlink(f"/proc/self/fd/{fd}"):
            if written + len(data) > 300_000:
                taken = os.pwrite(fd, data[: max(1, 300_000 - written)], at) if written < 300_000 else 0
                written += taken
                if taken:
                    return taken
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += len(data)
        return os.pwrite(fd, data, at)

    monkeypatch.setattr(value_file, "os", SimpleNamespace(**vars(os) | {"pwrite": pwrite}))
    stored = store_value("result", ["text", BIG], folder, "stem", Storage("auto", GIB))
    assert stored.path == "stem"
    assert all_files(folder) == [MEMORY, "stem"]
    assert is_intact(stored, folder)
    assert load_value(stored, folder) == ["text", BIG]


def test_what_must_be_in_memory_and_does_not_fit_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(value_file, "os", SimpleNamespace(**vars(os) | {"pwrite": pwrite}))
    with pytest.raises(ValueNotStored) as caught:
        store_value("rows", BIG, folder, "stem", Storage("memory"))
    assert str(caught.value) == (
        f"the value of output 'rows' could not be written to {folder}/{MEMORY}: No space left on device; "
        "set storage.values in executor.yaml to auto, or make room"
    )
    assert all_files(folder) == [MEMORY]


def test_a_disk_is_not_filled_to_its_last_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, free=writer.RESERVED_BYTES + len(BIG.data))
    with pytest.raises(ValueNotStored, match="No space left on device; make room there"):
        store_value("result", BIG, folder, "stem")
    assert all_files(folder) == [MEMORY]
    room(monkeypatch, free=writer.RESERVED_BYTES + len(BIG.data) + 10_000)
    assert store_value("result", BIG, folder, "stem").path == "stem"


def test_a_pickle_that_grows_stops_before_the_disk_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LOOK_EVERY_BYTES", 1 << 20)
    room(monkeypatch, free=writer.RESERVED_BYTES + (2 << 20))
    with pytest.raises(ValueNotStored, match="No space left on device"):
        store_value("result", [os.urandom(100_000) for _ in range(40)], folder, "stem")
    assert all_files(folder) == [MEMORY]


@pytest.fixture
def small_files() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    yield 500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("value", [BIG, list(range(1_000_000)), b"x" * 1_000_000], ids=["array", "list", "bytes"])
def test_a_file_that_may_not_grow_is_told_and_removed(value: object, folder: Path, small_files: int) -> None:
    with pytest.raises(ValueNotStored, match=f"could not be written to {folder}: File too large"):
        store_value("result", value, folder, "stem")
    assert all_files(folder) == [MEMORY]


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueNotStored, match="No such file or directory"):
        store_value("result", BIG, tmp_path / "nowhere", "stem")


class Raises:
    def __reduce__(self) -> object:
        raise OSError(errno.ENOSPC, "of the user's own")


def test_an_error_of_the_users_own_is_not_taken_for_a_full_disk(folder: Path) -> None:
    with pytest.raises(ValueNotPicklable, match="of the user's own"):
        store_value("result", [BIG, b"x" * 100_000, Raises()], folder, "stem")
    assert all_files(folder) == [MEMORY]
