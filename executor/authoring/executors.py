"""Which executor runs a job, and with what settings: ``multiprocess_executor``, ``in_process_executor``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.config.check import SETTINGS, ExecutorKind, check_executor_config
from executor.config.environment import expanded, has_reference
from executor.config.layers import Layer, layers_of, nesting_problem
from executor.config.problems import Problems
from executor.config.run_config import ExecutorPart, sections, unwrapped
from executor.config.secrets import as_plain, masked, without_secrets
from executor.config.settings import ExecutorSettings
from executor.errors import ConfigError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from executor.authoring.run_config import RunConfig
    from executor.config.layers import Path


class ConfigDefinitionError(ConfigError, DefinitionError):
    """A definition holds a config that is wrong; ``problems`` has one sentence for each mistake."""


class _Configured(NamedTuple):
    """What one ``.configured`` adds: a config, or a function that makes one."""

    config: Mapping[str, Any] | None
    function: Callable[..., Any] | None = None
    takes_config: bool = False
    schema: Mapping[str, Any] | None = None  #: what the function's config may have besides settings; None: anything
    where: str = ""  #: the line that it was written in


class Settled(NamedTuple):
    """The settings of a run, and what set each of those that are not left to their default."""

    settings: ExecutorSettings
    sources: Mapping[str, str]  #: by the name of the field


@dataclass(frozen=True, slots=True)
class ExecutorDefinition:
    """An executor with the settings that it was given; hand it to a job as ``executor_def``."""

    name: str
    kind: ExecutorKind
    layers: tuple[_Configured, ...] = ()

    def configured(
        self,
        config_or_config_fn: Mapping[str, Any] | Callable[..., Any] | None = None,
        name: str | None = None,
        config_schema: Mapping[str, Any] | None = None,
        description: str | None = None,  # noqa: ARG002 -- accepted because Dagster's has it; nothing shows it
    ) -> ExecutorDefinition:
        """This executor with further settings, which win over those that it has.

        A dict is checked here. A function is called when a run starts: without parameters, or with the config that the
        run gives (``execution.config``); it returns the executor's settings. Run config still overrides them key by
        key. ``config_schema`` has the keys that such a function takes and their types; other keys are an error then.

        Raises:
            ConfigDefinitionError: the dict has mistakes; all are listed with their paths.
            DefinitionError: it is neither a dict nor a function of at most one parameter, or the schema is none.
        """
        given = {} if config_or_config_fn is None else config_or_config_fn
        caller = sys._getframe(1)  # noqa: SLF001  (for `config show`: the line of a setting)
        where = f"{caller.f_code.co_filename.rpartition('/')[2]}:{caller.f_lineno}"
        if callable(given):
            schema = None if config_schema is None else _checked_schema(self.name, config_schema)
            layer = _Configured(None, given, _takes_config(given), schema, where)
        elif not isinstance(given, Mapping):
            raise DefinitionError(
                f"{self.name}.configured was given {given!r}; give a dict such as {{'max_concurrent': 4}}"
            )
        else:
            problems = Problems()
            if text := nesting_problem(given):
                raise ConfigDefinitionError([f"{self.name}.configured: its config {text}"])
            if "execution" in given:
                part = sections(Layer(given), problems, ("configured",)).executor
                problems.add(
                    ("configured",), "takes the executor's own settings, without 'execution' and 'config' around them"
                )
            else:
                part = unwrapped(given, ("configured",), problems)
                if part.kind not in (None, self.kind):
                    problems.add(("configured",), f"{part.kind!r} is another executor; configure {part.kind}_executor")
            config = _known_now(part.config)
            check_executor_config(config, part.path, self.kind, problems, foreign=_foreign_keys(self.layers))
            problems.raise_if_any(ConfigDefinitionError)
            layer = _Configured(part.config, where=where)
        return ExecutorDefinition(name or self.name, self.kind, (*self.layers, layer))

    def resolve(
        self,
        run_config: Mapping[str, Any] | RunConfig | None = None,
        *,
        defaults: Mapping[str, Any] | RunConfig | None = None,
    ) -> ExecutorSettings:
        """The settings of a run: this executor's, overridden key by key by ``defaults``, then by ``run_config``.

        Both are whole run configs (``{"execution": {"config": {...}}}``).

        Raises:
            ConfigError: a config has mistakes; all are listed with their paths.
        """
        problems = Problems()
        layers = [expanded(layer, problems) for config in (defaults, run_config) for layer in layers_of(config)]
        parts = [sections(layer, problems).executor for layer in layers]
        settled = self.settled(parts, problems)
        problems.raise_if_any()
        return settled.settings

    @property
    def takes_foreign_keys(self) -> bool:
        """Whether a function that configures it takes keys of its own from the run config."""
        return _foreign_keys(self.layers) != set()

    def check(self, part: ExecutorPart, problems: Problems) -> None:
        """Look for mistakes in a config that is meant for this executor; what is wrong goes to ``problems``."""
        config = _known_now(part.config)
        check_executor_config(config, part.path, part.kind or self.kind, problems, foreign=_foreign_keys(self.layers))

    def settled(self, parts: Sequence[ExecutorPart], problems: Problems) -> Settled:
        """The settings of a run, as far as they are right; what is wrong goes to ``problems``.

        The ``parts`` of its configs win over what this executor was configured with, the last of them over the first.
        """
        kind = self.kind
        foreign = _foreign_keys(self.layers)
        said: list[_Said] = []  # the strongest first
        for part in parts:
            # The kind of each part is what was known there: settings of workers under a run in one process are no
            # mistake where something stronger chose the process.
            kind = part.kind or kind
            own = problems.of(*[part.layer] if part.layer else [])
            checked = check_executor_config(part.config, part.path, kind, own, foreign=foreign)
            _check_foreign(self.layers, part, own)
            said.insert(0, _Said(checked, part.layer, part.path))
        config: dict[str, Any] = {key: value for part in parts for key, value in part.config.items()}
        said += self._own(config, problems)
        fields: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for one in reversed(said):
            fields |= one.fields
            sources |= {name: one.origin(name) for name in one.fields}
        named = next((part for part in reversed(parts) if part.kind is not None), None)
        if named is not None and named.layer is not None:
            sources["in_process"] = named.layer.origin(named.path)
        return Settled(ExecutorSettings(**{**fields, "in_process": kind == "in_process"}), sources)

    def _own(self, config: dict[str, Any], problems: Problems) -> Iterable[_Said]:
        """What each ``.configured`` says, the last first; functions get ``config``, which wins over them."""
        for number in reversed(range(len(self.layers))):
            configured, path = self.layers[number], (f"{self.name}.configured",)
            own: Any = configured.config
            if configured.function is not None:
                path = (f"{path[0]}({getattr(configured.function, '__name__', 'function')})",)
                if problems.count:  # what it would be given is wrong: what it made of that would only confuse
                    return
                given = _with_defaults(configured, config, path, problems)
                if given is None:
                    return
                plain = as_plain(given)
                try:
                    own = configured.function(plain) if configured.takes_config else configured.function()
                except Exception as error:  # noqa: BLE001  (the user's function may raise anything)
                    given_to_it = f"; it was given {masked(config)!r}" if configured.takes_config else ""
                    said = without_secrets(str(error), config)
                    problems.add(path, f"the function raised {type(error).__name__}: {said}{given_to_it}")
                    return
                config = {key: value for key, value in config.items() if key in SETTINGS}
            label = f"{configured.where} ({path[0]})"
            layer = expanded(Layer(own, label), problems)
            own = layer.data
            config = {**(own if isinstance(own, Mapping) else {}), **config}
            below = self.layers[:number]
            fields = check_executor_config(own, path, self.kind, problems, foreign=_foreign_keys(below))
            _check_foreign(below, ExecutorPart(None, own if isinstance(own, Mapping) else {}, path), problems)
            yield _Said(fields, layer, ())


class _Said(NamedTuple):
    """Settings that one config gives, and where."""

    fields: dict[str, Any]
    layer: Layer | None
    path: Path

    def origin(self, field: str) -> str:
        """What set a field, in words."""
        key = "start_method" if field == "preload_modules" else field
        return "" if self.layer is None else self.layer.origin((*self.path, key))


def _known_now(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say now what they mean, and not by an environment variable when a run starts."""
    return {key: value for key, value in config.items() if not has_reference(value)}


def _foreign_keys(layers: Collection[_Configured]) -> Collection[str] | None:
    """Keys of a config that belong to the functions in these layers; None where a function may take any."""
    keys: set[str] = set()
    for layer in layers:
        if layer.takes_config:
            if layer.schema is None:
                return None
            keys.update(layer.schema)
    return keys


def _check_foreign(layers: Collection[_Configured], part: ExecutorPart, problems: Problems) -> None:
    """Look at the values of keys that belong to functions in these layers."""
    from executor.config.annotations import kind_of

    for layer in layers:
        for key, kind in (layer.schema or {}).items():
            if key in part.config:
                kind_of(kind, key).check(part.config[key], (*part.path, key), problems)


def _with_defaults(
    layer: _Configured, config: Mapping[str, Any], path: Path, problems: Problems
) -> dict[str, Any] | None:
    """The config for a function, each key of its schema read as its type; None where it lacks one.

    What stands there as a type alone may be left out, and is then left to the function; a ``Field`` says for itself.
    """
    from executor.config.annotations import kind_of
    from executor.config.kinds import Field

    given = dict(config)
    for key, kind in (layer.schema or {}).items():
        if key in config:
            given[key] = kind_of(kind, key).check(config[key], (key,), Problems())
        elif isinstance(kind, Field) and kind.has_default:
            given[key] = kind.default_value
        elif isinstance(kind, Field) and kind.required:
            problems.add(path, f"needs {key!r} from the config of the executor; give it under execution.config")
            return None
    return given


def _checked_schema(name: str, schema: object) -> Mapping[str, Any]:
    """A config schema, when it is a dict of names and what configs can be."""
    from executor.config.annotations import kind_of

    if not isinstance(schema, Mapping):
        raise DefinitionError(f"{name}.configured: config_schema is {schema!r}; give the keys, such as {{'size': str}}")
    kind_of(dict(schema), f"{name}.configured, config_schema")
    return schema


def _takes_config(function: Callable[..., Any]) -> bool:
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin such as dict
        return True
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if len([parameter for parameter in parameters if parameter.default is parameter.empty]) > 1:
        raise DefinitionError(f"configured: {function!r} has several parameters; it gets one, the config, or none")
    return bool(parameters)


#: Runs each step in a worker process, several at once. ``.configured({"max_concurrent": 4})`` gives it settings.
multiprocess_executor = ExecutorDefinition("multiprocess_executor", "multiprocess")

#: Runs one step after another in the caller's own process.
in_process_executor = ExecutorDefinition("in_process_executor", "in_process")


def check_executor(owner: str, executor_def: object) -> ExecutorDefinition | None:
    """``executor_def``, when it is an executor or None.

    Raises:
        DefinitionError: it is something else.
    """
    if executor_def is None or isinstance(executor_def, ExecutorDefinition):
        return executor_def
    raise DefinitionError(
        f"{owner}: the executor is {executor_def!r}; give multiprocess_executor.configured({{'max_concurrent': 4}}), "
        f"or multiprocess_executor itself"
    )
