"""Values between steps: pickle protocol 5, inside the message while small, else one file each.

Written by the worker that made the value and read by the workers that need it; the driver passes the reference on and
never looks inside. How such a file looks is in ``value_file.py``, where it is put in ``writer.py``.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the Python half would be in the memory of every worker
import os
from contextlib import suppress
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from executor.errors import ExecutorError
from executor.outputs.plain import load_small
from executor.outputs.value_file import HEADER_BYTES, NotAValueFile, parts, unpack_header, view_of, whole_checksum
from executor.outputs.writer import MEMORY, NO_ROOM, Storage, ValueWriter, lacks_inodes
from executor.scheduler.outcomes import StoredValue

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes up to which a value travels inside the message and is kept in the run's history. One pipe buffer.
INLINE_BYTES = 64 * 1024

#: The end of the name of a file that calls the reducers of the user's classes.
CLOUDPICKLE = "/cloudpickle/cloudpickle.py"

# What is raised in one of these files is said by pickle; elsewhere by code that pickle has called.
PICKLERS = (__file__, CLOUDPICKLE, "/copyreg.py", "/pickle.py")

# A smaller buffer goes into the pickle: to copy a page is cheaper than to keep account of it.
OUT_OF_BAND_BYTES = 4096


class ValueNotPicklable(ExecutorError):
    """A value cannot be sent to another process; ``where`` says which part of it.

    ``raised_by_user``: not pickle refused it, but code of its class raised (``__reduce__``, say): the error's cause.
    """

    def __init__(self, where: str, reason: str, raised_by_user: bool = False) -> None:
        super().__init__(where, reason, raised_by_user)
        self.where, self.reason, self.raised_by_user = where, reason, raised_by_user

    def __str__(self) -> str:
        return f"{self.where} cannot be pickled: {self.reason}"


class ValueNotStored(ExecutorError):
    """The file of a value cannot be written; the text says why, and what to do."""


class ValueLost(ExecutorError):
    """The file of a value is missing or was changed since it was written."""


def store_value(
    output: str,
    value: object,
    folder: str | os.PathLike[str],
    stem: str,
    storage: Storage = Storage(),  # noqa: B008  (it cannot be changed)
) -> StoredValue:
    """Pickle ``value``, in memory or as a file called ``stem`` in ``folder``; a name that was never used before.

    Raises:
        ValueNotPicklable: names the attribute or item that cannot be pickled.
        ValueNotStored: the file cannot be written, as on a full disk.
    """
    spill = _Spill(folder, stem, storage)
    try:
        refused = _pickle_into(spill, value)
        if refused is not None:
            part, where, reason = find_unpicklable(value, output, refused)
            raise _not_picklable(part, where, reason) from reason
        return spill.finish(output)
    except _NoRoom as error:
        spill.discard()
        raise ValueNotStored(_why_not_stored(output, folder, storage, error.reason)) from None
    except BaseException:
        spill.discard()
        raise


def _pickle_into(spill: _Spill, value: object) -> Exception | None:
    """Write the pickle of ``value``. Gives what was raised where none can be made."""
    try:
        try:
            pickle.Pickler(spill, protocol=5, buffer_callback=spill.take).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError):
            spill.discard()
        else:
            return None
        import cloudpickle  # lambdas, and classes of a script's own __main__

        cloudpickle.CloudPickler(spill, protocol=5, buffer_callback=spill.take).dump(value)
    except _NoRoom:
        raise
    except Exception as error:  # noqa: BLE001  (a reducer of the user's may raise anything)
        return error
    return None


def load_value(stored: StoredValue, folder: str | os.PathLike[str], *, copy: bool = False) -> Any:
    """The value itself. Runs the code that its pickle names: only for values of one's own runs.

    Its large buffers are those of the file, mapped so that what is written to them stays in this process, and the file
    may be removed meanwhile; ``copy``: they are read into memory of their own.

    Raises:
        ValueLost: its file is not there, not as long as it was, or no value file.
    """
    if stored.path is None:
        return None if stored.data is None else load_small(stored.data)
    path = os.path.join(folder, stored.path)  # noqa: PTH118  (pathlib would be in the memory of every worker)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        run, values, _ = path.rpartition("/values/")  # perhaps of an earlier run, which this one goes on from
        why = "values that later steps have read are removed, unless storage.keep in executor.yaml is all"
        if values and not os.path.isdir(run):  # noqa: PTH112  (as above)
            why = "its whole run was removed"
        raise ValueLost(f"the value of output {stored.output!r} is gone: there is no file {path} ({why})") from None
    try:
        size = os.fstat(fd).st_size
        if size != stored.size:
            raise ValueLost(f"the value of output {stored.output!r} in {path} has {size} bytes, not {stored.size}")
        pickled, buffers = parts(view_of(fd, size, copy=copy))
    except NotAValueFile as error:
        raise ValueLost(f"the value of output {stored.output!r} in {path} cannot be read: it {error}") from None
    finally:
        os.close(fd)
    return pickle.loads(pickled, buffers=buffers)


def is_intact(stored: StoredValue, folder: str | os.PathLike[str]) -> bool:
    """Whether ``load_value`` would give the value as it was stored; reads the whole file where it has a checksum.

    A file in memory has none: it is gone after what could have damaged it.
    """
    if stored.path is None:
        return True
    try:
        fd = os.open(os.path.join(folder, stored.path), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH118  (as above)
    except OSError:
        return False
    try:
        header = unpack_header(os.pread(fd, HEADER_BYTES, 0))
        whole = header.size == stored.size == os.fstat(fd).st_size
        return whole and (header.checksum is None or header.checksum == whole_checksum(fd))
    except (OSError, NotAValueFile):
        return False
    finally:
        os.close(fd)


def remove_value(path: str, folder: str | os.PathLike[str]) -> None:
    """Remove the file of a value, by its path in ``folder``. One that is gone, or cannot be removed, is no error."""
    with suppress(OSError):
        os.unlink(os.path.join(folder, path))  # noqa: PTH108, PTH118  (as above)


class _NoRoom(Exception):
    """A value file could not be written. No ``OSError``, which a reducer of the user's may raise as well."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class _Spill:
    """A file object that keeps what is written in memory up to ``INLINE_BYTES``, and then goes on in a file.

    Large buffers that pickle finds on the way are kept as they are, and written after the pickle.
    """

    __slots__ = ("_buffers", "_folder", "_inside", "_parts", "_size", "_stem", "_storage", "_writer")

    def __init__(self, folder: str | os.PathLike[str], stem: str, storage: Storage) -> None:
        self._folder, self._stem, self._storage = folder, stem, storage
        self._parts: list[bytes] = []
        self._buffers: list[memoryview] = []
        self._inside = 0  #: bytes of buffers that went into the pickle
        self._size = 0
        self._writer: ValueWriter | None = None

    def write(self, data: Any) -> int:
        size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        self._size += size
        if self._writer is None:
            if self._size <= INLINE_BYTES and not self._buffers:
                self._parts.append(bytes(data))
                return int(size)
            self._begin()
        self._append(data)
        return int(size)

    def take(self, buffer: Any) -> bool:
        """Whether this ``PickleBuffer`` goes into the pickle; else it is kept."""
        try:
            view: memoryview = buffer.raw()
        except BufferError:  # not in one piece; pickle says so
            return True
        size = view.nbytes
        if size < OUT_OF_BAND_BYTES or self._inside + size <= INLINE_BYTES:
            self._inside += size
            return True
        self._buffers.append(view)
        return False

    def finish(self, output: str) -> StoredValue:
        if self._writer is None:
            if not self._buffers:
                return StoredValue(output, b"".join(self._parts), None, self._size)
            self._begin()
        assert self._writer is not None  # noqa: S101  (begun above)
        try:
            path, size = self._writer.finish(self._buffers)
        except OSError as error:
            raise _NoRoom(error) from None
        self._writer = None
        return StoredValue(output, None, path, size)

    def discard(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.discard()
        self._parts.clear()
        self._buffers.clear()
        self._size = self._inside = 0

    def _begin(self) -> None:
        """Go on in a file, with what was written so far."""
        expected = self._size + sum([view.nbytes for view in self._buffers])
        try:
            self._writer = ValueWriter(self._folder, self._stem, self._storage, expected)
        except OSError as error:
            raise _NoRoom(error) from None
        written, self._parts = self._parts, []
        for part in written:
            self._append(part)

    def _append(self, data: Any) -> None:
        assert self._writer is not None  # noqa: S101  (asked by the callers)
        try:
            self._writer.append(data)
        except OSError as error:
            raise _NoRoom(error) from None


def _why_not_stored(output: str, folder: str | os.PathLike[str], storage: Storage, reason: OSError) -> str:
    in_memory = storage.values == "memory"
    place = f"{os.fspath(folder)}/{MEMORY}" if in_memory else os.fspath(folder)
    hint = ""
    if reason.errno in NO_ROOM:
        hint = "; set storage.values in executor.yaml to auto, or make room" if in_memory else "; make room there"
        with suppress(OSError):
            if lacks_inodes(os.statvfs(place)):
                hint += " by removing files: its file system has no inode left for another one"
    return f"the value of output {output!r} could not be written to {place}: {reason.strerror or reason}{hint}"


def find_unpicklable(value: object, where: str, error: Exception, depth: int = 4) -> tuple[object, str, Exception]:
    """Which part of ``value`` cannot be pickled, as a path such as ``result['model'].lock``, and what was raised.

    The parts of a function are what it refers to, ``helper > LOCK``.
    """
    for name, part in _parts_of(value) if depth else ():
        refused = _refusal_of(part)
        if refused is not None:
            return find_unpicklable(part, where + name, refused, depth - 1)
    return value, where, error


def _refusal_of(part: object) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dumps(part)
    except Exception as error:  # noqa: BLE001  (as above)
        return error
    return None


def _not_picklable(part: object, where: str, error: Exception) -> ValueNotPicklable:
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code.co_filename.endswith(PICKLERS):
        return ValueNotPicklable(where, f"{kind}: {error}")
    return ValueNotPicklable(where, f"{kind} raised {type(error).__qualname__}: {error}", raised_by_user=True)


def _parts_of(value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{position}]", item) for position, item in enumerate(value)]
    if isinstance(value, FunctionType):
        return [(f" > {name}", item) for name, item in _referred(value)]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        return [(f".{name}", item) for name, item in attributes.items()]
    slots = getattr(type(value), "__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]


def _referred(function: FunctionType) -> Iterator[tuple[str, object]]:
    """What a function that is pickled by value takes along: variables of where it was defined, globals, defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # nothing was assigned to it yet
            yield name, cell.cell_contents
    codes = [function.__code__]
    for code in codes:
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    names = {name: None for code in codes for name in code.co_names}
    yield from ((name, function.__globals__[name]) for name in names if name in function.__globals__)
    yield "its defaults", (function.__defaults__, function.__kwdefaults__)
    yield from vars(function).items()
