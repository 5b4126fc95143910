"""``@job``: a graph with all that a run of it needs: executor, config, tags, retry policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, NoReturn, overload

from executor.authoring.asset_graph import AssetGraph, asset_graph
from executor.authoring.assets import AssetsDefinition
from executor.authoring.executors import (
    ConfigDefinitionError,
    ExecutorDefinition,
    check_executor,
    multiprocess_executor,
)
from executor.authoring.graphs import GraphDefinition
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.names import check_name
from executor.authoring.resolve import ResolvedConfig, check_at_definition, resolve
from executor.authoring.retry import RetryPolicy
from executor.authoring.selection import Selection, objects_in, selected
from executor.authoring.signature import own_name
from executor.authoring.tags import normalized_tags
from executor.config.problems import Problems
from executor.errors import DefinitionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike

    from executor.authoring.run_config import RunConfig
    from executor.config.settings import ExecutorSettings
    from executor.runs.result import RunResult


class JobDefinition:
    """What ``@job`` makes of a body: what can be run, and with what settings.

    ``name``, ``description``, ``tags`` (of its runs), ``config`` (its default run config), ``executor_def`` (None: the
    default one) and ``op_retry_policy`` are what was declared.
    """

    def __init__(
        self,
        *,
        name: str,
        body: GraphDefinition | AssetGraph | None,
        description: str | None = None,
        config: Mapping[str, Any] | RunConfig | None = None,
        tags: Mapping[str, object] | None = None,
        run_tags: Mapping[str, object] | None = None,
        executor_def: ExecutorDefinition | None = None,
        op_retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Raises ``DefinitionError`` where an argument does not fit. ``body`` None: a subclass finds it later."""
        self.name = check_name("a job", name)
        owner = self.owner
        self.description = description
        self.executor_def = check_executor(owner, executor_def)
        self.tags = normalized_tags(owner, tags)
        #: Tags of every run: where ``run_tags`` are given, ``tags`` only describe the job.
        self.run_tags = self.tags if run_tags is None else normalized_tags(owner, run_tags)
        if op_retry_policy is not None and not isinstance(op_retry_policy, RetryPolicy):
            raise DefinitionError(f"{owner}: op_retry_policy is {op_retry_policy!r}; give RetryPolicy(max_retries=2)")
        self.op_retry_policy = op_retry_policy
        self.config = config
        problems = Problems()
        check_at_definition(self, body, problems)
        if problems.count:
            raise ConfigDefinitionError([f"{owner}: {problem}" for problem in problems.found])
        self._body = body
        if isinstance(body, GraphDefinition) and body.required_inputs:
            inner = body.required_inputs[0]
            raise DefinitionError(
                f"{owner}: input {inner!r} of {body.owner} is not connected, and what reads it has no default; "
                f"a job has no inputs: use the graph in a @job body and pass {inner!r} there"
            )

    @property
    def owner(self) -> str:
        """``job 'daily'``, for messages."""
        return f"job {self.name!r}"

    @property
    def body(self) -> GraphDefinition | AssetGraph:
        """What it runs: a graph of ops, or of assets.

        Raises:
            DefinitionError: its assets are selected by name, and it has not met them yet.
        """
        if self._body is None:
            raise DefinitionError(f"{self.owner} has no body")
        return self._body

    @property
    def is_met(self) -> bool:
        """Whether its body is known: a job that selects assets by name has one only when it has met them."""
        return self._body is not None

    @property
    def graph(self) -> GraphDefinition | AssetGraph:
        """The same as ``body``."""
        return self.body

    def settings(self, run_config: Mapping[str, Any] | RunConfig | None = None) -> ExecutorSettings:
        """How a run of it is executed: its executor's settings; its config, then ``run_config`` win, key by key.

        Raises:
            ConfigError: ``run_config`` has mistakes; all are listed with their paths.
        """
        return (self.executor_def or multiprocess_executor).resolve(run_config, defaults=self.config)

    def resolve(self, run_config: object = None, *, part_of_job: bool = False) -> ResolvedConfig:
        """What a run of it is configured with: settings, config of its ops, tags. ``run_config`` wins, key by key.

        ``part_of_job``: not all of its steps will run, so config that a step lacks is no mistake yet.

        Raises:
            ConfigError: there are mistakes; all are listed, each with its line or path.
        """
        return resolve(self, run_config, part_of_job=part_of_job)

    @property
    def takes_foreign_keys(self) -> bool:
        """Whether a function that configures its executor takes keys of its own from the run config."""
        return (self.executor_def or multiprocess_executor).takes_foreign_keys

    def with_defaults(self, *, executor_def: ExecutorDefinition | None) -> JobDefinition:
        """This job, with that executor where it has none of its own."""
        if self.executor_def is not None or executor_def is None:
            return self
        return self._copy(self.body, executor_def)

    def _copy(self, body: GraphDefinition | AssetGraph, executor_def: ExecutorDefinition | None) -> JobDefinition:
        return JobDefinition(
            name=self.name,
            body=body,
            description=self.description,
            config=self.config,
            tags=self.tags,
            run_tags=self.run_tags,
            executor_def=executor_def,
            op_retry_policy=self.op_retry_policy,
        )

    def execute(
        self,
        run_config: Mapping[str, Any] | RunConfig | None = None,
        *,
        tags: Mapping[str, object] | None = None,
        raise_on_error: bool = True,
        selection: Selection = None,
        home: str | PathLike[str] | None = None,
        resume_from: str | None = None,
        progress: bool = False,
        **_misplaced: Never,
    ) -> RunResult:
        """The result of running the job now, by its executor.

        Args:
            run_config: overrides the settings of the job's executor, key by key.
            tags: further tags of this run.
            raise_on_error: a run that does not succeed raises ``RunFailed`` instead of giving its result.
            selection: the steps to run, such as ``"train"``, ``"*train"`` or ``["clean", "train"]``; None: all.
            home: the folder that the run is kept in; None: ``EXECUTOR_HOME``, or one per user.
            resume_from: id of an earlier run (``last``: the newest): only what failed, was cut off or never ran in it,
                and what is below that, runs; the values of the rest are taken from it.
            progress: show how it goes: live in a notebook or on a terminal, else as lines on stderr.

        Raises:
            ConfigError: the run config has mistakes.
            RunFailed: a step failed.
            UsageError: the selection names an unknown step, or leaves out one whose value is needed.
        """
        refuse_misplaced(self.execute, _misplaced, runs=True)
        from executor.api import execute_job  # the one import that points down: a job can run itself

        return execute_job(
            self,
            run_config,
            tags=tags,
            raise_on_error=raise_on_error,
            selection=selection,
            home=home,
            resume_from=resume_from,
            progress=progress,
        )

    def execute_in_process(
        self,
        run_config: Mapping[str, Any] | RunConfig | None = None,
        *,
        tags: Mapping[str, object] | None = None,
        raise_on_error: bool = True,
        selection: Selection = None,
        op_selection: Selection = None,
        home: str | PathLike[str] | None = None,
        resume_from: str | None = None,
        **_misplaced: Never,
    ) -> RunResult:
        """The result of running the job now, one step after another in this process: for tests and debuggers.

        The arguments are those of ``execute``; ``op_selection`` is Dagster's name of ``selection``. Of the executor's
        settings only ``retries`` is used.

        Raises:
            ConfigError: the run config has mistakes.
            UsageError: the selection names an unknown step, or leaves out one whose value is needed.
            Exception: with ``raise_on_error``: what a step raised, as it is.
        """
        refuse_misplaced(self.execute_in_process, _misplaced, runs=True)
        from executor.api import execute_in_process  # as in execute

        return execute_in_process(
            self,
            run_config,
            tags=tags,
            raise_on_error=raise_on_error,
            selection=selection if op_selection is None else op_selection,
            home=home,
            resume_from=resume_from,
        )

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        """A job cannot be called; the error says what can be done instead."""
        raise DefinitionError(
            f"job {self.name!r} cannot be called, and is no part of another one; to use it in a body make it a graph, "
            f"with @graph; to run it: {self.name}.execute()"
        )

    def __repr__(self) -> str:
        return f"<job {self.name!r}>"


class AssetJobDefinition(JobDefinition):
    """A job of selected assets. A selection by name means something once it meets the assets: in ``Definitions``."""

    def __init__(self, *, selection: Selection, **settings: Any) -> None:
        """``settings`` are those of ``JobDefinition``, without a body."""
        super().__init__(body=None, **settings)
        self.selection = "*" if selection is None else selection
        self._alone = objects_in(self.selection)
        self._assets: AssetGraph | None = None
        for item in self._alone:
            if not isinstance(item, AssetsDefinition):
                raise DefinitionError(f"{self.owner}: {item!r} cannot be selected; give assets, or their names as text")

    @property
    def body(self) -> AssetGraph:
        """The assets that it runs: found when it first meets them, or by itself where they are given as objects."""
        if self._assets is None:
            if not self._alone:
                raise DefinitionError(
                    f"{self.owner} selects assets by name ({self.selection!r}) and has not met them; "
                    f"write Definitions(assets=[…], jobs=[…]), or select the assets: selection=[orders, customers]"
                )
            self._assets = self._selected(asset_graph(self.owner, self._alone))
        return self._assets

    @property
    def is_met(self) -> bool:
        """Whether its assets are known."""
        return self._assets is not None or bool(self._alone)

    def meet(self, universe: AssetGraph, executor_def: ExecutorDefinition | None = None) -> JobDefinition:
        """The job with its selection taken from these assets; the first that it meets are its own from then on.

        Raises:
            DefinitionError: it selects an asset that is not among them, or leaves out one whose value is needed.
        """
        body = self._selected(universe)
        if self._assets is None:
            self._assets = body
        return self._copy(body, self.executor_def or executor_def)

    def with_defaults(self, *, executor_def: ExecutorDefinition | None) -> JobDefinition:
        """This job, with that executor where it has none of its own."""
        return self._copy(self.body, self.executor_def or executor_def)

    def _selected(self, universe: AssetGraph) -> AssetGraph:
        names: dict[str, list[int]] = {}
        for position, item in enumerate(universe.assets):
            for name in dict.fromkeys((*item.selection_names, item.step_key)):
                names[name] = [position]
        try:
            positions = selected(
                self.selection,
                count=len(universe.assets),
                names=names,
                upstream=universe.upstream,
                downstream=universe.downstream,
                what="asset",
            )
        except UsageError as error:
            raise DefinitionError(f"{self.owner}: {error}") from None
        return universe if len(positions) == len(universe.assets) else universe.subset(self.owner, positions)


@overload
def job(compose_fn: Callable[..., Any], /) -> JobDefinition: ...
@overload
def job(
    *,
    name: str | None = None,
    description: str | None = None,
    config: Mapping[str, Any] | RunConfig | None = None,
    tags: Mapping[str, object] | None = None,
    run_tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
    op_retry_policy: RetryPolicy | None = None,
) -> Callable[[Callable[..., Any]], JobDefinition]: ...
def job(
    compose_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    config: Mapping[str, Any] | RunConfig | None = None,
    tags: Mapping[str, object] | None = None,
    run_tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
    op_retry_policy: RetryPolicy | None = None,
    **_misplaced: Any,
) -> Any:  # the overloads say what
    """A job made of the decorated body, which calls ops and graphs and so connects them. The body runs once, here.

    Args:
        compose_fn: the body, when the decorator stands without parentheses.
        name: of the job; the function's name without it.
        description: for people; the docstring's first paragraph without it.
        config: default run config, such as ``{"execution": {"config": {"max_concurrent": 2}}}``.
        tags: of the job's runs.
        run_tags: of the job's runs, where ``tags`` shall only describe the job.
        executor_def: what runs the steps; worker processes with the default settings without it.
        op_retry_policy: for ops that have no retry policy of their own.

    Raises:
        DefinitionError: an input is unknown or not connected, two ops have one name, or an argument does not fit.
    """
    refuse_misplaced(job, _misplaced, takes_executor=True)

    def decorate(fn: Callable[..., Any]) -> JobDefinition:
        called = own_name("a job", fn, name)
        body = GraphDefinition(fn, name=called, owner=f"job {called!r}", is_job=True)
        if body.ins:
            raise DefinitionError(
                f"job {called!r}: its body has the parameter {next(iter(body.ins))!r}; a job has no inputs"
            )
        return JobDefinition(
            name=called,
            body=body,
            description=description or body.description,
            config=config,
            tags=tags,
            run_tags=run_tags,
            executor_def=executor_def,
            op_retry_policy=op_retry_policy,
        )

    return decorate if compose_fn is None else decorate(compose_fn)


def define_asset_job(
    name: str,
    selection: Selection = "*",
    config: Mapping[str, Any] | RunConfig | None = None,
    *,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
    run_tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
    op_retry_policy: RetryPolicy | None = None,
    **_misplaced: Never,
) -> AssetJobDefinition:
    """A job of the selected assets.

    Args:
        name: of the job.
        selection: assets, their names, ``"*"``, ``"+name"`` (with what is directly above), ``"name+"`` (below),
            ``"*name"`` (all above), several with commas, or a list of these. Names are looked up when the job meets its
            assets, in ``Definitions``; a job of asset objects can run by itself. None: all.
        config: default run config, such as ``{"execution": {"config": {"max_concurrent": 2}}}``.
        description: for people.
        tags: of the job's runs.
        run_tags: of the job's runs, where ``tags`` shall only describe the job.
        executor_def: what runs the steps; without it that of ``Definitions``, or worker processes.
        op_retry_policy: for assets that have no retry policy of their own.

    Raises:
        DefinitionError: an argument does not fit.
    """
    refuse_misplaced(define_asset_job, _misplaced, takes_executor=True)
    return AssetJobDefinition(
        name=name,
        selection=selection,
        description=description,
        config=config,
        tags=tags,
        run_tags=run_tags,
        executor_def=executor_def,
        op_retry_policy=op_retry_policy,
    )


def job_of_assets(
    assets: Iterable[object],
    *,
    name: str = "assets",
    selection: Selection = "*",
    config: Mapping[str, Any] | RunConfig | None = None,
    tags: Mapping[str, object] | None = None,
    executor_def: ExecutorDefinition | None = None,
) -> JobDefinition:
    """A job of these assets, as ``materialize`` runs it.

    Raises:
        DefinitionError: two have one key, one reads what is not there, or they wait for each other in a circle.
    """
    made = define_asset_job(name, selection, config=config, tags=tags, executor_def=executor_def)
    return made.meet(asset_graph(made.owner, assets))
