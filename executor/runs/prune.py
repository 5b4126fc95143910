"""Removing old runs: the newest are kept, as many, as long and as large together as the settings say.

A run is removed under its own lock, so never while its driver lives or somebody goes on from it; and never one that a
kept run was resumed from, whose values it reads. It leaves ``runs/`` in one step, and its files go one by one then, so
that what is interrupted is gone on with by the next.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.ledger.liveness import is_locked_anywhere, lane_files
from executor.runs.home import RunFolder, lock_run
from executor.runs.index import RunIndex, find_runs
from executor.runs.leftovers import processes_of
from executor.runs.records import DagsterRun, DagsterRunStatus
from executor.runs.report import memory_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.config.instance_file import RetentionSettings

DAY_S = 86400.0
GIB = 1 << 30

#: In the home folder: what has been removed and is not gone yet.
REMOVED = "removed"

# What a run may spend at its end on removing others: what nobody notices, or a small part of what it took itself.
# What is left then is gone on with at the end of the next.
SHORTEST_S = 0.02
SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A run that is not kept, and why."""

    run: DagsterRun
    reason: str


def choose(runs: Sequence[DagsterRun], settings: RetentionSettings, now: float) -> list[Removal]:
    """The runs that are not kept, of ``runs``, the newest first. Pure; ``now`` is in seconds since the epoch."""
    removals: dict[str, Removal] = {}
    size = 0
    for number, run in enumerate(runs):
        size += run.size_bytes or 0
        reason = _reason(number, now - run.made_at, size, settings)
        if number and reason and run.status is not DagsterRunStatus.STARTED:
            removals[run.run_id] = Removal(run=run, reason=reason)
    by_id = {run.run_id: run for run in runs}
    for run in runs:
        if run.run_id not in removals:  # and so are all that it goes back to
            parent = run.parent_run_id
            while parent is not None and removals.pop(parent, None) is not None:
                parent = by_id[parent].parent_run_id
    return list(removals.values())


def _reason(number: int, age_s: float, size_bytes: int, settings: RetentionSettings) -> str:
    if settings.max_count is not None and number >= settings.max_count:
        return f"beyond the newest {settings.max_count}"
    if settings.max_days is not None and age_s > settings.max_days * DAY_S:
        return f"older than {settings.max_days} days"
    if settings.max_gib is not None and size_bytes > settings.max_gib * GIB:
        return f"beyond the newest {memory_text(settings.max_gib * GIB)}"
    return ""


def prune(
    home: Path, settings: RetentionSettings, *, dry_run: bool = False, budget_s: float | None = None
) -> list[Removal]:
    """Remove the runs in a home folder that are not kept; those that were (``dry_run``: that would be) removed.

    With ``budget_s`` their files may outlive the call: it returns after about so many seconds.
    """
    end = None if budget_s is None else time.monotonic() + budget_s
    runs = [
        run if run.size_bytes is not None else run.with_size(RunFolder(home / "runs" / run.run_id).size_bytes())
        for run in find_runs(home)
    ]
    chosen = choose(runs, settings, time.time())
    if dry_run:
        return [removal for removal in chosen if not _is_used(home, removal.run)]
    gone = []
    for removal in chosen:
        if end is not None and time.monotonic() >= end:
            break
        if not _is_used(home, removal.run) and _take_away(home, removal.run.run_id):
            gone.append(removal)
    if gone:
        with suppress(ExecutorError, OSError), RunIndex(home) as index:
            index.correct([], [removal.run.run_id for removal in gone])
    empty(home, end)
    return gone


def prune_after(home: Path, settings: RetentionSettings, index: RunIndex, took_s: float) -> None:
    """At the end of a run that took so long: remove what is not kept, as far as that takes no time worth mentioning."""
    budget_s = max(SHORTEST_S, SHARE * took_s)
    count, oldest, size = index.totals()
    if (
        (settings.max_count is not None and count > settings.max_count)
        or (settings.max_days is not None and oldest < time.time() - settings.max_days * DAY_S)
        or (settings.max_gib is not None and size > settings.max_gib * GIB)
    ):
        prune(home, settings, budget_s=budget_s)
    else:
        empty(home, time.monotonic() + budget_s)


def _is_used(home: Path, run: DagsterRun) -> bool:
    """Whether a process of the run still works in its folder: that of a step that outlived its driver."""
    folder = RunFolder(home / "runs" / run.run_id)
    if folder.is_alive():
        return True
    if any(map(is_locked_anywhere, lane_files(folder.path))):
        return True
    return run.status is DagsterRunStatus.INTERRUPTED and bool(processes_of(folder))


def _take_away(home: Path, run_id: str) -> bool:
    """Let a run be no more, in one step; whether it could be."""
    folder = RunFolder(home / "runs" / run_id)
    (home / REMOVED).mkdir(mode=0o700, exist_ok=True)
    try:
        lock = lock_run(folder)
    except FileNotFoundError:  # its driver died between making the folder and the lock
        lock = None
        if not folder.path.exists():
            return False
    else:
        if lock is None:  # it lives, or somebody goes on from it
            return False
    try:
        folder.path.rename(home / REMOVED / run_id)
    except FileNotFoundError:  # somebody else was faster
        return False
    finally:
        if lock is not None:
            lock.release()
    return True


def empty(home: Path, end: float | None = None) -> None:
    """Delete the files of the runs that were removed, until ``end`` (of ``time.monotonic``); None: all of them."""
    try:
        runs = os.listdir(home / REMOVED)  # noqa: PTH208  (names are all it needs)
    except FileNotFoundError:
        return
    for run_id in runs:
        if not _delete(home / REMOVED / run_id, end):
            return


def _delete(folder: Path, end: float | None) -> bool:
    """Delete a folder with all that is in it; whether there was the time for it."""
    with suppress(OSError):  # somebody else does the same, or a process still writes there
        with os.scandir(folder) as entries:
            for entry in entries:
                if end is not None and time.monotonic() >= end:
                    return False
                if entry.is_dir(follow_symlinks=False):
                    if not _delete(folder / entry.name, end):
                        return False
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(entry.path)  # noqa: PTH108  (there may be very many)
        folder.rmdir()
    return True
