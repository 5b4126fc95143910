"""The settings of an executor, read from a dict; every mistake is found at once, each with its path.

Plain Python and nothing else, because it runs while the user's code is imported. A setting is one row of ``SETTINGS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from executor.config.settings import ExecutorSettings, StartMethod, TagLimit
from executor.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: The two executors, as they are named in ``execution.config.<name>``.
ExecutorKind = Literal["multiprocess", "in_process"]
KINDS: tuple[ExecutorKind, ...] = get_args(ExecutorKind)

#: Settings in checked form: names of fields of ``ExecutorSettings``, and their values.
Fields = dict[str, Any]

PER_UNIQUE_VALUE = ("applyLimitPerUniqueValue", "apply_limit_per_unique_value")


class Problems:
    """The mistakes found so far, each with the path where it stands."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, text: str) -> None:
        """Keep one mistake at ``path``; an empty path is the top of what is checked."""
        self.found.append(f"{path}: {text}" if path else text)

    def raise_if_any(self, kind: type[ConfigError] = ConfigError) -> None:
        """Raises them all at once as one error of that kind, where there are any."""
        if self.found:
            raise kind(self.found)


def executor_settings(config: Mapping[str, Any] | None, kind: ExecutorKind = "multiprocess") -> ExecutorSettings:
    """The settings that an executor's own config (``{"max_concurrent": 4}``) stands for.

    Raises:
        ConfigError: it has mistakes; ``problems`` has one sentence for each.
    """
    problems = Problems()
    fields = check_executor_config(config, "", kind, problems)
    problems.raise_if_any()
    return ExecutorSettings(**{"in_process": kind == "in_process", **fields})


def check_executor_config(
    config: object, path: str, kind: ExecutorKind, problems: Problems, *, foreign: Collection[str] | None = ()
) -> Fields:
    """The checked settings of the keys that ``config`` has, and of no others, so that one layer can lie over another.

    ``foreign`` are keys that belong to a function of the user's (None: any); they are passed over.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        problems.add(path, f"{config!r} is not a dict; give the settings by name, such as {{'max_concurrent': 4}}")
        return {}
    fields: Fields = {}
    for key, value in config.items():
        check = SETTINGS.get(key)
        where = f"{path}.{key}" if path else str(key)
        if check is None:
            if foreign is not None and key not in foreign:
                problems.add(path, f"unknown key {key!r}{did_you_mean(str(key), [*SETTINGS, *foreign])}")
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


def _max_concurrent(value: object, path: str, problems: Problems) -> Fields:
    if value is None:
        return {"max_concurrent": None}
    number = _whole_number(value, path, problems, least=0, unit="steps at once, or null for the number of CPUs")
    return {} if number is None else {"max_concurrent": number or None}


def _tag_limits(value: object, path: str, problems: Problems) -> Fields:
    if value is None:
        return {"tag_concurrency_limits": ()}
    if not isinstance(value, list | tuple):
        problems.add(path, f"{value!r} is not a list; give a list such as [{{'key': 'database', 'limit': 1}}]")
        return {}
    limits: list[TagLimit] = []
    first_at: dict[tuple[str, str | None, bool], int] = {}
    for number, item in enumerate(value):
        where = f"{path}[{number}]"
        limit = _tag_limit(item, where, problems)
        if limit is None:
            continue
        form = (limit.key, limit.value, limit.per_unique_value)
        if form in first_at:
            problems.add(where, f"limits {limit} a second time, after [{first_at[form]}]; keep one of the two")
        first_at.setdefault(form, number)
        limits.append(limit)
    return {"tag_concurrency_limits": tuple(limits)}


def _tag_limit(item: object, path: str, problems: Problems) -> TagLimit | None:
    if not isinstance(item, Mapping):
        problems.add(
            path, f"{item!r} is not a dict; a limit looks like {{'key': 'database', 'value': 'warehouse', 'limit': 1}}"
        )
        return None
    known, before = ("key", "value", "limit"), len(problems.found)
    for name in item:
        if name not in known:
            problems.add(
                path, f"unknown key {name!r}{did_you_mean(str(name), known)} (a limit has key, value and limit)"
            )
    key = item.get("key")
    if not isinstance(key, str) or not key:
        said = "has no key" if key is None else f"key {key!r} is not text"
        problems.add(path, f"{said}; write the tag that it limits, such as 'key': {str(key or 'database')!r}")
    limit = None
    if item.get("limit") is None:
        problems.add(path, "has no limit; write how many steps may run at once, 1 or more: 'limit': 1")
    else:
        limit = _whole_number(item["limit"], f"{path}.limit", problems, least=1, unit="steps at once")
    value, per_unique_value = _tag_value(item.get("value"), f"{path}.value", problems)
    if len(problems.found) > before or not isinstance(key, str) or limit is None:
        return None
    return TagLimit(key=key, limit=limit, value=value, per_unique_value=per_unique_value)


def _tag_value(value: object, path: str, problems: Problems) -> tuple[str | None, bool]:
    """The value that a limit counts, and whether it counts each value by itself."""
    if value is None or isinstance(value, str):
        return value, False
    if isinstance(value, Mapping):
        if len(value) == 1:
            name, wanted = next(iter(value.items()))
            if name in PER_UNIQUE_VALUE and isinstance(wanted, bool):
                return None, wanted
            if name not in PER_UNIQUE_VALUE:
                hint = did_you_mean(str(name), PER_UNIQUE_VALUE)
                problems.add(path, f"unknown key {name!r}; write {{'applyLimitPerUniqueValue': True}}, or a text{hint}")
                return None, False
        problems.add(path, f"{value!r} is neither text nor {{'applyLimitPerUniqueValue': True}}; write one of them")
        return None, False
    import json

    try:
        quoted = json.dumps(json.dumps(value))
    except (TypeError, ValueError):
        quoted = '"…"'
    problems.add(path, f"{value!r} is not text, and tags are; write it with quotes: {quoted}")
    return None, False


def _start_method(value: object, path: str, problems: Problems) -> Fields:
    """A name, or Dagster's form: a dict with the name as its one key and that method's settings as the value."""
    name, inner = value, None
    if isinstance(value, Mapping):
        if len(value) != 1:
            problems.add(path, f"{value!r} must have one key: the method, such as {{'forkserver': {{}}}}")
            return {}
        name, inner = next(iter(value.items()))
    choices = get_args(StartMethod)
    if not isinstance(name, str) or name not in choices:
        problems.add(
            path, f"unknown method {name!r}; use one of {', '.join(choices)}{did_you_mean(str(name), choices)}"
        )
        return {}
    fields: Fields = {"start_method": name}
    for key, item in inner.items() if isinstance(inner, Mapping) else ():
        if key != "preload_modules" or name != "forkserver":
            hint = did_you_mean(str(key), ["preload_modules"]) if name == "forkserver" else ""
            problems.add(f"{path}.{name}", f"unknown key {key!r}{hint}")
        elif item is not None:
            fields |= _preload_modules(item, f"{path}.{name}.preload_modules", problems)
    if inner is not None and not isinstance(inner, Mapping):
        problems.add(f"{path}.{name}", f"{inner!r} is not a dict; write {{}}")
    return fields


def _preload_modules(value: object, path: str, problems: Problems) -> Fields:
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        return {"preload_modules": tuple(value)}
    problems.add(path, f"{value!r} is not a list of module names; write one such as ['numpy', 'my_package.ops']")
    return {}


def _retries(value: object, path: str, problems: Problems) -> Fields:
    """``enabled`` or ``disabled``, as a name or in Dagster's form, a dict with it as the one key."""
    name = value
    if isinstance(value, Mapping):
        name = next(iter(value)) if len(value) == 1 and not next(iter(value.values())) else None
    if name is None or name not in ("enabled", "disabled"):
        problems.add(path, f"{value!r} is neither {{'enabled': {{}}}} nor {{'disabled': {{}}}}; write one of them")
        return {}
    return {"retries": name == "enabled"}


def _steps_per_worker(value: object, path: str, problems: Problems) -> Fields:
    if value == "unlimited":
        return {"steps_per_worker": None}
    if isinstance(value, str) and not value.isdigit():
        problems.add(path, f"{value!r} is neither a whole number nor 'unlimited'{did_you_mean(value, ['unlimited'])}")
        return {}
    number = _whole_number(value, path, problems, least=1, unit="attempts before a worker is replaced, or 'unlimited'")
    return {} if number is None else {"steps_per_worker": number}


def _stop_grace(value: object, path: str, problems: Problems) -> Fields:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return {"stop_grace_s": float(value)}
    problems.add(
        path, f"{value!r} is not a number of seconds, 0 or more; it is the time from SIGTERM to SIGKILL, usually 5.0"
    )
    return {}


def _pdb(value: object, path: str, problems: Problems) -> Fields:
    if isinstance(value, bool):
        return {"pdb": value}
    problems.add(path, f"{value!r} is neither true nor false; with true, a step that fails enters the debugger")
    return {}


def _stack_signal(value: object, path: str, problems: Problems) -> Fields:
    if isinstance(value, bool):
        return {"stack_signal": value}
    problems.add(path, f"{value!r} is neither true nor false; with false, `executor stack` cannot ask a running step")
    return {}


def _step_dependency(value: object, path: str, problems: Problems) -> Fields:
    if value not in (None, {}, {"require_upstream_step_success": True}):
        problems.add(
            path,
            "a step starts when all steps that it reads from have succeeded; no other rule is there yet; leave it out",
        )
    return {}


def _whole_number(value: object, path: str, problems: Problems, *, least: int, unit: str) -> int | None:
    """``value`` where it is a whole number from ``least``, else None and a problem."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    if isinstance(value, str) and value.strip().isdigit():
        hint = f"write it without quotes: {int(value)}"
    else:
        hint = f"write a whole number of {unit}, {least} or more"
    problems.add(path, f"{value!r} is not {'allowed' if type(value) is int else 'a whole number'}; {hint}")
    return None


#: Every key that an executor's config may have, and what checks its value.
SETTINGS: Mapping[str, Callable[[object, str, Problems], Fields]] = {
    "max_concurrent": _max_concurrent,
    "tag_concurrency_limits": _tag_limits,
    "start_method": _start_method,
    "retries": _retries,
    "steps_per_worker": _steps_per_worker,
    "stop_grace_s": _stop_grace,
    "pdb": _pdb,
    "stack_signal": _stack_signal,
    "step_dependency_config": _step_dependency,
}

#: Those of them that mean something where one process does all.
IN_PROCESS_SETTINGS = frozenset({"pdb", "retries", "stack_signal", "step_dependency_config"})

#: Those that mean something only there.
ONLY_IN_PROCESS_SETTINGS = frozenset({"pdb"})
