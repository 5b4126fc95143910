"""``RunConfig``: what a run is configured with, written in Python with the config classes of its ops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from executor.config.secrets import masked


@dataclass(frozen=True, slots=True, repr=False)
class RunConfig:
    """The config of one run: ``RunConfig(ops={"load": LoadConfig(rows=3)}, tags={"team": "data"})``.

    It can be given wherever a dict of run config can. Secrets in it are not shown.

    Args:
        ops: by the name of the op or asset: an object of its config class, or a dict ``{"config": {...}}``.
        execution: settings of the executor, ``{"config": {"max_concurrent": 2}}``.
        tags: of the run.
        resources, loggers: must be empty; there are none in this version.
    """

    ops: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    loggers: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)

    def to_config_dict(self) -> dict[str, Any]:
        """The same as a dict, without the sections that say nothing."""
        found: dict[str, Any] = {}
        if self.execution:
            found["execution"] = self.execution
        if self.ops:
            found["ops"] = {name: _op_section(value) for name, value in self.ops.items()}
        for name in ("tags", "resources", "loggers"):
            if value := getattr(self, name):
                found[name] = value
        return found

    def __repr__(self) -> str:
        return f"RunConfig({', '.join(f'{key}={value!r}' for key, value in masked(self.to_config_dict()).items())})"


def _op_section(value: Any) -> Any:
    """What stands for an op under ``ops``: a dict as it is, an object of a config class as plain data."""
    return value if isinstance(value, Mapping) else {"config": config_data(value)}


def config_data(value: Any) -> Any:
    """An object of a config class as plain data, anything else as it is."""
    if hasattr(value, "model_dump"):
        from executor.config.models import model_data

        return model_data(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: config_data(getattr(value, item.name)) for item in fields(value) if item.init}
    if isinstance(value, list | tuple):
        return [config_data(item) for item in value]
    return value
