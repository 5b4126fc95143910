"""One run from its first event to its last, once its workers stand ready.

Loaded only then: a template that was forked before all this was imported is smaller, and so is each of its forks.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from executor.plan.record import plan_to_record
from executor.runs.claims import RunClaims
from executor.runs.control import Control
from executor.runs.display import MeetsPlan
from executor.runs.driver import Driver
from executor.runs.history import HistoryLost, HistoryWriter
from executor.runs.home import forget_run
from executor.runs.indexed import IndexedRun
from executor.runs.leftovers import look, processes_of
from executor.runs.notices import limit_notices
from executor.runs.pools import leave_ledger, uses_pools
from executor.runs.replay import run_priority
from executor.runs.result import RunResult
from executor.runs.signals import Signals
from executor.runs.values import ValueFiles
from executor.scheduler.events import RunEnded, RunNotice, RunStarted
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.config.instance_file import RetentionSettings
    from executor.ledger.client import LedgerClient
    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder, RunLock
    from executor.runs.memory import MemoryFolder
    from executor.scheduler.events import Event, StepReused
    from executor.scheduler.limits import Limits
    from executor.workers.clock import RunClock
    from executor.workers.interface import InputValue, Workers
    from executor.workers.job import WorkerJob
    from executor.workers.selector import Selector


def drive_run(
    plan: Plan,
    limits: Limits,
    job: WorkerJob,
    *,
    retries: bool,
    workers: Workers,
    lock: RunLock,
    selector: Selector,
    clock: RunClock,
    client: LedgerClient | None,
    memory: MemoryFolder | None,
    keep_values: bool,
    notices: Sequence[str],
    reused: Sequence[StepReused] = (),
    parent: str = "",
    partial: bool = False,
    origin: Mapping[str, object] | None = None,
    retention: RetentionSettings | None = None,
    configs: Mapping[int, InputValue],
    secrets: Sequence[str] = (),
    on_event: Callable[[Event, float], None] | None,
) -> RunResult:
    """Run ``plan`` on ``workers``, which were started and are closed here, and give the run's lock back at its end.

    ``client`` is the run's side of the ledger of pools, and closed here too; None where it uses none and has none.
    ``reused`` are steps that succeeded in an earlier run, ``parent``, and are not run again. ``retention`` says which
    runs are removed at the end; None: none.
    ``configs`` are the inputs with the config of steps, by step index; ``secrets`` texts of it that are never shown.
    ``memory`` is where its values wait that are in memory; what is needed of them moves to its folder at its end.
    ``keep_values``: values stay that steps have only passed on.

    Raises:
        HistoryLost: the events can no longer be written; every process of the run was ended.
    """
    folder, ended = lock.folder, False
    signals = Signals(workers.interrupt)
    files = ValueFiles(plan, folder, keep_all=keep_values)
    with ExitStack() as stack:
        stack.callback(signals.pass_on)
        # in this order when anything goes wrong: no process, then no owner, then no lock, then a word in the index
        after = stack.enter_context(ExitStack())
        stack.callback(lambda: lock.release(ended=ended) if _has_begun(folder) else forget_run(lock))
        if memory is not None:
            stack.callback(memory.settle, files.is_needed)
        if client is not None:
            stack.callback(lambda: leave_ledger(client))
        stack.callback(lambda: workers.close(kill=True))
        told = [*map(str, look(folder.home)), *notices, *limit_notices(plan, limits)]
        _write_plan(folder, plan)
        history = stack.enter_context(closing(HistoryWriter(folder.events)))
        scheduler = Scheduler(plan, limits, retries=retries, run_priority=run_priority(job.run_tags))
        claims = None
        if client is not None and uses_pools(plan):
            claims = RunClaims(
                client,
                folder,
                selector,
                highest_priority=run_priority(job.run_tags) + max(step.priority for step in plan.steps if step.pools),
                on_announced=workers.get_ready,
            )
        control = None
        with suppress(OSError):  # no FIFOs here: signals still stop it
            control = stack.enter_context(closing(Control(folder)))
        driver = Driver(
            plan=plan,
            scheduler=scheduler,
            workers=workers,
            history=history,
            selector=selector,
            clock=clock,
            files=files,
            claims=claims,
            control=control,
            configs=configs,
            secrets=secrets,
            on_event=on_event,
        )
        started = RunStarted(
            run_id=job.run_id,
            job=job.job_name,
            at=time.time() - clock(),
            pid=os.getpid(),
            steps=len(plan),
            max_concurrent=limits.max_concurrent,
            limits=tuple(
                {"key": t.key, "limit": t.limit, "value": t.value, "per_unique_value": t.per_unique_value}
                for t in limits.tags
            ),
            tags=dict(job.run_tags),
            workers=workers.description,
            retries=retries,
            parent=parent,
            partial=partial,
            origin=dict(origin or {}),
        )
        indexed = IndexedRun(folder, started, retention)
        after.callback(indexed.end)
        if indexed.notice is not None:
            told.append(indexed.notice)
        if isinstance(on_event, MeetsPlan):
            on_event.meet(plan)
        workers.await_ready()  # it got ready while all of the above was done
        with signals:
            try:
                driver.run(signals, [started, *reused, *map(RunNotice, told)])
            except BaseException:  # raised by the caller's on_event, or a mistake of ours
                workers.close(kill=True)
                driver.abandon()
                ended = True
                raise
            workers.close(kill=driver.interrupted is not None)
            if client is not None:
                selector.remove(client.fileno())
                if (notice := leave_ledger(client)) is not None and (claims is None or claims.lost is None):
                    driver.end(RunNotice(notice))
            if workers.template_died:
                for left in processes_of(folder):
                    driver.end(RunNotice(f"still running from this run: {left}; to end it: kill {left.pid}"))
            driver.remove_values()
            for lost in memory.settle(files.is_needed) if memory is not None else ():
                driver.end(RunNotice(f"{lost}; to resume the run, its step runs again"))
            status = scheduler.status or "cancelled"
            driver.end(RunEnded(status))
            if driver.interrupted is not None:
                signals.take()  # whoever asks once more has got it
        history.close()
        ended = True
    return RunResult(folder, status, interrupted=driver.interrupted is not None, plan=plan)


def _has_begun(folder: RunFolder) -> bool:
    """Whether there is a first event of the run. A folder without one is of no use to anybody."""
    try:
        return folder.events.stat().st_size > 0
    except OSError:
        return False


def _write_plan(folder: RunFolder, plan: Plan) -> None:
    """Write the plan down, under its name only when it is whole.

    Raises:
        HistoryLost: it cannot be written.
    """
    part = folder.plan.with_suffix(".tmp")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(plan_to_record(plan), file, separators=(",", ":"))
        part.rename(folder.plan)
    except OSError as error:
        raise HistoryLost(str(folder.plan), error.strerror or str(error)) from error
