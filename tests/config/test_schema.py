"""The JSON Schema of a run config says the same as the checks, as far as it can."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from executor.cli.config import op_schemas
from executor.config.check import SETTINGS
from executor.config.config_files import config_from_files
from executor.config.described import DESCRIBED
from executor.config.schema import run_config_schema
from executor.config.settings import ExecutorSettings
from executor.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here

from wrong_inputs import WRONG, daily

from tests.config.checked import executor_settings

GENERAL = run_config_schema()
OF_JOB = run_config_schema(op_schemas(daily))

EACH = {"applyLimitPerUniqueValue": True}

RIGHT: list[dict[str, Any]] = [
    {},
    {"execution": None, "ops": None, "tags": None},
    {"execution": {"config": {"max_concurrent": 4}}},
    {"execution": {"config": {"multiprocess": {"max_concurrent": None, "stop_grace_s": 1.5}}}},
    {"execution": {"config": {"in_process": {"retries": "disabled"}}}},
    {"execution": {"config": {"start_method": {"forkserver": {"preload_modules": ["json"]}}}}},
    {"execution": {"config": {"start_method": "auto", "retries": {"enabled": {}}, "steps_per_worker": "unlimited"}}},
    {"execution": {"config": {"tag_concurrency_limits": [{"key": "a", "limit": 1}]}}},
    {"execution": {"config": {"tag_concurrency_limits": [{"key": "a", "value": "b", "limit": 1}]}}},
    {
        "execution": {
            "config": {
                "tag_concurrency_limits": [{"key": "a", "value": {"applyLimitPerUniqueValue": True}, "limit": 2}]
            }
        }
    },
    {"execution": {"config": {"step_dependency_config": {"require_upstream_step_success": True}}}},
    {"ops": {"load": {"config": {"rows": 3, "mode": "delta"}}, "train": {"config": {"rate": 1, "layers": [1]}}}},
    {"ops": {"publish.report": {"config": {"title": "x"}}}, "tags": {"team": "data", "n": 3}},
]


def fits(schema: dict[str, Any], config: object) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(config))


@pytest.mark.parametrize("schema", [GENERAL, OF_JOB], ids=["general", "of a job"])
def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("config", RIGHT, ids=str)
def test_what_is_right_fits(config: dict[str, Any]) -> None:
    daily.resolve(config)
    assert fits(GENERAL, config)
    assert fits(OF_JOB, config)


def test_a_variable_may_stand_for_any_value() -> None:
    config = {
        "execution": {"config": {"max_concurrent": "${N}", "stop_grace_s": {"env": "GRACE"}}},
        "ops": {"load": {"config": {"rows": {"env": "ROWS"}, "api_key": "${KEY:-none}"}}},
    }
    assert fits(OF_JOB, config)


#: What a schema cannot see: what several keys say together, YAML itself, and variables.
BEYOND = ("a second time", "named like a secret", "environment variable", "YAML", "is not read; leave", "stands inside")


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong.written)[:60])
def test_what_is_wrong_does_not_fit(wrong: Any, tmp_path: Path) -> None:
    if any(word in wrong.says for word in BEYOND) or "named like" in wrong.says:
        return
    config = wrong.written
    if isinstance(config, str):
        path = tmp_path / "run.yaml"
        path.write_text(config)
        try:
            config_from_files(path)
        except ConfigError:
            return
        from executor.config.config_files import read_files

        config = read_files([path])[0].data
    if any(text in str(config) for text in ("'multiprocess': {}", "'publish': {'ops'")):
        return  # names of executors beside settings; the keys of inner ops are in the schema with dots
    assert not fits(OF_JOB, config)


def test_every_setting_is_described_and_no_other() -> None:
    assert list(DESCRIBED) == list(SETTINGS)


def test_the_defaults_that_are_described_are_those_of_the_settings() -> None:
    said = {name: described.default for name, described in DESCRIBED.items()}
    assert float(said["stop_grace_s"]) == ExecutorSettings().stop_grace_s
    assert said["steps_per_worker"] == str(ExecutorSettings().steps_per_worker)
    assert said["start_method"] == f"`{ExecutorSettings().start_method}`"
    assert executor_settings({"retries": {"enabled": {}}}) == ExecutorSettings()
