"""One run's place in the index of runs: entered when it begins, completed when it ends, and never in its way."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.runs.index import RunIndex, read_run, run_of

if TYPE_CHECKING:
    from executor.runs.home import RunFolder
    from executor.scheduler.events import RunStarted

_TROUBLE = (ExecutorError, OSError, sqlite3.Error)


class IndexedRun:
    """A run that begins now; ``end`` when its lock is given back."""

    def __init__(self, folder: RunFolder, started: RunStarted) -> None:
        self._folder = folder
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
                index.end(read_run(self._folder).with_size(self._folder.size_bytes()))
            finally:
                index.close()
