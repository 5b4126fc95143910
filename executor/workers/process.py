"""What Linux offers to hold processes together; thin names over system calls. No policy here."""

from __future__ import annotations

import os
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_BE_KILLED_WITH_PARENT = (_PR_SET_PDEATHSIG, 9, 0, 0, 0)
_ADOPT_ORPHANS = (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

#: Of the flags in ``/proc/<pid>/stat``, see ``include/linux/sched.h``.
_PF_EXITING = 0x4


# Functions of the C library by their address, found when they are first needed. A template finds them before it forks,
# and its workers inherit what it has found: each of them would look again.

_call: Callable[[int, tuple[int, ...]], object]  #: call the function at an address with these arguments
_prctl = 0
_exit = 0


def find_functions() -> None:
    """Look up what this module calls, unless that is done."""
    global _call, _prctl, _exit  # noqa: PLW0603  (looked up once in each process tree)
    if not _prctl:
        # the C half of ctypes: its Python half would add a third of a megabyte to what each fork copies
        import _ctypes

        this_program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is right: see dlopen(3)
        _call = _ctypes.call_function
        _exit = _ctypes.dlsym(this_program, "_exit")
        _prctl = _ctypes.dlsym(this_program, "prctl")


def end_now(code: int) -> None:
    """End this process as ``os._exit`` does, for which the dynamic linker would have to look once more in each fork."""
    _call(_exit, (code,))


def die_with_parent(parent: int, signum: int) -> None:
    """Be sent ``signum`` when the thread that started this process ends; exit now if ``parent`` is gone already."""
    find_functions()
    _call(_prctl, (_PR_SET_PDEATHSIG, signum, 0, 0, 0))  # it cannot fail with a valid signal
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def tie_to_parent(parent: int) -> None:
    """For a worker, forked where the functions are found: be killed with its parent, and adopt orphans below it."""
    _call(_prctl, _BE_KILLED_WITH_PARENT)
    _call(_prctl, _ADOPT_ORPHANS)
    if os.getppid() != parent:  # it died before it could take us with it
        os._exit(1)


def adopt_orphans(*, on: bool = True) -> None:
    """Become the parent of every descendant whose own parent ends (a *subreaper*), instead of process 1; or no more."""
    find_functions()
    _call(_prctl, (_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0))


# The kernel gives a page at a time at most; what is shorter than this was not cut off.
WHOLE_BYTES = 4000


class Children:
    """The direct children of this process, which has one thread; ended ones that were not waited for are among them."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Their process ids, in the order of their start."""
        data = part = os.pread(self.fd, 1 << 16, 0)
        while len(part) > WHOLE_BYTES:
            part = os.pread(self.fd, 1 << 16, len(data))
            data += part
        return [int(word) for word in data.split()]


#: Of wait(2): children as well that were made by clone(2) with another signal than SIGCHLD for their end, or none.
WALL = 0x40000000


def has_children() -> bool:
    """Whether this process has any child, running or ended."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:
        return False
    return True


def signal_group(pid: int, signum: int) -> None:
    """Send ``signum`` to the process group that ``pid`` leads; a group that is gone is no error."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):  # PermissionError: only processes of another user are left in it
        return


def signal_one(pid: int, signum: int) -> None:
    """Send ``signum`` to ``pid``; one that is gone is no error."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return


def group_and_session(pid: int) -> tuple[int, int]:
    """The numbers of the process group and of the session that ``pid`` is in; 0 where it is gone."""
    try:
        return os.getpgid(pid), os.getsid(pid)
    except ProcessLookupError:
        return 0, 0


def is_exiting(pid: int) -> bool:
    """Whether a process is on its way out, or gone.

    From the first moment of that way the kernel gives its orphans to others, long before it can be waited for.
    """
    fields = stat_of(pid)
    return fields is None or bool(int(fields[6]) & _PF_EXITING)


def stat_of(pid: int) -> list[bytes] | None:
    """The fields of ``/proc/<pid>/stat`` that come after the name, from the state on (proc(5)); None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()  # the name before it may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None


class Usage:
    """CPU time and peak memory of this process, attempt by attempt; the first begins when the process is forked.

    ``ru_maxrss`` is right in a worker that was forked: it starts at the size of the fork, and writing 5 to
    ``clear_refs`` sets it back to the present size (proc(5)). After an exec it keeps what the process had before, which
    is right too where that was a fork of a template that has loaded nothing: no worker is ever smaller.
    """

    __slots__ = ("_clear_fd", "_cpu_s")

    def __init__(self) -> None:
        self._clear_fd: int | None = None
        self._cpu_s = 0.0

    def restart(self) -> None:
        """An attempt begins that is not the first of this process."""
        if self._clear_fd is None:
            try:
                self._clear_fd = hygiene.register(os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC))
            except OSError:  # a kernel without it: the peak is then that of the process so far
                self._clear_fd = -1
        if self._clear_fd >= 0:
            os.pwrite(self._clear_fd, b"5", 0)
        self._cpu_s = 0.0
        self._cpu_s, _ = self.read()

    def read(self) -> tuple[float, int]:
        """Seconds of CPU since ``restart`` (with children that were waited for), and bytes of peak resident memory."""
        own = getrusage(RUSAGE_SELF)
        below = getrusage(RUSAGE_CHILDREN)
        return own[0] + own[1] + below[0] + below[1] - self._cpu_s, own[2] * 1024

    def close(self) -> None:
        """Give the descriptor back."""
        if self._clear_fd is not None and self._clear_fd >= 0:
            hygiene.close(self._clear_fd)
        self._clear_fd = None


def other_threads() -> list[int]:
    """The kernel's numbers of the threads of this process beside its main one, those of native libraries included."""
    return [tid for tid in map(int, os.listdir("/proc/self/task")) if tid != os.getpid()]  # noqa: PTH208  (names)


def thread_names() -> list[str]:
    """The threads of this process beside its main one: Python's own names where they have one, else the kernel's."""
    others = sorted(other_threads())
    if not others:
        return []
    import threading  # brings hooks that make each fork dearer, see fork_hooks.py

    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = []
    for tid in others:
        try:
            names.append(known.get(tid) or f"{_read(f'/proc/self/task/{tid}/comm').strip()} (native)")
        except OSError:  # it ended meanwhile
            continue
    return names


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(_read("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
