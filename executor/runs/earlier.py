"""What the steps of a job took in its latest runs, for who has to guess how long they will take."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.runs.history import read_history
from executor.runs.home import RunFolder
from executor.runs.index import find_runs
from executor.runs.records import RunsFilter
from executor.scheduler.events import StepSucceeded

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first frame of a live view waits until these are read.
MOST_BYTES = 2 * 1024 * 1024

# A step that has not succeeded in so many runs has changed since.
MOST_RUNS = 5


def earlier_seconds(folder: RunFolder, job_name: str) -> dict[str, float]:
    """Seconds that steps took when they last succeeded, by key, in runs of that job other than the one in ``folder``.

    As far as that is found in the latest runs, quickly; what cannot be read is left out.
    """
    found: dict[str, float] = {}
    with suppress(ExecutorError, OSError):
        for earlier in _histories(folder, job_name):
            latest: dict[str, float] = {}
            with suppress(ExecutorError, OSError):
                for _, event in read_history(earlier.events):
                    if isinstance(event, StepSucceeded) and event.facts.ended_at:
                        latest[event.key] = event.facts.ended_at - event.facts.started_at
            found = latest | found
    return found


def _histories(folder: RunFolder, job_name: str) -> Iterator[RunFolder]:
    """The latest runs whose histories are not too large together, the newest first."""
    left = MOST_BYTES
    for run in find_runs(folder.home, RunsFilter(job_name=job_name), limit=MOST_RUNS + 1):
        earlier = RunFolder(folder.home / "runs" / run.run_id)
        if run.run_id == folder.run_id or not run.is_finished:
            continue
        left -= earlier.events.stat().st_size
        if left < 0:
            return
        yield earlier
