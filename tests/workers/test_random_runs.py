"""Random graphs, random kills, random interrupts: each run ends, tells the truth, and tells each thing once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import random_ops
from running import run

from executor import RunResult, job
from executor.authoring.jobs import JobDefinition
from executor.runs.home import find_run, open_home
from executor.runs.result import read_result
from executor.scheduler.events import (
    CancelRequested,
    Event,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.states import StepState
from executor.workers import process

KINDS = ["one-shot-fork", "three-per-worker-fork", "unlimited-fork"]
FRESH_KINDS = [
    "one-shot-forkserver",
    "three-per-worker-forkserver",
    "unlimited-forkserver",
    "one-shot-spawn",
    "unlimited-spawn",
]
SHORT, LONG = 100, 10_000
FRESH = 24  # fewer: each has a fresh interpreter
DONE = {StepState.SUCCEEDED, StepState.SKIPPED}


def random_job(chance: random.Random) -> JobDefinition:
    """Up to 14 steps, each reading from up to three before it."""
    choices, weights = zip(*random_ops.WEIGHTS, strict=True)

    @job
    def graph() -> None:
        made: list[object] = []
        for number in range(chance.randint(1, 14)):
            one = chance.choices(choices, weights)[0].alias(f"step_{number}")
            above = chance.sample(made, min(len(made), chance.randint(0, 3)))
            made.append(one(above) if above else one())

    return graph


class Mischief:
    """Kills workers and templates and interrupts the run, by chance, as its events come."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kills = chance.choice([0.0, 0.0, 0.1, 0.3])
        self._templates = chance.choice([0.0, 0.0, 0.0, 0.03])
        self._interrupts = chance.choice([0.0, 0.0, 0.02])
        self.interrupted = False

    def __call__(self, event: Event, _: float) -> None:
        if self.interrupted:
            return
        if isinstance(event, StepStarted):
            template = template_of(event.pid)
            if self._chance.random() < self._kills and template:
                self._kill(event.pid)
            if self._chance.random() < self._templates:
                self._kill(template)
        if isinstance(event, StepStarted | StepSucceeded) and self._chance.random() < self._interrupts:
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)

    @staticmethod
    def _kill(pid: int) -> None:
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def template_of(worker: int) -> int:
    """The session that a worker is in is its template's, a child of ours; 0 where it is gone, and its pid another's."""
    try:
        session = os.getsid(worker)
    except ProcessLookupError:
        return 0
    fields = process.stat_of(session)
    return session if fields is not None and int(fields[1]) == os.getpid() else 0


def check(result: RunResult, trace: Path, *, interrupted: bool) -> None:
    """What must hold whatever happened."""
    plan, events = result.plan, result.events
    states = {key: step.state for key, step in result.steps.items()}

    # success is when all that was asked for is done, and nothing else
    assert result.success == (set(states.values()) <= DONE)
    assert result.interrupted <= interrupted
    assert set(states.values()) <= {*DONE, StepState.FAILED, StepState.NOT_RUN, StepState.CANCELLED}

    # each attempt has one beginning and one end, and no two of a step at once
    running: dict[str, int] = {}
    ended: Counter[tuple[str, int]] = Counter()
    over: set[str] = set()
    cancelled = False
    for event in events:
        if isinstance(event, StepStarted):
            assert event.key not in running
            assert event.key not in over
            assert not cancelled, "nothing starts after the interrupt"
            running[event.key] = event.attempt
            above = [plan.steps[index].key for index in plan.upstream[plan.index_of[event.key]]]
            assert {states[key] for key in above} <= DONE
            assert {key for key in above if states[key] is StepState.SUCCEEDED} <= over
        elif isinstance(event, StepSucceeded | StepFailed | StepReturned):
            # an attempt that was stopped before any worker had it ends without a beginning
            begun = running.pop(event.key, None)
            assert begun == event.attempt or isinstance(event, StepFailed)
            if not isinstance(event, StepReturned):
                ended[event.key, event.attempt] += 1
                over.add(event.key)
        elif isinstance(event, StepWillRetry):
            over.discard(event.key)
        elif isinstance(event, CancelRequested):
            cancelled = True
        elif isinstance(event, StepNotRun):
            assert states[event.because] not in DONE
    assert running == {}
    assert set(ended.values()) <= {1}

    # what really happened: no attempt ran twice, and none ran that the history does not know
    lines = [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []
    begun = Counter((key, int(number)) for what, key, number, _ in lines if what == "begin")
    finished = Counter((key, int(number)) for what, key, number, _ in lines if what == "end")
    assert set(begun.values()) <= {1}
    assert set(begun) <= set(ended)
    for key, state in states.items():
        if state is StepState.SUCCEEDED:
            assert finished[key, result.steps[key].attempts[-1].number] == 1
        if state in {StepState.NOT_RUN, StepState.SKIPPED}:
            assert not any(name == key for name, _ in begun)


def run_one(seed: int, folder: Path, kinds: Sequence[str] = KINDS) -> None:
    """One random run, on one of these kinds of worker."""
    chance = random.Random(seed)
    mischief = Mischief(chance)
    graph = random_job(chance)
    trace = folder / f"trace-{seed}"
    limit = chance.randint(1, 4)
    try:
        result = run(graph, chance.choice(kinds), tags={"trace": trace}, on_event=mischief, max_concurrent=limit)
    except KeyboardInterrupt:  # it came when nothing was left to stop: the run is over, and it is for the program
        assert mischief.interrupted
        result = read_result(find_run(open_home(), "last"))
        assert result.status not in {"running", "interrupted"}
    check(result, trace, interrupted=mischief.interrupted)


def test_an_interrupt_that_comes_with_the_last_event_of_a_step_leaves_a_run_that_is_over(tmp_path: Path) -> None:
    def interrupt_at_the_end(event: Event, _: float) -> None:
        if isinstance(event, StepSucceeded):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(random_ops.works, "unlimited-fork", tags={"trace": tmp_path / "trace"}, on_event=interrupt_at_the_end)
    result = read_result(find_run(open_home(), "last"))
    assert result.success
    check(result, tmp_path / "trace", interrupted=True)


@pytest.mark.parametrize("part", range(4))
def test_random_runs_end_and_tell_the_truth(part: int, tmp_path: Path) -> None:
    for seed in range(part * SHORT // 4, (part + 1) * SHORT // 4):
        print("seed", seed)
        run_one(seed, tmp_path)


@pytest.mark.parametrize("part", range(2))
def test_random_runs_with_a_fresh_template_end_and_tell_the_truth(part: int, tmp_path: Path) -> None:
    for seed in range(part * FRESH // 2, (part + 1) * FRESH // 2):
        print("seed", seed)
        run_one(seed, tmp_path, FRESH_KINDS)


@pytest.mark.torture
@pytest.mark.timeout(7200)
def test_ten_thousand_random_runs_end_and_tell_the_truth(tmp_path: Path) -> None:
    for seed in range(SHORT, SHORT + LONG):
        print("seed", seed)
        run_one(seed, tmp_path)
