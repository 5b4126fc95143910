"""The Python stack of a process that runs steps, on request, while it runs: both ends of ``executor stack``.

The process has a signal handler of ``faulthandler``, written in C: it needs no lock of the interpreter, so it answers
from inside a loop of C code; and the step does not notice, since a system call that is interrupted goes on (the kernel
restarts it, or Python does). It writes into a piece of memory that has a name. Whoever asks finds the memory by that
name among the descriptors of the process, which is also the proof that the signal will be understood: any other process
would end by it.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import time
from _thread import allocate_lock
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.workers import hygiene

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

#: The last but one of the real-time signals. Nothing that is known uses it; debuggers and libraries of threads take
#: the first ones, and some programs the last.
SIGNAL = int(signal.SIGRTMAX) - 1

NAME = "executor-stack"
_LINK = f"/memfd:{NAME} (deleted)"

# A process that gets CPU time answers within milliseconds; one that has not by then is stopped or deep in the kernel.
ANSWER_WITHIN_S = 10.0

# Nothing tells that the answer is whole; so long lies between two looks.
LOOK_AGAIN_S = 0.005


class NoStack(ExecutorError):
    """A process does not tell its stack; the text says why."""


# --- in the process ---------------------------------------------------------------------------------------------------


def open_memory() -> int:
    """A descriptor of the memory that stacks are written to. Those who are forked share it."""
    fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return hygiene.register(fd)


def listen(fd: int) -> None:
    """From now on this process, and what is forked from it, answers."""
    faulthandler.register(SIGNAL, fd, all_threads=True)


class Listening:
    """This process answers while at least one of these is open; for steps that run in the user's own process."""

    _lock = allocate_lock()
    _count = 0
    _fd = -1

    def __init__(self) -> None:
        cls = type(self)
        with self._lock:
            self._counted = cls._count > 0 or signal.getsignal(SIGNAL) == signal.SIG_DFL  # else it is the user's
            if self._counted and not cls._count:
                cls._fd = open_memory()
                listen(cls._fd)
            cls._count += self._counted

    def close(self) -> None:
        """Answer no more, unless another one is open. Safe to call twice."""
        cls = type(self)
        with self._lock:
            cls._count -= self._counted
            if self._counted and not cls._count:
                faulthandler.unregister(SIGNAL)
                hygiene.close(cls._fd)
            self._counted = False


# --- in the process that asks -----------------------------------------------------------------------------------------


def read_stack(pid: int) -> str:
    """The stacks of all threads of a process that runs steps, each with the most recent call first.

    Raises:
        NoStack: it has ended, does not answer, or is none that would.
    """
    try:
        pidfd = os.pidfd_open(pid)  # the number may be another process's right after the first look, and this is not
    except ProcessLookupError:
        raise NoStack("its process has just ended") from None
    try:
        with _memory_of(pid) as memory:
            fcntl.flock(memory.fileno(), fcntl.LOCK_EX)  # one who asks at a time
            memory.truncate(0)
            deaf = _blocking(pid)  # threads that never handle it, as those of some libraries
            signal.pidfd_send_signal(pidfd, SIGNAL)
            deadline = time.monotonic() + ANSWER_WITHIN_S
            while not (memory.seek(0, os.SEEK_END) and _has_answered(pid, deaf)):
                if time.monotonic() > deadline:
                    raise NoStack(f"its process {pid} does not answer: it is stopped, or waits inside the kernel")
                time.sleep(LOOK_AGAIN_S)
            memory.seek(0)
            return memory.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise NoStack("its process has just ended") from None
    except PermissionError:
        raise NoStack(f"its process {pid} belongs to another user") from None
    finally:
        os.close(pidfd)


def _memory_of(pid: int) -> FileIO:
    """The memory that this process writes its stacks to. Raises ``NoStack`` where it does not listen."""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  (names, not paths)
        path = f"/proc/{pid}/fd/{name}"
        with suppress(FileNotFoundError):
            if os.readlink(path) == _LINK and _signals(pid, "SigCgt"):  # noqa: PTH115  (no path: a name of memory)
                return open(path, "r+b", buffering=0)
    raise NoStack(
        f"its process {pid} does not listen: stack_signal is off for the run, the worker has only just been "
        "started, or the step has closed files that it had not opened"
    )


def _has_answered(pid: int, deaf: set[str]) -> bool:
    """Whether the signal is neither on its way nor being handled: it is blocked in a thread while that handles it."""
    return not _signals(pid, "SigPnd", "ShdPnd") and _blocking(pid) <= deaf


def _blocking(pid: int) -> set[str]:
    """The threads in which our signal is blocked."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (names, not paths)
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            if _signals(f"{pid}/task/{thread}", "SigBlk"):
                found.add(thread)
    return found


def _signals(which: object, *masks: str) -> bool:
    """Whether our signal is in one of these masks of a process or thread (proc(5), ``status``)."""
    with open(f"/proc/{which}/status", encoding="ascii", errors="replace") as file:
        found = dict(line.split(":\t", 1) for line in file if line.startswith(masks))
    return any(int(found[mask], 16) >> (SIGNAL - 1) & 1 for mask in masks)


def users_part(stack: str, package: Path) -> str:
    """``stack`` without the frames below the step's function, which are ours and those of whoever started the run."""
    below = f'  File "{package / "authoring" / "compute.py"}", line '
    lines: list[str] = []
    ours = False
    for line in stack.splitlines():
        ours = line.startswith("  File ") and (ours or (line.startswith(below) and line.endswith(" in call_op")))
        if not ours:
            lines.append(line)
    return "\n".join(lines)
