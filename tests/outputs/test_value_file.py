"""Large buffers lie beside the pickle, are mapped by whoever reads them, and are never seen half."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.outputs import value_file
from executor.outputs.value_file import COVERED_FROM, HEADER_BYTES
from executor.outputs.values import ValueLost, is_intact, load_value, store_value
from executor.scheduler.outcomes import StoredValue
from tests.outputs.blocks import BIG, block


def kept(value: object, folder: Path, stem: str = "stem") -> StoredValue:
    stored = store_value("result", value, folder, stem)
    assert stored.path is not None
    return stored


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def test_a_buffer_is_mapped_and_can_be_written_to_without_anybody_seeing_it(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    mine, other = load_value(stored, tmp_path), load_value(stored, tmp_path)
    assert str(tmp_path / "stem") in mapped_files()
    mine.data[1] = 77
    assert other == load_value(stored, tmp_path) == BIG
    assert mine.data[1] == 77


def test_a_file_may_be_removed_while_its_value_is_in_use(tmp_path: Path) -> None:
    stored = kept(BIG, tmp_path)
    loaded = load_value(stored, tmp_path)
    (tmp_path / "stem").unlink()
    assert loaded == BIG
    del loaded
    assert str(tmp_path) not in mapped_files()


def test_a_copy_has_memory_of_its_own(tmp_path: Path) -> None:
    loaded = load_value(kept(BIG, tmp_path), tmp_path, copy=True)
    assert str(tmp_path) not in mapped_files()
    assert loaded == BIG
    loaded.data[1] = 77


@pytest.mark.parametrize("value", [os.urandom(3 << 20), bytearray(os.urandom(3 << 20))], ids=["bytes", "bytearray"])
def test_bytes_are_written_as_they_are_in_one_piece(value: bytes, tmp_path: Path) -> None:
    stored = kept({"data": value, "more": [BIG]}, tmp_path)
    assert bytes(value) in (tmp_path / "stem").read_bytes()
    loaded = load_value(stored, tmp_path)["data"]
    assert loaded == value
    assert type(loaded) is type(value)


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
    values = [block(100_000, n) for n in range(few_descriptors + 10)]
    stored = [kept(value, tmp_path, f"stem-{n}") for n, value in enumerate(values)]
    loaded = [load_value(item, tmp_path) for item in stored]
    assert loaded == values
    assert len(os.listdir("/proc/self/fd")) < few_descriptors - 10, "the step has some left for itself"


# --- whole, or not at all --------------------------------------------------------------------------------------------


def test_a_file_that_is_as_it_was_written_is_intact(tmp_path: Path) -> None:
    assert is_intact(store_value("result", 3, tmp_path, "small"), tmp_path)
    assert is_intact(kept([BIG, b"x" * 100_000, "text"], tmp_path), tmp_path)


def test_one_wrong_bit_anywhere_is_found(tmp_path: Path) -> None:
    stored = kept([block(80_000), "x" * 1000], tmp_path)
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
