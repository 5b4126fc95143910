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
import gc
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from executor.workers import hygiene, process, stacks
from executor.workers.child import LINGER_S, NOT_BEGUN, Worker, begun_entry, on_nudge
from executor.workers.fork_hooks import ForkHooks
from executor.workers.job import WorkerJob
from executor.workers.rehearsal import TIMES, Rehearsal, forked_child, go_on
from executor.workers.room import Room
from executor.workers.runner import StepRunner
from executor.workers.sockets import ControlSocket
from executor.workers.streams import lane_file, open_log, replace_streams, step_log

if TYPE_CHECKING:
    import mmap
    from collections.abc import Container, Mapping, Sequence
    from types import FrameType

    from executor.authoring.ops import OpDefinition


# A worker that is asked to stop may not hear it: Python forgets a signal that comes before it runs in a new process,
# and one that comes just before a system call does not interrupt it. So it is asked again after this long, until it has
# begun its attempt (its handler stands by then), and is nudged after that: SIGCONT does nothing but interrupt a call.
ASK_AGAIN_AFTER_S = 0.02

# Exit code of a process that was ended by an error in this package (EX_SOFTWARE); it has printed its traceback.
BROKEN = 70


class _Child:
    """A worker that the template forked."""

    __slots__ = ("ended", "heard", "kill_at", "killed", "lane", "left", "nudge_at", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, lane: int) -> None:
        self.pid, self.pidfd, self.lane = pid, pidfd, lane
        self.ended = False  #: it is not reaped before its group is empty, so that nobody else gets the pid
        self.kill_at: float | None = None  #: when what it left behind is killed
        self.nudge_at: float | None = None  #: when it is asked again to stop, or nudged to look at that signal
        self.heard = False  #: the signal came when its handler stood
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
        self._due = False  #: whether any worker has a ``kill_at`` or a ``nudge_at``
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
        """Move what is ours alone to where nothing else is."""
        self._room = room = Room()
        self._channel = room.begin  #: where a worker finds its socket; what is ours alone stands above
        self._stderr = room.keep(os.dup(2))
        self._control = ControlSocket(room.keep(self._control.detach()))
        self._children = process.Children()
        self._children.fd = room.keep(self._children.fd)
        self._epoll = select.epoll()
        self._epoll = select.epoll.fromfd(room.keep(os.dup(self._epoll.fileno())))
        self._epoll.register(self._control.fileno(), select.EPOLLIN)

    def _prepare(self) -> None:
        # no Ctrl-C and no hang-up comes here: a template is in a session of its own, without a terminal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCONT, on_nudge)
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
        above, self._room.end = self._room.end, self._channel + 1
        self._parent, self._fork_process, self._exit = os.getppid(), forked_child, go_on
        with Rehearsal(self._channel) as play:
            self._worker, self._lanes[0] = play.worker, play.lane
            for _ in range(TIMES):
                play.send_task()
                self._fork(0)
        del self._lanes[0]
        self._room.end = max(above, self._room.end)
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
            due = self._next_due() if self._due else None
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
                self._act_on_due(time.monotonic())
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
                self._stop(self._workers[number], kill=order == "kill")
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

    def _next_due(self) -> float | None:
        times = [at for worker in self._workers.values() for at in (worker.kill_at, worker.nudge_at) if at is not None]
        self._due = bool(times)
        return min(times, default=None)

    def _stop(self, worker: _Child, *, kill: bool) -> None:
        worker.heard = self._has_begun(worker.lane)
        self._signal(worker, signal.SIGKILL if kill else signal.SIGTERM)
        if not kill:
            worker.nudge_at = time.monotonic() + ASK_AGAIN_AFTER_S
            self._due = True

    def _ask_again(self, worker: _Child, now: float) -> None:
        """What was asked to stop before it had begun is asked again, whatever it heard; what had begun is nudged."""
        if worker.heard:
            worker.nudge_at = None
            process.signal_one(worker.pid, signal.SIGCONT)
        else:
            worker.nudge_at = now + ASK_AGAIN_AFTER_S
            worker.heard = self._has_begun(worker.lane)
            process.signal_one(worker.pid, signal.SIGTERM)

    def _has_begun(self, lane: int) -> bool:
        return self._begun[begun_entry(lane)] != NOT_BEGUN

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
            sock = self._room.keep(fd)
            old, log = self._lanes.pop(number, (-1, -1))
            if old >= 0:
                os.close(old)
            else:
                log = self._room.keep(open_log(f"{self._job.lanes_folder}/{lane_file(number)}"))
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
            self._begun[begun_entry(lane)] = NOT_BEGUN
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
            process.tie_to_parent(self._parent)
            os.closerange(self._channel + 1, self._room.end)  # what is the template's alone
            if self._numpy_random is not None:
                self._numpy_random.seed()  # the standard library's generator does so by itself after a fork
            self._worker.main(lane)
            code = 0
        except BaseException:  # noqa: BLE001  (nothing may return into the template's loop)
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            self._exit(code)

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

    def _act_on_due(self, now: float) -> None:
        for worker in list(self._workers.values()):
            if worker.nudge_at is not None and worker.nudge_at <= now and not self._stopped:
                self._ask_again(worker, now)
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
        pidfd = self._room.keep(os.pidfd_open(pid))
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
