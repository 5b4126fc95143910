"""Steps in the driver's own process, one after another: for debugging, for tests, and where no process can be made."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from executor.scheduler.events import Facts, StepFailed, StepStarted, StepSucceeded
from executor.scheduler.outcomes import StepError, StoredValue
from executor.workers import process
from executor.workers.claimed import held_here
from executor.workers.explain import describe
from executor.workers.runner import StepRunner
from executor.workers.stacks import Listening
from executor.workers.streams import lane_file, step_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

    from executor.workers.clock import RunClock
    from executor.workers.interface import Attempt, Report, StopReason
    from executor.workers.job import WorkerJob


#: Kinds of failures that are not the step's own.
STOPPED = ("cancelled", "timed_out")


def debug(key: str, error: BaseException) -> None:
    """Enter the debugger at the line that raised ``error`` in a step, until the user leaves it."""
    import bdb
    import pdb  # noqa: T100  (asked for with --pdb)

    if isinstance(error, bdb.BdbQuit):  # of a breakpoint() in the step
        return
    sys.stderr.write(f"\nstep {key!r} failed: {describe(error)}\nThe debugger is where it was raised; q leaves it.\n")
    pdb.post_mortem(error.__traceback__)


# A timer has no room for any number of seconds; a step that may take longer than a year needs none.
LONGEST_ALARM_S = 365 * 86400.0


class InlineWorkers:
    """Runs each attempt inside ``begin``. Implements ``Workers``, less what only a process of its own can give.

    A step cannot be killed: Ctrl-C and a timeout raise in it (in the main thread), and that is all. Its output goes
    where the caller's goes.
    """

    template_died = False
    description = "in this process, one step after another"

    def __init__(self, job: WorkerJob, *, clock: RunClock, post_mortem: bool = False) -> None:
        """``post_mortem``: enter the debugger where a step raised."""
        self._job, self._clock, self._post_mortem = job, clock, post_mortem
        self._lock_step = job.lock_step()
        self.reports: list[Report] = []
        self.exceptions: dict[str, BaseException] = {}  #: step key -> what its last attempt raised
        self._next: deque[Attempt] = deque()
        self._usage: process.Usage | None = None
        self._runner: StepRunner | None = None
        self._listening: Listening | None = None
        self._interrupted = False
        self._inside = False  #: a step is in here
        self._alarmed = False  #: a timer runs for the step
        self._timer_s: float | None = None  #: what was left of a step's timeout when it was paused

    def start(self) -> None:
        """Get ready to run steps."""
        self._usage = process.Usage()
        self._runner = StepRunner(self._job, step_log())
        if self._job.stack_signal:
            self._listening = Listening()

    def await_ready(self) -> None:
        """It is."""

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
        task = (attempt.step, number, 0, key, dict(attempt.tags), attempt.inputs, attempt.claim, attempt.token)
        usage.restart()
        runner.stop.asked = self._interrupted  # not what stopped an earlier attempt: this process lives on after it
        started_at = time.monotonic()
        self._inside = True
        try:
            with self._held(attempt.claim) as refused, self._alarm(attempt.timeout_s):
                outcome = refused or runner.run(attempt.op, task)
        finally:
            self._inside = False
        ended_at = time.monotonic()
        cpu_s, peak = usage.read()
        facts = Facts(self._clock.at(started_at), self._clock.at(ended_at), cpu_s, peak, os.getpid())
        self.exceptions.pop(key, None)
        if attempt.timeout_s is not None and facts.ended_at - facts.started_at >= attempt.timeout_s:
            text = f"it took longer than its timeout of {attempt.timeout_s:g} s"
            trace = outcome.traceback if isinstance(outcome, StepError) else ""
            outcome = StepError("timed_out", text, trace)
        if isinstance(outcome, StepError):
            if runner.error is not None:
                self.exceptions[key] = runner.error
                if self._post_mortem and outcome.kind not in STOPPED:
                    debug(key, runner.error)
            self.reports.append(StepFailed(key, number, outcome, 0.0, facts))
        else:
            stored, missing = outcome
            self.reports.append(
                StepSucceeded(key, number, tuple([StoredValue(*value) for value in stored]), tuple(missing), facts)
            )
        runner.error = None

    def _held(self, claim: int) -> AbstractContextManager[StepError | None]:
        """Hold the slots of an attempt while it runs. Without a claim there is nothing to hold."""
        if not claim or self._lock_step is None:
            return nullcontext()
        return held_here(self._lock_step, f"{self._job.lanes_folder}/{lane_file(0)}", claim)

    @contextmanager
    def _alarm(self, seconds: float | None) -> Iterator[None]:
        """Interrupt what runs inside after ``seconds``; only the main thread can be interrupted."""
        if seconds is None or seconds > LONGEST_ALARM_S:
            yield
            return
        try:
            before = signal.signal(signal.SIGALRM, self._on_signal)
        except ValueError:  # not the main thread
            yield
            return
        began = time.monotonic()
        callers_s, interval_s = signal.setitimer(signal.ITIMER_REAL, seconds)
        self._alarmed = True
        try:
            yield
        finally:
            self._alarmed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if callers_s:  # the caller's own timer, such as a test's, goes on
                left_s = max(0.001, callers_s - (time.monotonic() - began))
                signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._runner is not None:
            self._runner.stop.on_signal(signum, frame)

    def interrupt(self, signum: int) -> None:
        """Raise in the step that is running, if any; the second time end this process as the signal does by itself.

        All that has happened is in the history by then: nothing is told while a step runs.
        """
        if self._inside and self._interrupted and not hasattr(sys, "ps1"):  # a notebook's process outlives its runs
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        self._interrupted = True
        if self._runner is not None:
            if self._inside and not hasattr(sys, "ps1"):
                _say(f"{signal.Signals(signum).name}: the step is asked to stop; once more to end this process at once")
            self._runner.stop.on_signal(signum, None)

    def stop(self, key: str, reason: StopReason, *, kill: bool) -> None:  # noqa: ARG002  (nothing to kill)
        """Drop the attempt if it was not begun; between two calls of ``tick`` nothing runs."""
        for attempt in [attempt for attempt in self._next if attempt.key == key]:
            self._next.remove(attempt)
            error = StepError(reason, "it was stopped before it began")
            self.reports.append(StepFailed(key, attempt.number, error))

    def get_ready(self) -> None:
        """It is."""

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def blocking(self) -> bool:
        """Whether a step is running now."""
        return self._runner is not None and self._runner.stop.running

    def pause(self) -> None:
        """The step that is running stops with this process; so does the time that it has left."""
        if self._alarmed:
            self._timer_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)

    def resume(self) -> None:
        """And continues with it."""
        if self._timer_s is not None:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, self._timer_s))
            self._timer_s = None

    def close(self, *, kill: bool = False) -> None:  # noqa: ARG002  (there is nothing to kill)
        """Give the descriptors back."""
        if self._usage is not None:
            self._usage.close()
            self._usage = None
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def _say(text: str) -> None:
    """Write a line to standard error inside a signal handler: past what may be at work there, and to no full pipe."""
    with suppress(OSError):
        if select.select((), (2,), (), 0)[1]:
            os.write(2, f"{text}\n".encode())
