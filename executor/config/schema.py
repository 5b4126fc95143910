"""The JSON Schema of a run config, for editors that complete and check YAML."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from executor.config.check import IN_PROCESS_SETTINGS, ONLY_IN_PROCESS_SETTINGS
from executor.config.described import DESCRIBED

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: In place of any value: a variable that is read when a run starts.
_VARIABLE: list[dict[str, Any]] = [
    {"type": "string", "pattern": r"^(\$\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\})+$"},
    {
        "type": "object",
        "properties": {"env": {"type": "string", "pattern": "^[A-Z_][A-Z0-9_]*$"}},
        "required": ["env"],
        "additionalProperties": False,
    },
]


def run_config_schema(
    ops: Mapping[str, Mapping[str, Any] | None] | None = None, *, foreign: bool = False, title: str = "run config"
) -> dict[str, Any]:
    """The schema of a run config.

    ``ops``: of each name that config can be given for, the schema of its config, or None where it takes none; without
    it any name is right. ``foreign``: the executor is configured with a function, which may take further keys.
    """
    definitions: dict[str, Any] = {}
    properties = {name: _setting(name) for name in DESCRIBED}
    of_workers = {name: schema for name, schema in properties.items() if name not in ONLY_IN_PROCESS_SETTINGS}
    settings: dict[str, Any] = {"type": ["object", "null"], "properties": of_workers, "additionalProperties": foreign}
    in_process: dict[str, Any] = {
        "type": ["object", "null"],
        "properties": {name: schema for name, schema in properties.items() if name in IN_PROCESS_SETTINGS},
        "additionalProperties": foreign,
    }
    config = copy.deepcopy(settings)
    config["properties"] |= {"multiprocess": settings, "in_process": in_process}
    any_op: dict[str, Any] = {"type": ["object", "null"]}
    op_schemas: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": any_op}
    if ops is not None:
        op_schemas["properties"] = {name: _op(name, schema, definitions) for name, schema in ops.items()}
        op_schemas["additionalProperties"] = False
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "title": title,
        "type": ["object", "null"],
        "properties": {
            "execution": {
                "type": ["object", "null"],
                "description": "how the steps of the run are executed",
                "properties": {"config": config},
                "additionalProperties": False,
            },
            "ops": {**op_schemas, "description": "the config of ops and assets, by name"},
            "tags": {
                "type": ["object", "null"],
                "description": "of the run",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
        },
        "additionalProperties": False,
    }
    if definitions:
        schema["$defs"] = definitions
    return schema


def _setting(name: str) -> dict[str, Any]:
    described = DESCRIBED[name]
    return {"description": described.meaning, "anyOf": [described.schema, *_VARIABLE]}


def _op(name: str, schema: Mapping[str, Any] | None, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of what stands for one op; what its classes define goes to the definitions, under names of its own."""
    found: dict[str, Any] = {"type": ["object", "null"], "properties": {}, "additionalProperties": False}
    if schema is not None:
        own = dict(schema)
        for inner, definition in own.pop("$defs", {}).items():
            definitions[f"{name}.{inner}"] = _renamed(definition, name)
        found["properties"]["config"] = with_variables(_renamed(own, name))
    return found


def _renamed(schema: Any, name: str) -> Any:
    """The schema with references to the definitions under their new names."""
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", f"#/$defs/{name}.") if key == "$ref" else _renamed(value, name)
            for key, value in schema.items()
        }
    return [_renamed(item, name) for item in schema] if isinstance(schema, list) else schema


def with_variables(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a config, each of whose keys may also be a variable."""
    if "properties" not in schema:
        return schema
    properties = {
        name: inner if _takes_text(inner) else {"anyOf": [inner, *_VARIABLE]}
        for name, inner in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _takes_text(schema: Any) -> bool:
    return schema in ({}, True)
