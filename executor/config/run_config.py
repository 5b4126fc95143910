"""A run config's sections: where the executor's part stands in it, and what stands in the wrong place.

Right are ``execution.config.{…}`` and ``execution.config.multiprocess.{…}``, whatever the executor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from executor.config.check import KINDS, SETTINGS, ExecutorKind, Problems
from executor.errors import did_you_mean

#: Sections that Dagster has and this version does not, with what they would set.
LATER_SECTIONS = {
    "ops": "config of ops",
    "resources": "resources",
    "loggers": "loggers",
    "inputs": "inputs from config",
}


class ExecutorPart(NamedTuple):
    """The executor's part of a run config: not yet checked."""

    kind: ExecutorKind | None  #: the executor that it names; None: it names none
    config: Mapping[str, Any]
    path: str  #: where it stands, for messages


NO_PART = ExecutorPart(None, {}, "execution.config")


def executor_part(run_config: object, problems: Problems, path: str = "") -> ExecutorPart:
    """The executor's part of ``run_config``, empty where it has none. ``path`` goes before every problem's path."""
    if run_config is None:
        return NO_PART
    if not isinstance(run_config, Mapping):
        example = "{'execution': {'config': {'max_concurrent': 4}}}"
        problems.add(path, f"{run_config!r} is not a dict; a run config looks like {example}")
        return NO_PART
    execution = run_config.get("execution")
    misplaced = {key: value for key, value in run_config.items() if _is_executors(key)}
    for key, value in run_config.items():
        if key in LATER_SECTIONS:
            if value:
                problems.add(_join(path, key), f"this version has no {LATER_SECTIONS[key]}; leave this section out")
        elif key != "execution" and key not in misplaced:
            problems.add(path, f"unknown section {key!r}{did_you_mean(str(key), ['execution', *LATER_SECTIONS])}")
    where = _join(path, "execution")
    if execution is None:
        part: object = None
    elif not isinstance(execution, Mapping):
        problems.add(where, f"{execution!r} is not a dict; it looks like {{'config': {{'max_concurrent': 4}}}}")
        part = None
    else:
        part = execution.get("config")
        for key, value in execution.items():
            if _is_executors(key):
                misplaced[f"execution.{key}"] = value
            elif key != "config":
                problems.add(where, f"unknown key {key!r}{did_you_mean(str(key), ['config'])}")
    if misplaced:
        problems.add(path, _right_place(misplaced, part if isinstance(part, Mapping) else {}))
    return unwrapped(part, f"{where}.config", problems)


def unwrapped(config: object, path: str, problems: Problems) -> ExecutorPart:
    """An executor's config without the executor's name around it, where it has one."""
    if config is None:
        return NO_PART
    if not isinstance(config, Mapping):
        problems.add(path, f"{config!r} is not a dict; it looks like {{'max_concurrent': 4}}")
        return NO_PART
    named = [kind for kind in KINDS if kind in config]
    if not named:
        return ExecutorPart(None, config, path)
    if len(config) > 1:
        others = ", ".join(repr(key) for key in config if key != named[0])
        problems.add(path, f"{others} beside {named[0]!r}; put settings inside {named[0]!r}, and name one executor")
        return NO_PART
    kind = named[0]
    inner = config[kind]
    if inner is not None and not isinstance(inner, Mapping):
        problems.add(f"{path}.{kind}", f"{inner!r} is not a dict; it looks like {{'max_concurrent': 4}}")
        inner = None
    if inner and set(inner) == {"config"}:  # as Dagster's run configs once were
        inner = inner["config"]
        problems.add(f"{path}.{kind}", _right_place({f"{kind}.config": inner}, {}))
        return NO_PART
    return ExecutorPart(kind, inner or {}, f"{path}.{kind}")


def _is_executors(key: object) -> bool:
    return key in SETTINGS or key in KINDS


def _right_place(misplaced: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """A sentence on settings that are not read where they stand, and the lines to write instead."""
    settings: dict[str, Any] = dict(there)
    for key, value in misplaced.items():
        name = key.rpartition(".")[2]
        if name in SETTINGS:
            settings[name] = value
        else:  # a whole executor: {"multiprocess": {...}}, once also with another {"config": ...} around
            inner = value.get("config", value) if isinstance(value, Mapping) else {}
            settings |= inner if isinstance(inner, Mapping) else {}
    said = " and ".join(repr(key) for key in misplaced)
    lines = ["{", '    "execution": {', '        "config": {']
    lines += [f'            "{name}": {value!r},' for name, value in settings.items() if name not in KINDS]
    lines += ["        },", "    },", "}"]
    verb = "is" if len(misplaced) == 1 else "are"
    return f"{said} {verb} not read there; settings of the executor stand under execution.config. Write:\n" + "\n".join(
        lines
    )


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
