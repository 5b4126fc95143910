"""Large buffers lie beside the pickle, are mapped by whoever reads them, and are never seen half."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from executor.outputs import value_file
from executor.outputs.value_file import ALIGNMENT, COVERED_FROM, HEADER_BYTES
from executor.outputs.values import ValueLost, is_intact, load_value, store_value
from executor.scheduler.outcomes import StoredValue

BIG = np.arange(100_000, dtype=np.float64)


def kept(value: object, folder: Path, stem: str = "stem") -> StoredValue:
    stored = store_value("result", value, folder, stem)
    assert stored.path is not None
    return stored


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def test_an_array_is_mapped_and_can_be_written_to_without_anybody_seeing_it(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    mine, other = load_value(stored, tmp_path), load_value(stored, tmp_path)
    assert str(tmp_path / "stem") in mapped_files()
    assert mine.ctypes.data % ALIGNMENT == 0
    mine[0] = -1
    assert other[0] == load_value(stored, tmp_path)[0] == 0
    assert mine[0] == -1


def test_a_file_may_be_removed_while_its_value_is_in_use(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    loaded = load_value(stored, tmp_path)
    (tmp_path / "stem").unlink()
    assert np.array_equal(loaded, BIG)
    del loaded
    assert str(tmp_path) not in mapped_files()


def test_a_copy_has_memory_of_its_own(tmp_path: Path) -> None:
    loaded = load_value(kept(BIG, tmp_path), tmp_path, copy=True)
    assert str(tmp_path) not in mapped_files()
    assert np.array_equal(loaded, BIG)
    loaded[0] = -1


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        BIG,
        BIG[5:70_000],
        BIG[::-2],
        BIG.reshape(100, 1000).T,
        np.asfortranarray(BIG.reshape(100, 1000)),
        read_only(BIG),
        np.zeros(200_000, dtype=[("a", "i1"), ("b", ">f8")]),
        np.array(["text", None, 3] * 30_000, dtype=object),
        np.array(["2026-11-21"] * 20_000, dtype="datetime64[s]"),
    ],
    ids=["plain", "slice", "steps back", "turned", "fortran", "read-only", "records", "objects", "times"],
)
def test_arrays_of_every_make_come_back(array: np.ndarray, tmp_path: Path) -> None:
    loaded = load_value(kept({"array": array, "again": array}, tmp_path), tmp_path)
    assert loaded["array"].dtype == array.dtype
    assert np.array_equal(loaded["array"], array)
    assert loaded["array"].flags.writeable == array.flags.writeable
    assert loaded["again"] is loaded["array"]


@given(array=npst.arrays(st.sampled_from([np.int8, np.float32, np.complex128]), npst.array_shapes(max_side=60)))
def test_any_array_comes_back_beside_others(array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("values")
    value = [array, BIG, np.tile(array, 50), b"x" * 5000]
    loaded = load_value(kept(value, folder), folder)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(loaded[:3], value[:3], strict=True))
    assert loaded[3] == value[3]


def test_a_frame_is_mapped(tmp_path: Path) -> None:
    frame = pd.DataFrame({f"c{n}": BIG + n for n in range(5)} | {"text": [f"row {n}" for n in range(len(BIG))]})
    stored = kept(frame, tmp_path)
    loaded = load_value(stored, tmp_path)
    pd.testing.assert_frame_equal(loaded, frame)
    assert str(tmp_path / "stem") in mapped_files()
    loaded["c0"] += 1
    loaded.loc[3, "c1"] = 5.0
    pd.testing.assert_frame_equal(load_value(stored, tmp_path), frame)


def test_an_arrow_table_is_mapped(tmp_path: Path) -> None:
    table = pa.table({"a": BIG, "b": pa.array([None, "text"] * 50_000)})
    before = pa.total_allocated_bytes()
    loaded = load_value(kept(table, tmp_path), tmp_path)
    assert loaded.equals(table)
    assert pa.total_allocated_bytes() - before < 100_000, "its buffers are those of the file"
    assert str(tmp_path / "stem") in mapped_files()


@pytest.mark.parametrize("value", [os.urandom(3 << 20), bytearray(os.urandom(3 << 20))], ids=["bytes", "bytearray"])
def test_bytes_are_written_as_they_are_in_one_piece(value: bytes, tmp_path: Path, monkeypatch: object) -> None:
    stored = kept({"data": value, "more": [BIG]}, tmp_path)
    assert bytes(value) in (tmp_path / "stem").read_bytes()
    loaded = load_value(stored, tmp_path)["data"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_nothing_is_copied_on_the_way_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, more, array = b"x" * 2_000_000, bytearray(b"y" * 2_000_000), BIG.copy()
    addresses = {np.frombuffer(item, np.uint8).ctypes.data: len(item) for item in (data, more)}
    addresses[array.ctypes.data] = array.nbytes
    written: dict[int, int] = {}

    def pwrite(fd: int, view: memoryview, at: int) -> int:
        written[np.frombuffer(view, np.uint8).ctypes.data] = view.nbytes
        return os.pwrite(fd, view, at)

    monkeypatch.setattr(value_file, "os", type("Os", (), {"pwrite": staticmethod(pwrite)}))
    kept([data, more, array], tmp_path)
    assert addresses.items() <= written.items()


def test_many_small_buffers_make_one_pickle(tmp_path: Path) -> None:
    value = [np.full(100, n) for n in range(1000)]
    stored = kept(value, tmp_path)
    header = value_file.unpack_header((tmp_path / "stem").read_bytes())
    assert header.buffers == 0
    assert all(np.array_equal(a, b) for a, b in zip(load_value(stored, tmp_path), value, strict=True))


class InPieces:
    """What gives pickle a buffer that is not in one piece."""

    def __reduce_ex__(self, protocol: object) -> object:
        return bytes, (pickle.PickleBuffer(memoryview(bytearray(1_000_000))[::2]),)


def test_a_buffer_that_is_not_in_one_piece_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"result\[0\] cannot be pickled: .*InPieces"):
        store_value("result", [InPieces(), BIG], tmp_path, "stem")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_values_than_descriptors_can_be_loaded(tmp_path: Path, few_descriptors: int) -> None:
    values = [BIG + n for n in range(few_descriptors + 10)]
    stored = [kept(value, tmp_path, f"stem-{n}") for n, value in enumerate(values)]
    loaded = [load_value(item, tmp_path) for item in stored]
    assert all(np.array_equal(a, b) for a, b in zip(loaded, values, strict=True))
    assert len(os.listdir("/proc/self/fd")) < few_descriptors - 10, "the step has some left for itself"


# --- whole, or not at all --------------------------------------------------------------------------------------------


def test_a_file_that_is_as_it_was_written_is_intact(tmp_path: Path) -> None:
    assert is_intact(store_value("result", 3, tmp_path, "small"), tmp_path)
    assert is_intact(kept([BIG, b"x" * 100_000, "text"], tmp_path), tmp_path)


def test_one_wrong_bit_anywhere_is_found(tmp_path: Path) -> None:
    stored = kept([BIG[:9000], "x" * 1000], tmp_path)
    file = tmp_path / "stem"
    whole = bytearray(file.read_bytes())
    for at in [*range(HEADER_BYTES), *range(HEADER_BYTES, len(whole), 997), len(whole) - 1]:
        whole[at] ^= 4
        file.write_bytes(whole)
        assert not is_intact(stored, tmp_path), f"byte {at}"
        whole[at] ^= 4
    assert COVERED_FROM == 12, "magic and checksum, which need no cover: a change of them is a difference"


def test_a_file_that_is_gone_cut_or_longer_is_not_intact(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    os.truncate(tmp_path / "stem", stored.size + 1)
    assert not is_intact(stored, tmp_path)
    os.truncate(tmp_path / "stem", stored.size - 1)
    assert not is_intact(stored, tmp_path)
    (tmp_path / "stem").unlink()
    assert not is_intact(stored, tmp_path)


@pytest.mark.parametrize(
    ("at", "byte", "said"),
    [
        (0, 0, "does not begin as a value file does"),
        (12, 9, "is of version 9, and this program reads version 1; run its step again"),
        (20, 1, "and .* by its header"),
        (28, 1, "the lengths of its buffers do not fit its own"),
        (33, 1, "the lengths in its header do not fit together"),
    ],
)
def test_a_header_that_is_not_right_is_told(at: int, byte: int, said: str, tmp_path: Path) -> None:
    stored = kept([BIG, "text"], tmp_path)
    data = bytearray((tmp_path / "stem").read_bytes())
    data[at] = byte
    (tmp_path / "stem").write_bytes(data)
    with pytest.raises(ValueLost, match=f"in {tmp_path}/stem cannot be read: it .*({said})"):
        load_value(stored, tmp_path)


def test_a_copy_of_a_file_gets_a_checksum(tmp_path: Path) -> None:
    stored = kept([BIG, "text"], tmp_path)
    value_file.copy_file(str(tmp_path / "stem"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "stem").read_bytes()
    assert is_intact(stored._replace(path="copy"), tmp_path)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_a_cut_file_is_not_copied(tmp_path: Path) -> None:
    kept([BIG, "text"], tmp_path)
    os.truncate(tmp_path / "stem", 5000)
    with pytest.raises(value_file.NotAValueFile, match="ends after 5000 of"):
        value_file.copy_file(str(tmp_path / "stem"), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()
