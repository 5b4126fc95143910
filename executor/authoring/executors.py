"""Which executor runs a job, and with what settings: ``multiprocess_executor``, ``in_process_executor``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.config.check import SETTINGS, ExecutorKind, Problems, check_executor_config
from executor.config.run_config import ExecutorPart, executor_part, unwrapped
from executor.config.settings import ExecutorSettings
from executor.errors import ConfigError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class ConfigDefinitionError(ConfigError, DefinitionError):
    """A definition holds a config that is wrong; ``problems`` has one sentence for each mistake."""


class _Layer(NamedTuple):
    """What one ``.configured`` adds: a config, or a function that makes one."""

    config: Mapping[str, Any] | None
    function: Callable[..., Any] | None = None
    takes_config: bool = False
    keys: Collection[str] | None = (
        None  #: what the function's config may have besides executor settings; None: anything
    )


@dataclass(frozen=True, slots=True)
class ExecutorDefinition:
    """An executor with the settings that it was given; hand it to a job as ``executor_def``."""

    name: str
    kind: ExecutorKind
    layers: tuple[_Layer, ...] = ()

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
        key. ``config_schema`` names the keys that such a function takes, so that others are an error.

        Raises:
            ConfigDefinitionError: the dict has mistakes; all are listed with their paths.
            DefinitionError: it is neither a dict nor a function of at most one parameter.
        """
        given = {} if config_or_config_fn is None else config_or_config_fn
        if callable(given):
            layer = _Layer(None, given, _takes_config(given), None if config_schema is None else tuple(config_schema))
        elif not isinstance(given, Mapping):
            raise DefinitionError(
                f"{self.name}.configured was given {given!r}; give a dict such as {{'max_concurrent': 4}}"
            )
        else:
            problems = Problems()
            if "execution" in given:
                part = executor_part(given, problems, "configured")
                problems.add(
                    "configured", "takes the executor's own settings, without 'execution' and 'config' around them"
                )
            else:
                part = unwrapped(given, "configured", problems)
                if part.kind not in (None, self.kind):
                    problems.add("configured", f"{part.kind!r} is another executor; configure {part.kind}_executor")
            check_executor_config(part.config, part.path, self.kind, problems, foreign=_foreign_keys(self.layers))
            problems.raise_if_any(ConfigDefinitionError)
            layer = _Layer(part.config)
        return ExecutorDefinition(name or self.name, self.kind, (*self.layers, layer))

    def resolve(
        self, run_config: Mapping[str, Any] | None = None, *, defaults: Mapping[str, Any] | None = None
    ) -> ExecutorSettings:
        """The settings of a run: this executor's, overridden key by key by ``defaults``, then by ``run_config``.

        Both are whole run configs (``{"execution": {"config": {...}}}``).

        Raises:
            ConfigError: a config has mistakes; all are listed with their paths.
        """
        problems = Problems()
        settings = self.checked(executor_part(defaults, problems), executor_part(run_config, problems), problems)
        problems.raise_if_any()
        return settings

    def check(self, part: ExecutorPart, problems: Problems) -> None:
        """Look for mistakes in a config that is meant for this executor; what is wrong goes to ``problems``."""
        check_executor_config(
            part.config, part.path, part.kind or self.kind, problems, foreign=_foreign_keys(self.layers)
        )

    def checked(self, defaults: ExecutorPart, run: ExecutorPart, problems: Problems) -> ExecutorSettings:
        """The settings of a run, as far as they are right; what is wrong goes to ``problems``."""
        kind = run.kind or defaults.kind or self.kind
        foreign = _foreign_keys(self.layers)
        # The kind of each layer is what was known there: settings of workers under a run in one process are no mistake.
        given = [
            check_executor_config(run.config, run.path, kind, problems, foreign=foreign),
            check_executor_config(
                defaults.config, defaults.path, defaults.kind or self.kind, problems, foreign=foreign
            ),
        ]
        config: dict[str, Any] = {**defaults.config, **run.config}
        for number in reversed(range(len(self.layers))):
            layer, path = self.layers[number], f"{self.name}.configured"
            own: Any = layer.config
            if layer.function is not None:
                path = f"{path}({getattr(layer.function, '__name__', 'function')})"
                if problems.found:  # what it would be given is wrong: what it made of that would only confuse
                    break
                try:
                    own = layer.function(dict(config)) if layer.takes_config else layer.function()
                except Exception as error:  # noqa: BLE001  (the user's function may raise anything)
                    given_to_it = f"; it was given {config!r}" if layer.takes_config else ""
                    problems.add(path, f"the function raised {type(error).__name__}: {error}{given_to_it}")
                    break
                config = {key: value for key, value in config.items() if key in SETTINGS}
            config = {**(own if isinstance(own, Mapping) else {}), **config}
            given.append(
                check_executor_config(own, path, self.kind, problems, foreign=_foreign_keys(self.layers[:number]))
            )
        fields: dict[str, Any] = {}
        for item in reversed(given):
            fields |= item
        return ExecutorSettings(**{**fields, "in_process": kind == "in_process"})


def _foreign_keys(layers: Collection[_Layer]) -> Collection[str] | None:
    """Keys of a config that belong to the functions in these layers; None where a function may take any."""
    keys: set[str] = set()
    for layer in layers:
        if layer.takes_config:
            if layer.keys is None:
                return None
            keys.update(layer.keys)
    return keys


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
