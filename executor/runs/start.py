"""From a job to a run that can be driven: its plan, its folder, its part in the ledger of pools, its workers.

Loaded only when the template is forked: it is smaller without all this, and so is each of its forks.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from executor.authoring.tags import normalized_tags, tagged_priority
from executor.config.instance_file import read_instance_settings
from executor.config.secrets import texts_to_hide
from executor.errors import ConfigError, UsageError
from executor.ledger.liveness import new_owner, take_step_lock
from executor.plan.compile import compile_job
from executor.plan.select import select_steps
from executor.runs.configs import config_inputs, write_config
from executor.runs.history import HistoryLost
from executor.runs.home import forget_run, make_run, open_home
from executor.runs.memory import make_memory_folder, settle_dead, storage_of
from executor.runs.pools import join_ledger, uses_pools
from executor.runs.records import PARENT_TAG, ROOT_TAG
from executor.runs.run import drive_run
from executor.scheduler.limits import Limits
from executor.workers.clock import RunClock
from executor.workers.inline import InlineWorkers
from executor.workers.job import WorkerJob
from executor.workers.processes import ProcessWorkers
from executor.workers.selector import Selector

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from executor.authoring.jobs import JobDefinition
    from executor.authoring.ops import OpDefinition
    from executor.authoring.resolve import ResolvedConfig
    from executor.authoring.selection import Selection
    from executor.config.settings import ExecutorSettings
    from executor.plan.plan import Plan
    from executor.runs.reexecution import ReexecutionOptions
    from executor.runs.result import RunResult
    from executor.runs.resume import Resumed
    from executor.scheduler.events import Event
    from executor.workers.launch import Launch


def start_run(
    job: JobDefinition,
    config: ResolvedConfig,
    launch: Launch | None,
    at_once: int,
    *,
    tags: Mapping[str, object] | None,
    selection: Selection,
    home: str | os.PathLike[str] | None,
    on_event: Callable[[Event, float], None] | None,
    reexecution: ReexecutionOptions | None = None,
    origin: Mapping[str, object] | None = None,
) -> tuple[RunResult, dict[str, BaseException]]:
    """Run a job: its result, and what steps raised in this process.

    ``launch`` gives it worker processes, ``at_once`` at a time; None: its steps run in this process. The errors are
    those of ``execute_job``.
    """
    home_path = open_home(None if home is None else Path(home))
    with ExitStack() as stack:  # whatever happens here, nothing is left of the run: it has not begun
        held = stack.enter_context(ExitStack())
        plan = compile_job(job)
        settings, partial, resumed = config.settings, False, None
        if reexecution is not None:
            if selection is not None:
                raise UsageError("a run that goes on from another has no selection; name the steps in step_selection")
            resumed = held.enter_context(_going_on(plan, home_path, reexecution))
            plan, partial = resumed.plan, resumed.partial
        elif selection is not None:
            whole = len(plan)
            plan = select_steps(plan, selection)
            partial = len(plan) < whole
        config.require(step.key for step in plan.steps)
        limits = Limits(max_concurrent=at_once, tags=settings.tag_concurrency_limits)
        notices = _replaced_limits(job, settings) if config.layers else []
        given = normalized_tags("the run", tags)
        run_tags = {**job.run_tags, **given}
        if resumed is not None:
            names = {key: resumed.tags[key] for key in (PARENT_TAG, ROOT_TAG)}
            run_tags = {**job.run_tags, **resumed.tags, **given, **names}
        tagged_priority("the run", run_tags)
        instance = read_instance_settings(home_path)
        owner = new_owner()
        lock = make_run(home_path)
        stack.callback(forget_run, lock)
        try:
            write_config(lock.folder.config, config)
        except OSError as error:
            raise HistoryLost(str(lock.folder.config), error.strerror or str(error)) from error
        keep_values = settings.in_process if instance.storage.keep is None else instance.storage.keep == "all"
        memory = make_memory_folder(instance.storage, lock.folder, keep_all=keep_values)
        if memory is not None:
            stack.callback(memory.settle, lambda _: False)
        locker = (take_step_lock.__module__, take_step_lock.__name__, (str(home_path), owner))
        worker_job = WorkerJob(
            lock.folder.run_id,
            job.name,
            run_tags,
            str(lock.folder.values),
            str(lock.folder.path),
            locker if uses_pools(plan) else None,
            storage_of(instance.storage, memory),
            settings.stack_signal,
        )
        clock, selector = RunClock(), Selector()
        stack.callback(selector.close)
        workers: ProcessWorkers | InlineWorkers
        if launch is None:
            workers = InlineWorkers(worker_job, clock=clock, post_mortem=settings.pdb)
        else:
            workers = ProcessWorkers(
                worker_job,
                _ops(plan),
                launch,
                settings,
                at_once=min(at_once, max(1, len(plan))),
                steps=len(plan),
                selector=selector,
                clock=clock,
            )
        stack.callback(lambda: workers.close(kill=True))
        workers.start()
        client, pool_notices = join_ledger(plan, lock.folder, owner, clock)
        stack.pop_all()
    with held, closing(selector):
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
            notices=[
                *(resumed.notices if resumed else ()),
                *notices,
                *instance.notices,
                *pool_notices,
                *settle_dead(instance.storage.memory_folder),
            ],
            reused=resumed.reused if resumed else (),
            parent=resumed.parent if resumed else "",
            partial=partial,
            origin=origin or {},
            retention=instance.retention,
            configs=config_inputs(plan, config),
            secrets=texts_to_hide([*config.configs.values()]),
            memory=memory,
            keep_values=keep_values,
            on_event=on_event,
        )
    return result, workers.exceptions if isinstance(workers, InlineWorkers) else {}


def _going_on(plan: Plan, home: Path, options: ReexecutionOptions) -> AbstractContextManager[Resumed]:
    from executor.runs.resume import going_on

    return going_on(plan, home, options)


def _ops(plan: Plan) -> tuple[OpDefinition, ...]:
    """The ops of the plan, each once."""
    found: dict[int, OpDefinition] = {id(step.compute): step.compute for step in plan.steps}  # type: ignore[misc]  # opaque
    return tuple(found.values())


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
