# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""Executors: how settings come together from ``.configured``, the job's config and the run's, key by key."""

import os
from typing import Any

import pytest

from executor import (
    ConfigError,
    DefinitionError,
    in_process_executor,
    job,
    multiprocess_executor,
    op,
    validate_run_config,
)
from executor.config.settings import ExecutorSettings, TagLimit


def run_config(nested: bool = False, /, **settings: Any) -> dict[str, Any]:
    return {"execution": {"config": {"multiprocess": settings} if nested else settings}}


def test_the_default_is_the_default_settings() -> None:
    assert multiprocess_executor.resolve() == ExecutorSettings()
    assert in_process_executor.resolve() == ExecutorSettings(in_process=True)


def test_configured_lays_settings_over_each_other() -> None:
    first = multiprocess_executor.configured({"max_concurrent": 3, "stop_grace_s": 1.0})
    second = first.configured({"max_concurrent": 5}, name="five")
    assert second.resolve() == ExecutorSettings(max_concurrent=5, stop_grace_s=1.0)
    assert first.resolve().max_concurrent == 3
    assert (first.name, second.name) == ("multiprocess_executor", "five")


@pytest.mark.parametrize("nested", [False, True])
def test_run_config_overrides_key_by_key_in_both_nestings(nested: bool) -> None:
    limits = [{"key": "database", "limit": 1}]
    executor_def = multiprocess_executor.configured({"max_concurrent": 3, "tag_concurrency_limits": limits})
    settings = executor_def.resolve(run_config(nested, max_concurrent=2))
    assert settings.max_concurrent == 2
    assert settings.tag_concurrency_limits == (TagLimit(key="database", limit=1),)
    assert executor_def.resolve(run_config(nested, max_concurrent=None)).max_concurrent is None


def test_the_run_comes_before_the_job_and_the_job_before_the_executor() -> None:
    executor_def = multiprocess_executor.configured({"max_concurrent": 1, "stop_grace_s": 1, "steps_per_worker": 1})
    settings = executor_def.resolve(
        run_config(max_concurrent=3), defaults=run_config(True, max_concurrent=2, stop_grace_s=2)
    )
    assert settings == ExecutorSettings(max_concurrent=3, stop_grace_s=2.0, steps_per_worker=1)


def test_naming_an_executor_in_the_config_chooses_it() -> None:
    in_process: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}
    assert multiprocess_executor.configured({"max_concurrent": 3}).resolve(in_process).in_process
    assert not in_process_executor.resolve(run_config(True, max_concurrent=2)).in_process
    assert multiprocess_executor.resolve(run_config(True), defaults=in_process) == ExecutorSettings()


def test_settings_of_workers_are_an_error_for_a_run_in_process() -> None:
    with pytest.raises(ConfigError, match=r"execution.config.max_concurrent: the in-process executor runs one step"):
        in_process_executor.resolve(run_config(max_concurrent=2))


def test_problems_of_all_layers_are_reported_at_once_with_their_paths() -> None:
    wrong = {**run_config(True, max_concurent=2), "opss": {}}
    with pytest.raises(ConfigError) as caught:
        multiprocess_executor.resolve(wrong, defaults=run_config(stop_grace_s="x"))
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        'unknown section "opss"',
        "execution.config.stop_grace_s: 'x' is not a number of seconds, 0 or more",
        'execution.config.multiprocess: unknown key "max_concurent"',
    ]


class TestConfiguredWithADict:
    def test_a_wrong_one_is_both_a_config_error_and_a_definition_error(self) -> None:
        with pytest.raises(DefinitionError) as caught:
            multiprocess_executor.configured({"max_concurrent": "4"})
        assert isinstance(caught.value, ConfigError)
        assert caught.value.problems == (
            "configured.max_concurrent: '4' is not a whole number; write it without quotes: 4",
        )

    def test_a_whole_run_config_is_refused(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"configured: takes the executor's own settings, without 'execution'"
        ):
            multiprocess_executor.configured(run_config(max_concurrent=2))

    def test_the_executors_name_around_it_is_accepted(self) -> None:
        assert multiprocess_executor.configured({"multiprocess": {"max_concurrent": 2}}).resolve().max_concurrent == 2

    def test_another_executors_name_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"'in_process' is another executor; configure in_process_executor"):
            multiprocess_executor.configured({"in_process": {}})

    def test_anything_else_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"configured was given 4; give a dict such as"):
            multiprocess_executor.configured(4)  # type: ignore[arg-type]  # that is the mistake


class TestConfiguredWithAFunction:
    def test_one_without_parameters_is_called_when_a_run_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def from_environment() -> dict[str, Any]:
            return {"max_concurrent": 5 if os.environ.get("ENVIRONMENT") == "production" else 2}

        executor_def = multiprocess_executor.configured(from_environment)
        assert executor_def.resolve().max_concurrent == 2
        monkeypatch.setenv("ENVIRONMENT", "production")
        assert executor_def.resolve().max_concurrent == 5

    def test_one_with_a_parameter_gets_the_config_of_the_run(self) -> None:
        def by_size(config: dict[str, Any]) -> dict[str, Any]:
            return {"max_concurrent": {"small": 1, "big": 8}[config.get("size", "small")]}

        executor_def = multiprocess_executor.configured(by_size, config_schema={"size": str})
        assert executor_def.resolve().max_concurrent == 1
        assert executor_def.resolve(run_config(True, size="big")).max_concurrent == 8
        assert executor_def.resolve(defaults=run_config(size="big")).max_concurrent == 8
        assert executor_def.configured({"size": "big"}).resolve().max_concurrent == 8

    def test_run_config_still_overrides_what_it_returns(self) -> None:
        executor_def = multiprocess_executor.configured(lambda config: {"max_concurrent": 8, "stop_grace_s": 1.0})
        settings = executor_def.resolve(run_config(max_concurrent=2, anything="else"))
        assert settings == ExecutorSettings(max_concurrent=2, stop_grace_s=1.0)

    def test_functions_can_stand_on_each_other(self) -> None:
        inner = multiprocess_executor.configured(lambda config: {"max_concurrent": config["width"]})
        outer = inner.configured(lambda config: {"width": 2 * config["half"]})
        assert outer.resolve(run_config(half=3)).max_concurrent == 6

    def test_what_it_returns_is_checked_when_a_run_starts(self) -> None:
        def wrong() -> dict[str, Any]:
            return {"max_concurent": 2}

        with pytest.raises(ConfigError, match=r"_executor\.configured\(wrong\): unknown key \"max_concurent\""):
            multiprocess_executor.configured(wrong).resolve()
        with pytest.raises(ConfigError, match=r"configured\(<lambda>\): 3 is not a dict"):
            multiprocess_executor.configured(lambda: 3).resolve()

    def test_a_key_that_its_schema_does_not_name_is_an_error(self) -> None:
        executor_def = multiprocess_executor.configured(lambda config: {}, config_schema={"size": str})
        with pytest.raises(ConfigError, match=r"execution.config: unknown key \"siez\"; did you mean \"size\""):
            executor_def.resolve(run_config(siez="big"))

    def test_one_without_parameters_takes_no_keys(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown key \"size\""):
            multiprocess_executor.configured(lambda: {"max_concurrent": 2}).resolve(run_config(size="big"))

    def test_one_with_several_parameters_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"has several parameters; it gets one, the config, or none"):
            multiprocess_executor.configured(lambda a, b: {})


class TestJobs:
    def made(self, **arguments: Any) -> Any:
        one = op(name="one")(lambda: 1)
        return job(name="daily", **arguments)(lambda: one())

    def test_a_job_has_the_settings_of_its_executor_its_config_and_the_run(self) -> None:
        daily = self.made(
            executor_def=multiprocess_executor.configured({"max_concurrent": 1, "stop_grace_s": 1}),
            config=run_config(True, max_concurrent=2),
        )
        assert daily.settings() == ExecutorSettings(max_concurrent=2, stop_grace_s=1.0)
        assert daily.settings(run_config(max_concurrent=3)).max_concurrent == 3
        assert self.made().settings() == ExecutorSettings()

    def test_a_config_for_a_function_is_accepted_at_definition(self) -> None:
        executor_def = multiprocess_executor.configured(lambda config: {"max_concurrent": config["n"]})
        assert self.made(executor_def=executor_def, config=run_config(n=4)).settings().max_concurrent == 4

    def test_a_run_config_that_fits_is_a_success(self) -> None:
        config = run_config(True, max_concurrent=2)
        result = validate_run_config(self.made(), config)
        assert result.success is True
        settings = result["execution"]["config"]["multiprocess"]
        assert settings["max_concurrent"] == 2
        assert validate_run_config(self.made(), result) == result
        assert isinstance(result, dict)

    def test_a_run_config_that_does_not_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match=r"execution.config.multiprocess.max_concurrent: -1 is not allowed"):
            validate_run_config(self.made(), run_config(True, max_concurrent=-1))

    def test_no_run_config_at_all_fits(self) -> None:
        assert validate_run_config(self.made()).success


def test_a_config_that_holds_itself_or_is_deeper_than_any_is_an_error_wherever_it_is_given() -> None:
    endless: dict[str, Any] = {}
    endless.update(ops=endless, tags=endless)
    deep: Any = {}
    for _ in range(3_000):
        deep = {"ops": [deep]}
    made = job(name="daily")(lambda: None)
    for config in (endless, deep):
        with pytest.raises(ConfigError, match="the run config is nested more than 64 levels deep, or holds itself"):
            made.resolve(config)
        with pytest.raises(DefinitionError, match=r"job 'daily': .* nested more than 64 levels deep"):
            job(name="daily", config=config)(lambda: None)
        with pytest.raises(DefinitionError, match=r"multiprocess_executor\.configured: .* more than 64 levels deep"):
            multiprocess_executor.configured(config)
