"""How a template process comes to be: forked from the driver, or started afresh by an exec; and which of them.

A run calls for its template before it loads anything else, so that a forked one holds the user's code, what a worker
needs, and nothing more: each of its forks would copy the rest.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from executor.errors import WorkersUnavailable
from executor.workers import hygiene, process
from executor.workers.assignment import how_it_ended
from executor.workers.child import BEGUN_BYTES, begun_entry
from executor.workers.sockets import ControlSocket, control_pair
from executor.workers.template import BROKEN, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import Popen

    from executor.authoring.ops import OpDefinition
    from executor.config.settings import ExecutorSettings, StartMethod

# A fork copies page tables: half a millisecond for a small process, tens of milliseconds for one of 500 MB.
FORK_UP_TO_BYTES = 150 * 1024 * 1024

# A template kills and reaps its workers in milliseconds; one that takes longer to end is not waited for.
END_WITHIN_S = 5.0

# One-shot workers are forked ahead of need, so that the next attempt does not wait for a fork: up to SPARES of them,
# each on a lane of its own.
SPARES = 6

#: Why no worker can be had any more, when another template would break as well.
TEMPLATE_BROKEN = "the workers' template process was ended by an error of its own, which it printed; please report it"


class Choice(NamedTuple):
    """A start method and the reason for it, in words."""

    method: Literal["fork", "forkserver", "spawn"]
    why: str

    def __str__(self) -> str:
        how = {"fork": "forked", "forkserver": "from a fresh template process", "spawn": "each a fresh interpreter"}
        return f"{how[self.method]} ({self.why})"


class TemplateHasThreads(WorkersUnavailable):
    """Loading the steps' code in a fresh template started threads, and a process with threads cannot be forked."""

    def __init__(self, threads: str) -> None:
        super().__init__(threads)
        self.threads = threads

    def __str__(self) -> str:
        return (
            f"importing the steps' code starts threads ({self.threads}), and a process with threads cannot be forked "
            "safely; start them inside the steps instead, or use start_method spawn or auto, or run it with "
            "--in-process"
        )


class TemplateDied(WorkersUnavailable):
    """The template ended before it was ready. ``exit_code`` says how; None where nobody knows, or it lives on."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        how = "closed its connection" if self.exit_code is None else how_it_ended(self.exit_code)
        return (
            f"the workers' template process {how} before it was ready, while the steps' code was imported; import that "
            "code by itself to see why, with python -X faulthandler, or run it with --in-process"
        )


def choose(asked: StartMethod) -> Choice:
    """Which way to start the template for this process as it is now.

    Raises:
        WorkersUnavailable: ``fork`` was asked for and this process has threads, or the platform is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise WorkersUnavailable(
            f"worker processes need Linux, and this is {sys.platform}; use the in-process executor"
        )
    threads = process.thread_names()
    if asked == "fork":
        if threads:
            raise WorkersUnavailable(
                f"start_method fork: this process has other threads ({', '.join(threads)}), and a fork would copy the "
                "locks that they hold; use start_method forkserver or auto, or run it with --in-process"
            )
        return Choice("fork", "as asked")
    if asked != "auto":
        return Choice(asked, "as asked")
    if threads:
        return Choice("forkserver", f"this process has other threads: {', '.join(threads[:3])}")
    size = process.resident_bytes()
    if size >= FORK_UP_TO_BYTES:
        return Choice("forkserver", f"this process is large ({size / 1e6:.0f} MB)")
    return Choice("fork", f"this process has one thread and {size / 1e6:.0f} MB")


class TemplateProcess:
    """A running template, as its parent sees it: its pid, and the socket that it is told things by."""

    def __init__(self, pid: int, control: ControlSocket, popen: Popen[bytes] | None = None) -> None:
        self.pid, self.control, self._popen = pid, control, popen
        self.exit_code: int | None = None  #: once it was waited for; None also where somebody else did
        hygiene.register(control.fileno())

    def await_ready(self) -> None:
        """Block until it has loaded the user's code and can fork workers.

        Raises:
            WorkersUnavailable: it could not, or has threads then; the text says which.
            TemplateDied: it ended without a word.
        """
        message, _ = self.control.receive()
        if message is None:
            self.wait(END_WITHIN_S)
            raise TemplateDied(self.exit_code)
        if message[0] == "threads":
            raise TemplateHasThreads(message[1])
        if message[0] != "ready":
            raise WorkersUnavailable(f"the workers' template process could not get ready: {message[1]}")

    def close(self) -> None:
        """Close our end: it kills its workers, waits for them, and ends."""
        hygiene.forget(self.control.fileno())
        self.control.close()

    def kill(self) -> None:
        """End it at once; its workers die with it."""
        process.signal_one(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it is gone, at most ``timeout_s`` seconds; whether it is."""
        if timeout_s is not None:
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(self.pid)
                try:
                    poll = select.poll()
                    poll.register(pidfd, select.POLLIN)
                    if not poll.poll(timeout_s * 1000):
                        return False
                finally:
                    os.close(pidfd)
        if self._popen is not None:
            self.exit_code = self._popen.wait()
        else:
            with suppress(ChildProcessError):  # the user's program ignores SIGCHLD, or waits for any child
                self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return True


class BegunPage:
    """Memory that driver and workers share: which attempt each lane has begun, also after the worker was killed."""

    def __init__(self, lanes: int, fd: int | None = None) -> None:
        self.size = max(1, lanes) * BEGUN_BYTES
        self.fd = os.memfd_create("executor-begun", os.MFD_CLOEXEC) if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, self.size)
        hygiene.register(self.fd)
        self.memory = mmap.mmap(self.fd, self.size)

    def read(self, lane: int) -> bytes:
        """The mark that was last written for ``lane``."""
        return self.memory[begun_entry(lane)]

    def close(self) -> None:
        """Give the descriptor and the mapping back. Safe to call twice."""
        fd, self.fd = self.fd, -1  # its number may be given to another run of this program at once
        if fd >= 0:
            hygiene.close(fd)
        self.memory.close()


class Launch:
    """The templates of one run: the first, and those that take the place of one that died."""

    def __init__(self, settings: ExecutorSettings, at_once: int) -> None:
        """``at_once``: attempts at a time.

        Raises:
            WorkersUnavailable: the start method that was asked for is none for this process.
        """
        self._settings = settings
        self.choice = choose(settings.start_method)
        # none of those that each load the code for themselves: they would take the CPUs and the memory of steps
        self.spares = SPARES if settings.steps_per_worker == 1 and self.choice.method != "spawn" else 0
        self.begun = BegunPage(at_once + self.spares)
        self.ops: Sequence[OpDefinition] = ()
        self._forked: TemplateProcess | None = None

    def fork_now(self, ops: Sequence[OpDefinition]) -> None:
        """Fork the first template, for a job of these ops, if one is to be forked."""
        if self.choice.method == "fork":
            self.ops = ops
            self._forked = fork_template(ops, self.begun, self._settings.steps_per_worker)

    def take(self) -> TemplateProcess | None:
        """The template that ``fork_now`` forked, once; it may still be getting ready."""
        forked, self._forked = self._forked, None
        return forked

    def exec_now(self, ops: Sequence[OpDefinition]) -> TemplateProcess:
        """A template in a fresh interpreter, which has loaded the code of these ops.

        Raises:
            WorkersUnavailable: it cannot load them, or their code starts threads and nothing but forks was asked for.
        """
        self.ops = ops
        spawns = self.choice.method == "spawn"
        try:
            return self._exec(spawns=spawns)
        except TemplateHasThreads as error:
            if self._settings.start_method != "auto":
                raise
            self.choice = Choice("spawn", f"importing the steps' code starts threads: {error.threads}")
            self.spares = 0
        return self._exec(spawns=True)

    def _exec(self, *, spawns: bool) -> TemplateProcess:
        from executor.workers.exec_template import exec_template

        settings = self._settings
        started = exec_template(
            self.ops, self.begun, settings.steps_per_worker, preload=settings.preload_modules, spawns=spawns
        )
        try:
            started.await_ready()
        except BaseException:
            started.kill()
            started.close()
            started.wait()
            raise
        return started

    def close(self) -> None:
        """End a template that nobody took, and give the memory back. Safe to call twice."""
        forked = self.take()
        if forked is not None:
            forked.close()
            forked.wait()
        self.begun.close()


def fork_template(ops: Sequence[OpDefinition], begun: BegunPage, attempts: int | None) -> TemplateProcess:
    """A template forked from this process, which must have one thread. It is ready at once."""
    ours, theirs = control_pair()
    hygiene.register(ours.fileno())
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):  # else what Python has buffered is written twice
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return TemplateProcess(pid, ours)
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        reset_signals()
        process.die_with_parent(parent, signal.SIGTERM)
        Template(ops, theirs, begun.memory, attempts=attempts, environ={}).run()
    finally:
        os._exit(BROKEN)


def reset_signals() -> None:
    """What the user's program ignores, handles or blocks is for its own process.

    An ignored SIGCHLD above all: with it nobody can learn how a child ended.
    """
    signals = (signal.SIGTERM, signal.SIGCHLD, signal.SIGTSTP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)
    for signum in signals:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
