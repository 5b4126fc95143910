"""Workers as processes, seen from the driver: one attempt per process, or many.

Lanes, workers and attempts meet here. A *lane* is a place for one worker at a time and has one log file; a *worker* is
a process, which the template forks on a lane; an attempt takes a worker, and with it a lane, until its processes are
gone.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from executor.errors import WorkersUnavailable, describe_exit
from executor.scheduler.events import Facts, RunNotice, SlotFreed, StepFailed, StepReturned, StepStarted, StepSucceeded
from executor.scheduler.outcomes import StepError, StoredValue
from executor.workers import hygiene, process
from executor.workers.assignment import CLOSED, CONTINUED, GARBAGE, Assignment, died, never_began, stopped
from executor.workers.child import LINGER_S, WAKE_UP, begun_mark
from executor.workers.grace import Grace
from executor.workers.lanes import Lane
from executor.workers.launch import TEMPLATE_BROKEN, TemplateDied
from executor.workers.parent import TemplateLink
from executor.workers.streams import lane_file, log_size
from executor.workers.template import BROKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.authoring.ops import OpDefinition
    from executor.config.settings import ExecutorSettings
    from executor.workers.clock import RunClock
    from executor.workers.interface import Attempt, Report, StopReason
    from executor.workers.job import WorkerJob
    from executor.workers.launch import Launch, TemplateProcess
    from executor.workers.selector import Selector

# Spare workers are forked so many at a time, because forks that follow one another closely are cheaper (see
# ``Template``).
FORKS = 4

# An attempt that no worker begins, so many times in a row, is reported as failed: something kills workers at birth.
RETURNS = 5

# After a fork that failed for want of memory, descriptors or processes, the next is tried so much later.
FORK_AGAIN_S = 0.1

# A killed worker is gone in milliseconds; when nothing is heard of it for so long, the template may be stopped.
UNHEARD_S = 1.0

# A template that dies so many times in a row, with no attempt succeeding between, is not started again.
RESTARTS = 3


class ProcessWorkers:
    """Runs attempts in processes that a template forks, ``at_once`` of them. Implements ``Workers``."""

    blocking = False

    def __init__(
        self,
        job: WorkerJob,
        ops: Sequence[OpDefinition],
        launch: Launch,
        settings: ExecutorSettings,
        *,
        at_once: int,
        steps: int,
        selector: Selector,
        clock: RunClock,
    ) -> None:
        """``ops`` are those of the plan, ``steps`` how many there are; ``launch`` was made for ``at_once`` or more."""
        self._job, self._settings, self._selector, self._clock = job, settings, selector, clock
        self._launch, self._ops = launch, ops
        self._per_worker = settings.steps_per_worker
        self.reports: list[Report] = []
        self._tasks: dict[str, Assignment] = {}  #: by step key: a step has one attempt at a time
        self._queue: deque[Assignment] = deque()  #: begun by the driver, with no worker yet
        self._lanes = [Lane(number) for number in range(at_once + launch.spares)]
        self._empty = self._lanes[::-1]  #: lanes with no worker, and none ordered
        self._idle: list[Lane] = []  #: lanes whose worker has nothing to do
        self._asked: set[Lane] = set()  #: lanes on which a fork was ordered, and not answered
        self._fork_at: float | None = None  #: after a fork that failed: when to try again
        self._grace = Grace()
        self._begins_left = steps  #: how many attempts may still come, to fork no more ahead than that
        self._returns: dict[str, int] = {}  #: step key -> workers in a row that died before they began it
        self._restarts = 0
        self._lost: str | None = None  #: why no worker can be had any more
        self.template_died = False  #: so processes that had left their step's group may live on
        self._op_numbers: dict[int, int] = {}  #: id of an op -> its position in the template
        self._template = TemplateLink(
            selector,
            on_worker=self._on_new_worker,
            on_gone=self._on_gone,
            on_none=self._on_no_worker,
            on_end=self._on_end,
        )

    @property
    def description(self) -> str:
        """Which kind of worker this is and why; known for good once ``start`` is over."""
        kinds = {1: "one process per step", None: "persistent workers"}
        kind = kinds.get(self._per_worker, f"a new worker after {self._per_worker} steps")
        return f"{kind}, {self._launch.choice}"

    # --- what the driver calls ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Work with the template that was forked, or start one.

        Raises:
            WorkersUnavailable: it cannot be started, or its code cannot be loaded there.
        """
        try:
            self._attach(self._launch.take())
        except BaseException:
            self._launch.close()
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

    def get_ready(self) -> None:
        """Wake the worker that comes next; one that was just forked for a single attempt reads nothing else."""
        if self._idle and self._per_worker != 1:
            self._idle[-1].send(WAKE_UP)

    def flush(self) -> None:
        """Order the forks that are needed, and send all orders."""
        if self._lost is None and (self._fork_at is None or self._fork_at <= self._clock()):
            self._fork_at = None
            self._order_forks()
        self._template.flush()

    def _order_forks(self) -> None:
        """A worker for each attempt that waits for one; of one-shot workers some more, ahead of need and together."""
        wanted = len(self._queue) - len(self._asked)
        if self._per_worker == 1:
            spares = min(self._launch.spares, self._begins_left) - len(self._idle)
            if wanted + spares >= min(FORKS, self._begins_left):
                wanted += spares
        for _ in range(min(wanted, len(self._empty))):
            self._ask(self._empty.pop())
            if self._fork_at is not None:
                break

    def _ask(self, lane: Lane) -> None:
        """Order a worker for a lane."""
        self._asked.add(lane)
        if not lane.open:
            try:
                theirs = lane.connect(
                    self._selector, on_message=self._on_message, on_garbage=self._on_garbage, on_end=self._on_silence
                )
            except OSError as error:
                self._on_no_worker(lane.number, str(error))
                return
            self._template.open_lane(lane.number, theirs)
        self._template.order("fork", lane.number)

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
        self._lanes[task.lane].condemned = True
        if kill or self._settings.stop_grace_s <= 0:
            self._kill(task)
        elif not self._grace.has(task) and not task.killed:
            self._template.order("stop", task.pid)
            self._grace.give(task, self._clock() + self._settings.stop_grace_s)

    @property
    def wake_at(self) -> float | None:
        """When the next process has outlived its grace."""
        due = self._grace.wake_at
        if self._fork_at is not None and self._queue:
            due = self._fork_at if due is None else min(due, self._fork_at)
        return due

    def tick(self, now: float) -> None:
        """Kill what outlived its grace."""
        for lane, task in self._grace.ending.overdue(now):
            if task.reported:
                self._kill(task)
            elif not process.is_exiting(lane.pid):  # else its template tells how it died
                self._give_up(lane, CLOSED)
        for lane, task in self._grace.killed.overdue(now):
            if self._template.wake():
                self.reports.append(RunNotice(CONTINUED))
            self._grace.killed.add(now + UNHEARD_S, lane, task)
        for task in self._grace.overdue(now):
            self._kill(task)

    def pause(self) -> None:
        """Stop every worker's process group."""
        self._template.order("signal_all", int(signal.SIGSTOP))
        self._template.flush()

    def resume(self) -> None:
        """Continue them."""
        self._template.order("signal_all", int(signal.SIGCONT))
        self._template.flush()

    def interrupt(self, signum: int) -> None:
        """Nothing to do: the driver is never blocked by a step."""

    def close(self, *, kill: bool = False) -> None:
        """End every process and wait for it: idle workers run their exit handlers, unless ``kill``."""
        used = {lane.number for lane in self._lanes if lane.used and lane.task is None}
        for lane in self._lanes:
            lane.disconnect(self._selector)
        if not self._template.close(set() if kill else used):
            for lane in self._lanes:
                if lane.pid:  # it has died with the template; its children have not
                    process.signal_group(lane.pid, signal.SIGKILL)
        for lane in self._lanes:
            lane.end_worker()
        for task in list(self._tasks.values()):  # the driver has given up, or ends by an error
            task.stop = task.stop or "cancelled"
            if task.reported:
                self.reports.append(SlotFreed(*task.name, lingered=True))
                self._release(task, None)
            else:
                self._report_unbegun(task, self._stopped(task))
        self._launch.close()

    # --- the template ------------------------------------------------------------------------------------------------

    def _attach(self, forked: TemplateProcess | None) -> None:
        self._template.attach(forked or self._launch.exec_now(self._ops), self._job, ready=forked is None)
        self._op_numbers = {id(op): number for number, op in enumerate(self._launch.ops)}

    def _on_new_worker(self, number: int, pid: int) -> None:
        lane = self._lanes[number]
        lane.pid = pid
        self._asked.discard(lane)
        self._give_work(lane)

    def _give_work(self, lane: Lane) -> None:
        if self._queue:
            self._hand(self._queue.popleft(), lane)
        else:
            self._idle.append(lane)

    def _on_no_worker(self, number: int, why: str) -> None:
        """No worker could be forked. With others alive there will be room; else nothing would ever change."""
        lane = self._lanes[number]
        lane.settle(whole=False)  # the template may not even have its socket
        self._asked.discard(lane)
        self._empty.append(lane)
        self._fork_at = self._clock() + FORK_AGAIN_S
        if not self._asked and not any(other.pid for other in self._lanes):
            self._fail_queue(f"no worker process could be started: {why}")

    def _fail_queue(self, why: str) -> None:
        while self._queue:
            self._report_unbegun(self._queue.popleft(), StepError("worker_died", why, allow_retries=False))

    def _on_end(self, exit_code: int | None) -> None:
        """The template is dead: end its workers, settle what they were doing, and start another one afresh."""
        self.template_died = True
        self._empty.extend(self._asked)
        self._asked.clear()
        self._idle.clear()
        for lane in self._empty:
            lane.disconnect(self._selector)  # the other end was the template's
        for lane in self._lanes:
            if lane.pid:
                lane.condemned = True
                process.signal_group(lane.pid, signal.SIGKILL)  # they die with it anyway; their children would not
                self._watch_end(lane)
        self._lost = self._start_another(exit_code)
        if self._lost is not None:
            self._fail_queue(self._lost)

    def _start_another(self, exit_code: int | None) -> str | None:
        """A template in the place of one that died; why there is none where none can be had any more."""
        while True:
            self._restarts += 1
            if exit_code == BROKEN:  # another one would break as well
                return TEMPLATE_BROKEN
            if self._restarts > RESTARTS:
                return f"the workers' template process died {self._restarts} times in a row"
            how = "ended" if exit_code is None else describe_exit(exit_code)
            self.reports.append(RunNotice(f"the workers' template process {how}; another one is started"))
            try:
                self._attach(None)  # never forked from this process again: it has grown, and may have threads by now
                return None  # noqa: TRY300
            except TemplateDied as error:
                exit_code = error.exit_code
            except (WorkersUnavailable, OSError) as error:
                return f"the workers' template process {how}, and no other one could be started: {error}"

    def _watch_end(self, lane: Lane) -> None:
        """See the end of a worker whose parent, the template, is dead."""
        try:
            lane.pidfd = hygiene.register(os.pidfd_open(lane.pid))
        except ProcessLookupError:
            self._on_lost_worker(lane)
        else:
            self._selector.add(lane.pidfd, lambda: self._on_lost_worker(lane))

    def _on_lost_worker(self, lane: Lane) -> None:
        lane.forget_pidfd(self._selector)
        # whatever it left behind in its group goes as well; the group has nobody else in it
        process.signal_group(lane.pid, signal.SIGKILL)
        self._on_gone(lane.number, -signal.SIGKILL, 0.0, 0, True, "died with its template")

    # --- attempts ----------------------------------------------------------------------------------------------------

    def _hand(self, task: Assignment, lane: Lane) -> None:
        attempt = task.attempt
        lane.task = task
        lane.used += 1
        task.pid, task.lane = lane.pid, lane.number
        task.handed_at = time.monotonic()
        self.reports.append(StepStarted(attempt.key, attempt.number, lane.pid, lane.number, attempt.waited))
        lane.send(
            (
                attempt.step,
                attempt.number,
                self._op_numbers[id(attempt.op)],
                attempt.key,
                dict(attempt.tags) if attempt.op.takes_context else None,
                attempt.inputs,
                attempt.claim,
                attempt.token,
            )
        )

    def _on_message(self, lane: Lane, message: Any) -> None:
        task = lane.task
        kind, index, number = message[:3]
        if task is None or task.attempt.step != index or task.attempt.number != number:
            return
        if kind == "freed":
            self._free(task, lane, lingered=message[3], exit_code=None)
            return
        *details, raw, alone = message[3:]
        at = self._clock.at
        started_at, ended_at, cpu_s, peak, log_from, log_to = raw
        facts = Facts(at(started_at), at(ended_at), round(cpu_s, 6), peak, lane.pid, lane.number, log_from, log_to)
        freed = alone and not lane.condemned
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
        lane.log_end = log_to
        if self._returns:
            self._returns.pop(task.attempt.key, None)
        if freed:
            self._release(task, lane)
            self._give_work(lane)
        elif lane.condemned:
            self._kill(task)  # it was asked to stop: its worker goes as a whole
        elif lane.used == self._per_worker:
            self._grace.ending.add(self._clock() + LINGER_S, lane, task)

    def _on_gone(  # noqa: PLR0917  (the fields of a message)
        self,
        number: int,
        status: int,
        cpu_s: float,
        peak: int,
        lingered: bool,
        because: str | None = None,
    ) -> None:
        """A worker and all that it started are gone; everything that it sent is in its lane's socket by now."""
        lane = self._lanes[number]
        if not lane.pid:
            return
        whole = lane.task.reported if lane.task is not None else because is None
        lane.settle(whole=whole and because is None)
        task, pid, why = lane.task, lane.pid, because or lane.because
        if lane in self._idle:
            self._idle.remove(lane)
        lane.end_worker()
        self._empty.append(lane)
        if task is None:
            return
        if task.reported:
            left = lingered or task.killed  # of an attempt that was stopped, nobody expects it to go by itself
            self._free(task, lane, lingered=left and task.stop is None, exit_code=status)
            return
        if self._launch.begun.read(number) != begun_mark(task.attempt.step, task.attempt.number):
            self._return(task, lane, status)
            return
        error = died(status, why) if task.stop is None else self._stopped(task)
        log_from, lane.log_end = lane.log_end, log_size(f"{self._job.lanes_folder}/{lane_file(number)}")
        facts = Facts(
            self._clock.at(task.handed_at), self._clock(), cpu_s, peak, pid, number, log_from, lane.log_end, status
        )
        self.reports.append(StepFailed(*task.name, error, 0.0, facts, freed=True))
        self._release(task, lane)

    def _free(self, task: Assignment, lane: Lane, *, lingered: bool, exit_code: int | None) -> None:
        """The processes of an attempt that was reported are gone."""
        self.reports.append(SlotFreed(*task.name, lingered, exit_code))
        self._release(task, lane)
        if exit_code is None and not lane.condemned:
            self._give_work(lane)

    def _return(self, task: Assignment, lane: Lane, status: int) -> None:
        """Its worker died before it began the attempt."""
        key = task.attempt.key
        times = self._returns.pop(key, 0) + 1
        if task.stop is not None:
            self._report_unbegun(task, self._stopped(task), lane)
        elif times >= RETURNS:
            self._report_unbegun(task, never_began(times, status, self._launch.choice.method), lane)
        else:
            self._returns[key] = times
            self._begins_left += 1
            self.reports.append(StepReturned(*task.name))
            self._release(task, lane)

    def _report_unbegun(self, task: Assignment, error: StepError, lane: Lane | None = None) -> None:
        now = self._clock()
        self.reports.append(StepFailed(*task.name, error, 0.0, Facts(now, now), freed=True))
        self._release(task, lane)

    def _release(self, task: Assignment, lane: Lane | None) -> None:
        del self._tasks[task.attempt.key]
        self._grace.withdraw(task)
        if lane is not None:
            lane.task = None

    def _stopped(self, task: Assignment, traceback: str = "") -> StepError:
        assert task.stop is not None  # noqa: S101  (asked by the caller)
        return stopped(task.stop, task.attempt.timeout_s, traceback)

    def _on_silence(self, lane: Lane) -> None:
        """The other end of the socket is closed: by the template's death, of which more is heard soon, or by a step."""
        if lane.task is not None and not lane.task.reported:
            self._grace.ending.add(self._clock() + LINGER_S, lane, lane.task)

    def _on_garbage(self, lane: Lane) -> None:
        if lane.pid:
            self._give_up(lane, GARBAGE)

    def _give_up(self, lane: Lane, because: str) -> None:
        """Its worker can no longer report."""
        lane.because = because
        self._condemn(lane)

    def _condemn(self, lane: Lane) -> None:
        lane.condemned = True
        self._template.order("kill", lane.pid)

    def _kill(self, task: Assignment) -> None:
        lane = self._lanes[task.lane]
        self._grace.withdraw(task)
        task.killed = True
        self._grace.killed.add(self._clock() + UNHEARD_S, lane, task)
        self._condemn(lane)
