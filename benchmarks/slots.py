"""Programs that share the one slot of a pool: ``python slots.py KIND NAME STEPS HOLD_S``, of ``handover.py``.

Several run at the same time. Their steps hold the slot for so long and note when, in a record of the file ``NOTES``, by
the clock that all processes share: ``NAME``, the pid of the step, and the times of its first and of its last line. The
FIFO ``PIDS`` is told the pid as soon as the step has begun. Each program begins when the others are ready too: it says
so, and reads a byte.
"""

from __future__ import annotations

import fcntl
import importlib
import mmap
import os
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

POOL = "slot"

#: A record of the notes: name, pid, first and last line; no page of the file holds only a part of one.
NOTE = struct.Struct("<16sqdd24x")
ENDED = struct.Struct("<d")
ENDED_AT = 32

_kept: list[mmap.mmap] = []  #: the notes of the last steps of this process


def hold(name: str, hold_s: float) -> None:
    """What a step does: holds the slot."""
    began = time.monotonic()
    note, at = _begin_note(name, began)
    with open(os.environ["PIDS"], "wb", buffering=0) as pids:
        pids.write(b"%d\n" % os.getpid())
    time.sleep(hold_s)  # the work that the slot is held for
    ENDED.pack_into(note, at, time.monotonic())


def _begin_note(name: str, began: float) -> tuple[mmap.mmap, int]:
    """A record that says when this step began, in memory, and where in that to write when it ended.

    What comes after the second time is taken is counted as a part of the hand-over: so nothing is opened, written out
    or closed then.
    """
    fd = os.open(os.environ["NOTES"], os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, NOTE.pack(name.encode(), os.getpid(), began, 0.0))
    begin = os.lseek(fd, 0, os.SEEK_CUR) - NOTE.size
    page = begin - begin % mmap.ALLOCATIONGRANULARITY
    note = mmap.mmap(fd, begin - page + NOTE.size, offset=page)
    os.close(fd)
    ENDED.pack_into(note, begin - page + ENDED_AT, 0.0)  # so that the page is there
    _kept.append(note)
    del _kept[:-2]
    return note, begin - page + ENDED_AT


def wait_for_the_other() -> None:
    """Return when both programs are ready."""
    with open(os.environ["READY"], "wb", buffering=0) as ready:
        ready.write(b"!")
    with open(os.environ["BEGIN"], "rb", buffering=0) as begin:
        begin.read(1)


# --- this package ----------------------------------------------------------------------------------------------------


def executor_one_shot(name: str, steps: int, hold_s: float) -> None:
    """A run, a process for each step."""
    _executor_run(name, steps, hold_s, {})


def executor_persistent(name: str, steps: int, hold_s: float) -> None:
    """A run with persistent workers."""
    _executor_run(name, steps, hold_s, {"steps_per_worker": "unlimited"})


def _executor_run(name: str, steps: int, hold_s: float, config: dict[str, Any]) -> None:
    import executor as ex

    use = ex.op(name="use", pool=POOL)(lambda: hold(name, hold_s))

    @ex.job(name="uses")
    def made() -> None:
        for number in range(steps):
            use.alias(f"s{number}")()

    wait_for_the_other()
    made.execute(run_config={"execution": {"config": {"max_concurrent": 1} | config}}, raise_on_error=True)


def executor_limit() -> None:
    """Give the pool its one slot."""
    from executor import Instance

    Instance.get().ledger.set_limit(POOL, 1)


# --- bare lock files -------------------------------------------------------------------------------------------------


def flock_loop(name: str, steps: int, hold_s: float) -> None:
    """A loop around ``flock``, in this process."""
    _flock(name, steps, hold_s, hold)


def flock_fork(name: str, steps: int, hold_s: float) -> None:
    """The same, with a process for each step, which is waited for before the lock is given back."""
    _flock(name, steps, hold_s, _forked)


def _forked(name: str, hold_s: float) -> None:
    pid = os.fork()
    if pid == 0:
        hold(name, hold_s)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("a step failed")


def _flock(name: str, steps: int, hold_s: float, step: Callable[[str, float], None]) -> None:
    wait_for_the_other()
    fd = os.open(os.environ["NOTES"] + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(steps):
        fcntl.flock(fd, fcntl.LOCK_EX)
        step(name, hold_s)
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(hold_s / 2)  # or the other would never have it: a bare lock knows no queue


# --- Dagster ---------------------------------------------------------------------------------------------------------


def dagster(name: str, steps: int, hold_s: float) -> None:
    """A run by Dagster's multiprocess executor, forkserver start."""
    module: Any = importlib.import_module("dagster")
    instance = module.DagsterInstance.local_temp(os.environ["EXECUTOR_HOME"])
    made = module.build_reconstructable_job("slots", "dagster_job", (name, steps, hold_s))
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    wait_for_the_other()
    with module.execute_job(made, instance=instance, run_config=quiet, raise_on_error=True):
        pass


def dagster_job(name: str, steps: int, hold_s: float) -> Any:
    """The job for Dagster; its workers call this as well."""
    module: Any = importlib.import_module("dagster")

    def body() -> None:
        hold(name, hold_s)

    use = module.op(name="use", pool=POOL)(body)
    executor = module.multiprocess_executor.configured(
        {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": ["dagster", "slots"]}}}
    )

    @module.job(name="uses", executor_def=executor)  # type: ignore[untyped-decorator]  # Any: a peer
    def made() -> None:
        for number in range(steps):
            use.alias(f"s{number}")()

    return made


def dagster_limit() -> None:
    """Give the pool its one slot."""
    module: Any = importlib.import_module("dagster")
    instance = module.DagsterInstance.local_temp(os.environ["EXECUTOR_HOME"])
    instance.event_log_storage.set_concurrency_slots(POOL, 1)


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    if arguments:
        globals()[kind](arguments[0], int(arguments[1]), float(arguments[2]))
    else:
        globals()[kind]()
