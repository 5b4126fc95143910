"""Steps in the driver's own process, one after another: for debugging, for tests, and where no process can be made."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from executor.scheduler.events import Facts, StepError, StepFailed, StepStarted, StepSucceeded, StoredValue
from executor.workers import process
from executor.workers.runner import StepRunner
from executor.workers.streams import step_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from executor.workers.clock import RunClock
    from executor.workers.interface import Attempt, Report, StopReason, WorkerJob


class InlineWorkers:
    """Runs each attempt inside ``begin``. Implements ``Workers``, less what only a process of its own can give.

    A step cannot be killed: Ctrl-C and a timeout raise in it (in the main thread), and that is all. Its output goes
    where the caller's goes.
    """

    description = "in this process, one step after another"

    def __init__(self, job: WorkerJob, *, clock: RunClock) -> None:
        self._job, self._clock = job, clock
        self.reports: list[Report] = []
        self.exceptions: dict[str, BaseException] = {}  #: step key -> what its last attempt raised
        self._next: deque[Attempt] = deque()
        self._usage: process.Usage | None = None
        self._runner: StepRunner | None = None

    def start(self) -> None:
        """Get ready to run steps."""
        self._usage = process.Usage()
        self._runner = StepRunner(self._job, step_log())

    def begin(self, attempt: Attempt) -> None:
        """Run ``attempt`` at the next ``tick``, after its start has been told and shown."""
        self.reports.append(StepStarted(attempt.key, attempt.number, os.getpid(), -1, attempt.waited))
        self._next.append(attempt)

    @property
    def wake_at(self) -> float | None:
        """At once, when there is a step to run."""
        return 0.0 if self._next else None

    def tick(self, now: float) -> None:  # noqa: ARG002  (a step that is here is due)
        """Run the next step, from its begin to its end."""
        if self._next:
            self._run(self._next.popleft())

    def _run(self, attempt: Attempt) -> None:
        runner, usage = self._runner, self._usage
        assert runner is not None  # noqa: S101  (start comes first)
        assert usage is not None  # noqa: S101  (as above)
        key, number = attempt.key, attempt.number
        step = self._job.steps[attempt.step]
        usage.restart()
        runner.stop.asked = False  # this process lives on after an attempt that was stopped
        started_at = time.monotonic()
        timed_out = False
        with self._alarm(step.timeout_s):
            outcome = runner.run(step, number, attempt.inputs)
        ended_at = time.monotonic()
        if step.timeout_s is not None and ended_at - started_at >= step.timeout_s:
            timed_out = True
        cpu_s, peak = usage.read()
        facts = Facts(self._clock.at(started_at), self._clock.at(ended_at), cpu_s, peak, os.getpid())
        self.exceptions.pop(key, None)
        if timed_out:
            text = f"it took longer than its timeout of {step.timeout_s:g} s"
            trace = outcome.traceback if isinstance(outcome, StepError) else ""
            outcome = StepError("timed_out", text, trace)
        if isinstance(outcome, StepError):
            if runner.error is not None:
                self.exceptions[key] = runner.error
            self.reports.append(StepFailed(key, number, outcome, 0.0, facts))
        else:
            stored, missing = outcome
            self.reports.append(
                StepSucceeded(key, number, tuple([StoredValue(*value) for value in stored]), tuple(missing), facts)
            )
        runner.error = None

    @contextmanager
    def _alarm(self, seconds: float | None) -> Iterator[None]:
        """Interrupt what runs inside after ``seconds``; only the main thread can be interrupted."""
        if seconds is None:
            yield
            return
        try:
            before = signal.signal(signal.SIGALRM, self._on_signal)
        except ValueError:  # not the main thread
            yield
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._runner is not None:
            self._runner.stop.on_signal(signum, frame)

    def interrupt(self) -> None:
        """Raise in the step that is running, if any."""
        if self._runner is not None:
            self._runner.stop.on_signal(signal.SIGINT, None)

    def stop(self, key: str, reason: StopReason, *, kill: bool) -> None:  # noqa: ARG002  (nothing to kill)
        """Drop the attempt if it was not begun; between two calls of ``tick`` nothing runs."""
        for attempt in [attempt for attempt in self._next if attempt.key == key]:
            self._next.remove(attempt)
            error = StepError(reason, "it was stopped before it began")
            self.reports.append(StepFailed(key, attempt.number, error))

    def flush(self) -> None:
        """Nothing is held back."""

    def pause(self) -> None:
        """The steps stop with this process."""

    def resume(self) -> None:
        """And continue with it."""

    def close(self, *, kill: bool = False) -> None:  # noqa: ARG002  (there is nothing to kill)
        """Give the descriptors back."""
        if self._usage is not None:
            self._usage.close()
            self._usage = None
