"""Workers as processes, seen from the driver: one attempt per process, or many.

Lanes, workers and attempts meet here. A *lane* is a place for one attempt at a time and has one log file; a *worker*
is a process, and comes with a socket of its own from the template; an attempt takes a lane and a worker, and gives
both back when its processes are gone.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from executor.scheduler.events import (
    Facts,
    RunNotice,
    SlotFreed,
    StepError,
    StepFailed,
    StepReturned,
    StepStarted,
    StepSucceeded,
    StoredValue,
)
from executor.workers import hygiene, process
from executor.workers.assignment import CLOSED, GARBAGE, Assignment, died, never_began, stopped
from executor.workers.channel import Channel
from executor.workers.child import LINGER_S, begun_mark
from executor.workers.interface import WorkersUnavailable
from executor.workers.launch import BegunPage, choose
from executor.workers.parent import TemplateLink
from executor.workers.streams import lane_file
from executor.workers.template import BROKEN

if TYPE_CHECKING:
    from executor.config.settings import ExecutorSettings
    from executor.workers.clock import RunClock
    from executor.workers.interface import Attempt, Report, StopReason, WorkerJob
    from executor.workers.selector import Selector

# One-shot workers are forked ahead of need, so that the next attempt does not wait for a fork: up to SPARES of them,
# FORKS at a time, because forks that follow one another closely are cheaper (see ``Template``).
SPARES = 6
FORKS = 4

# An attempt that no worker begins, so many times in a row, is reported as failed: something kills workers at birth.
RETURNS = 5

# After a fork that failed for want of memory, descriptors or processes, the next is tried so much later.
FORK_AGAIN_S = 0.1

# A template that dies so many times in a row, with no attempt succeeding between, is not started again.
RESTARTS = 3


class _Worker:
    """A worker process as the driver knows it."""

    __slots__ = ("because", "channel", "condemned", "pid", "pidfd", "task", "used")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.because: str | None = None  #: why it was given up before its attempt was reported
        self.channel: Channel
        self.task: Assignment | None = None
        self.used = 0  #: attempts handed to it
        self.condemned = False  #: gets nothing more to do
        self.pidfd = -1  #: to see its end when the template is dead and cannot tell


class ProcessWorkers:
    """Runs attempts in processes that a template forks. Implements ``Workers``."""

    blocking = False

    def __init__(
        self, job: WorkerJob, settings: ExecutorSettings, *, lanes: int, selector: Selector, clock: RunClock
    ) -> None:
        self._job, self._settings, self._selector, self._clock = job, settings, selector, clock
        self._per_worker = settings.steps_per_worker
        self.reports: list[Report] = []
        self._tasks: dict[str, Assignment] = {}  #: by step key: a step has one attempt at a time
        self._queue: deque[Assignment] = deque()  #: begun by the driver, with no worker yet
        self._workers: dict[int, _Worker] = {}
        self._idle: list[_Worker] = []
        self._asked = 0  #: forks that were ordered and not answered
        self._fork_at: float | None = None  #: after a fork that failed: when to try again
        self._free_lanes = list(range(lanes - 1, -1, -1))
        self._lane_ends = [0] * lanes  #: bytes of each lane's log that belong to attempts that are over
        self._ending: deque[tuple[float, _Worker]] = deque()  #: processes that have reported; when they must be gone
        self._stopping = 0  #: attempts with a kill_at
        self._begins_left = len(job.steps)  #: how many attempts may still come, to fork no more ahead than that
        self._returns: dict[str, int] = {}  #: step key -> workers in a row that died before they began it
        self._restarts = 0
        self._lost: str | None = None  #: why no worker can be had any more
        self.template_died = False  #: so processes that had left their step's group may live on
        self._choice = choose(settings.start_method)
        self._begun = BegunPage(lanes)
        self._template = TemplateLink(
            selector,
            on_worker=self._on_new_worker,
            on_gone=self._on_gone,
            on_none=self._on_no_worker,
            on_end=self._on_end,
        )
        kinds = {1: "one process per step", None: "persistent workers"}
        kind = kinds.get(self._per_worker, f"a new worker after {self._per_worker} steps")
        how = "forked" if self._choice.method == "fork" else "from a fresh template process"
        self.description = f"{kind}, {how} ({self._choice.why})"

    # --- what the driver calls ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the template.

        Raises:
            WorkersUnavailable: it cannot be started, or its code cannot be loaded there.
        """
        try:
            self._launch(self._choice.method)
        except BaseException:
            self._begun.close()
            raise

    def await_ready(self) -> None:
        """Block until workers can be forked, so that what follows is not counted as the time of a step.

        Raises:
            WorkersUnavailable: the template died before.
        """
        self._template.await_ready()

    def begin(self, attempt: Attempt) -> None:
        """Hand ``attempt`` to an idle worker, or to the next one that comes."""
        task = Assignment(attempt)
        self._tasks[attempt.key] = task
        if self._begins_left:
            self._begins_left -= 1
        if self._lost is not None:
            self._report_unbegun(task, StepError("worker_died", self._lost, allow_retries=False))
        elif self._idle:
            self._hand(task, self._idle.pop())
        else:
            self._queue.append(task)

    def flush(self) -> None:
        """Order the forks that are needed, and send all orders."""
        if self._lost is None and (self._fork_at is None or self._fork_at <= self._clock()):
            self._fork_at = None
            self._order_forks()
        self._template.flush()

    def _order_forks(self) -> None:
        """A worker for each attempt that waits for one; of one-shot workers some more, ahead of need and together."""
        urgent = len(self._queue) - self._asked
        if urgent > 0:
            self._asked += urgent
            self._template.order("fork", urgent)
        if self._per_worker == 1:
            missing = len(self._queue) + min(SPARES, self._begins_left) - len(self._idle) - self._asked
            if missing >= min(FORKS, self._begins_left) and missing > 0:
                self._asked += missing
                self._template.order("fork", missing)

    def stop(self, key: str, reason: StopReason, *, kill: bool) -> None:
        """Stop the attempt of step ``key``: SIGTERM, and SIGKILL after the grace; with ``kill``, SIGKILL now."""
        task = self._tasks.get(key)
        if task is None:
            return
        task.stop = task.stop or reason
        if task.lane < 0:
            self._queue.remove(task)
            self._report_unbegun(task, self._stopped(task))
            return
        self._workers[task.pid].condemned = True
        if kill or self._settings.stop_grace_s <= 0:
            self._kill(task)
        elif task.kill_at is None and not task.killed:
            self._template.order("stop", task.pid)
            self._set_kill_at(task, self._clock() + self._settings.stop_grace_s)

    @property
    def wake_at(self) -> float | None:
        """When the next process has outlived its grace."""
        due = self._ending[0][0] if self._ending else None
        if self._fork_at is not None and self._queue:
            due = self._fork_at if due is None else min(due, self._fork_at)
        if self._stopping:
            kills = [task.kill_at for task in self._tasks.values() if task.kill_at is not None]
            due = min(kills, default=due) if due is None else min(due, *kills)
        return due

    def tick(self, now: float) -> None:
        """Kill what outlived its grace."""
        while self._ending and self._ending[0][0] <= now:
            _, worker = self._ending.popleft()
            if worker.task is not None and worker.task.reported:
                self._kill(worker.task)
            elif worker.task is not None and not process.is_exiting(worker.pid):  # else its template tells how it died
                self._give_up(worker, CLOSED)
        if self._stopping:
            for task in self._tasks.values():
                if task.kill_at is not None and task.kill_at <= now:
                    self._kill(task)

    def pause(self) -> None:
        """Stop every worker's process group."""
        self._template.order("signal_all", int(signal.SIGSTOP))
        self._template.flush()

    def resume(self) -> None:
        """Continue them."""
        self._template.order("signal_all", int(signal.SIGCONT))
        self._template.flush()

    def interrupt(self) -> None:
        """Nothing to do: the driver is never blocked by a step."""

    def close(self, *, kill: bool = False) -> None:
        """End every process and wait for it: idle workers run their exit handlers, unless ``kill``."""
        used = {worker.pid for worker in self._workers.values() if worker.used and worker.task is None}
        for worker in self._workers.values():
            worker.channel.close()
            if worker.pidfd >= 0:
                self._selector.remove(worker.pidfd)
                hygiene.close(worker.pidfd)
        if not self._template.close(set() if kill else used):
            for worker in self._workers.values():
                process.signal_group(worker.pid, signal.SIGKILL)  # it has died with the template; its children have not
        self._workers.clear()
        for task in list(self._tasks.values()):  # the driver has given up, or ends by an error
            task.stop = task.stop or "cancelled"
            if task.reported:
                self.reports.append(SlotFreed(*task.name, lingered=True))
                self._release(task, None)
            else:
                self._report_unbegun(task, self._stopped(task))
        self._begun.close()

    # --- the template ------------------------------------------------------------------------------------------------

    def _launch(self, method: str) -> None:
        self._template.launch(method, self._job, self._begun, self._per_worker, preload=self._settings.preload_modules)

    def _on_new_worker(self, pid: int, fd: int) -> None:
        worker = _Worker(pid)
        worker.channel = Channel(
            fd,
            self._selector,
            on_message=lambda message: self._on_message(worker, message),
            on_garbage=lambda: self._give_up(worker, GARBAGE),
            on_end=lambda: self._on_silence(worker),
        )
        self._workers[pid] = worker
        self._asked -= 1
        self._give_work(worker)

    def _give_work(self, worker: _Worker) -> None:
        if self._queue:
            self._hand(self._queue.popleft(), worker)
        else:
            self._idle.append(worker)

    def _on_no_worker(self, why: str) -> None:
        """The template could not fork. With other workers alive there will be room; else nothing would ever change."""
        self._asked -= 1
        self._fork_at = self._clock() + FORK_AGAIN_S
        if self._asked == 0 and not self._workers:
            self._fail_queue(f"no worker process could be started: {why}")

    def _fail_queue(self, why: str) -> None:
        while self._queue:
            self._report_unbegun(self._queue.popleft(), StepError("worker_died", why, allow_retries=False))

    def _on_end(self, exit_code: int | None) -> None:
        """The template is dead: end its workers, settle what they were doing, and start another one afresh."""
        self.template_died = True
        self._asked = 0
        self._idle.clear()
        for worker in list(self._workers.values()):
            worker.condemned = True
            process.signal_group(worker.pid, signal.SIGKILL)  # they die with it anyway; their children would not
            self._watch_end(worker)
        self._restarts += 1
        if exit_code == BROKEN:  # another one would break as well
            self._lost = (
                "the workers' template process was ended by an error of its own, which it printed; please report it"
            )
        elif self._restarts > RESTARTS:
            self._lost = f"the workers' template process died {self._restarts} times in a row"
        else:
            self.reports.append(RunNotice("the workers' template process was killed; another one is started"))
            try:
                # never by a fork of this process again: it has grown, and may have threads by now
                self._launch("forkserver")
            except (WorkersUnavailable, OSError) as error:
                self._lost = f"the workers' template process was killed, and no other one could be started: {error}"
        if self._lost is not None:
            self._fail_queue(self._lost)

    def _watch_end(self, worker: _Worker) -> None:
        """See the end of a worker whose parent, the template, is dead."""
        try:
            worker.pidfd = hygiene.register(os.pidfd_open(worker.pid))
        except ProcessLookupError:
            self._on_lost_worker(worker)
        else:
            self._selector.add(worker.pidfd, lambda: self._on_lost_worker(worker))

    def _on_lost_worker(self, worker: _Worker) -> None:
        if worker.pidfd >= 0:
            self._selector.remove(worker.pidfd)
            hygiene.close(worker.pidfd)
            worker.pidfd = -1
        # whatever it left behind in its group goes as well; the group has nobody else in it
        process.signal_group(worker.pid, signal.SIGKILL)
        self._on_gone(worker.pid, -signal.SIGKILL, 0.0, 0, True, "died: its template was killed")

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _hand(self, task: Assignment, worker: _Worker) -> None:
        attempt = task.attempt
        worker.task = task
        worker.used += 1
        task.pid = worker.pid
        task.lane = lane = self._free_lanes.pop()
        task.handed_at = time.monotonic()
        self.reports.append(StepStarted(attempt.key, attempt.number, worker.pid, lane, attempt.waited))
        worker.channel.send((attempt.step, attempt.number, lane, attempt.inputs))

    def _on_message(self, worker: _Worker, message: Any) -> None:
        task = worker.task
        kind, index, number = message[:3]
        if task is None or task.attempt.step != index or task.attempt.number != number:
            return
        if kind == "freed":
            self._free(task, worker, lingered=message[3], exit_code=None)
            return
        *details, raw, alone = message[3:]
        at = self._clock.at
        facts = Facts(at(raw[0]), at(raw[1]), round(raw[2], 6), *raw[3:])
        freed = alone and not worker.condemned
        if kind == "failed":
            error = StepError(*details[0])
            if task.stop is not None:
                error = self._stopped(task, error.traceback)
            self.reports.append(StepFailed(*task.name, error, 0.0, facts, freed))
        elif task.stop == "timed_out":  # too late is too late, or the outcome would hang on who is faster
            self.reports.append(StepFailed(*task.name, self._stopped(task), 0.0, facts, freed))
        else:
            outputs = tuple([StoredValue(*value) for value in details[0]])
            self.reports.append(StepSucceeded(*task.name, outputs, tuple(details[1]), facts, freed))
            self._restarts = 0
        task.reported = True
        self._lane_ends[task.lane] = facts.log_to
        if self._returns:
            self._returns.pop(task.attempt.key, None)
        if freed:
            self._release(task, worker)
            self._give_work(worker)
        elif worker.condemned:
            self._kill(task)  # it was asked to stop: its worker goes as a whole
        elif worker.used == self._per_worker:
            self._ending.append((self._clock() + LINGER_S, worker))

    def _on_gone(  # noqa: PLR0917  (the fields of a message)
        self,
        pid: int,
        status: int,
        cpu_s: float,
        peak: int,
        lingered: bool,
        because: str | None = None,
    ) -> None:
        """A worker and all that it started are gone; everything that it sent is in its channel by now."""
        worker = self._workers.get(pid)
        if worker is None:
            return
        worker.channel.drain()
        del self._workers[pid]
        if worker in self._idle:
            self._idle.remove(worker)
        task = worker.task
        if task is None:
            return
        if task.reported:
            left = lingered or task.killed  # of an attempt that was stopped, nobody expects it to go by itself
            self._free(task, worker, lingered=left and task.stop is None, exit_code=status)
            return
        if self._begun.read(task.lane) != begun_mark(task.attempt.step, task.attempt.number):
            self._return(task, worker, status)
            return
        error = died(status, task.attempt.key, because or worker.because) if task.stop is None else self._stopped(task)
        log_from, log_to = self._lane_ends[task.lane], self._lane_size(task.lane)
        self._lane_ends[task.lane] = log_to
        facts = Facts(
            self._clock.at(task.handed_at), self._clock(), cpu_s, peak, pid, task.lane, log_from, log_to, status
        )
        self.reports.append(StepFailed(*task.name, error, 0.0, facts, freed=True))
        self._release(task, worker)

    def _free(self, task: Assignment, worker: _Worker, *, lingered: bool, exit_code: int | None) -> None:
        """The processes of an attempt that was reported are gone."""
        self.reports.append(SlotFreed(*task.name, lingered, exit_code))
        self._release(task, worker)
        if exit_code is None and not worker.condemned:
            self._give_work(worker)

    def _return(self, task: Assignment, worker: _Worker, status: int) -> None:
        """Its worker died before it began the attempt."""
        key = task.attempt.key
        times = self._returns.pop(key, 0) + 1
        if task.stop is not None:
            self._report_unbegun(task, self._stopped(task), worker)
        elif times >= RETURNS:
            self._report_unbegun(task, never_began(times, status), worker)
        else:
            self._returns[key] = times
            self._begins_left += 1
            self.reports.append(StepReturned(*task.name))
            self._release(task, worker)

    def _report_unbegun(self, task: Assignment, error: StepError, worker: _Worker | None = None) -> None:
        now = self._clock()
        self.reports.append(StepFailed(*task.name, error, 0.0, Facts(now, now), freed=True))
        self._release(task, worker)

    def _release(self, task: Assignment, worker: _Worker | None) -> None:
        del self._tasks[task.attempt.key]
        self._set_kill_at(task, None)
        if task.lane >= 0:
            self._free_lanes.append(task.lane)
        if worker is not None:
            worker.task = None

    def _stopped(self, task: Assignment, traceback: str = "") -> StepError:
        assert task.stop is not None  # noqa: S101  (asked by the caller)
        return stopped(task.stop, self._job.steps[task.attempt.step].timeout_s, traceback)

    def _on_silence(self, worker: _Worker) -> None:
        """Its end of the socket is closed: it has died, of which the template tells soon, or a step closed it."""
        if worker.task is not None and not worker.task.reported:
            self._ending.append((self._clock() + LINGER_S, worker))

    def _give_up(self, worker: _Worker, because: str) -> None:
        """It can no longer report."""
        worker.because = because
        self._condemn(worker)

    def _condemn(self, worker: _Worker) -> None:
        worker.condemned = True
        self._template.order("kill", worker.pid)

    def _kill(self, task: Assignment) -> None:
        self._set_kill_at(task, None)
        task.killed = True
        self._condemn(self._workers[task.pid])

    def _set_kill_at(self, task: Assignment, at: float | None) -> None:
        self._stopping += (at is not None) - (task.kill_at is not None)
        task.kill_at = at

    def _lane_size(self, lane: int) -> int:
        try:
            return (self._job.lanes_folder / lane_file(lane)).stat().st_size
        except OSError:
            return 0
