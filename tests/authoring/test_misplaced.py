"""Arguments that a decorator does not take, and what is said of them."""

from typing import Any

import pytest

from executor import ConfigError, DefinitionError, asset, define_asset_job, job, multiprocess_executor, op


@pytest.mark.parametrize(
    ("define", "lines"),
    [
        (lambda: job(max_concurrent=2), r"executor_def=multiprocess_executor.configured\({'max_concurrent': 2}\)"),
        (lambda: define_asset_job("a", max_concurrent=2), r"write: executor_def=multiprocess_executor"),
        (lambda: op(max_concurrent=2), r"write it at the job: @job\(executor_def="),
        (lambda: asset(tag_concurrency_limits=[]), r"tag_concurrency_limits is a setting of the executor"),
        (lambda: op(poool="database"), r"op: there is no argument 'poool'; did you mean 'pool'\?"),
    ],
)
def test_a_setting_in_the_wrong_place_says_where_it_belongs(define: Any, lines: str) -> None:
    with pytest.raises(DefinitionError, match=lines):
        define()


@op
def nothing() -> int:
    return 0


def test_a_function_of_configured_that_raises_is_a_config_error_that_shows_what_it_was_given() -> None:
    @job(executor_def=multiprocess_executor.configured(lambda config: {"max_concurrent": config["n"]}))
    def counted() -> None:
        nothing()

    with pytest.raises(ConfigError, match=r"the function raised KeyError: 'n'; it was given {}"):
        counted.settings()


def test_a_function_of_configured_is_not_called_with_a_config_that_is_wrong() -> None:
    named = multiprocess_executor.configured(lambda config: {"max_concurrent": config["n"]}, config_schema={"n": int})

    @job(executor_def=named)
    def counted() -> None:
        nothing()

    with pytest.raises(ConfigError) as raised:
        counted.settings({"execution": {"config": {"m": 3}}})
    assert [problem for problem in raised.value.problems if "KeyError" in problem] == []
    assert any('"m"' in problem for problem in raised.value.problems)


@op
def total(context: Any, rows: list[int]) -> int:
    return sum(rows)


def test_an_op_can_be_called_with_no_context_by_position_and_its_inputs_by_name() -> None:
    assert total(None, rows=[1, 2]) == 3
    assert total(None, [1, 2]) == 3
    assert total(rows=[1, 2]) == 3
