"""The template: a small single-threaded process that forks the workers of one run, waits for them and ends them.

It holds the user's imported code and nothing else, so that a fork of it is cheap and safe. It alone is the workers'
parent and so the only one that can wait for them, and it adopts whatever they leave behind. Over a socket it is given
lanes, a socket for each, and told to fork a worker on a lane, to signal and to end; it reports each worker that has
come, and each that is gone, after the last process that it started is gone too.

A worker finds all that it needs when it is forked: its lane's socket and log stand in their places by then, the
handlers are the template's own, which look whose process they are in, and what is the template's alone stands in one
range of descriptors, closed by one call. What a fork does less is less memory to copy (see ``child.py``).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import faulthandler
import fcntl
import gc
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from executor.workers import hygiene, process, stacks
from executor.workers.child import LINGER_S, Worker
from executor.workers.fork_hooks import ForkHooks
from executor.workers.job import WorkerJob
from executor.workers.rehearsal import TIMES, Rehearsal, forked_child, go_on
from executor.workers.runner import StepRunner
from executor.workers.sockets import ControlSocket
from executor.workers.streams import lane_file, open_log, replace_streams, step_log

if TYPE_CHECKING:
    import mmap
    from collections.abc import Container, Mapping, Sequence
    from types import FrameType

    from executor.authoring.ops import OpDefinition


# Exit code of a process that was ended by an error in this package (EX_SOFTWARE); it has printed its traceback.
BROKEN = 70


class _Child:
    """A worker that the template forked."""

    __slots__ = ("ended", "kill_at", "killed", "lane", "left", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, lane: int) -> None:
        self.pid, self.pidfd, self.lane = pid, pidfd, lane
        self.ended = False  #: it is not reaped before its group is empty, so that nobody else gets the pid
        self.kill_at: float | None = None  #: when what it left behind is killed
        self.killed = False  #: something of it had to be killed after it ended
        self.left: set[int] = set()  #: processes that it left behind


class Template:
    """The loop of the template process. It never returns: ``run`` ends the process."""

    def __init__(
        self,
        ops: Sequence[OpDefinition],
        control: ControlSocket,
        begun: mmap.mmap,
        *,
        attempts: int | None,
        environ: Mapping[str, str | None],
    ) -> None:
        self._ops, self._begun, self._attempts = ops, begun, attempts
        self._environ = environ  #: variables that the template was started without, to be put back in workers
        self._pid = os.getpid()
        self._fork_process = os.fork
        self._workers: dict[int, _Child] = {}  #: by pid
        self._by_pidfd: dict[int, _Child] = {}
        self._orphans: dict[int, tuple[int, list[_Child]]] = {}  #: pidfd -> pid, and the workers that may have left it
        self._sessions: dict[int, list[_Child]] = {}  #: session that such a process made -> those workers
        self._news: list[tuple[object, ...]] = []  #: to be told to the driver
        self._stopped = False
        self._due = False  #: whether any worker has a ``kill_at``
        self._lanes: dict[int, tuple[int, int]] = {}  #: number -> socket and log of its workers
        self._unopened: dict[int, OSError] = {}  #: number -> why it is not among them
        self._stacks = stacks.open_memory()
        self._control = control

    def run(self) -> NoReturn:
        """Serve the driver until it closes its end or dies; then kill what is left, wait for it, and exit."""
        code, placed, ready = BROKEN, False, False
        try:
            self._take_place()
            placed = True
            self._prepare()
            ready = True
            self._control.send(("ready", self._pid))
            self._serve()
            code = 0
        except BaseException as error:  # noqa: BLE001  (the workers must go in any case; the driver reports it)
            with contextlib.suppress(BaseException):
                if not ready:
                    self._control.send(("failed", f"{type(error).__name__}: {error}"))
                if ready or not isinstance(error, OSError):  # what the system refuses is no error of ours
                    import traceback

                    if placed:
                        os.dup2(self._stderr, 2)
                    traceback.print_exc()
        finally:
            if placed:
                self._end_everything()
            os._exit(code)

    def _take_place(self) -> None:
        """Move what is ours alone to where nothing else is, in the widest room that descriptors have.

        Usually above all others; but one that was inherited may stand just below the limit.
        """
        limit = os.sysconf("SC_OPEN_MAX")  # the soft limit of this process
        taken = sorted({2, *map(int, os.listdir("/proc/self/fd"))})  # noqa: PTH208  (names, not paths)
        taken = [fd for fd in taken if 2 <= fd < limit]
        room, below = max((above - fd, fd) for fd, above in zip(taken, [*taken[1:], limit], strict=True))
        self._channel = below + 1  #: where a worker finds its socket; what is ours alone stands above
        self._top = below + room  #: from here on it is not ours
        self._end_of_fds = self._channel + 1
        self._stderr = self._above(os.dup(2))
        self._control = ControlSocket(self._above(self._control.detach()))
        self._children = process.Children()
        self._children.fd = self._above(self._children.fd)
        self._epoll = select.epoll()
        self._epoll = select.epoll.fromfd(self._above(os.dup(self._epoll.fileno())))
        self._epoll.register(self._control.fileno(), select.EPOLLIN)

    def _prepare(self) -> None:
        # no Ctrl-C and no hang-up comes here: a template is in a session of its own, without a terminal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._on_term)
        process.adopt_orphans()
        replace_streams()
        restore_environ(self._environ)
        faulthandler.enable(2)  # a step that crashes the interpreter says where, in its lane's log
        atexit._clear()  # noqa: SLF001  (no public name; what was inherited belongs to the driver)
        # logging brings threads' machinery along, which makes a fork a third dearer: only where it can be used
        self._log = step_log() if any(op.takes_context for op in self._ops) else None
        self._numpy_random: Any = None
        self._rehearse()
        self._numpy_random = sys.modules.get("numpy.random")
        hygiene.forks_workers()
        hygiene.register(self._channel)
        hygiene.register_handler(signal.SIGTERM, self._on_term, signal.SIG_DFL)
        self._hooks = ForkHooks()
        self._hooks.leave_out_needless()

    def _rehearse(self) -> None:
        """Play workers through: all that they do but to be processes, and to close what is the template's."""
        above, self._end_of_fds = self._end_of_fds, self._channel + 1
        self._parent, self._fork_process, self._exit = os.getppid(), forked_child, go_on
        with Rehearsal(self._channel) as play:
            self._worker, self._lanes[0] = play.worker, play.lane
            for _ in range(TIMES):
                play.send_task()
                self._fork(0)
        del self._lanes[0]
        self._end_of_fds = max(above, self._end_of_fds)
        self._parent, self._fork_process, self._exit = self._pid, os.fork, process.end_now
        process.die_with_parent(os.getppid(), signal.SIGTERM)  # as before the rehearsal

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        """In the template: the driver's thread ended without a word, and everything ends with it. In a worker: stop."""
        if os.getpid() != self._pid:  # only forked once there is one
            self._worker.stop.on_signal(signum, frame)
            return
        self._end_everything()
        os._exit(0)

    def _serve(self) -> None:
        control = self._control.fileno()
        while True:
            due = self._next_kill() if self._due else None
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
        orders, fds = self._control.receive()
        if orders is None:
            return False
        sockets = iter(fds)
        lanes = []
        for order, number in orders:
            if order == "job":
                self._take_job(WorkerJob(*number))
            elif order == "fork":
                lanes.append(number)
            elif order == "lane":
                self._open_lane(number, next(sockets, -1))
            elif order == "signal_all":
                self._stopped = number == signal.SIGSTOP
                for worker in self._workers.values():
                    self._signal(worker, number)
            elif number in self._workers:
                self._signal(self._workers[number], signal.SIGTERM if order == "stop" else signal.SIGKILL)
        if lanes:
            self._fork_all(lanes)
        return True

    def _take_job(self, job: WorkerJob) -> None:
        """What the workers that are forked from here on are told of the run."""
        self._job = job
        if job.stack_signal:
            stacks.listen(self._stacks)
        else:
            hygiene.close(self._stacks)
        runner = StepRunner(job, self._log)
        self._worker = Worker(
            job, self._ops, self._begun, attempts=self._attempts, channel=self._channel, runner=runner
        )
        self._worker.on_term = self._on_term
        gc.freeze()  # what is here now stays; collecting it in a worker would copy its pages

    def _next_kill(self) -> float | None:
        due = min((worker.kill_at for worker in self._workers.values() if worker.kill_at is not None), default=None)
        self._due = due is not None
        return due

    @staticmethod
    def _signal(worker: _Child, signum: int) -> None:
        process.signal_group(worker.pid, signum)
        for pid in worker.left:
            process.signal_one(pid, signum)

    # --- workers come ------------------------------------------------------------------------------------------------

    def _open_lane(self, number: int, fd: int) -> None:
        """Keep a lane's socket, a new one where its last worker left the old one unclean, and its log."""
        try:
            if fd < 0:  # the kernel dropped it, as no descriptor was free here
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            sock = self._above(fd)
            old, log = self._lanes.pop(number, (-1, -1))
            if old >= 0:
                os.close(old)
            else:
                log = self._above(open_log(f"{self._job.lanes_folder}/{lane_file(number)}"))
        except OSError as error:
            self._unopened[number] = error
        else:
            self._lanes[number] = sock, log

    def _fork_all(self, lanes: Sequence[int]) -> None:
        """Fork a worker on each of these lanes, one right after another, and tell the driver of them.

        What this process does between two forks it pays for twice, since each fork makes its pages shared again; so
        the forks come first and the records after.
        """
        made = []
        error = ""
        for lane in lanes:
            try:
                made.append((lane, self._fork(lane)))
            except OSError as reason:  # no memory, no descriptors, or too many processes
                error = str(reason)
                break
        lost = list(lanes[len(made) :])
        for lane, pid in made:
            # here and not in the worker: it gets nothing to do before the driver knows it
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            try:
                pidfd = self._watch(pid)
            except OSError as reason:
                error = str(reason)
                lost.append(lane)
                self._end(pid)
                continue
            worker = _Child(pid, pidfd, lane)
            self._workers[pid] = worker
            self._by_pidfd[pidfd] = worker
            if self._stopped:
                process.signal_group(pid, signal.SIGSTOP)
            self._news.append(("worker", lane, pid))
        self._news += [("no_worker", lane, error) for lane in lost]
        self._tell()

    def _tell(self) -> None:
        """What happened in this round, in one packet."""
        if self._news:
            self._control.send(self._news)
            self._news = []

    def _fork(self, lane: int) -> int:
        """One more worker on a lane: its pid."""
        if lane not in self._lanes:
            raise self._unopened.pop(lane)
        sock, log = self._lanes[lane]
        os.dup2(sock, self._channel, False)
        os.dup2(log, 1)
        os.dup2(log, 2)
        pid = self._fork_process()
        if pid == 0:
            self._become_worker(lane)
        return pid

    def _become_worker(self, lane: int) -> None:
        """In a new process: the whole life of a worker. It ends here."""
        code = BROKEN  # seen as a worker that died
        try:
            self._leave_template()
            self._worker.main(lane)
            code = 0
        except BaseException:  # noqa: BLE001  (nothing may return into the template's loop)
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            self._exit(code)

    def _leave_template(self) -> None:
        """In a new worker: let go of what is the template's alone."""
        process.tie_to_parent(self._parent)
        os.closerange(self._channel + 1, self._end_of_fds)
        if self._numpy_random is not None:
            self._numpy_random.seed()  # the standard library's generator does so by itself after a fork

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
            self._due = True
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
        self._news.append(("gone", worker.lane, status, cpu_s, usage.ru_maxrss * 1024, worker.killed))

    def _watch(self, pid: int) -> int:
        """A pidfd that the loop sees. Raises ``OSError`` where there are too many descriptors."""
        pidfd = self._above(os.pidfd_open(pid))
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
        os.close(fd)

    def _above(self, fd: int) -> int:
        """Move a descriptor of ours to where no worker keeps it. Raises ``OSError`` where there is no room."""
        try:
            room = self._channel + 1 < self._top
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._channel + 1) if room else -1
            if moved >= self._top:
                os.close(moved)
            if not 0 <= moved < self._top:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._end_of_fds = max(self._end_of_fds, moved + 1)
            return moved
        finally:
            os.close(fd)

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
