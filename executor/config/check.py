"""The settings of an executor, read from a dict; every mistake is found at once, each with its path.

Plain Python and nothing else, because it runs while the user's code is imported. A setting is one row of ``SETTINGS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from executor.config.machine import MOST_PROCESSES
from executor.config.problems import Problems, json_text, nearest, quoted
from executor.config.secrets import SecretText
from executor.config.settings import ExecutorSettings, StartMethod, TagLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from executor.config.layers import Path

#: The two executors, as they are named in ``execution.config.<name>``.
ExecutorKind = Literal["multiprocess", "in_process"]
KINDS: tuple[ExecutorKind, ...] = get_args(ExecutorKind)

#: Settings in checked form: names of fields of ``ExecutorSettings``, and their values.
Fields = dict[str, Any]

PER_UNIQUE_VALUE = ("applyLimitPerUniqueValue", "apply_limit_per_unique_value")


def settings_config(settings: ExecutorSettings) -> dict[str, Any]:
    """The config that these settings stand for: the other way round, every key written out."""
    if settings.in_process:
        return {"retries": _retries_config(settings), "pdb": settings.pdb, "stack_signal": settings.stack_signal}
    limits: list[dict[str, Any]] = []
    for limit in settings.tag_concurrency_limits:
        one: dict[str, Any] = {"key": limit.key, "limit": limit.limit}
        if limit.value is not None:
            one["value"] = limit.value
        elif limit.per_unique_value:
            one["value"] = {PER_UNIQUE_VALUE[0]: True}
        limits.append(one)
    method: Any = settings.start_method
    if settings.preload_modules:
        method = {settings.start_method: {"preload_modules": list(settings.preload_modules)}}
    return {
        "max_concurrent": settings.max_concurrent,
        "tag_concurrency_limits": limits,
        "start_method": method,
        "retries": _retries_config(settings),
        "steps_per_worker": "unlimited" if settings.steps_per_worker is None else settings.steps_per_worker,
        "stop_grace_s": settings.stop_grace_s,
        "stack_signal": settings.stack_signal,
    }


def _retries_config(settings: ExecutorSettings) -> dict[str, Any]:
    return {"enabled": {}} if settings.retries else {"disabled": {}}


def check_executor_config(
    config: object, path: Path, kind: ExecutorKind, problems: Problems, *, foreign: Collection[str] | None = ()
) -> Fields:
    """The checked settings of the keys that ``config`` has, and of no others, so that one layer can lie over another.

    ``foreign`` are keys that belong to a function of the user's (None: any); they are passed over.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        example = problems.literal({"max_concurrent": 4}, path)
        problems.add(
            path, f"{problems.shown(path, config)} is not a dict; give the settings by name, such as {example}"
        )
        return {}
    fields: Fields = {}
    for key, value in config.items():
        check = SETTINGS.get(key)
        where = (*path, key)
        if check is None:
            if foreign is not None and key not in foreign:
                problems.unknown(where, [*SETTINGS, *foreign])
        elif kind == "in_process" and key not in IN_PROCESS_SETTINGS:
            problems.add(
                where, "the in-process executor runs one step at a time; leave it out, or use multiprocess_executor"
            )
        elif kind != "in_process" and key in ONLY_IN_PROCESS_SETTINGS:
            problems.add(
                where, "a step in a worker process has no terminal; use the in-process executor (--in-process)"
            )
        else:
            fields |= check(value, where, problems)
    return fields


# --- one function per setting: the fields it stands for; what is wrong goes to the problems ---------------------------


def _max_concurrent(value: object, path: Path, problems: Problems) -> Fields:
    if value is None:
        return {"max_concurrent": None}
    number = _whole_number(value, path, problems, least=0, unit="steps at once, or null for the number of CPUs")
    if number is not None and number > MOST_PROCESSES:
        said = f"{problems.shown(path, value)} is more steps at once than any Linux has processes ({MOST_PROCESSES})"
        problems.add(path, f"{said}; write a smaller number, or null for the number of CPUs")
        return {}
    return {} if number is None else {"max_concurrent": number or None}


def _tag_limits(value: object, path: Path, problems: Problems) -> Fields:
    if value is None:
        return {"tag_concurrency_limits": ()}
    if not isinstance(value, list | tuple):
        example = problems.literal([{"key": "database", "limit": 1}], path)
        problems.add(path, f"{problems.shown(path, value)} is not a list; give a list such as {example}")
        return {}
    limits: list[TagLimit] = []
    first_at: dict[tuple[str, str | None, bool], int] = {}
    for number, item in enumerate(value):
        where = (*path, number)
        limit = _tag_limit(item, where, problems)
        if limit is None:
            continue
        form = (limit.key, limit.value, limit.per_unique_value)
        if form in first_at:
            problems.add(where, f"limits {limit} a second time, after [{first_at[form]}]; keep one of the two")
        first_at.setdefault(form, number)
        limits.append(limit)
    return {"tag_concurrency_limits": tuple(limits)}


def _tag_limit(item: object, path: Path, problems: Problems) -> TagLimit | None:
    if not isinstance(item, Mapping):
        example = problems.literal({"key": "database", "value": "warehouse", "limit": 1}, path)
        problems.add(path, f"{problems.shown(path, item)} is not a dict; a limit looks like {example}")
        return None
    known, before = ("key", "value", "limit"), problems.count
    for name in item:
        if name not in known:
            problems.unknown((*path, name), known, end=" (a limit has key, value and limit)")
    key = item.get("key")
    if not isinstance(key, str) or not key:
        said = "has no key" if key is None else f"key {problems.shown((*path, 'key'), key)} is not text"
        problems.add(
            path, f"{said}; write the tag that it limits, such as {_pair(problems, path, str(key or 'database'))}"
        )
    limit = None
    if item.get("limit") is None:
        example = "limit: 1" if problems.in_yaml(path) else "'limit': 1"
        problems.add(path, f"has no limit; write how many steps may run at once, 1 or more: {example}")
    else:
        limit = _whole_number(item["limit"], (*path, "limit"), problems, least=1, unit="steps at once")
    value, per_unique_value = _tag_value(item.get("value"), (*path, "value"), problems)
    if problems.count > before or not isinstance(key, str) or limit is None:
        return None
    return TagLimit(key=str(key), limit=limit, value=value, per_unique_value=per_unique_value)


def _pair(problems: Problems, path: Path, key: str) -> str:
    """``key: database``, as it is written there."""
    return f"key: {problems.literal(key, path)}" if problems.in_yaml(path) else f"'key': {key!r}"


def _tag_value(value: object, path: Path, problems: Problems) -> tuple[str | None, bool]:
    """The value that a limit counts, and whether it counts each value by itself."""
    if value is None or isinstance(value, str):
        return value if value is None else str(value), False
    if isinstance(value, Mapping):
        example = problems.literal({"applyLimitPerUniqueValue": True}, path)
        if len(value) == 1:
            name, wanted = next(iter(value.items()))
            if name in PER_UNIQUE_VALUE and isinstance(wanted, bool):
                return None, wanted
            if name not in PER_UNIQUE_VALUE:
                hint = nearest(name, PER_UNIQUE_VALUE)
                problems.add(path, f"unknown key {quoted(name)}; write {example}, or a text{hint}")
                return None, False
        problems.add(path, f"{problems.shown(path, value)} is neither text nor {example}; write one of them")
        return None, False
    text = json_text(value)
    as_text = json_text(text) if text != '"…"' else text
    problems.add(path, f"{problems.shown(path, value)} is not text, and tags are; write it with quotes: {as_text}")
    return None, False


def _start_method(value: object, path: Path, problems: Problems) -> Fields:
    """A name, or Dagster's form: a dict with the name as its one key and that method's settings as the value."""
    name, inner = value, None
    if isinstance(value, Mapping):
        if len(value) != 1:
            example = problems.literal({"forkserver": {}}, path)
            problems.add(path, f"{problems.shown(path, value)} must have one key: the method, such as {example}")
            return {}
        name, inner = next(iter(value.items()))
    choices = get_args(StartMethod)
    if not isinstance(name, str) or name not in choices:
        said = problems.shown(path, name) if name is value else quoted(name)
        problems.add(path, f"unknown method {said}; use one of {', '.join(choices)}{nearest(name, choices)}")
        return {}
    fields: Fields = {"start_method": str(name)}
    where = (*path, name)
    for key, item in inner.items() if isinstance(inner, Mapping) else ():
        if key != "preload_modules" or name != "forkserver":
            problems.unknown((*where, key), ["preload_modules"] if name == "forkserver" else [])
        elif item is not None:
            fields |= _preload_modules(item, (*where, "preload_modules"), problems)
    if inner is not None and not isinstance(inner, Mapping):
        problems.add(where, f"{problems.shown(where, inner)} is not a dict; write {{}}")
    return fields


def _preload_modules(value: object, path: Path, problems: Problems) -> Fields:
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        return {"preload_modules": tuple(map(str, value))}
    example = problems.literal(["numpy", "my_package.ops"], path)
    problems.add(path, f"{problems.shown(path, value)} is not a list of module names; write one such as {example}")
    return {}


def _retries(value: object, path: Path, problems: Problems) -> Fields:
    """``enabled`` or ``disabled``, as a name or in Dagster's form, a dict with it as the one key."""
    name = value
    if isinstance(value, Mapping):
        name = next(iter(value)) if len(value) == 1 and not next(iter(value.values())) else None
    if name is None or name not in ("enabled", "disabled"):
        on, off = problems.literal({"enabled": {}}, path), problems.literal({"disabled": {}}, path)
        problems.add(path, f"{problems.shown(path, value)} is neither {on} nor {off}; write one of them")
        return {}
    return {"retries": name == "enabled"}


def _steps_per_worker(value: object, path: Path, problems: Problems) -> Fields:
    if value == "unlimited":
        return {"steps_per_worker": None}
    if isinstance(value, str) and not _digits(value):
        said = f"{problems.shown(path, value)} is neither a whole number nor 'unlimited'"
        problems.add(path, f"{said}{nearest(value, ['unlimited'])}")
        return {}
    number = _whole_number(value, path, problems, least=1, unit="attempts before a worker is replaced, or 'unlimited'")
    return {} if number is None else {"steps_per_worker": number}


def _stop_grace(value: object, path: Path, problems: Problems) -> Fields:
    if isinstance(value, SecretText):
        value = as_number(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return {"stop_grace_s": float(value)}
    problems.add(
        path,
        f"{problems.shown(path, value)} is not a number of seconds, 0 or more; "
        "it is the time from SIGTERM to SIGKILL, usually 5.0",
    )
    return {}


def _flag(name: str, meaning: str) -> Callable[[object, Path, Problems], Fields]:
    """The check of a setting that is true or false."""

    def check(value: object, path: Path, problems: Problems) -> Fields:
        if isinstance(value, bool):
            return {name: value}
        problems.add(path, f"{problems.shown(path, value)} is neither true nor false; {meaning}")
        return {}

    return check


def _step_dependency(value: object, path: Path, problems: Problems) -> Fields:
    if value not in (None, {}, {"require_upstream_step_success": True}):
        problems.add(
            path,
            "a step starts when all steps that it reads from have succeeded; no other rule is there yet; leave it out",
        )
    return {}


def _whole_number(value: object, path: Path, problems: Problems, *, least: int, unit: str) -> int | None:
    """``value`` where it is a whole number from ``least``, else None and a problem."""
    if isinstance(value, SecretText):  # text, as every variable is
        value = as_number(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    if isinstance(value, str) and not isinstance(value, SecretText) and _digits(value.strip()):
        hint = f"write it without quotes: {value.strip()}"
    else:
        hint = f"write a whole number of {unit}, {least} or more"
    said = "allowed" if type(value) is int else "a whole number"
    problems.add(path, f"{problems.shown(path, value)} is not {said}; {hint}")
    return None


def _digits(text: str) -> bool:
    """Whether a text is a number; ``str.isdigit`` alone takes more than digits, such as ``²``."""
    return text.isascii() and text.isdigit()


def as_number(text: str) -> int | float | str:
    """The number that a text stands for, or the text itself, as it was."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


#: Every key that an executor's config may have, and what checks its value.
SETTINGS: Mapping[str, Callable[[object, Path, Problems], Fields]] = {
    "max_concurrent": _max_concurrent,
    "tag_concurrency_limits": _tag_limits,
    "start_method": _start_method,
    "retries": _retries,
    "steps_per_worker": _steps_per_worker,
    "stop_grace_s": _stop_grace,
    "pdb": _flag("pdb", "with true, a step that fails enters the debugger"),
    "stack_signal": _flag("stack_signal", "with false, `executor stack` cannot ask a running step"),
    "step_dependency_config": _step_dependency,
}

#: Those of them that mean something where one process does all.
IN_PROCESS_SETTINGS = frozenset({"pdb", "retries", "stack_signal", "step_dependency_config"})

#: Those that mean something only there.
ONLY_IN_PROCESS_SETTINGS = frozenset({"pdb"})
