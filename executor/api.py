"""Where the parts are put together: run a job, run assets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from executor.authoring.jobs import JobDefinition, job_of_assets
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.walk import distinct_ops
from executor.config.machine import worker_count
from executor.errors import RunFailed, RunInterrupted, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from executor.authoring.executors import ExecutorDefinition
    from executor.authoring.resolve import ResolvedConfig
    from executor.authoring.run_config import RunConfig
    from executor.authoring.selection import Selection
    from executor.runs.reexecution import ReexecutionOptions
    from executor.runs.result import RunResult
    from executor.scheduler.events import Event

    OnEvent = Callable[[Event, float], None]


def execute_job(
    job: JobDefinition,
    run_config: Mapping[str, Any] | RunConfig | ResolvedConfig | None = None,
    *,
    tags: Mapping[str, object] | None = None,
    raise_on_error: bool = False,
    selection: Selection = None,
    op_selection: Selection = None,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
    resume_from: str | None = None,
    reexecution_options: ReexecutionOptions | None = None,
    origin: Mapping[str, object] | None = None,
    progress: bool = False,
    **_misplaced: Never,
) -> RunResult:
    """The result of running ``job`` now, by the executor that it is configured with.

    Args:
        job: what to run.
        run_config: a dict, a ``RunConfig``, or what ``config_from_files`` gave: settings of the executor, config of
            ops, tags. It overrides the job's own config key by key. Or what ``job.resolve`` gave for it.
        tags: further tags of this run.
        raise_on_error: a run that does not succeed raises instead of giving its result.
        selection: the steps to run, such as ``"train"``, ``"*train"`` or ``["clean", "train"]``; None: all.
        op_selection: the same as ``selection``, under its older name.
        home: the folder that the run is kept in; without it ``EXECUTOR_HOME``, or one per user.
        on_event: called with each event and its time, in seconds since the run began, after it was written down.
        resume_from: id of an earlier run of the job (``last``: the newest): only what failed, was cut off or never ran
            in it, and what is below that, runs; the values of the rest are taken from it.
        reexecution_options: the same in Dagster's words, and with a choice of steps.
        origin: what is kept in the run's first event, for whoever wants to ask for it again.
        progress: show how it goes: live in a notebook or on a terminal, else as lines on stderr.

    Raises:
        ConfigError: the run config has mistakes; all are listed.
        UsageError: the selection names an unknown step, or leaves out one whose value is needed.
        UnmetRequirement: the job needs what is not there, such as more slots of a pool than there are.
        WorkersUnavailable: no worker process can be started for it; nothing was run.
        RunFailed: with ``raise_on_error``: a step failed; the text has each step's traceback.
        RunInterrupted: with ``raise_on_error``: a signal stopped the run.
    """
    refuse_misplaced(execute_job, _misplaced, runs=True)
    if not isinstance(job, JobDefinition):
        raise UsageError(f"execute_job was given {job!r}; give a job, made with @job or define_asset_job")
    chosen = op_selection if selection is None else selection
    result, _ = _execute(
        job,
        job.resolve(run_config, part_of_job=chosen is not None),
        tags=tags,
        selection=chosen,
        home=home,
        on_event=on_event,
        reexecution=_reexecution(resume_from, reexecution_options),
        origin=origin,
        progress=progress,
    )
    if raise_on_error:
        _raise_unless_success(result)
    return result


def execute_in_process(
    job: JobDefinition,
    run_config: Mapping[str, Any] | RunConfig | None = None,
    *,
    tags: Mapping[str, object] | None = None,
    raise_on_error: bool = True,
    selection: Selection = None,
    op_selection: Selection = None,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
    resume_from: str | None = None,
    **_misplaced: Never,
) -> RunResult:
    """The result of running ``job`` now, one step after another in this process; else like ``execute_job``.

    With ``raise_on_error``, what a step raised is raised as it is. The settings of the job's executor are checked,
    and only its ``retries`` are used. A run that it goes on from, with ``resume_from``, may have had worker processes.
    """
    refuse_misplaced(execute_in_process, _misplaced, runs=True)
    import dataclasses

    chosen = op_selection if selection is None else selection
    config = job.resolve(run_config, part_of_job=chosen is not None)
    result, exceptions = _execute(
        job,
        dataclasses.replace(config, settings=dataclasses.replace(config.settings, in_process=True)),
        tags=tags,
        selection=chosen,
        home=home,
        on_event=on_event,
        reexecution=_reexecution(resume_from, None),
    )
    if raise_on_error:
        for key in result.failures if not result.success else ():
            if key in exceptions:
                raise exceptions[key]
        _raise_unless_success(result)
    return result


def materialize(
    assets: Iterable[object],
    run_config: Mapping[str, Any] | RunConfig | None = None,
    *,
    selection: Selection = "*",
    tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
    raise_on_error: bool = True,
    home: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
    resume_from: str | None = None,
    progress: bool = False,
    **_misplaced: Never,
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
        resume_from: as for ``execute_job``; assets that were made in that run are not made again.
        progress: as for ``execute_job``.

    Raises:
        DefinitionError: two assets have one key, one reads what is not there, or they form a cycle.
        ConfigError: the run config has mistakes.
        RunFailed: an asset failed.
        UsageError: there is no run to go on from.
    """
    refuse_misplaced(materialize, _misplaced, runs=True)
    job = job_of_assets(assets, selection=selection, executor_def=executor_def)
    return execute_job(
        job,
        run_config,
        tags=tags,
        raise_on_error=raise_on_error,
        home=home,
        on_event=on_event,
        resume_from=resume_from,
        progress=progress,
    )


def _reexecution(resume_from: str | None, options: ReexecutionOptions | None) -> ReexecutionOptions | None:
    if resume_from is None:
        return options
    if options is not None:
        raise UsageError("resume_from and reexecution_options say the same; give one of them")
    from executor.runs.reexecution import ReexecutionOptions

    return ReexecutionOptions.unfinished(resume_from)


def _raise_unless_success(result: RunResult) -> None:
    if result.interrupted:
        raise RunInterrupted(result.run_id)
    if not result.success:
        failures = {}
        for key, message in result.failures.items():
            last = result.step(key).attempts[-1]
            failures[key] = f"{message}\n{last.error.traceback}".rstrip() if last.error is not None else message
            if last.exit_code is not None and last.error is not None and last.error.kind == "worker_died":
                failures[key] += f"; to see where, run it in this process: execute_in_process(selection={f'*{key}'!r})"
        raise RunFailed(result.run_id, failures)


def _execute(
    job: JobDefinition,
    config: ResolvedConfig,
    *,
    tags: Mapping[str, object] | None,
    selection: Selection,
    home: str | os.PathLike[str] | None,
    on_event: OnEvent | None,
    reexecution: ReexecutionOptions | None = None,
    origin: Mapping[str, object] | None = None,
    progress: bool = False,
) -> tuple[RunResult, dict[str, BaseException]]:
    """Run a job: its result, and what steps raised in this process."""
    from executor.workers.streams import fill_streams

    fill_streams()  # a file of ours in the place of a standard stream would be read and written by steps
    settings = config.settings
    at_once = worker_count(settings)
    launch, shown, result = None, None, None
    try:
        if not settings.in_process:
            from executor.workers.launch import Launch

            launch = Launch(settings, at_once)
            launch.fork_now(distinct_ops(job.body))
        from executor.runs.start import start_run  # only now: see launch.py

        if progress:
            from executor.runs.progress import progress_of

            on_event = shown = progress_of(home, on_event, in_process=settings.in_process)
        result, exceptions = start_run(
            job,
            config,
            launch,
            at_once,
            tags={**config.tags, **(tags or {})},
            selection=selection,
            home=home,
            on_event=on_event,
            reexecution=reexecution,
            origin=origin,
        )
        return result, exceptions
    finally:
        if shown is not None:
            shown.finish(result)
        if launch is not None:
            launch.close()
