"""An attempt that holds slots of pools: its lock, carried by what stands as its standard input, output and error.

Whatever the step starts inherits these, so its slots stay taken until the last of its processes has ended, however the
worker and the driver end. The lock itself is the ledger's; a job brings the function that takes it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from executor.scheduler.outcomes import StepError
from executor.workers.streams import read_nothing, write_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class StepLock(Protocol):
    """The lock of one attempt, as descriptors that are its standard input and output; see ``ledger/liveness.py``."""

    input_fd: int
    output_fd: int

    def unlock(self) -> None:
        """Drop the lock, also where it was duplicated or inherited. Raises ``OSError`` if the originals are closed."""

    def close(self) -> None:
        """Close the originals; what was duplicated keeps the lock. Safe to call twice."""


if TYPE_CHECKING:
    #: Takes the lock of a claim on a lane's log; None: the run was taken for dead, and the slots may be another's.
    LockStep = Callable[[str, int], StepLock | None]

#: Exit code of a worker whose run was taken for dead (EX_TEMPFAIL). Nobody is left who reads it.
OWNER_DEAD = 75


def take(lock_step: LockStep, lane_log: str, claim: int) -> StepLock | StepError:
    """Carry the lock of a claim as descriptors 0, 1 and 2 from now on, before any code of the step runs.

    Gives what ``give_back`` wants; or an error, which means that the step must not run. Ends this process if the run
    was taken for dead.
    """
    try:
        lock = lock_step(lane_log, claim)
    except (OSError, RuntimeError) as error:
        return refused(error)
    if lock is None:
        os._exit(OWNER_DEAD)
    os.dup2(lock.input_fd, 0)
    os.dup2(lock.output_fd, 1)
    os.dup2(lock.output_fd, 2)
    return lock


def give_back(lock: StepLock, lane_log: str) -> None:
    """Let go of the lock, whatever has copies of these descriptors. For a worker that goes on, and is alone."""
    try:
        lock.unlock()
    except OSError:  # the step closed the originals
        restore_streams(lock, lane_log)


def restore_streams(lock: StepLock, lane_log: str) -> None:
    """Put an empty input and the plain log in the place of what carried the lock, which was given back."""
    lock.close()
    write_to(lane_log)
    read_nothing()


@contextmanager
def held_here(lock_step: LockStep, lane_log: str, claim: int) -> Iterator[StepError | None]:
    """Hold the lock of a claim in the driver's own process while a step runs in it; its streams stay the caller's.

    What the step forks has the lock too and keeps it. A program that it starts does not: it is given none of this
    process's files.
    """
    try:
        lock = lock_step(lane_log, claim)
    except (OSError, RuntimeError) as error:
        yield refused(error)
        return
    if lock is None:
        yield refused("the run was taken for dead")
        return
    # Copies that are not known as ours, since what is ours is closed in forked children.
    copies = [os.dup(lock.input_fd), os.dup(lock.output_fd)]
    lock.close()
    try:
        yield None
    finally:
        for fd in copies:
            try:
                os.close(fd)
            except OSError:  # the step closed it
                continue


def refused(why: object) -> StepError:
    """The failure of an attempt that could not take hold of its slots; its retry policy applies."""
    return StepError("slots_lost", f"it was not run, because it could not take hold of its slots: {why}")
