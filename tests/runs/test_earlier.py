"""What steps took in earlier runs of a job, as a live view has it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from written_run import WrittenRun, step

from executor.runs import earlier
from executor.runs.earlier import earlier_seconds
from executor.scheduler.events import Facts, StepFailed, StepSucceeded
from executor.scheduler.outcomes import StepError

if TYPE_CHECKING:
    from pathlib import Path


def ended_run(home: Path, **seconds: float) -> WrittenRun:
    """A run of which each step took so long, one after the other; one that took less than nothing failed."""
    run, now = WrittenRun(home, *map(step, seconds), at_once=1), 0.0
    for key, took in seconds.items():
        facts = Facts(now, now + abs(took), pid=1)
        now += abs(took)
        run.tell(
            StepSucceeded(key, 1, facts=facts)
            if took > 0
            else StepFailed(key, 1, StepError("exception", "boom"), facts=facts),
            now,
        )
    run.end(now)
    return run


def test_the_latest_time_in_which_each_step_succeeded_counts(default_home: Path) -> None:
    ended_run(default_home, load=1.0, train=2.0, gone=9.0)
    ended_run(default_home, load=3.0, train=-4.0)
    with WrittenRun(default_home, step("load"), step("train")) as run:
        assert earlier_seconds(run.folder, "nightly") == pytest.approx({"load": 3.0, "train": 2.0, "gone": 9.0})
        assert earlier_seconds(run.folder, "hourly") == {}


def test_histories_that_are_damaged_gone_or_large_are_left_out(
    default_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_run(default_home, load=1.0)
    large = ended_run(default_home, load=2.0)
    with WrittenRun(default_home, step("load")) as run:
        assert earlier_seconds(run.folder, "nightly") == pytest.approx({"load": 2.0})
        monkeypatch.setattr(earlier, "MOST_BYTES", large.folder.events.stat().st_size - 1)
        assert earlier_seconds(run.folder, "nightly") == {}
        monkeypatch.undo()
        large.folder.events.write_text("{}\n")
        assert earlier_seconds(run.folder, "nightly") == pytest.approx({"load": 1.0})
        shutil.rmtree(large.folder.path)
        assert earlier_seconds(run.folder, "nightly") == pytest.approx({"load": 1.0})
