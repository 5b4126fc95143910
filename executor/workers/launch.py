"""How a template process comes to be: forked from the driver, or started afresh by an exec; and which of them."""

from __future__ import annotations

import mmap
import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from executor.workers import hygiene, messages, process
from executor.workers.child import BEGUN_BYTES
from executor.workers.interface import WorkersUnavailable
from executor.workers.sockets import PACKET_BYTES, ControlSocket, control_pair
from executor.workers.template import BROKEN, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import Popen

    from executor.config.settings import StartMethod
    from executor.workers.interface import WorkerJob

# A fork copies page tables: half a millisecond for a small process, tens of milliseconds for one of 500 MB.
FORK_UP_TO_BYTES = 150 * 1024 * 1024

# Libraries that start a thread per CPU when they are imported; a process with threads must not be forked.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A start method and the reason for it, in words."""

    method: Literal["fork", "forkserver"]
    why: str


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
    if asked == "forkserver":
        return Choice("forkserver", "as asked")
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
        """
        received, _ = self.control.receive()
        message = received or ("failed", "it ended before it was ready")
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
        return self.memory[lane * BEGUN_BYTES : (lane + 1) * BEGUN_BYTES]

    def close(self) -> None:
        """Give the descriptor and the mapping back. Safe to call twice."""
        fd, self.fd = self.fd, -1  # its number may be given to another run of this program at once
        if fd >= 0:
            hygiene.close(fd)
        self.memory.close()


def fork_template(job: WorkerJob, begun: BegunPage, attempts: int | None) -> TemplateProcess:
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
        Template(job, theirs, begun.memory, attempts=attempts, environ={}).run()
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


def exec_template(
    job: WorkerJob, begun: BegunPage, attempts: int | None, *, preload: Sequence[str] = ()
) -> TemplateProcess:
    """A template in a fresh interpreter, which imports the user's code itself. ``await_ready`` says when it has.

    Raises:
        WorkersUnavailable: an op cannot be sent to another process; the text names it.
    """
    import subprocess

    ours, theirs = control_pair()
    values = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    load = {
        "path": list(sys.path),
        "preload": list(preload),
        "parent": os.getpid(),
        "attempts": attempts,
        "lanes": begun.size // BEGUN_BYTES,
        "environ": values,
        "job": pickle_job(job),
    }
    memory = os.memfd_create("executor-job", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(messages.packet(load))
        os.lseek(memory, 0, os.SEEK_SET)
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); from executor.workers.launch import exec_main; exec_main()"
        fds = (theirs.fileno(), memory, begun.fd)
        popen = subprocess.Popen(
            [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code, *map(str, fds)],  # type: ignore[attr-defined]  # noqa: SLF001  (-W, -X and their like; multiprocessing takes them from there too)
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
        )
    finally:
        os.close(memory)
        theirs.close()
    return TemplateProcess(popen.pid, ours, popen)


def pickle_job(job: WorkerJob) -> bytes:
    """The job for another interpreter: functions of importable modules by reference, others by value.

    Raises:
        WorkersUnavailable: something that a step's function refers to cannot be pickled.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(job)
    except Exception as error:
        for step in job.steps:
            try:
                cloudpickle.dumps(step)
            except Exception as reason:  # noqa: BLE001  (a reducer of the user's may raise anything)
                raise WorkersUnavailable(
                    f"step {step.key!r} cannot be sent to a fresh process, because what its function refers to cannot "
                    f"be pickled ({reason}); define it in a module, or make that object inside the function"
                ) from error
        raise WorkersUnavailable(f"the job cannot be sent to a fresh process: {error}") from error
    return data


def exec_main() -> NoReturn:
    """The whole program of a template that was started by an exec."""
    control_fd, memory, begun_fd = map(int, sys.argv[1:4])
    sys.argv[1:] = []
    with open(memory, "rb") as file:
        load = messages.parse(file.read())
    reset_signals()
    process.die_with_parent(load["parent"], signal.SIGTERM)
    control = ControlSocket(control_fd)
    for fd in (control_fd, begun_fd):
        os.set_inheritable(fd, False)
    try:
        sys.path[:] = load["path"]
        for name in load["preload"]:
            _preload(name)
        import pickle

        job = pickle.loads(load["job"])  # noqa: S301  (from our parent, over a descriptor that we inherited)
        threads = process.thread_names()
        if threads:
            raise WorkersUnavailable(
                f"importing the steps' code starts threads ({', '.join(threads)}), and a process with threads cannot "
                "be forked safely; start them inside the steps instead, or run it with --in-process"
            )
    except BaseException as error:  # noqa: BLE001  (importing runs user code, which may raise anything)
        from executor.workers.explain import describe, traceback_text

        text = str(error) if isinstance(error, WorkersUnavailable) else f"{describe(error)}\n{traceback_text(error)}"
        control.send(("failed", text[: PACKET_BYTES // 8]))
        sys.exit(1)
    begun = BegunPage(load["lanes"], begun_fd)
    Template(job, control, begun.memory, attempts=load["attempts"], environ=load["environ"]).run()


def _preload(name: str) -> None:
    import importlib

    try:
        importlib.import_module(name)
    except Exception as error:
        raise WorkersUnavailable(
            f"preload_modules: importing {name!r} failed: {type(error).__name__}: {error}"
        ) from error
