"""Arguments that a decorator does not take, and what is said of them."""

from typing import Any

import pytest

from executor import (
    AssetOut,
    ConfigError,
    DefinitionError,
    Definitions,
    UsageError,
    asset,
    define_asset_job,
    execute_job,
    graph,
    graph_asset,
    job,
    materialize,
    multi_asset,
    multiprocess_executor,
    op,
)
from executor.api import execute_in_process


@pytest.mark.parametrize(
    ("define", "lines"),
    [
        (lambda: job(max_concurrent=2), r"executor_def=multiprocess_executor.configured\({'max_concurrent': 2}\)"),
        (lambda: define_asset_job("a", max_concurrent=2), r"write: executor_def=multiprocess_executor"),
        (lambda: op(max_concurrent=2), r"write it at the job: @job\(executor_def="),
        (lambda: asset(tag_concurrency_limits=[]), r"tag_concurrency_limits is a setting of the executor"),
        (lambda: graph(max_concurrent=2), r"write it at the job: @job\(executor_def="),
        (lambda: graph(tags={"a": "b"}), r"tag its ops, or one use of the graph"),
        (lambda: graph_asset(max_concurrent=2), r"write it at the job: @job\(executor_def="),
        (lambda: multi_asset(outs={"a": AssetOut()}, max_concurrent=2), r"write it at the job: @job\(executor_def="),
        (lambda: Definitions(max_concurrent=2), r"Definitions: max_concurrent is a setting of the executor"),
        (lambda: whole.to_job(max_concurrent=2), r"write: executor_def=multiprocess_executor"),
        (lambda: op(poool="database"), r"op: there is no argument 'poool'; did you mean 'pool'\?"),
    ],
)
def test_a_setting_in_the_wrong_place_says_where_it_belongs(define: Any, lines: str) -> None:
    with pytest.raises(DefinitionError, match=lines):
        define()


@op
def nothing() -> int:
    return 0


@graph
def whole() -> Any:
    return nothing()


@pytest.mark.parametrize("how", ["execute", "execute_in_process", "execute_job", "materialize", "api"])
def test_a_setting_given_to_what_runs_a_job_is_a_usage_error_with_the_run_config_to_write(how: str) -> None:
    made = whole.to_job()
    calls: dict[str, Any] = {
        "execute": made.execute,
        "execute_in_process": made.execute_in_process,
        "execute_job": lambda **settings: execute_job(made, **settings),
        "materialize": lambda **settings: materialize([], **settings),
        "api": lambda **settings: execute_in_process(made, **settings),
    }
    with pytest.raises(UsageError, match=r"run_config={'execution': {'config': {'max_concurrent': 2}}}"):
        calls[how](max_concurrent=2)
    with pytest.raises(UsageError, match=r"there is no argument 'raise_on_eror'; did you mean 'raise_on_error'\?"):
        calls[how](raise_on_eror=False)


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


def test_a_job_in_the_body_of_another_says_to_make_it_a_graph() -> None:
    made = whole.to_job()
    with pytest.raises(DefinitionError, match=r"job 'whole' cannot be called.* make it a graph, with @graph"):

        @job
        def outer() -> None:
            made()
