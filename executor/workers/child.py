"""What happens inside a worker process: attempts come in over a socket, results go out.

A worker knows the steps of its job and nothing of plans, limits or other workers. It leads a process group and adopts
the orphans among its descendants, so that whatever a step started can be found when the step ends.
"""

from __future__ import annotations

import atexit
import os
import signal
from _signal import signal as set_handler
from atexit import _ncallbacks as exit_handlers
from marshal import dumps, loads
from os import SEEK_END, lseek, read, write
from sys import modules
from time import monotonic
from typing import TYPE_CHECKING, Any

from executor.scheduler.outcomes import StepError
from executor.workers import claimed, hygiene, messages, process
from executor.workers.assignment import CANNOT_REPORT
from executor.workers.messages import HEADER_BYTES, MARK
from executor.workers.streams import flush_output, lane_file, write_to

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from executor.authoring.ops import OpDefinition
    from executor.workers.job import Task, WorkerJob
    from executor.workers.runner import StepRunner

# A fork shares memory until it is written to, and Python writes a reference count wherever it looks: each page that a
# new worker touches costs a page fault. So this file makes objects before the fork where it can, takes the plain C
# functions where the standard library wraps them in enums, and does nothing for a first attempt that only a second
# one needs. (benchmarks/step_overhead.py shows the sum.)

# A process may outlive its step by this long; then it is killed and the step is reported as having lingered. Long
# enough for an exit handler to flush, short enough that a waiter does not notice.
LINGER_S = 0.1

#: Bytes of one lane's entry in the page where workers note which attempt they have begun, and an entry without one.
BEGUN_BYTES = 8
NOT_BEGUN = bytes(BEGUN_BYTES)


#: In the place of a task: one may come in a moment.
WAKE_UP = None


def begun_entry(lane: int) -> slice:
    """Where that entry stands in the page."""
    return slice(lane * BEGUN_BYTES, (lane + 1) * BEGUN_BYTES)


# One read takes a usual task whole, into memory of the interpreter's own that a new process need not be given first.
READ_BYTES = 470


def _report(channel: int, message: tuple[Any, ...]) -> None:
    data = dumps(message)
    data = (MARK + len(data)).to_bytes(HEADER_BYTES, "little") + data  # as messages.frame does
    try:
        sent = write(channel, data)
        while sent < len(data):
            sent += write(channel, memoryview(data)[sent:])
    except OSError:  # a step closed it, or the driver gave this worker up
        os._exit(CANNOT_REPORT)


class Worker:
    """The whole life of a worker process: up to ``attempts`` attempts (None: any number), then the end.

    Made by the template, once, before it forks; ``main`` runs in each fork. It finds its socket as descriptor
    ``channel`` there, the log of its lane as standard output and error, and ``on_term`` in place for SIGTERM.
    """

    def __init__(
        self,
        job: WorkerJob,
        ops: Sequence[OpDefinition],
        begun: mmap.mmap,
        *,
        attempts: int | None,
        channel: int,
        runner: StepRunner,
    ) -> None:
        self._ops, self._begun, self._attempts, self._channel = ops, begun, attempts, channel
        self._lock_step = job.lock_step()
        self._runner = runner
        self.stop = self._runner.stop
        self.on_term: Callable[[int, FrameType | None], None] = self.stop.on_signal  #: what handles SIGTERM here
        self._logs = job.lanes_folder
        self._usage = process.Usage()
        self._folder = -1  #: the current folder of the run, once a second attempt is possible
        self._lock: claimed.StepLock | None = None  #: of the attempt that runs, if it holds slots of pools

    def measure_from_here(self) -> None:
        """What this process has done so far is of no attempt: a fresh interpreter has loaded the code of the steps."""
        self._usage.restart()

    def main(self, lane: int) -> None:
        """Run what comes in until told to end, or this worker has done its share; then the process can end."""
        channel = self._channel
        data = read(channel, READ_BYTES)
        if self._attempts == 1 and HEADER_BYTES < len(data) < READ_BYTES:  # the usual case, by the shortest way
            if not self.stop.asked:
                task = loads(data[HEADER_BYTES:])  # noqa: S302  (plain data from the process that started us)
                _report(channel, self._attempt(task, lane))
        else:
            self._serve(messages.incoming(channel, data), lane)
        if exit_handlers() or "threading" in modules:  # nobody needs it here who has not used it
            run_exit_handlers()

    def _serve(self, tasks: Iterator[Any], lane: int) -> None:
        stop, channel = self.stop, self._channel
        left = self._attempts or -1
        if left != 1:
            self._folder = hygiene.register(os.open(".", os.O_PATH | os.O_CLOEXEC))
        for task in tasks:
            if stop.asked:
                break
            if task is WAKE_UP:
                continue
            left -= 1
            message = self._attempt(task, lane)
            if left == 0 or stop.asked:
                _report(channel, message)
                break
            alone = not process.has_children()
            lock, self._lock = self._lock, None
            if lock is not None and alone:
                claimed.give_back(lock, self._log_of(lane))
            _report(channel, (*message[:-1], alone))
            if lock is not None:
                os.sched_yield()  # the driver may stand behind us on this processor, and others behind the driver
            if not alone:
                killed = end_children()
                if lock is not None:
                    claimed.give_back(lock, self._log_of(lane))
                index, number, *_ = task
                _report(channel, ("freed", index, number, killed))
            if lock is not None:
                claimed.restore_streams(lock, self._log_of(lane))
            self._prepare_next()

    def _prepare_next(self) -> None:
        """Put back what a step may have changed, and measure from here; a first attempt needs neither."""
        set_handler(15, self.on_term)
        os.fchdir(self._folder)
        self._usage.restart()

    def _log_of(self, lane: int) -> str:
        return f"{self._logs}/{lane_file(lane)}"

    def _log_again(self, lane: int) -> int:
        """A step closed its standard output: let it be the log for what comes after. Bytes in the log."""
        write_to(self._log_of(lane))
        return lseek(1, 0, SEEK_END)

    def _attempt(self, task: Task, lane: int) -> tuple[Any, ...]:
        """Run one attempt: the message that reports it, which says last that other processes may still be at it."""
        index, number, op, _, _, _, claim, _ = task
        refused: StepError | None = None
        if claim and self._lock_step:
            taken = claimed.take(self._lock_step, self._log_of(lane), claim)
            if isinstance(taken, StepError):
                refused = taken
            else:
                self._lock = taken
        try:
            log_from = lseek(1, 0, SEEK_END)  # with O_APPEND the offset means nothing
        except OSError:
            log_from = self._log_again(lane)
        started_at = monotonic()
        at = lane * BEGUN_BYTES
        # as ``begun_entry`` and ``begun_mark`` say, without the pages that two calls touch
        self._begun[at : at + BEGUN_BYTES] = ((index + 1) << 16 | (number & 0xFFFF)).to_bytes(BEGUN_BYTES, "little")
        outcome = refused or self._runner.run(self._ops[op], task)
        ended_at = monotonic()
        cpu_s, peak = self._usage.read()
        flush_output()
        try:
            log_to = lseek(1, 0, SEEK_END)
        except OSError:
            log_to = self._log_again(lane)
        facts = (started_at, ended_at, cpu_s, peak, log_from, log_to)
        if isinstance(outcome, StepError):
            return "failed", index, number, tuple(outcome), facts, False
        stored, missing = outcome
        return "succeeded", index, number, stored, missing, facts, False


def begun_mark(index: int, number: int) -> bytes:
    """What stands in a lane's entry of the shared page once its worker has begun an attempt; never ``NOT_BEGUN``."""
    return ((index + 1) << 16 | (number & 0xFFFF)).to_bytes(BEGUN_BYTES, "little")


def on_nudge(_signum: int, _frame: FrameType | None) -> None:
    """Nothing: a call that SIGCONT interrupted looks for other signals before it goes on."""


def end_children() -> bool:
    """Wait for what a step left running, kill it after ``LINGER_S``; whether anything had to be killed.

    Whatever a child of ours started becomes our own child when its parent ends, since we adopt orphans; so killing
    children until there are none reaches all of them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # so that sigtimedwait below sees it
    children = process.Children()
    deadline = monotonic() + LINGER_S
    killed = False
    try:
        while True:
            while True:
                try:
                    # this process is ours alone: nobody else waits for them
                    pid, _ = os.waitpid(-1, os.WNOHANG | process.WALL)
                except ChildProcessError:
                    return killed
                if pid == 0:
                    break
            if monotonic() >= deadline:
                for pid in children.pids():
                    process.signal_one(pid, signal.SIGKILL)
                    killed = True
            # until a child ends; one that dies of the kill above may leave children of its own to find
            signal.sigtimedwait({signal.SIGCHLD}, max(0.001, deadline - monotonic()))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(children.fd)


def run_exit_handlers() -> None:
    """What Python does at the end: wait for threads that are not daemons, and call what ``atexit`` was given."""
    threading = modules.get("threading")
    if (threading is not None and threading.active_count() > 1) or exit_handlers():
        try:
            if threading is not None:
                threading._shutdown()  # noqa: SLF001  (no public name)
            atexit._run_exitfuncs()  # noqa: SLF001  (as above)
            flush_output()
        except BaseException:  # noqa: BLE001, S110  (an exit handler of the user's: the step's result is safe already)
            pass
