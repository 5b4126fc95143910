"""The index of runs: one SQLite file in the home folder, so that a question over all runs does not read all histories.

Written by each driver at the begin and the end of its run, under the lock discipline of ``executor/database``. The
folders of the runs are the truth: a row counts only while its folder is there, a folder without a row is read itself,
and of a row that says that a run goes on it is seen whether its driver lives. So a file that is missing, broken or
behind gives slower answers and no wrong ones, and stops no run.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from executor.database.errors import DatabaseUnusable
from executor.database.index_schema import INDEX
from executor.database.lock import FileLock
from executor.database.sqlite import LOCK_TIMEOUT_S, Database, Reader
from executor.errors import ExecutorError, UsageError
from executor.ledger.named import run_name
from executor.runs.history import HistoryUnreadable, read_history, read_last
from executor.runs.home import RunFolder, run_ids
from executor.runs.records import DagsterRun, DagsterRunStatus, RunsFilter
from executor.runs.result import read_result
from executor.scheduler.events import RunEnded, RunStarted
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from executor.database.sqlite import Transaction

INDEX_FILE = "history.db"

# Held for a moment by whoever is about to ask for the lock of the file. Readers share that lock, so with many of them
# it would never be free for a writer, who now keeps further ones out while the last of them go.
TURN_FILE = "history.turn"

# A driver is held up for no longer by somebody who holds the lock of the file and does not go on.
PATIENCE_S = 1.0

_SELECT = "SELECT run_id, job, status, tags, parent, made_at, started_at, duration_s, steps, size_bytes FROM run"
_INSERT = """
    INSERT OR REPLACE INTO run
        (run_id, job, status, tags, parent, made_at, started_at, duration_s, steps, size_bytes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_Row = tuple[str, str | None, str, str, str | None, float, float | None, float | None, int | None, int | None]


# --- one run, from its folder ----------------------------------------------------------------------------------------


def read_run(folder: RunFolder) -> DagsterRun:
    """What a run's own folder says of it: the first and the last line of its history, and whether its driver lives.

    Raises:
        FileNotFoundError: the folder is not there any more.
    """
    made_at = folder.made_at_ns() / 1e9
    nothing = DagsterRun(run_id=folder.run_id, status=DagsterRunStatus.NOT_STARTED, made_at=made_at)
    try:
        status = DagsterRunStatus(read_result(folder).status)
        first = next(read_history(folder.events), None)
        last = read_last(folder.events)
    except UsageError:  # it has no event yet
        return nothing
    except HistoryUnreadable:
        return _with_status(nothing, DagsterRunStatus.UNREADABLE)
    if first is None or last is None or not isinstance(first[1], RunStarted):
        return _with_status(nothing, DagsterRunStatus.UNREADABLE)
    ended = isinstance(last[1], RunEnded) or status is DagsterRunStatus.INTERRUPTED
    return run_of(first[1], made_at, status, duration_s=last[0] if ended else None)


def run_of(
    started: RunStarted,
    made_at: float,
    status: DagsterRunStatus = DagsterRunStatus.STARTED,
    *,
    duration_s: float | None = None,
) -> DagsterRun:
    """A run as its first event tells it."""
    return DagsterRun(
        run_id=started.run_id,
        status=status,
        made_at=made_at,
        job_name=started.job,
        tags=started.tags,
        parent_run_id=started.parent or None,
        started_at=started.at,
        duration_s=duration_s,
        steps=started.steps,
    )


def _with_status(run: DagsterRun, status: DagsterRunStatus) -> DagsterRun:
    return DagsterRun(run_id=run.run_id, status=status, made_at=run.made_at)


# --- asking ----------------------------------------------------------------------------------------------------------


def find_runs(home: Path, filters: RunsFilter | None = None, *, limit: int | None = None) -> list[DagsterRun]:
    """The runs in a home folder that are asked for, the newest first; ``limit`` of them, or all.

    Whatever the index does not know is read from the runs themselves, and written into the index where that can be.
    """
    wanted = RunsFilter() if filters is None else filters
    there = set(run_ids(home))
    if wanted.run_ids is not None:
        there.intersection_update(wanted.run_ids)
    if not there:
        return []
    rows: list[_Row] = []
    with suppress(ExecutorError, OSError):  # it is not there, or damaged: the folders say it all
        if (home / INDEX_FILE).exists():
            rows = _rows(home)
    known = {row[0] for row in rows}
    learnt = [run for run_id in there - known if (run := _read(RunFolder(home / "runs" / run_id))) is not None]
    fresh = {run.run_id: run for run in learnt}
    order = [(row[5], row[0]) for row in rows if row[0] in there] + [(run.made_at, run.run_id) for run in learnt]
    by_id = {row[0]: row for row in rows}
    found: list[DagsterRun] = []
    for _, run_id in sorted(order, reverse=True):
        if limit is not None and len(found) >= limit:
            break
        run = fresh.get(run_id)
        if run is None:
            run = _run(by_id[run_id])
            if not run.is_finished and _is_over(folder := RunFolder(home / "runs" / run_id)):
                run = _read(folder)
                if run is None:
                    continue
                learnt.append(run)
        if wanted.matches(run):
            found.append(run)
    gone = known - there if wanted.run_ids is None else set()
    ended = [run.with_size(RunFolder(home / "runs" / run.run_id).size_bytes()) for run in learnt if run.is_finished]
    if ended or gone:
        with suppress(ExecutorError, OSError), RunIndex(home) as index:
            index.correct(ended, gone)
    return found


def _is_over(folder: RunFolder) -> bool:
    """Whether a run has ended, or was cut off: its driver writes its end into its history first, and then here."""
    if not folder.is_alive():
        return True
    try:
        last = read_last(folder.events)
    except (OSError, HistoryUnreadable):
        return False
    return last is not None and isinstance(last[1], RunEnded)


def _rows(home: Path) -> list[_Row]:
    with _reader(home) as reader:
        return reader.execute(_SELECT).fetchall()


@contextmanager
def _turn(home: Path, timeout_s: float) -> Iterator[None]:
    """Be the next to have the lock of the file. Raises ``DatabaseBusy`` where that takes too long."""
    turn = FileLock(home / TURN_FILE, hygiene)
    try:
        turn.acquire(timeout_s)
        yield
    finally:
        turn.close()


@contextmanager
def _reader(home: Path) -> Iterator[Reader]:
    """The index as it is now. Raises ``ExecutorError`` where it cannot be read."""
    with ExitStack() as stack:
        with _turn(home, LOCK_TIMEOUT_S):
            reader = stack.enter_context(Reader(home / INDEX_FILE, INDEX, descriptors=hygiene))
        yield reader


def _read(folder: RunFolder) -> DagsterRun | None:
    """A run from its folder; None where somebody has just removed it."""
    try:
        return read_run(folder)
    except FileNotFoundError:
        return None


def _run(row: _Row) -> DagsterRun:
    run_id, job, status, tags, parent, made_at, started_at, duration_s, steps, size_bytes = row
    return DagsterRun(
        run_id=run_id,
        status=DagsterRunStatus(status),
        made_at=made_at,
        job_name=job,
        tags=json.loads(tags),
        parent_run_id=parent,
        started_at=started_at,
        duration_s=duration_s,
        steps=steps,
        size_bytes=size_bytes,
    )


def _row(run: DagsterRun) -> _Row:
    return (
        run.run_id,
        run.job_name,
        run.status.value,
        json.dumps(dict(run.tags)),
        run.parent_run_id,
        run.made_at,
        run.started_at,
        run.duration_s,
        run.steps,
        run.size_bytes,
    )


# --- writing ---------------------------------------------------------------------------------------------------------


class RunIndex:
    """The index, open to be written; made where it is not there. A ``with`` block closes it.

    Raises:
        ExecutorError: it cannot be used now; the text says why.
    """

    def __init__(self, home: Path, *, timeout_s: float = PATIENCE_S) -> None:
        self._home, self._timeout_s = home, timeout_s
        with _turn(home, timeout_s):
            self._database = Database(home / INDEX_FILE, INDEX, descriptors=hygiene, timeout_s=timeout_s)

    def begin(self, run: DagsterRun) -> None:
        """A run begins. What others could not write down of their own end, because they were killed, is made up for."""
        stale = self._stale()
        with self._transaction() as transaction:
            for other in (run, *stale):
                transaction.execute(_INSERT, _row(other))

    def end(self, run: DagsterRun) -> None:
        """A run has ended."""
        with self._transaction() as transaction:
            transaction.execute(_INSERT, _row(run))

    def correct(self, runs: Iterable[DagsterRun], gone: Iterable[str]) -> None:
        """Let it know these runs that have ended, and forget those whose folders are gone."""
        with self._transaction() as transaction:
            for run in runs:
                if (self._home / "runs" / run.run_id).exists():
                    transaction.execute(_INSERT, _row(run))
            for run_id in gone:
                if not (self._home / "runs" / run_id).exists():
                    transaction.execute("DELETE FROM run WHERE run_id = ?", (run_id,))

    def replace(self, runs: Iterable[DagsterRun]) -> None:
        """Let it have these runs and no other."""
        with self._transaction() as transaction:
            transaction.execute("DELETE FROM run")
            for run in runs:
                transaction.execute(_INSERT, _row(run))

    def totals(self) -> tuple[int, float, int]:
        """How many runs it knows, when the oldest was made (0: there is none), and the bytes of all of them."""
        with self._database.explained():
            count, oldest, size = self._database.execute(
                "SELECT count(*), coalesce(min(made_at), 0), coalesce(sum(size_bytes), 0) FROM run"
            ).fetchone()
        return count, oldest, size

    def _stale(self) -> list[DagsterRun]:
        """Runs of which it says that they go on, and that do not."""
        with self._database.explained():
            names = [
                run_id
                for (run_id,) in self._database.execute(
                    "SELECT run_id FROM run WHERE status = ?", (DagsterRunStatus.STARTED.value,)
                )
            ]
        folders = [RunFolder(self._home / "runs" / run_id) for run_id in names]
        return [run for folder in folders if not folder.is_alive() and (run := _read(folder)) is not None]

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with ExitStack() as stack:
            with _turn(self._home, self._timeout_s):
                transaction = stack.enter_context(self._database.transaction(self._timeout_s))
            yield transaction

    def close(self) -> None:
        """Give it back. Safe to call twice."""
        with _turn(self._home, self._timeout_s):
            self._database.close(self._timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- examining and mending -------------------------------------------------------------------------------------------


def index_problems(home: Path) -> list[str]:
    """What is wrong with the index, one sentence each; empty where it is sound and knows every run that has ended.

    Raises:
        ExecutorError: it cannot be read.
    """
    with _reader(home) as reader:
        said = [text for (text,) in reader.execute("PRAGMA quick_check") if text != "ok"]
        if said:
            return [f"{home / INDEX_FILE} is damaged: {said[0]}"]
        rows = reader.execute(_SELECT).fetchall()
    runs = {row[0]: _run(row) for row in rows}
    there = set(run_ids(home))
    problems = []
    if gone := set(runs) - there:
        problems.append(f"{_runs_text(gone)} in it without a folder")
    if missing := [run_id for run_id in there - set(runs) if _has_ended(RunFolder(home / "runs" / run_id))]:
        problems.append(f"{_runs_text(missing)} not in it")
    if differ := [run_id for run_id in there & set(runs) if _differs(home, runs[run_id])]:
        problems.append(f"{_runs_text(differ)} other than its folder says")
    return problems


def _has_ended(folder: RunFolder) -> bool:
    run = _read(folder)
    return run is not None and run.is_finished


def _differs(home: Path, run: DagsterRun) -> bool:
    found = _read(RunFolder(home / "runs" / run.run_id))
    if found is None or not found.is_finished:
        return False
    return found.with_size(run.size_bytes) != run


def _runs_text(runs: Iterable[str]) -> str:
    names = sorted(runs)
    return (
        f"{len(names)} run{'s are' if len(names) > 1 else ' is'} ({run_name(names[0])}{', ...' if names[1:] else ''})"
    )


def rebuild(home: Path) -> int:
    """Make the index anew from the folders of the runs; how many it has then. Runs that go on are not disturbed.

    Raises:
        ExecutorError: it cannot be written.
    """
    runs = list(_read_all(home))
    try:
        _replace(home, runs)
    except DatabaseUnusable as error:
        cause = error.__cause__
        damaged = isinstance(cause, sqlite3.Error) and cause.sqlite_errorname.startswith(
            ("SQLITE_CORRUPT", "SQLITE_NOTADB")
        )
        if not damaged:
            raise
        _remove_file(home)
        _replace(home, runs)
    return len(runs)


def _replace(home: Path, runs: list[DagsterRun]) -> None:
    with RunIndex(home, timeout_s=LOCK_TIMEOUT_S) as index:
        index.replace(runs)


def _read_all(home: Path) -> Iterator[DagsterRun]:
    for run_id in run_ids(home):
        folder = RunFolder(home / "runs" / run_id)
        run = _read(folder)
        if run is not None and run.is_finished:
            yield run.with_size(folder.size_bytes())
        elif run is not None:
            yield run


def _remove_file(home: Path) -> None:
    """Remove a damaged index; a driver that has it open sees that before it writes, and goes on without it."""
    path = home / INDEX_FILE
    lock = FileLock(path.with_suffix(".lock"), hygiene)
    try:
        lock.acquire(LOCK_TIMEOUT_S)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    finally:
        lock.close()
