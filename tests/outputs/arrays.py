"""numpy, pandas and Arrow: their large buffers are mapped. Run by ``test_arrays.py`` in a process of its own.

These libraries start threads when they are imported, and the other tests fork workers from their process.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from executor.outputs import value_file
from executor.outputs.value_file import ALIGNMENT
from executor.outputs.values import load_value, store_value
from executor.scheduler.outcomes import StoredValue

BIG = np.arange(100_000, dtype=np.float64)


def kept(value: object, folder: Path) -> StoredValue:
    stored = store_value("result", value, folder, "stem")
    assert stored.path is not None
    return stored


def is_mapped(folder: Path) -> bool:
    return str(folder / "stem") in Path("/proc/self/maps").read_text()


def test_an_array_is_mapped_and_can_be_written_to_without_anybody_seeing_it(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    mine, other = load_value(stored, tmp_path), load_value(stored, tmp_path)
    assert is_mapped(tmp_path)
    assert mine.ctypes.data % ALIGNMENT == 0
    mine[0] = -1
    assert other[0] == load_value(stored, tmp_path)[0] == 0
    assert mine[0] == -1


def test_a_copy_has_memory_of_its_own(tmp_path: Path) -> None:
    loaded = load_value(kept(BIG, tmp_path), tmp_path, copy=True)
    assert not is_mapped(tmp_path)
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
    assert is_mapped(tmp_path)
    loaded["c0"] += 1
    loaded.loc[3, "c1"] = 5.0
    pd.testing.assert_frame_equal(load_value(stored, tmp_path), frame)


def test_an_arrow_table_is_mapped(tmp_path: Path) -> None:
    table = pa.table({"a": BIG, "b": pa.array([None, "text"] * 50_000)})
    before = pa.total_allocated_bytes()
    loaded = load_value(kept(table, tmp_path), tmp_path)
    assert loaded.equals(table)
    assert pa.total_allocated_bytes() - before < 100_000, "its buffers are those of the file"
    assert is_mapped(tmp_path)


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


def test_many_small_arrays_make_one_pickle(tmp_path: Path) -> None:
    value = [np.full(100, n) for n in range(1000)]
    stored = kept(value, tmp_path)
    assert value_file.unpack_header((tmp_path / "stem").read_bytes()).buffers == 0
    assert all(np.array_equal(a, b) for a, b in zip(load_value(stored, tmp_path), value, strict=True))
