"""A run config's sections: where each part stands in it, and what stands in the wrong place.

Right for the executor are ``execution.config.{…}`` and ``execution.config.multiprocess.{…}``, whatever the executor.
Config of ops and assets is under ``ops``, tags of the run under ``tags``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.config.check import KINDS, SETTINGS, ExecutorKind
from executor.config.problems import Problems, nearest, python_lines, quoted, yaml_lines
from executor.config.secrets import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.config.layers import Layer, Path

#: Sections that are read.
READ = ("execution", "ops", "tags")

#: Sections that Dagster has and this version does not, with what they would set.
LATER_SECTIONS = {"resources": "resources", "loggers": "loggers", "inputs": "inputs from config"}

#: What all runs share, and where it stands in ``executor.yaml``; as people look for it in the config of one run.
SHARED: Mapping[str, Path] = {
    "concurrency": (),
    "pools": ("concurrency",),
    "runs": ("concurrency",),
    "run_queue": (),
    "max_concurrent_runs": ("concurrency", "runs"),
    "default_limit": ("concurrency", "pools"),
    "granularity": ("concurrency", "pools"),
    "default_op_concurrency_limit": ("concurrency",),
    "concurrency_group": ("concurrency",),
    "max_runs": ("concurrency",),
    "run_tag_limits": ("concurrency",),
    "storage": (),
    "run_launcher": (),
    "run_coordinator": (),
    "run_monitoring": (),
}

#: What is said of an op or asset in its decorator, not in the config of a run.
IN_CODE = frozenset(
    {"pool", "pool_slots", "priority", "timeout", "retry_policy", "op_tags", "deps", "ins", "out", "description"}
)

#: Earlier names of sections.
OLDER = {"solids": "ops", "assets": "ops", "run_tags": "tags", "executor": "execution"}


class ExecutorPart(NamedTuple):
    """The executor's part of a run config: not yet checked."""

    kind: ExecutorKind | None  #: the executor that it names; None: it names none
    config: Mapping[str, Any]
    path: Path  #: where it stands
    layer: Layer | None = None  #: what it is a part of


class Sections(NamedTuple):
    """The parts of one run config: where they stand is right, and what they say is not yet checked."""

    executor: ExecutorPart
    ops: Mapping[str, Any]  #: by name, as it stands there
    tags: Mapping[str, Any]


NO_PART = ExecutorPart(None, {}, ("execution", "config"))


def sections(
    layer: Layer, problems: Problems, path: Path = (), *, is_op: Callable[[str], bool] | None = None
) -> Sections:
    """The sections of a run config, each empty where it has none.

    ``path`` goes before every problem's path. ``is_op``: whether the job has an op or asset of that name.
    """
    problems = problems.of(layer)
    config = layer.data
    if config is None:
        return Sections(NO_PART, {}, {})
    if not isinstance(config, Mapping):
        example = problems.literal({"execution": {"config": {"max_concurrent": 4}}})
        problems.add(path, f"{problems.shown(path, config)} is not a dict; a run config looks like {example}")
        return Sections(NO_PART, {}, {})
    misplaced = {(*path, key): value for key, value in config.items() if _is_executors(key)}
    for key, value in config.items():
        if key not in READ and not _is_executors(key):
            _wrong_section((*path, key), value, problems, misplaced, is_op)
    ops = _section(config, "ops", {"load": {"config": {"rows": 3}}}, problems, path)
    tags = _section(config, "tags", {"team": "data"}, problems, path)
    executor = _execution(config.get("execution"), misplaced, problems, path)
    return Sections(executor._replace(layer=layer), ops, tags)


def _section(
    config: Mapping[str, Any], name: str, example: Mapping[str, Any], problems: Problems, path: Path
) -> Mapping[str, Any]:
    found = config.get(name)
    if found is None or isinstance(found, Mapping):
        return found or {}
    where = (*path, name)
    problems.add(
        where, f"{problems.shown(where, found)} is not a dict; it looks like {problems.literal(example, where)}"
    )
    return {}


def _execution(execution: object, misplaced: dict[Path, Any], problems: Problems, path: Path) -> ExecutorPart:
    """The executor's part; what stands beside it joins what is ``misplaced``, and that is told with the right lines."""
    where = (*path, "execution")
    part: object = None
    if isinstance(execution, Mapping):
        part = execution.get("config")
        for key, value in execution.items():
            if _is_executors(key):
                misplaced[*where, key] = value
            elif key != "config":
                problems.unknown((*where, key), ["config", *KINDS])
    elif execution is not None:
        example = problems.literal({"config": {"max_concurrent": 4}}, where)
        problems.add(where, f"{problems.shown(where, execution)} is not a dict; it looks like {example}")
    if misplaced:
        _right_place(misplaced, part if isinstance(part, Mapping) else {}, problems, path)
    return unwrapped(part, (*where, "config"), problems)


def unwrapped(config: object, path: Path, problems: Problems) -> ExecutorPart:
    """An executor's config without the executor's name around it, where it has one."""
    if config is None:
        return NO_PART
    if not isinstance(config, Mapping):
        _not_settings(config, path, problems)
        return NO_PART
    named = [kind for kind in KINDS if kind in config]
    if not named:
        if path[-1:] == ("config",) and set(config) == {"config"}:
            _right_place({(*path, "config"): config["config"]}, {}, problems, path[:-2])
            return NO_PART
        misspelled = [key for key, value in config.items() if key not in SETTINGS and _is_near_a_kind(key, value)]
        for key in misspelled:
            problems.unknown((*path, key), KINDS)
        return ExecutorPart(None, {key: value for key, value in config.items() if key not in misspelled}, path)
    kind = named[0]
    if len(config) > 1:
        others = [key for key in config if key != kind]
        said = ", ".join(map(quoted, others))
        problems.add_key(
            (*path, others[0]),
            f"{said} beside {quoted(kind)}",
            f"; put settings inside {quoted(kind)}, and name one executor",
        )
        return NO_PART
    inner, where = config[kind], (*path, kind)
    if inner is not None and not isinstance(inner, Mapping):
        _not_settings(inner, where, problems)
        inner = None
    if inner and set(inner) == {"config"}:  # as Dagster's run configs once were
        _right_place({(*where, "config"): inner["config"]}, {}, problems, path[:-2], around=where)
        return NO_PART
    return ExecutorPart(kind, inner or {}, where)


def _is_near_a_kind(key: object, value: object) -> bool:
    """Whether a key seems to be meant for the name of an executor, around its settings."""
    return isinstance(value, Mapping) and nearest(str(key), KINDS) != ""


def _not_settings(value: object, path: Path, problems: Problems) -> None:
    example = problems.literal({"max_concurrent": 4}, path)
    problems.add(path, f"{problems.shown(path, value)} is not a dict; it looks like {example}")


def _is_executors(key: object) -> bool:
    return key in SETTINGS or key in KINDS


def _wrong_section(
    path: Path, value: Any, problems: Problems, misplaced: dict[Path, Any], is_op: Callable[[str], bool] | None
) -> None:
    """Say what is wrong with a section that is not read."""
    name = str(path[-1])
    if name in LATER_SECTIONS:
        if value:
            problems.add_key(path, f"this version has no {LATER_SECTIONS[name]}", "; leave this section out")
    elif name == "config" and isinstance(value, Mapping) and any(map(_is_executors, value)):
        misplaced[path] = value
    elif is_op is not None and is_op(name):
        lines = written({"ops": {name: value if _has_config(value) else {"config": value}}}, problems, path)
        problems.add_key(
            path, f"{quoted(name)} is not read there", f"; config of ops stands under ops. Write:\n{lines}"
        )
    elif name in OLDER:
        lines = written({OLDER[name]: value}, problems, path)
        problems.add_key(path, f"{quoted(name)} is not read there", f"; here it is {OLDER[name]}. Write:\n{lines}")
    elif name in SHARED:
        inside: Any = {name: value}
        for part in reversed(SHARED[name]):
            inside = {part: inside}
        lines = "\n".join(yaml_lines(masked(inside)))
        problems.add_key(
            path,
            f"{quoted(name)} is not read there",
            f"; what all runs share stands in executor.yaml of the home folder. Write there:\n{lines}",
        )
    elif name in IN_CODE:
        problems.add_key(
            path,
            f"{quoted(name)} is not read there",
            f"; it is said in the code: @op({name}=...) or @asset({name}=...)",
        )
    else:
        problems.unknown(path, [*READ, *LATER_SECTIONS], what="section")


def _has_config(value: object) -> bool:
    return isinstance(value, Mapping) and "config" in value


def _right_place(
    misplaced: Mapping[Path, Any],
    there: Mapping[str, Any],
    problems: Problems,
    root: Path,
    *,
    around: Path = (),
) -> None:
    """Tell of settings that are not read where they stand, with the lines to write instead."""
    settings: dict[str, Any] = dict(there)
    for path, value in misplaced.items():
        name = str(path[-1])
        if name in SETTINGS:
            settings[name] = value
        else:  # a whole executor: {"multiprocess": {...}}, once also with another {"config": ...} around
            inner = value.get("config", value) if isinstance(value, Mapping) else {}
            for kind in KINDS:
                inner = inner.get(kind, inner) if isinstance(inner, Mapping) else inner
            settings |= inner if isinstance(inner, Mapping) else {}
    start = len(around) - 1 if around else len(root)
    said = " and ".join(quoted(".".join(map(str, path[start:]))) for path in misplaced)
    settings = {name: value for name, value in settings.items() if name not in KINDS}
    first = next(iter(misplaced))
    lines = written({"execution": {"config": settings}}, problems, first)
    verb = "is" if len(misplaced) == 1 else "are"
    text = f"{said} {verb} not read there; the executor's settings stand under execution.config. Write:\n{lines}"
    if problems.in_yaml(first):
        problems.add_at(first, text)
    else:
        problems.add(around or root, text)


def written(config: Mapping[str, Any], problems: Problems, path: Path) -> str:
    """A config as lines to paste: YAML into a file, Python otherwise."""
    shown = masked(config)
    return "\n".join(yaml_lines(shown) if problems.in_yaml(path) else python_lines(shown))
