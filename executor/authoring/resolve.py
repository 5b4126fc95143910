"""From the configs of a job and a run to what the run does: settings, config of ops, tags; all mistakes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.authoring.asset_graph import AssetGraph, Made
from executor.authoring.executors import multiprocess_executor
from executor.authoring.ops import OpDefinition
from executor.authoring.tags import normalized_tags
from executor.authoring.walk import configurable_ops
from executor.config.environment import expanded
from executor.config.layers import Layer, layers_of, merged, moved, path_text
from executor.config.problems import Problems, quoted
from executor.config.run_config import IN_CODE, Sections, sections, written
from executor.config.secrets import MASK, has_secret, is_secret_name, masked
from executor.errors import ConfigError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from executor.authoring.graphs import GraphDefinition
    from executor.authoring.jobs import JobDefinition
    from executor.config.layers import Path
    from executor.config.settings import ExecutorSettings

    Body = GraphDefinition | AssetGraph


# Of a job that is larger, the nearest name is looked for among the first: comparing takes microseconds for each.
MOST_NAMES = 5_000


class OpSetting(NamedTuple):
    """One key of the config of a step, as it may be shown."""

    step: str
    path: str  #: ``rows``, ``source.url``
    value: Any
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """What a run is configured with."""

    settings: ExecutorSettings
    sources: Mapping[str, str] = field(default_factory=dict)  #: what set each setting, by field; left out: its default
    configs: Mapping[str, Any] = field(
        default_factory=dict
    )  #: by step key: checked config, of those that are given any
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: by step key: what its config lacks
    tags: Mapping[str, str] = field(default_factory=dict)  #: of the run, from its config
    layers: tuple[Layer, ...] = ()  #: the run config as it was given, the strongest last, variables not followed
    whole: Callable[[], dict[str, Any]] = dict  #: by step key: the config of each step that has some, with its defaults
    ops: Callable[[], list[OpSetting]] = list  #: each key of the config of each op, with what set it; for people

    def tag_source(self, name: str) -> str:
        """What set a tag of the run, in words."""
        path = ("tags", name)
        return next((layer.origin(path) for layer in reversed(self.layers) if layer.has(path)), "the config of the job")

    def require(self, keys: Iterable[str]) -> None:
        """Nothing, where the config of these steps lacks nothing.

        Raises:
            ConfigError: it lacks something; all of it is listed.
        """
        if self.missing and (found := [text for key in keys for text in self.missing.get(key, ())]):
            raise ConfigError(found)


def resolve(job: JobDefinition, run_config: object = None, *, part_of_job: bool = False) -> ResolvedConfig:
    """What a run of ``job`` is configured with; ``run_config`` wins over the job's own config, key by key.

    A run config that was resolved before is given back as it is.

    ``part_of_job``: not all steps will run, so config that a step lacks is no mistake yet; see ``require``.

    Raises:
        ConfigError: there are mistakes; all of all layers, each with its line or path.
    """
    if isinstance(run_config, ResolvedConfig):
        return run_config
    of_run = layers_of(run_config, "the run config")
    given = (*layers_of(job.config, f"the config of {job.owner}"), *of_run)
    problems = Problems()
    for layer in given:
        if layer.file is not None:
            problems.add_from_file(layer)
    layers = [expanded(layer, problems) for layer in given]
    body = job.body if job.is_met else None  # without its assets it can be checked, and cannot be run
    is_op = None if body is None else lambda name: named(body, name) is not None
    found = [sections(layer, problems, is_op=is_op) for layer in layers]
    executor = (job.executor_def or multiprocess_executor).settled([part.executor for part in found], problems)
    tags = _tags(found, layers, problems)
    ops = _Ops(body, problems)
    if body is not None:
        ops.read([part.ops for part in found], layers)
    if not part_of_job and all(layer.is_read for layer in layers):  # what is missing may stand in a file with a mistake
        for lacking in ops.missing.values():
            problems.take(lacking)
    problems.raise_if_any()
    return ResolvedConfig(
        settings=executor.settings,
        sources=executor.sources,
        configs=ops.configs,
        missing={key: tuple(lacking.found) for key, lacking in ops.missing.items()},
        tags=tags,
        layers=of_run,
        whole=ops.whole,
        ops=ops.effective,
    )


def check_at_definition(job: JobDefinition, body: Body | None, problems: Problems) -> None:
    """Look for mistakes in a job's own config that do not depend on the run."""
    prefix = ("config",)
    try:
        layers = layers_of(job.config, "it")
    except ConfigError as error:
        for text in error.problems:
            problems.add(prefix, text)
        return
    for layer in layers:
        for _, _, text in layer.mistakes:
            problems.add(prefix, text)
        is_op = None if body is None else lambda name: named(body, name) is not None
        found = sections(layer, problems, prefix, is_op=is_op)
        (job.executor_def or multiprocess_executor).check(found.executor, problems.of(layer))
        if body is not None:
            _Ops(body, problems.of(layer)).places(found.ops, prefix)


def _tags(found: list[Sections], layers: list[Layer], problems: Problems) -> dict[str, str]:
    """The tags of the run, as text."""
    tags: dict[str, str] = {}
    for part, layer in zip(found, layers, strict=True):
        own = problems.of(layer)
        for key, value in part.tags.items():
            path = ("tags", key)
            if is_secret_name(key):
                own.add_at(
                    path, f"the tag {quoted(key)} is named like a secret; tags are shown and kept, so leave it out"
                )
            elif isinstance(value, Mapping | list) or value is None:
                own.add(path, f"{own.shown(path, value)} is not text")
            else:
                try:
                    tags |= normalized_tags("the run", {key: str(value) if isinstance(value, str) else value})
                except DefinitionError as error:
                    own.add(path, str(error))
    return tags


class _Ops:
    """Reads what stands under ``ops``, for one job."""

    def __init__(self, body: Body | None, problems: Problems) -> None:
        self._body, self._problems = body, problems
        self._misplaced: set[str] = set()  # steps whose config stands in a wrong place: it lacks what is found there
        self.configs: dict[str, Any] = {}
        self.missing: dict[str, Problems] = {}

    def read(self, parts: list[Mapping[str, Any]], layers: list[Layer]) -> None:
        """Check the config of every op that takes some; ``parts`` is what each layer says of ops."""
        assert self._body is not None  # noqa: S101  (else there is nothing to read)
        problems, by_step = self._problems, []
        for ops, layer in zip(parts, layers, strict=True):
            self._problems = problems.of(layer)
            given = self.places(ops)
            data = {"ops": {key: {"config": config} for key, (config, _) in given.items()}}
            # under the keys of the steps, because one file may say `ops: {inner: {ops: ...}}` and another `inner.load`
            moves = {path: step_path(key) for key, (_, path) in given.items()}
            by_step.append(moved(layer, data, moves))
        self._problems = problems.of(*by_step)
        said = merged(layer.data for layer in by_step).get("ops", {})
        for key, op in configurable_ops(self._body):
            config = op.config
            assert config is not None  # noqa: S101  (that is what was asked for)
            data, path = said.get(key, {}).get("config"), step_path(key)
            trial = self._problems.trial()
            checked = config.check({} if data is None else data, path, trial)
            wrong, lacking = trial.split()
            self._problems.take(wrong)
            if lacking.count and key not in self._misplaced and not (config.has_default and data is None):
                self.missing[key] = lacking
            if data is not None:
                self.configs[key] = checked

    def whole(self) -> dict[str, Any]:
        """The config of each step that has some, by its key, with defaults; no defaults of signatures."""
        return {key: op.config.whole(raw) for key, op, raw in self._given() if op.config is not None}

    def effective(self) -> list[OpSetting]:
        """Each key of the config of each step, defaults included; secrets are masked."""
        found: list[OpSetting] = []
        for key, op, raw in self._given(in_signatures=True):
            assert op.config is not None  # noqa: S101  (as above)
            path = step_path(key)
            default = "default" if key in self.configs or not op.config.has_default else f"default of {op.label}"
            shown = masked(op.config.effective(raw))
            for inner, value in _leaves(shown, ()):
                layer = self._problems.layer((*path, *inner))
                given = layer is not None and layer.has((*path, *inner))
                hidden = given and layer is not None and layer.is_from_variable((*path, *inner))
                source = layer.origin((*path, *inner)) if given and layer is not None else default
                found.append(
                    OpSetting(key, path_text(inner), MASK if hidden or has_secret(_at(raw, inner)) else value, source)
                )
        return found

    def _given(self, *, in_signatures: bool = False) -> Iterator[tuple[str, OpDefinition, Any]]:
        """Of each step that takes config and lacks none of it: its key, its op, and its checked config.

        ``in_signatures``: also where the config is what the function's own parameter has as its default.
        """
        for key, op in configurable_ops(self._body) if self._body is not None else ():
            config = op.config
            if config is None or key in self.missing:
                continue
            if key in self.configs:
                yield key, op, self.configs[key]
            elif not config.has_default:
                yield key, op, config.check({}, step_path(key), Problems())
            elif in_signatures and (default := config.default_of(op.fn)) is not None:
                yield key, op, default

    def places(self, ops: Mapping[str, Any], prefix: Path = ()) -> dict[str, tuple[Any, Path]]:
        """The config of each step, by its key, and where it stands; what stands in a wrong place is a mistake."""
        found: dict[str, tuple[Any, Path]] = {}
        assert self._body is not None  # noqa: S101  (as above)
        self._walk(self._body, ops, (*prefix, "ops"), "", found)
        return found

    def _walk(
        self, body: Body, ops: Mapping[str, Any], path: Path, prefix: str, found: dict[str, tuple[Any, Path]]
    ) -> None:
        for name, section in ops.items():
            where = (*path, name)
            node = named(body, str(name))
            if node is None:
                self._problems.unknown(where, [prefix + known for known in islice(names(body), MOST_NAMES)], what="op")
                continue
            key, definition = prefix + node[0], node[1]
            if section is None:
                continue
            if not isinstance(section, Mapping):
                self._not_a_section(where, section, definition)
            elif isinstance(definition, OpDefinition):
                self._op(key, definition, section, where, found)
            else:
                for inner in section:
                    if inner != "ops":
                        self._problems.unknown((*where, inner), ["ops"], end=f" ({quoted(name)} is a graph)")
                inside = section.get("ops") or {}
                if isinstance(inside, Mapping):
                    self._walk(definition, inside, (*where, "ops"), f"{key}.", found)
                else:
                    self._not_a_section((*where, "ops"), inside, definition)

    def _not_a_section(self, path: Path, value: Any, definition: Any) -> None:
        example = {"config": value if isinstance(definition, OpDefinition) else {}}
        self._problems.add(
            path,
            f"{self._problems.shown(path, value)} is not a dict; it looks like {self._problems.literal(example, path)}",
        )

    def _op(
        self, key: str, op: OpDefinition, section: Mapping[str, Any], path: Path, found: dict[str, tuple[Any, Path]]
    ) -> None:
        """What stands for one op: its config, and nothing else."""
        problems = self._problems
        beside = {name: value for name, value in section.items() if name not in {"config", "inputs", "outputs"}}
        in_code = [name for name in beside if name in IN_CODE or name == "tags"]
        known = list(op.config.kind.json_schema().get("properties", {})) if op.config is not None and beside else []
        fields = {name: value for name, value in beside.items() if name in known}
        if fields:
            self._misplaced.add(key)
            there = section.get("config")
            right = {**(there if isinstance(there, Mapping) else {}), **fields}
            lines = written({"ops": {path[-1]: {"config": right}}}, problems, path)
            said = " and ".join(map(quoted, fields))
            verb = "is" if len(fields) == 1 else "are"
            text = f"{said} {verb} not read there"
            problems.add_key((*path, next(iter(fields))), text, f"; it belongs under config. Write:\n{lines}")
        for name in beside:
            if name in fields:
                continue
            if name in in_code:
                end = f"; it is said in the code: @op({name}=...) or @asset({name}=...)"
                problems.add_key((*path, name), f"{quoted(name)} is not read there", end)
            else:
                self._misplaced.add(key)  # it may be meant to be the config
                problems.unknown((*path, name), ["config", *known])
        for name in ("inputs", "outputs"):
            if section.get(name):
                problems.add_key((*path, name), f"this version has no {name} from config", "; leave it out")
        data = section.get("config")
        if data is None:
            return
        if op.config is None:
            problems.add_at(
                (*path, "config"),
                f"{op.label} takes no config; annotate a parameter of its function with a class of executor.Config, "
                "or give config_schema=",
            )
            return
        if key in found:
            first = path_text(found[key][1])
            problems.add_at(
                (*path, "config"),
                f"the config of {key!r} is given here a second time, after {first}; keep one of the two",
            )
            return
        found[key] = (data, (*path, "config"))


def step_path(key: str) -> Path:
    """Where the config of a step stands, whatever the spelling."""
    return "ops", key, "config"


def _leaves(data: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """What stands in a config, by path; lists and empty dicts as a whole."""
    if isinstance(data, Mapping) and (data or not path):
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path, data


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part] if isinstance(data, Mapping) and part in data else None
    return data


def named(body: Body, name: str) -> tuple[str, Any] | None:
    """The node that a name means in the config of a job: its step key, and what it is; None where there is none.

    The key of a graph is what stands before the dot in its steps'. Inner ops may be named with dots, and assets with
    ``__`` for a slash, as in Dagster.
    """
    keys: list[str] = []
    while (found := _directly_named(body, name)) is None:
        first, dot, name = name.partition(".")
        outer = _directly_named(body, first) if dot else None
        if outer is None or isinstance(outer[1], OpDefinition):
            return None
        keys.append(outer[0])
        body = outer[1]
    return ".".join([*keys, found[0]]), found[1]


def _directly_named(body: Body, name: str) -> tuple[str, Any] | None:
    """The same of what lies in the body itself, not in a graph in it."""
    if not isinstance(body, AssetGraph):
        return (name, body.nodes[name].definition) if name in body.nodes else None
    by_text: Mapping[str, Made] = body.made  # type: ignore[assignment]  # an asset's key is text, and equal to it
    made = by_text.get(name) or by_text.get(name.replace("__", "/"))
    assets = [body.assets[made.position]] if made is not None else body.assets
    for asset in assets:
        if made is not None or name == asset.step_key:  # a step that makes several assets has a name of its own
            return str(asset.step_key), asset.node
    return None


def names(body: Body) -> Iterable[str]:
    """The names that config can be given for."""
    return (str(asset.step_key) for asset in body.assets) if isinstance(body, AssetGraph) else body.nodes
