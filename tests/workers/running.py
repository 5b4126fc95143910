"""Runs jobs for the tests of workers, on every kind of worker, and waits for what steps tell while they run."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from executor import OpDefinition, RunResult, job
from executor.api import execute_in_process, execute_job
from executor.authoring.jobs import JobDefinition
from executor.runs.steps import AttemptResult
from executor.scheduler.events import Event
from executor.workers.clock import RunClock

#: Every kind of worker, as settings of an executor; None: in the caller's process.
KINDS: dict[str, dict[str, Any] | None] = {
    "in-process": None,
    "one-shot-fork": {"start_method": "fork"},
    "one-shot-forkserver": {"start_method": "forkserver"},
    "one-shot-spawn": {"start_method": "spawn"},
    "three-per-worker-fork": {"start_method": "fork", "steps_per_worker": 3},
    "three-per-worker-forkserver": {"start_method": "forkserver", "steps_per_worker": 3},
    "three-per-worker-spawn": {"start_method": "spawn", "steps_per_worker": 3},
    "unlimited-fork": {"start_method": "fork", "steps_per_worker": "unlimited"},
    "unlimited-forkserver": {"start_method": "forkserver", "steps_per_worker": "unlimited"},
    "unlimited-spawn": {"start_method": "spawn", "steps_per_worker": "unlimited"},
}

#: The kinds with processes that live in different ways; and come to be in two.
PROCESSES = ["one-shot-fork", "unlimited-fork", "one-shot-spawn"]

#: Ends a wait for what never comes, on any machine. No test says anything by how soon it came.
PATIENCE_S = 60.0


def run(
    what: JobDefinition | OpDefinition | list[OpDefinition],
    kind: str = "one-shot-fork",
    *,
    tags: dict[str, object] | None = None,
    on_event: Callable[[Event, float], None] | None = None,
    selection: list[str] | None = None,
    **settings: Any,
) -> RunResult:
    """The result of running a job, or ops side by side, on that kind of worker; a failure is no exception."""
    job = what if isinstance(what, JobDefinition) else job_of(what)
    own = KINDS[kind]
    options: dict[str, Any] = {
        "tags": {"driver": str(os.getpid()), **{name: str(value) for name, value in (tags or {}).items()}},
        "on_event": on_event,
        "raise_on_error": False,
        "selection": selection,
    }
    if own is None:
        known = {name: value for name, value in settings.items() if name == "retries"}
        return execute_in_process(job, {"execution": {"config": known}} if known else None, **options)
    config = {"max_concurrent": 2, **own, **settings}
    return execute_job(job, {"execution": {"config": config}}, **options)


def job_of(ops: OpDefinition | list[OpDefinition]) -> JobDefinition:
    """A job that runs these ops side by side."""

    @job
    def several() -> None:
        for one in ops if isinstance(ops, list) else [ops]:
            one()

    return several


def attempt(result: RunResult, key: str, number: int = -1) -> AttemptResult:
    """An attempt of that step, counted from 1; the last without a number."""
    attempts = result.step(key).attempts
    return attempts[number if number < 0 else number - 1]


def error_of(result: RunResult, key: str) -> tuple[str, str]:
    """Kind and message of the failure of a step."""
    error = result.step(key).error
    assert error is not None, result.step(key)
    return error.kind, error.message


def output_of(result: RunResult, key: str, number: int = -1) -> str:
    """What an attempt wrote to stdout and stderr: the part of its lane's log that its facts name."""
    facts = attempt(result, key, number).facts
    return result.folder.lane_log(facts.lane).read_bytes()[facts.log_from : facts.log_to].decode()


class Mailbox:
    """A FIFO by which steps tell a test where they are. ``path`` goes to the step, as a tag of the run."""

    def __init__(self, folder: Path, name: str = "mailbox") -> None:
        self.path = str(folder / name)
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)  # with a writer of its own it never reads as ended
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def wait(self, lines: int = 1) -> list[str]:
        """The next lines that steps told; waits for them."""
        deadline = time.monotonic() + PATIENCE_S
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while self._read.count(b"\n") < lines:
            assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), (
                f"no word from the step; so far {self._read!r}"
            )
            self._read += os.read(self._fd, 4096)
        told = self._read.split(b"\n", lines)
        self._read = told.pop()
        return [line.decode() for line in told]


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition that gives no sign of its own, such as the end of a stranger."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"still waiting until {what}"
        os.sched_yield()


def await_end(pid: int) -> None:
    """Wait until a process, of whomever, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1000), f"process {pid} lives on"
    finally:
        os.close(fd)


class HeldClock(RunClock):
    """A run's clock that stands still until ``go_on``, so that no step's time is over before the test says so."""

    present: HeldClock

    def __init__(self) -> None:
        super().__init__()
        self.pause()
        HeldClock.present = self

    def go_on(self) -> None:
        """Let the time of the run pass from now on."""
        self.resume()
