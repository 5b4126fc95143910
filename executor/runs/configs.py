"""The config of a run: what goes to its steps, and what is kept of it in the run's folder."""

from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING

from executor.authoring.op_config import CONFIG_INPUT
from executor.config.environment import is_reference
from executor.config.layers import Layer, LayeredConfig, merged
from executor.config.secrets import MASK, as_plain, masked
from executor.errors import UsageError
from executor.workers.job import ONE

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from executor.authoring.resolve import ResolvedConfig
    from executor.plan.plan import Plan
    from executor.workers.interface import InputValue


def config_inputs(plan: Plan, config: ResolvedConfig) -> dict[int, InputValue]:
    """The config of each step that was given some, as an input of that step; by step index.

    It is sent with the attempt and never written to a file, because there may be secrets in it.
    """
    inputs: dict[int, InputValue] = {}
    for key, data in config.configs.items():
        index = plan.index_of.get(key)
        if index is not None:
            pickled = pickle.dumps(as_plain(data), 5)
            inputs[index] = (CONFIG_INPUT, ((CONFIG_INPUT, pickled, None, len(pickled), ""),), ONE)
    return inputs


def write_config(path: Path, config: ResolvedConfig) -> None:
    """Keep the run config as it was given: variables are not followed, and what is named like a secret is masked."""
    given = merged(layer.data for layer in config.layers)
    if not given:
        return
    kept = masked(given, keep=is_reference)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump({"run_config": kept, "secrets": sorted(_hidden(given, kept))}, file, default=str, indent=1)


def lacks_secrets(path: Path) -> bool:
    """Whether the config that was kept there lacks secrets that it had, so that it has to be given once more."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["secrets"])
    except OSError:
        return False


def read_config(path: Path) -> LayeredConfig | None:
    """The run config that was kept there, to run with it again; None where there was none.

    Raises:
        UsageError: it had secrets, which are not kept; the text names them.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if record["secrets"]:
        raise UsageError(
            f"the run config of this run had secrets, which are not kept: {', '.join(record['secrets'])}; give it "
            "again, or write secrets as {env: NAME}, which is kept as it is"
        )
    # as a file, so that ${VAR} is followed in it again
    return LayeredConfig([Layer(record["run_config"], f"the config of run {path.parent.name}", str(path))])


def _hidden(given: Any, kept: Any, path: str = "") -> list[str]:
    """The paths at which a mask took the place of something."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            found for key in given for found in _hidden(given[key], kept[key], f"{path}.{key}" if path else str(key))
        ]
    if isinstance(given, list | tuple) and isinstance(kept, list):
        return [
            found for number, item in enumerate(given) for found in _hidden(item, kept[number], f"{path}[{number}]")
        ]
    return [path] if isinstance(kept, str) and kept == MASK and given != MASK else []
