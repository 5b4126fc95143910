"""Values between steps: pickle protocol 5, inside the message while small, else one file each.

Written by the worker that made the value and read by the workers that need it; the driver passes the reference on and
never looks inside.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the Python half would be in the memory of every worker
import os
from contextlib import suppress
from typing import IO, Any

from executor.errors import ExecutorError
from executor.scheduler.outcomes import StoredValue

#: Bytes up to which a value travels inside the message and is kept in the run's history. One pipe buffer.
INLINE_BYTES = 64 * 1024


class ValueNotPicklable(ExecutorError):
    """A value cannot be sent to another process; ``where`` says which part of it."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"{self.where} cannot be pickled: {self.reason}"


class ValueLost(ExecutorError):
    """The file of a value is missing or was changed since it was written."""


def store_value(output: str, value: object, folder: str | os.PathLike[str], stem: str) -> StoredValue:
    """Pickle ``value``, in memory or as the file ``folder/stem``, which must be a name never used before.

    Raises:
        ValueNotPicklable: names the attribute or item that cannot be pickled.
        OSError: the file cannot be written, as on a full disk.
    """
    spill = _Spill(folder, stem)
    try:
        try:
            pickle.Pickler(spill, protocol=5).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
            spill.discard()
            import cloudpickle  # lambdas, and classes of a script's own __main__

            try:
                cloudpickle.CloudPickler(spill, protocol=5).dump(value)
            except Exception:  # noqa: BLE001  (a reducer of the user's may raise anything)
                raise ValueNotPicklable(*find_unpicklable(value, output, error)) from error
        return spill.finish(output)
    except BaseException:
        spill.discard()
        raise


def load_value(stored: StoredValue, folder: str | os.PathLike[str]) -> Any:
    """The value itself. Runs the code that its pickle names: only for values of one's own runs.

    Raises:
        ValueLost: its file is not there, or not as long as it was.
    """
    if stored.path is None:
        return None if stored.data is None else pickle.loads(stored.data)
    path = os.path.join(folder, stored.path)  # noqa: PTH118  (pathlib would be in the memory of every worker)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != stored.size:
                raise ValueLost(f"the value of output {stored.output!r} in {path} has {size} bytes, not {stored.size}")
            return pickle.load(file)
    except FileNotFoundError:
        raise ValueLost(f"the value of output {stored.output!r} is gone: there is no file {path}") from None


def is_intact(stored: StoredValue, folder: str | os.PathLike[str]) -> bool:
    """Whether a value is still there and as long as it was written."""
    if stored.path is None:
        return True
    try:
        return os.path.getsize(os.path.join(folder, stored.path)) == stored.size  # noqa: PTH118, PTH202  (as above)
    except OSError:
        return False


class _Spill:
    """A file object that keeps what is written in memory up to ``INLINE_BYTES``, and then goes on in a file."""

    def __init__(self, folder: str | os.PathLike[str], stem: str) -> None:
        self._path = os.path.join(folder, stem)  # noqa: PTH118  (as above)
        self._stem = stem
        self._parts: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def write(self, data: Any) -> int:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self._size += size
        if self._file is None:
            if self._size <= INLINE_BYTES:
                self._parts.append(bytes(data))
                return int(size)
            fd = os.open(f"{self._path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._file = open(fd, "wb")  # noqa: SIM115  (closed by finish or discard)
            for part in self._parts:
                self._file.write(part)
        self._file.write(data)
        return int(size)

    def finish(self, output: str) -> StoredValue:
        if self._file is None:
            return StoredValue(output, b"".join(self._parts), None, self._size)
        self._file.close()
        # a name is only ever given to a whole value
        os.rename(f"{self._path}.tmp", self._path)  # noqa: PTH104  (as above)
        return StoredValue(output, None, self._stem, self._size)

    def discard(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            finally:
                self._file = None
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._path}.tmp")  # noqa: PTH108  (as above)
        self._parts.clear()
        self._size = 0


def find_unpicklable(value: object, where: str, error: BaseException, depth: int = 4) -> tuple[str, str]:
    """Which part of ``value`` cannot be pickled, as a path such as ``result['model'].lock``, and why."""
    import cloudpickle

    for name, part in _parts_of(value) if depth else ():
        try:
            cloudpickle.dumps(part)
        except Exception as reason:  # noqa: BLE001  (a reducer of the user's may raise anything)
            return find_unpicklable(part, where + name, reason, depth - 1)
    return where, f"{type(value).__module__}.{type(value).__qualname__}: {error}"


def _parts_of(value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{position}]", item) for position, item in enumerate(value)]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        return [(f".{name}", item) for name, item in attributes.items()]
    slots = getattr(type(value), "__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [(f".{name}", getattr(value, name)) for name in names if hasattr(value, name)]
