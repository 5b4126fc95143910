"""``Definitions``: assets and jobs that belong together, where jobs find the assets that they select by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never

from executor.authoring.asset_graph import asset_graph
from executor.authoring.executors import ExecutorDefinition, check_executor
from executor.authoring.graphs import GraphDefinition
from executor.authoring.jobs import AssetJobDefinition, JobDefinition, job_of_assets
from executor.authoring.misplaced import refuse_misplaced
from executor.errors import DefinitionError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.authoring.assets import AssetsDefinition


class Definitions:
    """Assets, jobs and the executor of those jobs that have none, in one place.

    Args:
        assets: assets, also in nested lists.
        jobs: jobs; a selection by name finds its assets here.
        executor: for jobs without one of their own.

    Raises:
        DefinitionError: two have one name, a dependency is not there, assets wait for each other in a circle, or a job
            selects an asset that is not there.
    """

    def __init__(
        self,
        assets: Iterable[object] | None = None,
        jobs: Iterable[JobDefinition | GraphDefinition] | None = None,
        executor: ExecutorDefinition | None = None,
        **_misplaced: Never,
    ) -> None:
        refuse_misplaced(Definitions, _misplaced)
        self.executor = check_executor("Definitions", executor)
        self._graph = asset_graph("Definitions", () if assets is None else assets)
        self._jobs: dict[str, JobDefinition] = {}
        for item in () if jobs is None else jobs:
            job = item.to_job() if isinstance(item, GraphDefinition) else item
            if not isinstance(job, JobDefinition):
                raise DefinitionError(f"Definitions: {item!r} is not a job; give what @job or define_asset_job made")
            if job.name in self._jobs:
                raise DefinitionError(f"Definitions: two jobs are called {job.name!r}; give one of them another name=")
            if isinstance(job, AssetJobDefinition):
                self._jobs[job.name] = job.meet(self._graph, self.executor)
            else:
                self._jobs[job.name] = job.with_defaults(executor_def=self.executor)

    @property
    def assets(self) -> tuple[AssetsDefinition, ...]:
        """The assets, each after those that it reads."""
        return self._graph.assets

    @property
    def jobs(self) -> tuple[JobDefinition, ...]:
        """The jobs, ready to run, in the order in which they were given."""
        return tuple(self._jobs.values())

    def get_job_def(self, name: str) -> JobDefinition:
        """The job of that name, with its assets found and its executor set.

        Raises:
            UsageError: there is none.
        """
        if name not in self._jobs:
            known = ", ".join(self._jobs) or "none"
            raise UsageError(f"there is no job {name!r}{did_you_mean(name, self._jobs)} (jobs: {known})")
        return self._jobs[name]

    resolve_job_def = get_job_def

    def job_of_all_assets(self, name: str = "assets") -> JobDefinition:
        """A job of all the assets, under the executor given here.

        Raises:
            UsageError: there are no assets.
        """
        if not self.assets:
            raise UsageError("these Definitions have no assets; give some with Definitions(assets=[…])")
        return job_of_assets(self.assets, name=name, executor_def=self.executor)

    def __repr__(self) -> str:
        return f"<Definitions of {len(self.assets)} assets and {len(self._jobs)} jobs>"


class LazyDefinitions:
    """What ``@definitions`` makes of a function: called, it gives the function's ``Definitions``, made once."""

    def __init__(self, fn: Callable[[], Definitions]) -> None:
        if not callable(fn):
            raise DefinitionError(
                f"definitions: {fn!r} is not a function; put @definitions above a def without parameters"
            )
        self.fn = fn
        self.__doc__ = fn.__doc__
        self._made: Definitions | None = None

    @property
    def name(self) -> str:
        """The name of the function."""
        return getattr(self.fn, "__name__", "definitions")

    def __call__(self) -> Definitions:
        """The function's ``Definitions``; the function runs at the first call only.

        Raises:
            DefinitionError: it returned something else.
        """
        if self._made is None:
            made = self.fn()
            if not isinstance(made, Definitions):
                raise DefinitionError(
                    f"definitions {self.name!r} returned {made!r}; return Definitions(assets=[…], jobs=[…])"
                )
            self._made = made
        return self._made

    def __repr__(self) -> str:
        return f"<definitions {self.name!r}>"


def definitions(fn: Callable[[], Definitions]) -> LazyDefinitions:
    """The decorated function's ``Definitions``, made when they are first needed.

    Raises:
        DefinitionError: ``fn`` is not a function, or, when it is called, does not return ``Definitions``.
    """
    return LazyDefinitions(fn)
