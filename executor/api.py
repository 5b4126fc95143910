"""Where the parts are put together: run a job, run assets."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.authoring.jobs import JobDefinition, job_of_assets
from executor.authoring.tags import normalized_tags, tagged_priority
from executor.config.machine import worker_count
from executor.errors import ConfigError, RunFailed, RunInterrupted, UsageError
from executor.ledger.liveness import new_owner, take_step_lock
from executor.plan.compile import compile_job
from executor.runs.home import make_run, open_home
from executor.scheduler.limits import Limits
from executor.workers.clock import RunClock
from executor.workers.inline import InlineWorkers
from executor.workers.interface import WorkerJob
from executor.workers.processes import ProcessWorkers
from executor.workers.selector import Selector

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from executor.authoring.executors import ExecutorDefinition
    from executor.authoring.selection import Selection
    from executor.config.settings import ExecutorSettings
    from executor.runs.home import RunLock
    from executor.runs.result import RunResult
    from executor.scheduler.events import Event

    OnEvent = Callable[[Event, float], None]


def execute_job(
    job: JobDefinition,
    run_config: Mapping[str, Any] | None = None,
    *,
    tags: Mapping[str, object] | None = None,
    raise_on_error: bool = False,
    selection: Selection = None,
    op_selection: Selection = None,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
) -> RunResult:
    """The result of running ``job`` now, by the executor that it is configured with.

    Args:
        job: what to run.
        run_config: overrides the settings of the job's executor, key by key.
        tags: further tags of this run.
        raise_on_error: a run that does not succeed raises instead of giving its result.
        selection: the steps to run, such as ``"train"``, ``"*train"`` or ``["clean", "train"]``; None: all.
        op_selection: the same as ``selection``, under its older name.
        home: the folder that the run is kept in; without it ``EXECUTOR_HOME``, or one per user.
        on_event: called with each event and its time, in seconds since the run began, after it was written down.

    Raises:
        ConfigError: the run config has mistakes; all are listed.
        UsageError: the selection names an unknown step, or leaves out one whose value is needed.
        UnmetRequirement: the job needs what is not there, such as more slots of a pool than there are.
        WorkersUnavailable: no worker process can be started for it; nothing was run.
        RunFailed: with ``raise_on_error``: a step failed; the text has each step's traceback.
        RunInterrupted: with ``raise_on_error``: a signal stopped the run.
    """
    if not isinstance(job, JobDefinition):
        raise UsageError(f"execute_job was given {job!r}; give a job, made with @job or define_asset_job")
    result, _ = _execute(
        job,
        job.settings(run_config),
        tags=tags,
        selection=op_selection if selection is None else selection,
        home=home,
        on_event=on_event,
    )
    if raise_on_error:
        _raise_unless_success(result)
    return result


def execute_in_process(
    job: JobDefinition,
    run_config: Mapping[str, Any] | None = None,
    *,
    tags: Mapping[str, object] | None = None,
    raise_on_error: bool = True,
    selection: Selection = None,
    op_selection: Selection = None,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
) -> RunResult:
    """The result of running ``job`` now, one step after another in this process; else like ``execute_job``.

    With ``raise_on_error``, what a step raised is raised as it is. The settings of the job's executor are checked,
    and only its ``retries`` are used.
    """
    import dataclasses

    settings = dataclasses.replace(job.settings(run_config), in_process=True)
    result, exceptions = _execute(
        job,
        settings,
        tags=tags,
        selection=op_selection if selection is None else selection,
        home=home,
        on_event=on_event,
    )
    if raise_on_error:
        for key in result.failures if not result.success else ():
            if key in exceptions:
                raise exceptions[key]
        _raise_unless_success(result)
    return result


def materialize(
    assets: Iterable[object],
    run_config: Mapping[str, Any] | None = None,
    *,
    selection: Selection = "*",
    tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
    raise_on_error: bool = True,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
) -> RunResult:
    """The result of making these assets now, each in a worker process (unlike Dagster, which uses the caller's).

    Args:
        assets: what there is; all that a selected asset reads must be among them.
        run_config: settings of the executor.
        selection: which of them to make; all without it.
        tags: of this run.
        executor_def: what runs the steps; worker processes with the default settings without it.
        raise_on_error: a run that does not succeed raises ``RunFailed`` instead of giving its result.
        home: as for ``execute_job``.
        on_event: as for ``execute_job``.

    Raises:
        DefinitionError: two assets have one key, one reads what is not there, or they form a cycle.
        ConfigError: the run config has mistakes.
        RunFailed: an asset failed.
    """
    job = job_of_assets(assets, selection=selection, executor_def=executor_def)
    return execute_job(job, run_config, tags=tags, raise_on_error=raise_on_error, home=home, on_event=on_event)


def _raise_unless_success(result: RunResult) -> None:
    if result.interrupted:
        raise RunInterrupted(result.run_id)
    if not result.success:
        failures = {}
        for key, message in result.failures.items():
            error = result.step(key).error
            failures[key] = f"{message}\n{error.traceback}".rstrip() if error is not None else message
        raise RunFailed(result.run_id, failures)


def _execute(
    job: JobDefinition,
    settings: ExecutorSettings,
    *,
    tags: Mapping[str, object] | None,
    selection: Selection,
    home: str | os.PathLike[str] | None,
    on_event: OnEvent | None,
) -> tuple[RunResult, dict[str, BaseException]]:
    """Run a job: its result, and what steps raised in this process."""
    plan = compile_job(job, selection=selection)
    limits = Limits(max_concurrent=worker_count(settings), tags=settings.tag_concurrency_limits)
    notices = _replaced_limits(job, settings)
    run_tags = {**job.run_tags, **normalized_tags("the run", tags)}
    tagged_priority("the run", run_tags)
    home_path = open_home(None if home is None else Path(home))
    owner = new_owner()
    with ExitStack() as stack:  # whatever happens here, nothing is left of the run: it has not begun
        lock = make_run(home_path)
        stack.callback(_forget, lock)
        worker_job = WorkerJob(
            run_id=lock.folder.run_id,
            job_name=job.name,
            run_tags=run_tags,
            steps=plan.steps,
            values_folder=lock.folder.values,
            lanes_folder=lock.folder.path,
            lock_step=partial(take_step_lock, home_path, owner),
        )
        clock, selector = RunClock(), Selector()
        stack.callback(selector.close)
        workers: ProcessWorkers | InlineWorkers
        if settings.in_process:
            workers = InlineWorkers(worker_job, clock=clock)
        else:
            lanes = min(limits.max_concurrent, max(1, len(plan)))
            workers = ProcessWorkers(worker_job, settings, lanes=lanes, selector=selector, clock=clock)
        stack.callback(lambda: workers.close(kill=True))
        workers.start()
        from executor.runs.pools import join_ledger  # only now: see runs/run.py
        from executor.runs.run import drive_run

        configure = None  # what puts the settings file of the home folder in force, once there is one
        client, pool_notices = join_ledger(plan, lock.folder, owner, clock, configure)
        stack.pop_all()
    with closing(selector):
        result = drive_run(
            plan,
            limits,
            worker_job,
            retries=settings.retries,
            workers=workers,
            lock=lock,
            selector=selector,
            clock=clock,
            client=client,
            notices=[*notices, *pool_notices],
            on_event=on_event,
        )
    return result, workers.exceptions if isinstance(workers, InlineWorkers) else {}


def _forget(lock: RunLock) -> None:
    """Remove a run that has not begun."""
    import shutil

    lock.release()
    shutil.rmtree(lock.folder.path, ignore_errors=True)


def _replaced_limits(job: JobDefinition, settings: ExecutorSettings) -> list[str]:
    """A sentence where the run config's tag limits take the place of the job's own: a list is one setting."""
    try:
        own = job.settings().tag_concurrency_limits
    except ConfigError:  # the job needs what only a run config gives it
        return []
    lost = [f"{limit} (at most {limit.limit})" for limit in own if limit not in settings.tag_concurrency_limits]
    if not lost:
        return []
    return [f"the tag limits of this run's config replace the job's own, which do not hold in it: {', '.join(lost)}"]
