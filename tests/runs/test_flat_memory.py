"""I34: neither the driver nor what shows a run grows with the steps that are over.

The short form counts what Python allocates, which no machine changes; `python -m tests.torture.soak` is the long form,
with 100,000 steps and the memory that the kernel counts.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from written_run import plan_of, step

from executor import job, multiprocess_executor, op
from executor.cli.watch import Watch
from executor.runs.report import EventLines
from executor.runs.summary import Summary
from executor.runs.view import RunView
from executor.scheduler.commands import StartStep
from executor.scheduler.events import Event, Facts, RunStarted, StepStarted, StepSucceeded
from executor.scheduler.limits import Limits
from executor.scheduler.scheduler import Scheduler

# An entry in a dict takes more for each step. What is left for buffers and the like does not depend on the steps.
BYTES_PER_STEP = 30
BYTES_AT_ALL = 100_000

STEPS = 6_000
SEEN = 1_000  #: steps after which everything has been met once


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


class Measured:
    """Notes what is allocated when steps come to their end."""

    def __init__(self) -> None:
        self.ends = 0
        self.before = self.after = 0

    def __call__(self, event: Event, t: float) -> None:
        if isinstance(event, StepSucceeded):
            self.ends += 1
            if self.ends == SEEN:
                self.before = tracemalloc.get_traced_memory()[0]
            elif self.ends == STEPS:
                self.after = tracemalloc.get_traced_memory()[0]

    def check(self) -> None:
        assert self.ends == STEPS
        grown = self.after - self.before
        assert grown < BYTES_PER_STEP * (STEPS - SEEN) + BYTES_AT_ALL, f"{grown / (STEPS - SEEN):.0f} bytes per step"


@op
def empty() -> None:
    pass


@job(executor_def=multiprocess_executor.configured({"steps_per_worker": "unlimited", "max_concurrent": 2}))
def many():
    for _ in range(STEPS):
        empty()


def test_a_driver_does_not_grow_with_the_steps_that_are_over() -> None:
    measured = Measured()
    assert many.execute(tags={"soak": "short"}).success  # what is loaded or made once is not counted
    from executor.api import execute_job

    assert execute_job(many, on_event=measured).success
    measured.check()


def test_neither_does_what_the_command_keeps_for_the_summary(tmp_path: Path) -> None:
    measured = Measured()
    watch = Watch(tmp_path, output="failed", quiet=True, as_json=False, events=None)
    plan = plan_of(*[step(f"s{number}") for number in range(STEPS)])
    watch.meet(plan)
    for event, t in events_of(STEPS):
        watch(event, t)
        measured(event, t)
    measured.check()
    assert watch.summary.counts == {"succeeded": STEPS}


def test_neither_does_the_view() -> None:
    plan = plan_of(*[step(f"s{number}") for number in range(STEPS)])
    scheduler = Scheduler(plan, Limits(max_concurrent=2))
    view = RunView(plan, started())
    lines, measured = EventLines(), Measured()
    commands = scheduler.start(0.0)
    t = 0.0
    while commands:
        command = commands.pop()
        assert isinstance(command, StartStep)
        t += 0.001
        begun = StepStarted(command.key, 1, 7, 0, command.waited)
        done = StepSucceeded(command.key, 1, facts=Facts(t, t + 0.001, pid=7, lane=0))
        for event in (begun, done):
            view.tell(event, t)
            lines.note(event, t)
            view.frame(t, rows=5)
        commands += scheduler.handle(done, t)
        measured(done, t)
    measured.check()
    assert view.frame().over == STEPS


def test_a_leak_of_one_entry_per_step_would_be_found() -> None:
    measured, leak = Measured(), {}
    for event, t in events_of(STEPS):
        leak[id(event)] = (event, t)
        measured(event, t)
    with pytest.raises(AssertionError, match="bytes per step"):
        measured.check()


def test_the_summary_is_the_same_whether_the_plan_was_met_before_or_not() -> None:
    plan = plan_of(*[step(f"s{number}") for number in range(20)])
    texts = []
    for met in (False, True):
        summary = Summary()
        if met:
            summary.meet(plan)
        for event, t in events_of(20):
            summary.add(event, t)
        texts.append(summary.text(plan))
    assert texts[0] == texts[1]


def events_of(steps: int) -> Iterator[tuple[Event, float]]:
    for number in range(steps):
        t = number / 1000
        yield StepStarted(f"s{number}", 1, 7, 0), t
        yield StepSucceeded(f"s{number}", 1, facts=Facts(t, t + 0.01 * number, 0.1, sys.maxsize, 7, 0)), t


def started() -> RunStarted:
    return RunStarted(run_id="7f3a12cd", job="soak", at=0.0, pid=1, steps=STEPS, max_concurrent=2)
