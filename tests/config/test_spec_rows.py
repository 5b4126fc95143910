"""Where the documents of concurrency and Dagster itself disagree, row by row: what is done here.

The rows are those of the project's map of what Dagster does, S1 to S15; S14 is about other programs' files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import executor as dg
from executor.config.instance_file import read_instance_settings
from executor.config.settings import TagLimit
from executor.plan.compile import compile_job
from executor.scheduler.limits import Limits, bind

LIMIT = {"key": "database", "limit": 1}


@dg.asset(tags={"database": "postgres"})
def tagged() -> None: ...


def nested(**settings: Any) -> dict[str, Any]:
    return {"execution": {"config": {"multiprocess": settings}}}


def flat(**settings: Any) -> dict[str, Any]:
    return {"execution": {"config": settings}}


def asset_job(**arguments: Any) -> dg.AssetJobDefinition:
    return dg.define_asset_job("my_job", [tagged], **arguments)


def file(home: Path, text: str) -> Any:
    (home / "dagster.yaml").write_text(text)
    return read_instance_settings(home)


@pytest.mark.parametrize("arguments", [{"tags": {"database": "postgres"}}, {"op_tags": {"database": "postgres"}}])
def test_s1_a_tag_limit_counts_tags_and_op_tags_of_assets(arguments: dict[str, Any]) -> None:
    one = dg.asset(name="one", **arguments)(lambda: None)
    job = dg.define_asset_job("my_job", [one], config=nested(tag_concurrency_limits=[LIMIT]))
    limits = Limits(max_concurrent=1, tags=job.settings().tag_concurrency_limits)
    assert bind(limits, compile_job(job)).unmatched == ()


def test_s1_of_tags_and_op_tags_op_tags_win() -> None:
    both = dg.asset(name="both", tags={"database": "a"}, op_tags={"database": "b"})(lambda: None)
    assert both.tags == {"database": "b"}


RUNS = """
concurrency:
  runs:
    max_concurrent_runs: 10
    tag_concurrency_limits:
      - {key: "dagster/backfill", limit: 5}
  pools:
    granularity: 'op'
    default_limit: 5
run_queue:
  max_concurrent_runs: 10
  tag_concurrency_limits:
    - {key: resource_intensive, limit: 2}
"""


def test_s2_both_spellings_of_the_run_limit_are_accepted_when_equal(tmp_path: Path) -> None:
    assert file(tmp_path, RUNS).pools.default_limit == 5


@pytest.mark.parametrize("section", ["run_queue:", "run_coordinator:\n  config:"])
def test_s2_they_are_an_error_that_names_both_lines_when_they_differ(tmp_path: Path, section: str) -> None:
    text = f"concurrency:\n  runs:\n    max_concurrent_runs: 10\n{section}\n    max_concurrent_runs: 5\n"
    with pytest.raises(
        dg.ConfigError, match=r"max_concurrent_runs is 5, while concurrency\.runs\.max_.* in line 3 is 10"
    ):
        file(tmp_path, text)


@pytest.mark.parametrize("config", [nested, flat])
@pytest.mark.parametrize("executor_def", [None, dg.multiprocess_executor])
def test_s3_both_nestings_are_right_for_every_executor(config: Any, executor_def: Any) -> None:
    job = asset_job(executor_def=executor_def)
    assert job.settings(config(max_concurrent=2)).max_concurrent == 2
    assert dg.validate_run_config(job, config(max_concurrent=2)).success


def test_s3_files_may_use_either_nesting_and_be_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("execution: {config: {multiprocess: {max_concurrent: 4, stop_grace_s: 1}}}")
    (tmp_path / "b.yaml").write_text("execution: {config: {max_concurrent: 2}}")
    settings = asset_job().settings(dg.config_from_files(tmp_path / "a.yaml", tmp_path / "b.yaml"))
    assert (settings.max_concurrent, settings.stop_grace_s) == (2, 1.0)


@pytest.mark.parametrize("config", [nested, flat])
def test_s4_run_config_overrides_configured(config: Any) -> None:
    job = asset_job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": 3, "stop_grace_s": 1}))
    settings = job.settings(config(max_concurrent=2))
    assert (settings.max_concurrent, settings.stop_grace_s) == (2, 1.0)


def test_s5_a_limit_at_the_top_level_fails_where_it_is_defined_and_shows_the_right_lines() -> None:
    with pytest.raises(dg.DefinitionError) as caught:
        asset_job(config={"tag_concurrency_limits": [LIMIT]})
    lines = str(caught.value).partition("Write:\n")[2]
    assert eval(lines) == flat(tag_concurrency_limits=[LIMIT])
    asset_job(config=eval(lines))


def test_s6_validate_run_config_gives_a_dict_that_has_success() -> None:
    result = dg.validate_run_config(asset_job(), nested(max_concurrent=2, tag_concurrency_limits=[LIMIT]))
    assert isinstance(result, dict)
    assert result.success
    settings = result["execution"]["config"]["multiprocess"]
    assert (settings["max_concurrent"], settings["tag_concurrency_limits"]) == (2, [LIMIT])


def test_s6_and_raises_for_what_does_not_fit() -> None:
    with pytest.raises(dg.ConfigError, match="max_concurent"):
        dg.validate_run_config(asset_job(), nested(max_concurent=2))


def test_s6_a_job_that_has_not_met_its_assets_can_be_validated() -> None:
    by_name = dg.define_asset_job("my_job", ["asset_1", "asset_2"])
    assert dg.validate_run_config(by_name, nested(max_concurrent=2)).success


def test_s7_the_name_of_a_job_needs_no_option() -> None:
    from executor.cli.job import execute

    (name,) = [parameter for parameter in execute.params if parameter.param_type_name == "argument"]
    assert (name.name, name.required) == ("name", False)


def test_s8_a_run_launcher_is_left_alone(tmp_path: Path) -> None:
    text = "run_launcher:\n  module: dagster.core.launcher\n  class: DefaultRunLauncher\n"
    assert file(tmp_path, text).ignored == ("run_launcher",)


def test_s9_the_oldest_spellings_are_understood_with_a_notice_of_the_new_one(tmp_path: Path) -> None:
    text = """
concurrency:
  max_runs: 15
  run_tag_limits: [{key: "dagster/backfill", limit: 10}]
  concurrency_group:
    default_limit: 1
    enforcement_level: op
"""
    settings = file(tmp_path, text)
    assert settings.pools.default_limit == 1
    for new in ("concurrency.runs.max_concurrent_runs", "concurrency.runs.tag_concurrency_limits", "concurrency.pools"):
        assert any(notice.endswith(f"is an older spelling; write {new}") for notice in settings.notices)


def test_s9_a_concurrency_group_is_a_pool() -> None:
    one = dg.asset(name="one", concurrency_group="database")(lambda: None)
    assert compile_job(dg.define_asset_job("j", [one])).steps[0].pools == {"database": 1}


def test_s10_pools_have_limits_by_name_in_the_file_and_a_name_beside_them_shows_where(tmp_path: Path) -> None:
    assert file(tmp_path, "concurrency: {pools: {limits: {database: 3}}}").pools.limits == {"database": 3}
    with pytest.raises(dg.ConfigError, match=r"stands under limits:\n  concurrency:\n    pools:\n      limits:"):
        file(tmp_path, "concurrency: {pools: {database: 3}}")


def test_s11_limits_of_runs_and_limits_of_steps_are_two_things(tmp_path: Path) -> None:
    settings = file(tmp_path, "concurrency: {runs: {tag_concurrency_limits: [{key: database, limit: 1}]}}")
    assert any("belongs to the queue of runs" in notice for notice in settings.notices)
    of_steps = asset_job(config=nested(tag_concurrency_limits=[LIMIT])).settings().tag_concurrency_limits
    assert of_steps == (TagLimit(key="database", limit=1),)


def test_s12_limits_of_pools_can_be_seen_set_deleted_and_freed_by_commands() -> None:
    from executor.cli.concurrency import concurrency

    assert {"get", "set", "delete", "free", "list"} <= set(concurrency.commands)


@pytest.mark.parametrize("where", ["concurrency:\n  runs:", "run_queue:", "run_coordinator:\n  config:"])
@pytest.mark.parametrize("number", [-2, -10])
def test_s13_a_run_limit_that_lets_nothing_run_is_an_error_everywhere(tmp_path: Path, where: str, number: int) -> None:
    text = f"{where}\n    max_concurrent_runs: {number}\n"
    with pytest.raises(dg.ConfigError, match=rf"{number} is not allowed; write how many runs .* or -1 for no limit"):
        file(tmp_path, text)


@pytest.mark.parametrize("number", [0, -1, 15])
def test_s13_other_run_limits_are_accepted(tmp_path: Path, number: int) -> None:
    file(tmp_path, f"concurrency:\n  runs:\n    max_concurrent_runs: {number}\n")


@pytest.mark.parametrize("settings", [{"max_concurrent": -1}, {"tag_concurrency_limits": [{"key": "a", "limit": 0}]}])
def test_s13_no_setting_of_the_executor_may_make_a_run_wait_for_ever(settings: dict[str, Any]) -> None:
    with pytest.raises(dg.ConfigError, match="is not allowed"):
        asset_job().settings(nested(**settings))


@pytest.mark.parametrize("number", [1, 3, 5])
def test_s15_each_run_may_have_a_limit_of_its_own(number: int) -> None:
    job = asset_job(executor_def=dg.multiprocess_executor.configured({"max_concurrent": 2}))
    assert job.settings(nested(max_concurrent=number)).max_concurrent == number


def test_executors_are_chosen_by_environment_as_the_document_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def by_environment() -> dict[str, Any]:
        env = os.getenv("ENVIRONMENT", "development")
        if env == "production":
            return {"max_concurrent": 5, "tag_concurrency_limits": [{"key": "external_api", "limit": 1}]}
        return {"max_concurrent": 2}

    monkeypatch.delenv("ENVIRONMENT", raising=False)
    when_imported = asset_job(executor_def=dg.multiprocess_executor.configured(by_environment()))
    when_run = asset_job(executor_def=dg.multiprocess_executor.configured(by_environment))
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert (when_imported.settings().max_concurrent, when_run.settings().max_concurrent) == (2, 5)


#: Keys that stand at the top of an instance's file in the documents.
OF_AN_INSTANCE = ("concurrency:", "run_queue:", "storage:", "run_launcher:", "run_monitoring:")


def instance_files() -> list[Any]:
    """The YAML blocks of the documents that are files of an instance, each named by its document and line."""
    folder = os.environ.get("EXECUTOR_SPEC_DIR")
    found: list[Any] = []
    for path in sorted(Path(folder).glob("*.txt")) if folder else []:
        text = path.read_text()
        for match in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            if any(f"\n{match[1]}".find(f"\n{key}") >= 0 for key in OF_AN_INSTANCE):
                found.append(pytest.param(match[1], id=f"{path.name[:3]}-line-{line}"))
    return found


@pytest.mark.parametrize("text", instance_files())
def test_the_files_of_the_documents_are_read(text: str, tmp_path: Path) -> None:
    if re.search(r"granularity: '?run", text):  # refused until there is a queue of runs: docs/adr/0016
        with pytest.raises(dg.ConfigError, match="comes with the queue of runs"):
            file(tmp_path, text)
    else:
        file(tmp_path, text)


@pytest.mark.skipif("EXECUTOR_SPEC_DIR" not in os.environ, reason="EXECUTOR_SPEC_DIR names no folder of documents")
def test_the_documents_have_files_to_read() -> None:
    assert len(instance_files()) >= 15
