"""One SQLite file that many processes write to, safely: its connection, its transactions, its readers.

The rules, each with its reason:

- Every writer holds the lock of ``lock.py`` from before BEGIN until after COMMIT, also to open and to close the file.
  So nobody ever meets "database is locked", waits are short, and a checkpoint never races with a commit (all versions
  of SQLite from 3.7.0 to 3.51.2 but two can corrupt a file then).
- A reader opens the file with ``mode=ro``, and opens and closes under the shared lock. With a writing connection its
  last close would checkpoint.
- The file is opened by SQLite alone: closing any other descriptor of it would drop the locks of this process.
- A connection is never used or closed in a forked child: there it is a copy that shares the parent's locks.
- Whoever deletes, truncates or replaces the file or its lock under running work is noticed before the next
  transaction.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from executor.database.crash_points import crash_point
from executor.database.errors import DatabaseBusy, DatabaseFull, DatabaseLost, DatabaseUnusable, Forked
from executor.database.lock import FileLock
from executor.database.place import check_place
from executor.database.schema import Schema, make_or_upgrade, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from executor.database.lock import Descriptors

# For a reader that recovers the log after a writer's death: the one time when SQLite itself has to wait.
BUSY_TIMEOUT_MS = 1000

# A log of so many bytes is copied into the file, for which the disk is waited for: as SQLite by itself, with its pages.
LOG_BYTES = 1000 * 4096

# How long somebody may hold the lock before a command gives up; a transaction takes microseconds.
LOCK_TIMEOUT_S = 10.0

# The first with RETURNING, which says in one statement what was deleted.
OLDEST_SQLITE = (3, 35, 0)

#: Connections of this process, or of its parent if this is a forked child: kept, so that none is closed by accident.
_connections: set[sqlite3.Connection] = set()

#: Databases whose lock could not be had to close them: closed by the next who opens the same file in this process.
_left_open: list[Database] = []


def _after_fork_in_child() -> None:
    if _connections:
        atexit.register(_keep_for_ever)


def _keep_for_ever() -> None:
    """Even when the interpreter of a child ends, its copies of the parent's connections must not be closed."""
    import ctypes

    for connection in _connections:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


os.register_at_fork(after_in_child=_after_fork_in_child)


class Transaction:
    """A ``with`` block whose changes all count or none: committed at its end, undone if it raises.

    The lock is held throughout. ``execute`` is the connection's.
    """

    __slots__ = ("_database", "_timeout_s", "execute")

    def __init__(self, database: Database, timeout_s: float | None) -> None:
        self._database = database
        self._timeout_s = timeout_s  #: None: the lock is held already
        self.execute = database._connection.execute  # noqa: SLF001  (one idea in two classes)

    def __enter__(self) -> Self:
        database = self._database
        if self._timeout_s is not None:
            database._check_process()  # noqa: SLF001
            database.lock.acquire(self._timeout_s)
        try:
            crash_point("locked")
            database._check_file()  # noqa: SLF001
            self.execute("BEGIN IMMEDIATE")
            crash_point("begun")
        except BaseException as error:
            database.lock.release()
            if isinstance(error, sqlite3.Error):
                raise database.explain(error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        database = self._database
        try:
            if kind is None:
                crash_point("before-commit")
                self.execute("COMMIT")
                crash_point("committed")
            elif isinstance(error, sqlite3.Error):
                raise database.explain(error) from error
        except sqlite3.Error as failed:  # the COMMIT
            raise database.explain(failed) from failed
        finally:
            if database._connection.in_transaction:  # noqa: SLF001
                with suppress(sqlite3.Error):  # what matters is said by the error that is being raised
                    self.execute("ROLLBACK")
            database.lock.release()


class _Explained:
    """A ``with`` block, as often as wanted; the generator of ``contextmanager`` would cost as much as a short read."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _raise_explained(error, self._path)


class Database:
    """A connection that writes. Not safe for several threads: each opens its own."""

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        descriptors: Descriptors,
        before_making: Callable[[], None] | None = None,
        timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        """Open the file, and make it where there is none.

        Args:
            path: the file; its lock is ``path`` with the suffix ``.lock``.
            schema: what stands in it.
            descriptors: keeps our descriptors from forked children.
            before_making: called where there is no file yet, before one is made; raises if there must be one.
            timeout_s: how long to wait for the lock.

        Raises:
            DatabaseUnusable: the file or its place cannot be used; the text says why and what to do.
            DatabaseBusy: somebody holds the lock and does not go on.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise DatabaseUnusable(
                f"this Python has SQLite {sqlite3.sqlite_version}, and {oldest} is the oldest that will do; use a "
                "Python with a later one"
            )
        check_place(path.parent)
        self.path = path
        self._explained = _Explained(path)
        self._pid = os.getpid()
        self.lock = FileLock(path.with_suffix(".lock"), descriptors)
        try:
            self.lock.acquire(timeout_s)
            try:
                crash_point("lock-file-made")
                _close_left_open(path)
                self._connection = self._open(schema, before_making)
            finally:
                self.lock.release()
        except BaseException:
            self.lock.close()
            raise
        _connections.add(self._connection)
        self.execute = self._connection.execute  #: for a read outside of a transaction: sees what is committed
        found = path.stat()
        self._identity, self._size = (found.st_dev, found.st_ino), found.st_size
        self._log_path = f"{path}-wal"
        self._log_identity: tuple[int, int] | None = None

    def try_transaction(self) -> Transaction | None:
        """A transaction to enter at once, or None if the lock is not to be had within about a millisecond."""
        self._check_process()
        return Transaction(self, None) if self.lock.try_acquire() else None

    def transaction(self, timeout_s: float = LOCK_TIMEOUT_S) -> Transaction:
        """A transaction that waits for the lock when it is entered.

        Raises:
            DatabaseBusy: when it is entered: somebody holds the lock and does not go on.
        """
        return Transaction(self, timeout_s)

    def close(self, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Give everything back. Safe to call twice, and does nothing in a forked child.

        Raises:
            DatabaseBusy: somebody holds the lock and does not go on; the file stays open until it is opened again.
        """
        if os.getpid() != self._pid or self._connection not in _connections or self in _left_open:
            return
        try:
            self.lock.acquire(timeout_s)
        except DatabaseBusy:
            _left_open.append(self)
            raise
        self._close()

    def _close(self) -> None:
        """Close the connection; the caller holds the lock of the file."""
        try:
            self._connection.close()
        finally:
            _connections.discard(self._connection)
            self.lock.release()
            self.lock.close()

    def explained(self) -> _Explained:
        """SQLite's errors in this block become those of ``errors.py``, where they have one."""
        return self._explained

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads in this block see one state; nobody is held up by it."""
        with self.explained():
            self.execute("BEGIN")
            try:
                yield
            finally:
                self.execute("ROLLBACK")

    def explain(self, error: sqlite3.Error) -> Exception:
        """The error that says what happened to which file; the very same one if it is a mistake of ours."""
        return _explain(error, self.path)

    def _open(self, schema: Schema, before_making: Callable[[], None] | None) -> sqlite3.Connection:
        path = self.path
        new = not path.exists() or path.stat().st_size == 0
        if new and before_making is not None:
            before_making()
        connection: sqlite3.Connection | None = None
        try:
            if not path.exists():
                # Made by us and not by SQLite, whose mode would depend on the umask; closed before SQLite opens it.
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                os.close(os.open(path, flags, 0o600))
                crash_point("file-made")
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
            _discipline(connection)
            version = version_of(connection, schema, str(path))
            if version == 0 and not new and before_making is not None:
                before_making()
            if version < schema.version:
                connection.execute(f"PRAGMA page_size = {schema.page_bytes:d}")
                connection.execute("PRAGMA journal_mode = WAL")
                crash_point("journal-set")
                make_or_upgrade(connection, schema, version)
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // page_bytes:d}")
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                raise DatabaseUnusable(
                    f"{path} is not in WAL mode but in mode {mode!r}, so somebody has changed it; set it back with: "
                    f"sqlite3 {path} 'PRAGMA journal_mode=WAL'"
                )
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise _explain(error, path) from error
            if isinstance(error, OSError):
                raise DatabaseUnusable(f"{path} cannot be made: {error.strerror}") from error
            raise
        return connection

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Forked(f"{self.path} was opened by process {self._pid}, and this is its child {os.getpid()}")

    def _check_file(self) -> None:
        """See that the file and its lock are still those that were opened. The caller holds the lock."""
        if not self.lock.is_there():
            raise DatabaseLost(
                f"the lock file {self.lock.path} was removed or replaced while it was in use, so who came since then "
                f"and who was there before do not wait for each other; {self.path} itself is untouched. End what was "
                "begun before, and start it again"
            )
        try:
            found = os.stat(self.path)  # noqa: PTH116  (half the time of Path.stat, at every transaction)
            log = os.stat(self._log_path) if self._log_identity is not None else None  # noqa: PTH116
        except FileNotFoundError as error:
            raise self._lost("was deleted") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise self._lost("was replaced by another file")
        if found.st_size < self._size:
            raise self._lost("was truncated")
        self._size = found.st_size
        if log is not None:
            if (log.st_dev, log.st_ino) != self._log_identity:
                raise self._lost("has another log (-wal) than before")
        else:
            with suppress(FileNotFoundError):
                log = os.stat(self._log_path)  # noqa: PTH116
                self._log_identity = log.st_dev, log.st_ino

    def _lost(self, what: str) -> DatabaseLost:
        return DatabaseLost(
            f"{self.path} {what} while it was in use; what it kept is not known any more, and nothing new is put in "
            "its place while work that it knew of is running. Let the runs on this machine end, or end them; then "
            f"remove {self.path.name}* in {self.path.parent}, and the next run makes a new one"
        )


def _close_left_open(path: Path) -> None:
    """Close what this process could not close before. The caller holds the lock of the file."""
    for database in [one for one in _left_open if one.path == path and one._pid == os.getpid()]:  # noqa: SLF001
        _left_open.remove(database)
        database._close()  # noqa: SLF001  (of this module)


class Reader:
    """What stands in the file now, for whoever only looks: a ``with`` block that sees one state throughout.

    Raises:
        DatabaseUnusable: there is no such file, or it cannot be read.
    """

    def __init__(
        self, path: Path, schema: Schema, *, descriptors: Descriptors, timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self._path, self._schema, self._descriptors, self._timeout_s = path, schema, descriptors, timeout_s

    def __enter__(self) -> Self:
        path = self._path
        self._lock = FileLock(path.with_suffix(".lock"), self._descriptors)
        try:
            self._lock.acquire(self._timeout_s, shared=True)
            try:
                self._connection = self._open()
            finally:
                self._lock.release()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, sqlite3.Error):
                raise _explain(error, path) from error
            raise
        _connections.add(self._connection)
        return self

    def _open(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            _discipline(connection)
            if version_of(connection, self._schema, str(self._path)) != self._schema.version:
                raise DatabaseUnusable(
                    f"{self._path} has never been used by this version of executor; start a run first"
                )
            connection.execute("BEGIN")
        except BaseException:
            connection.close()
            raise
        return connection

    def execute(self, statement: str, values: tuple[object, ...] | dict[str, object] = ()) -> sqlite3.Cursor:
        """The rows of a SELECT. What goes wrong while they are fetched is explained at the end of the block."""
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _explain(error, self._path) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._lock.acquire(self._timeout_s, shared=True)
            self._connection.close()
        finally:
            _connections.discard(self._connection)
            self._lock.close()
        _raise_explained(error, self._path)


def _discipline(connection: sqlite3.Connection) -> None:
    """What every connection is told before anything else."""
    for statement in (
        f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS:d}",
        "PRAGMA mmap_size = 0",  # a truncated file would be a SIGBUS
        # After a power loss every lock, and so every lease, is gone anyway.
        "PRAGMA synchronous = NORMAL",
        "PRAGMA trusted_schema = OFF",
    ):
        connection.execute(statement)


def _raise_explained(error: BaseException | None, path: Path) -> None:
    """Raise what says more than an error of SQLite with which a block has ended, if there is such a one."""
    if isinstance(error, sqlite3.Error) and (explained := _explain(error, path)) is not error:
        raise explained from error


def _explain(error: sqlite3.Error, path: Path) -> Exception:
    name: Any = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_IOERR_SHORT_READ":
        return DatabaseLost(
            f"{path} ends before what should stand in it ({error}): its log, {path.name}-wal, was removed, or the file "
            "was truncated, while it was in use. When no run is alive on this machine, remove "
            f"{path.name}* in {path.parent}, and the next run makes a new one"
        )
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return DatabaseFull(
            f"{path} cannot be written ({error}); nothing was changed. Make room on that disk, or see why it fails; "
            "what waits goes on by itself then"
        )
    if name.startswith("SQLITE_READONLY"):
        return DatabaseUnusable(
            f"{path} is read-only for you ({error}); give yourself the right to write with: chmod u+w {path}, or set "
            "EXECUTOR_HOME to another folder"
        )
    if name.startswith("SQLITE_CANTOPEN"):
        return DatabaseUnusable(
            f"{path} cannot be opened ({error}); see that the folder {path.parent} is there, that you may write into "
            "it, and that this process may open more files (ulimit -n)"
        )
    if name.startswith("SQLITE_CORRUPT") or name == "SQLITE_NOTADB":
        return DatabaseUnusable(
            f"{path} is damaged ({error}): truncated, overwritten, or not a database. It is never replaced by itself; "
            f"when no run is alive on this machine, remove {path.name}* in {path.parent}, and the next run makes a new "
            "one"
        )
    if name.startswith("SQLITE_BUSY"):
        return DatabaseBusy(str(path), BUSY_TIMEOUT_MS / 1000, None)
    return error


def sqlite_version() -> tuple[str, bool]:
    """The version of SQLite, and whether it is one that can corrupt a file when writers do not lock it as we do."""
    version = sqlite3.sqlite_version_info
    mended = version >= (3, 51, 3) or version[:3] in {(3, 44, 6), (3, 50, 7)}
    return sqlite3.sqlite_version, not mended
