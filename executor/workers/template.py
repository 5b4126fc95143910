"""The template: a small single-threaded process that forks the workers of one run, waits for them and ends them.

It holds the user's imported code and nothing else, so that a fork of it is cheap and safe. It alone is the workers'
parent and so the only one that can wait for them, and it adopts whatever they leave behind. Over a socket it is told
to fork, to signal and to end; it passes each new worker's own socket back, and reports each worker that is gone,
after the last process that it started is gone too.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import os
import select
import signal
import sys
import time
from _signal import SIG_BLOCK, SIG_UNBLOCK, pthread_sigmask
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from executor.workers import hygiene, process
from executor.workers.child import LINGER_S, Worker, rehearse
from executor.workers.fork_hooks import ForkHooks
from executor.workers.sockets import FDS_PER_PACKET, stream_pair
from executor.workers.streams import replace_streams, step_log

if TYPE_CHECKING:
    import mmap
    from collections.abc import Container, Mapping

    from executor.workers.interface import WorkerJob
    from executor.workers.sockets import ControlSocket


# Exit code of a process that was ended by an error in this package (EX_SOFTWARE); it has printed its traceback.
BROKEN = 70


@dataclass(slots=True)
class _Child:
    """A worker that the template forked."""

    pid: int
    pidfd: int
    ended: bool = False  #: it is not reaped before its group is empty, so that nobody else gets the pid
    kill_at: float | None = None  #: when what it left behind is killed
    killed: bool = False  #: something of it had to be killed after it ended
    left: set[int] = field(default_factory=set)  #: processes that it left behind


class Template:
    """The loop of the template process. It never returns: ``run`` ends the process."""

    def __init__(
        self,
        job: WorkerJob,
        control: ControlSocket,
        begun: mmap.mmap,
        *,
        attempts: int | None,
        environ: Mapping[str, str | None],
    ) -> None:
        self._job, self._control, self._begun, self._attempts = job, control, begun, attempts
        self._environ = environ  #: variables that the template was started without, to be put back in workers
        self._pid = os.getpid()
        self._workers: dict[int, _Child] = {}  #: by pid
        self._by_pidfd: dict[int, _Child] = {}
        self._orphans: dict[int, tuple[int, list[_Child]]] = {}  #: pidfd -> pid, and the workers that may have left it
        self._sessions: dict[int, list[_Child]] = {}  #: session that such a process made -> those workers
        self._news: list[tuple[object, ...]] = []  #: to be told to the driver
        self._new_fds: list[int] = []  #: the sockets of the new workers among them, in order
        self._stopped = False
        self._children = process.Children()
        hygiene.register(self._children.fd)
        self._epoll = select.epoll()
        hygiene.register(self._epoll.fileno())
        hygiene.register(control.fileno())
        self._epoll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> NoReturn:
        """Serve the driver until it closes its end or dies; then kill what is left, wait for it, and exit."""
        code = BROKEN
        try:
            self._prepare()
            self._control.send(("ready", self._pid))
            self._serve()
            code = 0
        except BaseException:  # noqa: BLE001  (the workers must go in any case; the driver reports that the template died)
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            self._end_everything()
            os._exit(code)

    def _prepare(self) -> None:
        # no Ctrl-C and no hang-up comes here: a template is in a session of its own, without a terminal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._on_term)
        process.adopt_orphans()
        replace_streams()
        faulthandler.enable(2)  # a step that crashes the interpreter says where, in its lane's log
        atexit._clear()  # noqa: SLF001  (no public name; what was inherited belongs to the driver)
        # logging brings threads' machinery along, which makes a fork a third dearer: only where it can be used
        uses_log = any(getattr(step.compute, "takes_context", True) for step in self._job.steps)
        self._worker = Worker(self._job, self._begun, step_log() if uses_log else None, self._attempts)
        rehearse()
        self._numpy_random: Any = sys.modules.get("numpy.random")
        self._hooks = ForkHooks()
        self._hooks.leave_out_needless()
        gc.collect()
        gc.freeze()  # what is here now stays; collecting it in a worker would copy its pages

    def _on_term(self, _signum: int, _frame: object) -> None:
        """The driver's thread ended without a word: everything ends with it."""
        self._end_everything()
        os._exit(0)

    def _serve(self) -> None:
        control = self._control.fileno()
        while True:
            due = min((w.kill_at for w in self._workers.values() if w.kill_at is not None), default=None)
            timeout = -1.0 if due is None else max(0.001, due - time.monotonic())
            for fd, _ in self._epoll.poll(timeout):
                if fd == control:
                    if not self._obey():
                        return
                elif fd in self._by_pidfd:
                    self._on_worker_end(self._by_pidfd[fd])
                elif fd in self._orphans:
                    self._on_orphan_end(fd)
            if due is not None:
                self._kill_lingering(time.monotonic())
            self._tell()

    def _obey(self) -> bool:
        """The driver's next orders; False when there will be no more."""
        orders, _ = self._control.receive()
        if orders is None:
            return False
        for order, number in orders:
            if order == "fork":
                self._fork_all(number)
            elif order == "signal_all":
                self._stopped = number == signal.SIGSTOP
                for worker in self._workers.values():
                    self._signal(worker, number)
            elif number in self._workers:
                self._signal(self._workers[number], signal.SIGTERM if order == "stop" else signal.SIGKILL)
        return True

    @staticmethod
    def _signal(worker: _Child, signum: int) -> None:
        process.signal_group(worker.pid, signum)
        for pid in worker.left:
            process.signal_one(pid, signum)

    # --- workers come ------------------------------------------------------------------------------------------------

    def _fork_all(self, count: int) -> None:
        """Fork ``count`` workers one right after another, and tell the driver of them.

        What this process does between two forks it pays for twice, since each fork makes its pages shared again; so
        the forks come first and the records after.
        """
        made, lost = [], 0
        error: OSError | None = None
        for _ in range(min(count, FDS_PER_PACKET)):
            try:
                made.append(self._fork())
            except OSError as reason:  # no memory, no descriptors, or too many processes
                error = reason
                break
        for pid, ours, theirs in made:
            # here and not in the worker: it gets nothing to do before the driver knows it
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            hygiene.close(theirs)
            try:
                pidfd = self._watch(pid)
            except OSError as reason:  # the last descriptor went to its socket
                error = reason
                lost += 1
                hygiene.close(ours)
                self._end(pid)
                continue
            worker = _Child(pid, pidfd)
            self._workers[pid] = worker
            self._by_pidfd[pidfd] = worker
            if self._stopped:
                process.signal_group(pid, signal.SIGSTOP)
            self._news.append(("worker", pid))
            self._new_fds.append(ours)
        if error is not None:
            self._news.extend([("no_worker", str(error))] * (count - len(made) + lost))
        self._tell()
        if error is None and count > len(made):
            self._fork_all(count - len(made))

    def _tell(self) -> None:
        """What happened in this round, in one packet."""
        if self._news:
            self._control.send(self._news, self._new_fds)
            for fd in self._new_fds:
                hygiene.close(fd)
            self._news, self._new_fds = [], []

    def _fork(self) -> tuple[int, int, int]:
        """One more worker: its pid, and both ends of its socket."""
        ours, theirs = stream_pair()
        # a SIGTERM for the new worker waits until that has its own handler; ours would end everything
        pthread_sigmask(SIG_BLOCK, (15,))
        try:
            pid = os.fork()
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        else:
            if pid == 0:
                self._become_worker(ours, theirs)
        finally:
            pthread_sigmask(SIG_UNBLOCK, (15,))  # only ever reached in the template
        hygiene.register(ours)
        hygiene.register(theirs)
        return pid, ours, theirs

    def _become_worker(self, ours: int, theirs: int) -> NoReturn:
        try:
            process.tie_to_parent(self._pid)
            os.close(ours)
            if self._environ:
                restore_environ(self._environ)
            if self._numpy_random is not None:
                self._numpy_random.seed()  # the standard library's generator does so by itself after a fork
            self._worker.main(theirs)
        except BaseException:  # noqa: BLE001  (nothing may return into the template's loop)
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(BROKEN)  # seen as a worker that died

    # --- workers go --------------------------------------------------------------------------------------------------

    def _on_worker_end(self, worker: _Child) -> None:
        self._unwatch(worker.pidfd)
        del self._by_pidfd[worker.pidfd]
        worker.ended = True
        self._find_orphans(worker)
        if not worker.left:
            self._report(worker)
            return
        # looked at without reaping: the pid, and so the group's number, stays taken until the group is empty
        info = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        if info is not None and info.si_code == os.CLD_EXITED and info.si_status == 0:
            worker.kill_at = time.monotonic() + LINGER_S
        else:
            self._kill_rest(worker)

    def _find_orphans(self, worker: _Child) -> None:
        """Adopt what ``worker`` left: as workers adopt orphans, a child that we did not fork is of a dead one."""
        known: Container[int] = self._workers
        if self._orphans:
            known = {*self._workers, *[pid for pid, _ in self._orphans.values()]}
        for pid in self._children.pids():
            if pid in known:
                continue
            owners = self._owners_of(pid, worker)
            try:
                pidfd = self._watch(pid)
            except ProcessLookupError:
                continue
            except OSError:  # too many descriptors, so nobody would see its end
                for owner in owners:
                    owner.killed = True
                self._end(pid)
                return self._find_orphans(worker)  # its own children are ours now
            for owner in owners:
                owner.left.add(pid)
            self._orphans[pidfd] = (pid, owners)
            if any(owner.killed for owner in owners):
                process.signal_one(pid, signal.SIGKILL)
        return None

    def _owners_of(self, orphan: int, ending: _Child) -> list[_Child]:
        """Who may have left it: the worker in whose group it is, or those known by its session, or all that are dying.

        Of several that die at once each then waits for it, since no slot may be free while a process of it lives.
        """
        group, session = process.group_and_session(orphan)
        owner = self._workers.get(group)
        if owner is not None:
            owners = [owner]
        elif session in self._sessions:
            return self._sessions[session]
        else:
            others = (child for child in self._workers.values() if child is not ending)
            owners = [ending, *[child for child in others if child.ended or process.is_exiting(child.pid)]]
        if session != self._pid:
            self._sessions[session] = owners
        return owners

    def _on_orphan_end(self, pidfd: int) -> None:
        pid, owners = self._orphans.pop(pidfd)
        self._unwatch(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        for owner in owners:
            owner.left.discard(pid)
        self._find_orphans(owners[0])  # its own children are ours now
        for owner in owners:
            if not owner.left and owner.ended:
                self._report(owner)

    def _kill_lingering(self, now: float) -> None:
        for worker in list(self._workers.values()):
            if worker.kill_at is not None and worker.kill_at <= now:
                self._kill_rest(worker)

    def _kill_rest(self, worker: _Child) -> None:
        worker.kill_at, worker.killed = None, True
        process.signal_group(worker.pid, signal.SIGKILL)
        for pid, owners in self._orphans.values():
            if pid in worker.left:
                process.signal_one(pid, signal.SIGKILL)
                for owner in owners:
                    owner.killed = True

    def _report(self, worker: _Child) -> None:
        _, ended, usage = os.wait4(worker.pid, 0)
        del self._workers[worker.pid]
        if self._sessions:
            self._sessions = {number: owners for number, owners in self._sessions.items() if worker not in owners}
        cpu_s = usage.ru_utime + usage.ru_stime
        status = os.waitstatus_to_exitcode(ended)
        self._news.append(("gone", worker.pid, status, cpu_s, usage.ru_maxrss * 1024, worker.killed))

    def _watch(self, pid: int) -> int:
        """A pidfd that the loop sees. Raises ``OSError`` where there are too many descriptors."""
        pidfd = hygiene.register(os.pidfd_open(pid))
        self._epoll.register(pidfd, select.EPOLLIN)
        return pidfd

    @staticmethod
    def _end(pid: int) -> None:
        """Kill a child and wait for it."""
        process.signal_one(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    def _unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        hygiene.close(fd)

    def _end_everything(self) -> None:
        """Kill every group and every adopted process until nobody is left."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for pid in self._workers:
            process.signal_group(pid, signal.SIGKILL)
        while True:
            for pid in self._children.pids():
                process.signal_one(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)  # children of this process are workers and what they left; nobody else waits
            except ChildProcessError:
                return


def restore_environ(variables: Mapping[str, str | None]) -> None:
    """Set these variables to the user's own values; None: the user had none."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
