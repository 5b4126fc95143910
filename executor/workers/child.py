"""What happens inside a worker process: attempts come in over a socket, results go out.

A worker knows the steps of its job and nothing of plans, limits or other workers. It leads a process group and adopts
the orphans among its descendants, so that whatever a step started can be found when the step ends.
"""

from __future__ import annotations

import atexit
import marshal
import mmap
import os
import signal
import sys
import time
from _signal import signal as set_handler
from typing import TYPE_CHECKING, Any, NoReturn

from executor.authoring.ops import op
from executor.scheduler.outcomes import StepError
from executor.workers import claimed, hygiene, messages, process
from executor.workers.assignment import CANNOT_REPORT
from executor.workers.job import WorkerJob
from executor.workers.runner import StepRunner
from executor.workers.sockets import stream_pair
from executor.workers.streams import flush_output, lane_file, log_end, open_log

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from executor.authoring.ops import OpDefinition
    from executor.workers.job import Task

# A fork shares memory until it is written to, and Python writes a reference count wherever it looks: each page that a
# new worker touches costs a page fault. So this file makes objects before the fork where it can, takes the plain C
# functions where the standard library wraps them in enums, and does nothing for a first attempt that only a second
# one needs. (benchmarks/step_overhead.py shows the sum.)

# A process may outlive its step by this long; then it is killed and the step is reported as having lingered. Long
# enough for an exit handler to flush, short enough that a waiter does not notice.
LINGER_S = 0.1

#: Bytes of one lane's entry in the page where workers note which attempt they have begun.
BEGUN_BYTES = 8

# One read takes a usual task whole, without memory that a new process would have to be given first.
READ_BYTES = 1 << 12


def _incoming(channel: int) -> Iterator[Any]:
    """The attempts that are sent. The first one, mostly the only one, comes by the shortest way."""
    data = os.read(channel, READ_BYTES)
    if int.from_bytes(data[: messages.HEADER_BYTES], "little") == messages.MARK + len(data) - messages.HEADER_BYTES:
        yield marshal.loads(memoryview(data)[messages.HEADER_BYTES :])  # noqa: S302  (plain data from the process that started us)
        data = b""
    yield from messages.incoming(channel, data)


def _report(channel: int, message: tuple[object, ...]) -> None:
    try:
        messages.send(channel, message)
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
        log: logging.Logger | None,
        attempts: int | None,
        channel: int,
    ) -> None:
        self._ops, self._begun, self._attempts, self._channel = ops, begun, attempts, channel
        self._lock_step = job.lock_step()
        self._runner = StepRunner(job, log)
        self.stop = self._runner.stop
        self.on_term: Callable[[int, FrameType | None], None] = self.stop.on_signal  #: what handles SIGTERM here
        self._logs = [f"{job.lanes_folder}/{lane_file(number)}" for number in range(len(begun) // BEGUN_BYTES)]
        self._usage = process.Usage()
        self._folder = -1  #: the current folder of the run, once a second attempt is possible

    def main(self, lane: int) -> NoReturn:
        """Run what comes in. Ends the process, with code 0 when it was told to or had done its share."""
        self._serve(lane)
        end_process()

    def _serve(self, lane: int) -> None:
        stop, channel = self.stop, self._channel
        left = self._attempts or -1
        if left != 1:
            self._folder = hygiene.register(os.open(".", os.O_PATH | os.O_CLOEXEC))
        for task in _incoming(channel):
            if stop.asked:
                break
            left -= 1
            message = self._attempt(task, lane)
            if left == 0 or stop.asked:
                _report(channel, (*message, False))
                break
            alone = not process.has_children()
            index, number, *_, claim, _ = task
            if claim and alone:
                claimed.give_back(self._logs[lane])
            _report(channel, (*message, alone))
            if not alone:
                killed = end_children()
                if claim:
                    claimed.give_back(self._logs[lane])
                _report(channel, ("freed", index, number, killed))
            self._prepare_next()

    def _prepare_next(self) -> None:
        """Put back what a step may have changed, and measure from here; a first attempt needs neither."""
        set_handler(15, self.on_term)
        os.fchdir(self._folder)
        self._usage.restart()

    def _attempt(self, task: Task, lane: int) -> tuple[object, ...]:
        """Run one attempt: the message that reports it, less whether the worker is alone then."""
        index, number, op, _, _, _, claim, _ = task
        path = self._logs[lane]
        refused = claimed.take(self._lock_step, path, claim) if claim and self._lock_step else None
        log_from = log_end(path)
        started_at = time.monotonic()
        at = lane * BEGUN_BYTES
        self._begun[at : at + BEGUN_BYTES] = begun_mark(index, number)
        outcome = refused or self._runner.run(self._ops[op], task)
        ended_at = time.monotonic()
        cpu_s, peak = self._usage.read()
        flush_output()
        facts = (started_at, ended_at, cpu_s, peak, log_from, log_end(path))
        if isinstance(outcome, StepError):
            return "failed", index, number, tuple(outcome), facts
        stored, missing = outcome
        return "succeeded", index, number, stored, missing, facts


def rehearse(begin: Callable[[], None]) -> None:
    """Let a worker that has no process of its own ``begin`` and run a step that does nothing, several times.

    The interpreter rewrites code that runs often (PEP 659). Done once, before the forks, that code is not rewritten in
    each of them, where it would take a copy of every page that it stands on.
    """
    job = WorkerJob("", "", {}, os.devnull, os.devnull)
    ours, theirs = stream_pair()
    double = Worker(job, (rehearsal,), mmap.mmap(-1, BEGUN_BYTES), log=None, attempts=1, channel=theirs)
    flush_output()
    stdout, log = os.dup(1), open_log(os.devnull)
    os.dup2(log, 1)
    for _ in range(REHEARSALS):
        begin()
        messages.send(ours, (0, 1, 0, "rehearsal", None, (), 0, 0))
        double._serve(0)  # noqa: SLF001  (of this module)
        run_exit_handlers()
    os.dup2(stdout, 1)
    for fd in (ours, theirs, stdout, log):
        os.close(fd)


@op
def rehearsal() -> int:
    """A step that does nothing."""
    return 0


REHEARSALS = 16  # more than the interpreter's threshold for rewriting a function


def begun_mark(index: int, number: int) -> bytes:
    """What a worker writes into its lane's entry of the shared page when it begins an attempt."""
    return ((index + 1) << 16 | (number & 0xFFFF)).to_bytes(BEGUN_BYTES, "little")


def end_children() -> bool:
    """Wait for what a step left running, kill it after ``LINGER_S``; whether anything had to be killed.

    Whatever a child of ours started becomes our own child when its parent ends, since we adopt orphans; so killing
    children until there are none reaches all of them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # so that sigtimedwait below sees it
    children = process.Children()
    deadline = time.monotonic() + LINGER_S
    killed = False
    try:
        while True:
            while True:
                try:
                    pid, _ = os.waitpid(-1, os.WNOHANG)  # this process is ours alone: nobody else waits for them
                except ChildProcessError:
                    return killed
                if pid == 0:
                    break
            if time.monotonic() >= deadline:
                for pid in children.pids():
                    process.signal_one(pid, signal.SIGKILL)
                    killed = True
            # until a child ends; one that dies of the kill above may leave children of its own to find
            signal.sigtimedwait({signal.SIGCHLD}, max(0.001, deadline - time.monotonic()))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.close(children.fd)


def end_process() -> NoReturn:
    """End this process as Python would: threads that are not daemons first, then exit handlers; nothing inherited."""
    try:
        run_exit_handlers()
    finally:
        os._exit(0)


def run_exit_handlers() -> None:
    """Wait for threads that are not daemons, and call what was registered with ``atexit``."""
    try:
        threading = sys.modules.get("threading")  # nobody needs it here who has not used it
        if (threading is not None and threading.active_count() > 1) or atexit._ncallbacks():  # noqa: SLF001  (no public name)
            if threading is not None:
                threading._shutdown()  # noqa: SLF001  (as above)
            atexit._run_exitfuncs()  # noqa: SLF001  (as above)
            flush_output()
    except BaseException:  # noqa: BLE001, S110  (an exit handler of the user's: the step's result is safe already)
        pass
