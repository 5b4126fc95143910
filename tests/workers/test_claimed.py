"""The lock of an attempt with a claim, as a worker takes it and lets go of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from executor.ledger.liveness import is_locked, live_steps, lock_owner, new_owner, take_step_lock
from executor.scheduler.outcomes import StepError
from executor.workers import claimed, hygiene

CLAIM = 77


@pytest.fixture
def owner(tmp_path: Path) -> str:
    (tmp_path / "own").mkdir()
    return new_owner()


def in_child(body: Callable[[], object]) -> int:
    """The exit code of a child that runs this; 1 if it raises."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_worker_whose_run_was_taken_for_dead_ends_before_the_step(tmp_path: Path, owner: str) -> None:
    lane, ran = str(tmp_path / "lane-0.log"), tmp_path / "ran"

    def work() -> None:
        claimed.take(partial(take_step_lock, tmp_path, owner), lane, CLAIM)
        ran.touch()

    assert in_child(work) == claimed.OWNER_DEAD
    assert not ran.exists()


def test_the_streams_of_a_step_carry_its_lock_until_it_is_given_back(tmp_path: Path, owner: str) -> None:
    lane = str(tmp_path / "lane-0.log")
    fd = lock_owner(tmp_path, owner)

    def work() -> None:
        lock = claimed.take(partial(take_step_lock, tmp_path, owner), lane, CLAIM)
        assert not isinstance(lock, StepError)
        assert sorted(live_steps(tmp_path, [CLAIM])[CLAIM]) == [str(tmp_path / "lane-0.in"), lane]
        assert os.read(0, 10) == b""
        os.write(1, b"out ")
        os.write(2, b"err ")
        os.close(0)  # as some steps do
        os.dup(1)  # and forget
        claimed.give_back(lock, lane)
        assert live_steps(tmp_path, [CLAIM]) == {}
        claimed.restore_streams(lock, lane)
        assert os.read(0, 10) == b""
        os.write(1, b"out again")

    assert in_child(work) == 0
    assert Path(lane).read_text() == "out err out again"
    hygiene.close(fd)


def test_a_lock_whose_files_were_closed_by_the_step_is_given_back_all_the_same(tmp_path: Path, owner: str) -> None:
    lane = str(tmp_path / "lane-0.log")
    fd = lock_owner(tmp_path, owner)

    def work() -> None:
        lock = claimed.take(partial(take_step_lock, tmp_path, owner), lane, CLAIM)
        assert not isinstance(lock, StepError)
        os.close(lock.output_fd)
        mine = os.open(tmp_path / "mine", os.O_WRONLY | os.O_CREAT)
        assert mine == lock.output_fd, "the lowest number that is free"
        claimed.give_back(lock, lane)
        assert live_steps(tmp_path, [CLAIM]) == {}
        claimed.restore_streams(lock, lane)
        os.write(1, b"out")
        os.write(mine, b"still open")

    assert in_child(work) == 0
    assert Path(lane).read_text() == "out"
    hygiene.close(fd)


def test_a_lock_that_cannot_be_had_is_a_failure_and_the_step_must_not_run(tmp_path: Path, owner: str) -> None:
    fd = lock_owner(tmp_path, owner)
    lock_step = partial(take_step_lock, tmp_path, owner)
    error = claimed.take(lock_step, str(tmp_path / "missing" / "lane-0.log"), CLAIM)
    assert isinstance(error, StepError)
    assert error.kind == "slots_lost"
    assert "No such file" in error.message
    with claimed.held_here(lock_step, str(tmp_path / "missing" / "lane-0.log"), CLAIM) as refused:
        assert refused is not None
    hygiene.close(fd)
    with claimed.held_here(lock_step, str(tmp_path / "lane-0.log"), CLAIM) as refused:
        assert refused is not None
        assert refused.message.endswith("the run was taken for dead")


def test_in_the_driver_s_own_process_a_forked_child_has_the_lock_too(tmp_path: Path, owner: str) -> None:
    lane = str(tmp_path / "lane-0.log")
    fd = lock_owner(tmp_path, owner)
    go_on, wait = os.pipe()
    with claimed.held_here(partial(take_step_lock, tmp_path, owner), lane, CLAIM) as refused:
        assert refused is None
        pid = os.fork()
        if pid == 0:
            os.close(wait)
            os.read(go_on, 1)
            os._exit(0)
    look = os.open(lane, os.O_RDONLY)
    assert is_locked(look, CLAIM)
    os.close(wait)
    os.waitpid(pid, 0)
    assert not is_locked(look, CLAIM)
    for each in (look, go_on):
        os.close(each)
    hygiene.close(fd)
