"""One run's place in the index of runs: entered when it begins, completed when it ends, and never in its way."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.runs.index import RunIndex, read_run, run_of
from executor.runs.prune import prune_after

if TYPE_CHECKING:
    from executor.config.instance_file import RetentionSettings
    from executor.runs.home import RunFolder
    from executor.scheduler.events import RunStarted

_TROUBLE = (ExecutorError, OSError, sqlite3.Error)


class IndexedRun:
    """A run that begins now; ``end`` when its lock is given back."""

    def __init__(self, folder: RunFolder, started: RunStarted, retention: RetentionSettings | None = None) -> None:
        """``retention`` says which runs are removed when it ends; None: none."""
        self._folder, self._retention = folder, retention
        self._index: RunIndex | None = None
        self.notice: str | None = None  #: why it cannot be entered; the run goes on
        try:
            self._index = RunIndex(folder.home)
            self._index.begin(run_of(started, folder.made_at_ns() / 1e9))
        except _TROUBLE as error:
            self.notice = (
                f"this run is not in the index of runs, which cannot be written: {error}\n"
                "to make it anew: executor instance doctor --repair"
            )

    def end(self) -> None:
        """Enter how the run ended. Where that cannot be, whoever asks reads the run's own folder."""
        index, self._index = self._index, None
        if index is None:
            return
        with suppress(*_TROUBLE):
            try:
                if not self._folder.path.exists():  # it was forgotten, since it never began
                    index.correct((), [self._folder.run_id])
                    return
                run = read_run(self._folder).with_size(self._folder.size_bytes())
                index.end(run)
                if self._retention is not None:
                    prune_after(self._folder.home, self._retention, index, run.duration_s or 0.0)
            finally:
                index.close()
