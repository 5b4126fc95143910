"""Which jobs and assets a module has: in ``Definitions``, in ``@definitions`` functions, or by themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from executor.authoring.asset_graph import asset_graph
from executor.authoring.assets import AssetsDefinition
from executor.authoring.collection import Definitions, LazyDefinitions
from executor.authoring.jobs import AssetJobDefinition, JobDefinition, job_of_assets
from executor.authoring.nested import flattened
from executor.cli.discover import Place, discover
from executor.cli.load import load_file, load_module, users_code
from executor.errors import UsageError, did_you_mean
from executor.runs.report import printable

if TYPE_CHECKING:
    from types import ModuleType

    from executor.authoring.executors import ExecutorDefinition

T = TypeVar("T")

ALL_ASSETS = "assets"  #: name of the job of all assets, where a module has no job


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is in a module that a command was given."""

    words: tuple[str, ...]  #: how the module was named on the command line; empty: it was found without
    shown: str  #: the module as people named it
    name: str  #: of the module itself: ``shop`` for the file ``jobs/shop.py`` and the module ``jobs.shop``
    jobs: dict[str, JobDefinition]  #: by name, ready to run; where none is defined, one of all assets
    assets: tuple[AssetsDefinition, ...]
    executor: ExecutorDefinition | None = None  #: of its Definitions, for a job of all assets
    job: str | None = None  #: which is run where none is named


def find(file: str | None, module: str | None) -> Found:
    """What is in that file or module, or without either in the one that is found; see ``discover``.

    Raises:
        UsageError: both are given, none is found, or the module cannot be imported.
    """
    if file is not None and module is not None:
        raise UsageError("name the file with the job, or a module with -m, not both")
    words = ("-m", module) if module is not None else () if file is None else (file,)
    place = Place(folder=Path.cwd(), file=None if file is None else Path(file), module=module)
    if not words:
        place = discover(Path.cwd())
    shown = place.module or (file if file is not None else os.path.relpath(str(place.file)))
    loaded = load_file(shown) if place.module is None else load_module(place.module, place.folder)
    with users_code(shown):
        return _find_in(loaded, words, shown, place.job)


def _find_in(module: ModuleType, words: tuple[str, ...], shown: str, default: str | None) -> Found:
    collections: list[Definitions] = []
    bare_jobs: list[JobDefinition] = []
    bare_assets: list[AssetsDefinition] = []
    for item in flattened(list(vars(module).values()), lambda item: type(item) not in (list, tuple)):
        if isinstance(item, LazyDefinitions):
            collections.append(item())
        elif isinstance(item, Definitions):
            collections.append(item)
        elif isinstance(item, JobDefinition):
            bare_jobs.append(item)
        elif isinstance(item, AssetsDefinition):
            bare_assets.append(item)
    jobs: dict[str, JobDefinition] = {}
    for collection in _distinct(collections):
        for job in collection.jobs:
            _add(jobs, job, shown)
    collected = set(jobs)
    assets = _distinct([asset for collection in collections for asset in collection.assets] + bare_assets)
    for job in _distinct(bare_jobs):
        if job.name not in collected:  # there it has its assets and its executor
            _add(jobs, job.meet(asset_graph(job.owner, assets)) if isinstance(job, AssetJobDefinition) else job, shown)
    executor_def = next((collection.executor for collection in collections), None)
    if not jobs and assets:
        jobs[ALL_ASSETS] = job_of_assets(assets, name=ALL_ASSETS, executor_def=executor_def)
    name = module.__name__.rpartition(".")[2]
    return Found(
        words=words, shown=shown, name=name, jobs=jobs, assets=tuple(assets), executor=executor_def, job=default
    )


def _distinct(items: list[T]) -> list[T]:
    return list({id(item): item for item in items}.values())


def _add(jobs: dict[str, JobDefinition], job: JobDefinition, shown: str) -> None:
    if job.name in jobs:
        raise UsageError(f"{shown} has two jobs called {job.name!r}; give one of them another name=")
    jobs[job.name] = job


def pick_job(found: Found, name: str | None) -> JobDefinition:
    """The job of that name; without one that of ``pyproject.toml``, the only one, or the one that is named as its file.

    Raises:
        UsageError: there is none, or there are several and no name is given; the text lists them.
    """
    if not found.jobs:
        raise UsageError(f"{found.shown} has no job and no asset; write one with @job or @asset")
    name = name or found.job
    if name is not None:
        if name == ALL_ASSETS and name not in found.jobs and found.assets:
            return job_of_assets(found.assets, name=ALL_ASSETS, executor_def=found.executor)
        if name not in found.jobs:
            known = {*found.jobs, *([ALL_ASSETS] if found.assets else [])}
            raise UsageError(f"{found.shown} has no job {name!r}{did_you_mean(name, known)}\n{job_lines(found)}")
        return found.jobs[name]
    if found.name in found.jobs:
        return found.jobs[found.name]
    if len(found.jobs) > 1:
        raise UsageError(f"{found.shown} has {len(found.jobs)} jobs; choose one with -j:\n{job_lines(found)}")
    return next(iter(found.jobs.values()))


def job_lines(found: Found) -> str:
    """The jobs, one per line, with their descriptions."""
    width = max(map(len, found.jobs))
    lines = [f"  {job.name:<{width}}  {one_line(job.description)}".rstrip() for job in found.jobs.values()]
    return "\n".join(lines)


def one_line(description: str | None) -> str:
    """A description on one line; empty for none."""
    return printable(" ".join((description or "").split()))
