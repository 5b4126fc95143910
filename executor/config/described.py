"""What each setting of an executor is: for documents, for ``config show``, and for JSON Schema.

The checks themselves are in ``check.py``, and are loaded with every program; this is loaded where it is shown.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from executor.config.machine import MAX_CONCURRENT_VARIABLE, MOST_PROCESSES
from executor.config.settings import StartMethod


class Described(NamedTuple):
    """One setting, in words and as JSON Schema."""

    type: str
    default: str
    meaning: str
    schema: dict[str, Any]


_NOTHING = {"type": ["object", "null"], "additionalProperties": False}
_METHODS = list(get_args(StartMethod))

TAG_LIMIT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "minLength": 1, "description": "the tag that is counted"},
        "value": {
            "description": "only this value of it; left out: all values together",
            "anyOf": [
                {"type": ["string", "null"]},
                {
                    "type": "object",
                    "properties": {
                        "applyLimitPerUniqueValue": {"type": "boolean"},
                        "apply_limit_per_unique_value": {"type": "boolean"},
                    },
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": False,
                },
            ],
        },
        "limit": {"type": "integer", "minimum": 1, "description": "steps at once"},
    },
    "required": ["key", "limit"],
    "additionalProperties": False,
}

#: Every setting of an executor, by its key.
DESCRIBED: dict[str, Described] = {
    "max_concurrent": Described(
        "whole number from 0, or null",
        f"`{MAX_CONCURRENT_VARIABLE}`, else the CPUs that this process may use",
        "steps at once; 0 and null mean the default",
        {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_PROCESSES},
    ),
    "tag_concurrency_limits": Described(
        "list of `{key, value, limit}`, or null",
        "none",
        "steps with a tag at once: with one value of it, with `value: {applyLimitPerUniqueValue: true}` each value by "
        "itself, without `value` all together",
        {"type": ["array", "null"], "items": TAG_LIMIT},
    ),
    "start_method": Described(
        "`auto`, `fork`, `forkserver`, `spawn`, or `{forkserver: {preload_modules: [...]}}`",
        "`auto`",
        "how worker processes come to be",
        {
            "anyOf": [
                {"enum": _METHODS},
                *[
                    {
                        "type": "object",
                        "properties": {method: _NOTHING},
                        "required": [method],
                        "additionalProperties": False,
                    }
                    for method in _METHODS
                    if method != "forkserver"
                ],
                {
                    "type": "object",
                    "properties": {
                        "forkserver": {
                            "type": ["object", "null"],
                            "properties": {
                                "preload_modules": {
                                    "type": ["array", "null"],
                                    "items": {"type": "string", "minLength": 1},
                                }
                            },
                            "additionalProperties": False,
                        }
                    },
                    "required": ["forkserver"],
                    "additionalProperties": False,
                },
            ]
        },
    ),
    "retries": Described(
        "`{enabled: {}}` or `{disabled: {}}`, or the word alone",
        "`{enabled: {}}`",
        "disabled: retry policies are not followed, every failure is final",
        {
            "anyOf": [
                {"enum": ["enabled", "disabled"]},
                *[
                    {
                        "type": "object",
                        "properties": {word: _NOTHING},
                        "required": [word],
                        "additionalProperties": False,
                    }
                    for word in ("enabled", "disabled")
                ],
            ]
        },
    ),
    "steps_per_worker": Described(
        "whole number from 1, or `unlimited`",
        "1",
        "attempts before a worker process is replaced",
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "unlimited"}]},
    ),
    "stop_grace_s": Described(
        "number from 0",
        "5.0",
        "seconds from asking a step to stop (SIGTERM) to killing it (SIGKILL)",
        {"type": "number", "minimum": 0},
    ),
    "pdb": Described(
        "`true` or `false`, in `in_process`",
        "`false`",
        "where a step fails, enter the debugger at the line that raised; needs a terminal",
        {"type": "boolean"},
    ),
    "stack_signal": Described(
        "`true` or `false`",
        "`true`",
        "processes with steps answer a signal with their Python stack, for `executor stack`",
        {"type": "boolean"},
    ),
    "step_dependency_config": Described(
        "`{require_upstream_step_success: true}`, or null",
        "the same",
        "of Dagster's executors; a step starts when all that it reads from has succeeded, and no other rule is there",
        {
            "type": ["object", "null"],
            "properties": {"require_upstream_step_success": {"const": True}},
            "additionalProperties": False,
        },
    ),
}
