"""Locks that say who is alive: what they survive, who sees them, and the hole between a grant and a step's lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from executor.ledger import liveness
from executor.ledger.liveness import StepLock, live_steps, lock_owner, owner_is_alive, take_step_lock
from executor.workers import hygiene
from tests.forked import fork, wait


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    return tmp_path


@pytest.fixture
def lane(tmp_path: Path) -> str:
    return str(tmp_path / "lane-0.log")


def test_an_owner_lives_while_its_process_does(home: Path) -> None:
    begun, end = os.pipe(), os.pipe()

    def own() -> None:
        lock_owner(home, "abc")
        os.write(begun[1], b"!")
        os.read(end[0], 1)

    pid = fork(own)
    os.read(begun[0], 1)
    assert owner_is_alive(home, "abc")
    assert owner_is_alive(home, "abc"), "a probe takes no lock"
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert owner_is_alive(home, "abc"), "a stopped process is alive"
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert not owner_is_alive(home, "abc")
    for fd in (*begun, *end):
        os.close(fd)


def test_an_owner_without_a_file_is_dead(home: Path) -> None:
    assert not owner_is_alive(home, "nobody")


def test_this_process_sees_its_own_lock(home: Path) -> None:
    fd = lock_owner(home, "abc")
    assert owner_is_alive(home, "abc")
    hygiene.close(fd)
    assert not owner_is_alive(home, "abc")


def test_an_owner_s_lock_does_not_travel_into_a_forked_child(home: Path) -> None:
    begun, end = os.pipe(), os.pipe()
    fd = lock_owner(home, "abc")
    pid = fork(lambda: (os.close(end[1]), os.write(begun[1], b"!"), os.read(end[0], 1)))
    os.read(begun[0], 1)
    hygiene.close(fd)
    assert not owner_is_alive(home, "abc"), "the child keeps a dead owner alive"
    os.close(end[1])
    assert wait(pid) == 0
    for each in (*begun, end[0]):
        os.close(each)


def test_a_pid_that_is_used_again_makes_nobody_alive(home: Path) -> None:
    """Liveness asks no pid: the file of a dead owner says dead, whoever runs under its number now."""
    fd = lock_owner(home, "abc")
    os.write(fd, str(os.getpid()).encode())
    hygiene.close(fd)
    assert not owner_is_alive(home, "abc")


def test_the_start_time_tells_a_process_from_a_later_one_of_its_number() -> None:
    mine = liveness.start_time_of(os.getpid())
    assert mine == liveness.start_time_of(os.getpid())
    pid = fork(signal.pause)
    theirs = liveness.start_time_of(pid)
    assert mine is not None
    assert theirs is not None
    assert theirs >= mine
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert liveness.start_time_of(pid) is None


def test_a_step_s_lock_is_on_its_output_and_on_its_input(lane: str) -> None:
    lock = StepLock(lane, 7)
    assert {Path(path).name for path in live_steps(Path(lane).parent, [7])[7]} == {"lane-0.log", "lane-0.in"}
    lock.close()
    assert live_steps(Path(lane).parent, [7]) == {}


def test_a_step_s_lock_says_nothing_of_other_claims_on_the_lane(lane: str) -> None:
    lock = StepLock(lane, 7)
    assert live_steps(Path(lane).parent, [6, 7, 8]).keys() == {7}
    lock.close()


def test_who_has_the_same_file_open_does_not_carry_the_lock_on_it(lane: str) -> None:
    lock = StepLock(lane, 17)
    plain = os.open(lane, os.O_WRONLY | os.O_APPEND)
    copy = os.dup(lock.output_fd)
    me = os.getpid()
    assert [liveness.carries_lock(me, fd, (17,)) for fd in (lock.output_fd, lock.input_fd, copy, plain)] == [
        True,
        True,
        True,
        False,
    ]
    assert not liveness.carries_lock(me, copy, (16, 18))
    os.close(plain)
    os.close(copy)
    lock.close()
    assert not liveness.carries_lock(me, copy, (17,))


@pytest.mark.parametrize("number", [1, 1 << 32, (1 << 62) + 5])
def test_any_number_of_a_claim_can_be_locked(lane: str, number: int) -> None:
    lock = StepLock(lane, number)
    assert live_steps(Path(lane).parent, [number, number - 1]).keys() == {number}
    lock.close()


def test_two_processes_cannot_work_on_one_claim(lane: str) -> None:
    lock = StepLock(lane, 7)
    with pytest.raises(RuntimeError, match="claim 7 is being worked on"):
        StepLock(lane, 7)
    lock.close()


def test_a_lane_s_input_reads_as_empty_and_its_log_is_appended_to(lane: str) -> None:
    Path(lane).write_text("before\n")
    lock = StepLock(lane, 1)
    assert os.read(lock.input_fd, 10) == b""
    os.write(lock.output_fd, b"after\n")
    lock.close()
    assert Path(lane).read_text() == "before\nafter\n"


@pytest.mark.parametrize("redirected", ["nothing", "output", "input"])
def test_a_child_of_a_step_keeps_its_slots_until_it_ends(lane: str, redirected: str) -> None:
    """Also one whose output alone is taken, as ``capture_output=True`` does, or whose input alone."""

    def step() -> None:
        lock = StepLock(lane, 7)
        for fd, number in ((lock.input_fd, 0), (lock.output_fd, 1), (lock.output_fd, 2)):
            os.dup2(fd, number)
        lock.close()
        options = {
            "nothing": {},
            "output": {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
            "input": {"stdin": subprocess.DEVNULL},
        }[redirected]
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], **options)  # type: ignore[call-overload]
        os.write(told[1], f"{child.pid} ".encode())
        os._exit(0)

    told = os.pipe()
    assert wait(fork(step)) == 0
    child = int(os.read(told[0], 20))
    assert live_steps(Path(lane).parent, [7]).keys() == {7}, "the step's process is gone, its child is not"
    pidfd = os.pidfd_open(child)
    os.kill(child, signal.SIGKILL)
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(60_000)
    for fd in (pidfd, *told):
        os.close(fd)
    assert live_steps(Path(lane).parent, [7]) == {}


def test_a_worker_whose_owner_lives_gets_its_lock(home: Path, lane: str) -> None:
    fd = lock_owner(home, "abc")
    lock = take_step_lock(home, "abc", lane, 7)
    assert lock is not None
    lock.close()
    hygiene.close(fd)


def test_a_worker_whose_owner_died_before_it_had_its_lock_begins_nothing(home: Path, lane: str) -> None:
    assert take_step_lock(home, "abc", lane, 7) is None
    assert live_steps(Path(lane).parent, [7]) == {}


def test_a_file_whose_name_is_a_link_is_not_followed(home: Path, lane: str) -> None:
    target = home / "elsewhere"
    Path(lane).symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        StepLock(lane, 1)
    assert not target.exists()
