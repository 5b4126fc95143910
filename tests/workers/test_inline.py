"""Steps in the caller's own process: what only that kind of worker does."""

from __future__ import annotations

import signal
from pathlib import Path

from running import run

from executor import op
from executor.scheduler.events import StepStarted, StepSucceeded
from executor.workers.clock import RunClock
from executor.workers.inline import InlineWorkers
from executor.workers.interface import Attempt
from executor.workers.job import WorkerJob

TIMEOUT_S = 3600.0


def test_the_timeout_of_a_step_in_this_process_stands_still_while_it_is_paused(tmp_path: Path) -> None:
    """Ctrl-Z comes to the driver's handler while the step runs; no timer may go on from there until ``fg``."""
    left: dict[str, float] = {}

    @op
    def is_paused() -> None:
        left["before"] = signal.getitimer(signal.ITIMER_REAL)[0]
        workers.pause()
        left["paused"] = signal.getitimer(signal.ITIMER_REAL)[0]
        workers.resume()
        left["after"] = signal.getitimer(signal.ITIMER_REAL)[0]

    job = WorkerJob("r", "j", {}, str(tmp_path), str(tmp_path))
    workers = InlineWorkers(job, clock=RunClock())
    workers.start()
    workers.begin(Attempt(0, "is_paused", 1, is_paused, timeout_s=TIMEOUT_S))
    workers.tick(0.0)
    workers.close()
    assert [type(report) for report in workers.reports] == [StepStarted, StepSucceeded]
    assert left["paused"] == 0.0
    assert 0.0 < left["after"] <= left["before"] <= TIMEOUT_S


def test_a_timeout_that_no_timer_can_hold_is_none() -> None:
    @op(timeout=1e18)
    def quick() -> int:
        return 1

    assert run(quick, "in-process").success
