"""Thousands of steps leave nothing behind: not while the run goes on, and not after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sample_ops as ops
from census import children, descriptors, is_zombie
from running import run

from executor.runs.memory import PREFIX
from executor.scheduler.events import Event, StepSucceeded
from executor.workers.launch import SPARES

LANES = 2


def shared_memory() -> list[str]:
    """What is in memory for others to see, without what other programs on this machine may have there meanwhile."""
    return sorted(name for name in os.listdir("/dev/shm") if not name.startswith((PREFIX, "sem.loky")))


def count_all(steps: int, kind: str) -> None:
    """Run so many steps that do nothing, and count files, descriptors and processes on the way and at the end."""
    before = len(descriptors())
    shared = shared_memory()
    counts: list[tuple[int, int, int, int]] = []
    succeeded = 0

    def count(event: Event, _: float) -> None:
        nonlocal succeeded
        succeeded += isinstance(event, StepSucceeded)
        if isinstance(event, StepSucceeded) and succeeded % (steps // 10) == 0:
            (template,) = children()
            workers = children(template)
            held = len(os.listdir(f"/proc/{template}/fd"))
            counts.append((len(descriptors()) - before, held, len(workers), sum(map(is_zombie, workers))))

    job = [ops.silent.alias(f"step_{number}") for number in range(steps)]
    result = run(job, kind, on_event=count, max_concurrent=LANES)
    assert result.success
    assert len(counts) == 10
    # the driver has its own few, and one for each worker; so has the template
    assert max(mine for mine, _, _, _ in counts) < 40
    assert max(held for _, held, _, _ in counts) < 60
    assert max(workers for _, _, workers, _ in counts) < 30
    assert counts[-1][0] <= counts[0][0] + 20, "it does not grow"
    names = sorted(path.name for path in result.folder.path.iterdir())
    lanes = LANES + (SPARES if kind == "one-shot-fork" else 0)
    files = {"alive.lock", "config.json", "events.jsonl", "plan.json", "values"}
    assert set(names) == files | {f"lane-{n}.log" for n in range(lanes)}
    assert list(result.folder.values.iterdir()) == []
    assert shared_memory() == shared
    assert not any(result.run_id in name for name in os.listdir("/dev/shm"))
    assert len(descriptors()) == before


def test_two_thousand_steps_in_their_own_processes_leave_nothing_behind() -> None:
    count_all(2_000, "one-shot-fork")


def test_ten_thousand_steps_in_reused_processes_leave_nothing_behind() -> None:
    count_all(10_000, "unlimited-fork")


def test_six_hundred_steps_in_processes_that_take_three_each_leave_nothing_behind() -> None:
    count_all(600, "three-per-worker-fork")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_ten_thousand_steps_in_their_own_processes_leave_nothing_behind() -> None:
    count_all(10_000, "one-shot-fork")


def test_many_runs_in_one_program_leave_nothing_behind(home: Path) -> None:
    before = descriptors()
    for _ in range(40):
        assert run([ops.one, ops.divides], "one-shot-fork").status == "failed"
        assert children() == []
    assert descriptors() == before
    assert list((home / "live").iterdir()) == []
