"""Values wait in a message while they are small, and in one file each when they are not."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.outputs.value_file import HEADER_BYTES
from executor.outputs.values import (
    INLINE_BYTES,
    ValueLost,
    ValueNotPicklable,
    ValueNotStored,
    load_value,
    store_value,
)


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes", [1, {"a": (2, 3)}], {1, 2}, float("inf"), b"x" * 60_000])
def test_a_small_value_is_kept_in_memory(value: object, tmp_path: Path) -> None:
    stored = store_value("result", value, tmp_path, "stem")
    assert (stored.output, stored.path) == ("result", None)
    assert stored.data is not None
    assert len(stored.data) == stored.size
    assert load_value(stored, tmp_path) == value
    assert list(tmp_path.iterdir()) == []


def test_the_bound_between_memory_and_file_is_exact(tmp_path: Path) -> None:
    overhead = len(pickle.dumps(b"x" * 60_000, 5)) - 60_000
    largest = b"x" * (INLINE_BYTES - overhead)
    inside = store_value("result", largest, tmp_path, "inside")
    outside = store_value("result", largest + b"x", tmp_path, "outside")
    assert (inside.path, inside.size) == (None, INLINE_BYTES)
    assert (outside.path, outside.size) == ("outside", HEADER_BYTES + INLINE_BYTES + 1)


@pytest.mark.parametrize(
    "value", [b"x" * 1_000_000, [f"{n}" * 50_000 for n in range(3)], list(range(100_000)), bytearray(200_000)]
)
def test_a_large_value_is_one_file_of_its_own(value: object, tmp_path: Path) -> None:
    stored = store_value("result", value, tmp_path, "stem")
    assert (stored.data, stored.path) == (None, "stem")
    assert [path.name for path in tmp_path.iterdir()] == ["stem"]
    assert (tmp_path / "stem").stat().st_size == stored.size
    assert (tmp_path / "stem").stat().st_mode & 0o777 == 0o600
    assert load_value(stored, tmp_path) == value


def test_a_value_never_takes_the_name_of_another(tmp_path: Path) -> None:
    (tmp_path / "stem.tmp").write_bytes(b"of somebody else")
    with pytest.raises(ValueNotStored, match="File exists"):
        store_value("result", b"x" * 1_000_000, tmp_path, "stem")
    assert not (tmp_path / "stem").exists()


def test_functions_and_classes_without_a_module_go_by_value(tmp_path: Path) -> None:
    class Local:
        def __init__(self, number: int) -> None:
            self.number = number

    stored = store_value("result", (lambda x: x + 1, Local(3)), tmp_path, "stem")
    function, thing = load_value(stored, tmp_path)
    assert (function(1), thing.number) == (2, 3)


class Holder:
    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)


class Slotted:
    __slots__ = ("lock", "other")

    def __init__(self) -> None:
        self.lock = threading.Lock()


LOCK = threading.Lock()


def refers_to(inner: Callable[[], object]) -> Callable[[], object]:
    return lambda: [inner()]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (threading.Lock(), "result"),
        ({"model": Holder(lock=threading.Lock())}, "result['model'].lock"),
        ([1, (2, threading.Lock())], "result[1][1]"),
        (Holder(inner=Holder(deep=[threading.Lock()])), "result.inner.deep[0]"),
        (Slotted(), "result.lock"),
        ((number for number in ()), "result"),
        (lambda: LOCK, "result > LOCK"),
        (lambda: lambda: LOCK, "result > LOCK"),
        ([lambda lock=LOCK: lock], "result[0] > its defaults[0][0]"),
        (refers_to(lambda: LOCK), "result > inner > LOCK"),
    ],
)
def test_what_cannot_be_pickled_is_named(value: object, where: str, tmp_path: Path) -> None:
    with pytest.raises(ValueNotPicklable) as caught:
        store_value("result", value, tmp_path, "stem")
    assert caught.value.where == where
    assert str(caught.value).startswith(f"{where} cannot be pickled: ")
    assert list(tmp_path.iterdir()) == []


class Raises:
    """Its own code cannot say how it is pickled."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __reduce__(self) -> object:
        raise self.error("my own")


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_what_code_of_the_user_raises_while_it_is_pickled_is_told_as_that(
    error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(ValueNotPicklable) as caught:
        store_value("result", {"by value": lambda: 1, "model": [Raises(error)]}, tmp_path, "stem")
    assert caught.value.where == "result['model'][0]"
    assert caught.value.reason.endswith(f".Raises raised {error.__name__}: my own")
    cause = caught.value.__cause__
    assert type(cause) is error
    assert (cause.__context__, cause.__cause__) == (None, None)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.where, again.raised_by_user) == ("result['model'][0]", True)


def test_a_large_value_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueNotPicklable):
        store_value("result", ["x" * 1_000_000, threading.Lock()], tmp_path, "stem")
    assert list(tmp_path.iterdir()) == []


class Breaks:
    def __reduce__(self) -> object:
        raise KeyboardInterrupt


def test_whatever_pickling_raises_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        store_value("result", ["x" * 1_000_000, Breaks()], tmp_path, "stem")
    assert list(tmp_path.iterdir()) == []


def test_a_value_whose_file_is_gone_or_cut_is_lost(tmp_path: Path) -> None:
    stored = store_value("result", b"x" * 1_000_000, tmp_path, "stem")
    os.truncate(tmp_path / "stem", 10)
    with pytest.raises(ValueLost, match=r"has 10 bytes, not 1000\d+"):
        load_value(stored, tmp_path)
    (tmp_path / "stem").unlink()
    with pytest.raises(
        ValueLost, match=r"is gone: there is no file .* \(values that later steps have read are removed"
    ):
        load_value(stored, tmp_path)


def test_a_value_of_a_run_that_was_removed_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "values"
    folder.mkdir(parents=True)
    stored = store_value("result", b"x" * 1_000_000, folder, "stem")
    of_earlier_run = stored._replace(path=str(folder / "stem"))
    shutil.rmtree(tmp_path / "run")
    for value, where in ((stored, folder), (of_earlier_run, tmp_path)):
        with pytest.raises(ValueLost, match=r"is gone: there is no file .*/stem \(its whole run was removed\)"):
            load_value(value, where)
