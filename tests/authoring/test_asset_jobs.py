# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""Jobs of assets: what a selection means, when it is resolved, and ``Definitions``."""

from typing import Any

import pytest

from executor import (
    AssetsDefinition,
    DefinitionError,
    Definitions,
    JobDefinition,
    RetryPolicy,
    UsageError,
    asset,
    define_asset_job,
    definitions,
    graph,
    in_process_executor,
    job,
    multiprocess_executor,
    op,
)
from executor.authoring.asset_graph import AssetGraph
from executor.authoring.jobs import job_of_assets


@asset
def orders() -> int:
    return 1


@asset
def customers() -> int:
    return 2


@asset
def joined(orders: int, customers: int) -> int:
    return orders + customers


@asset(deps=[joined])
def report() -> int:
    return 4


@asset
def summary(joined: int) -> int:
    return joined


ALL = [orders, customers, joined, report, summary]


def keys(made: JobDefinition) -> list[str]:
    body = made.body
    assert isinstance(body, AssetGraph)
    return [str(item.key) for item in body.assets]


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        ("*", ["orders", "customers", "joined", "report", "summary"]),
        (["*"], ["orders", "customers", "joined", "report", "summary"]),
        ("orders", ["orders"]),
        ("orders,customers", ["orders", "customers"]),
        (["customers", "orders"], ["orders", "customers"]),
        ("+joined", ["orders", "customers", "joined"]),
        ("*summary", ["orders", "customers", "joined", "summary"]),
        ("++summary", ["orders", "customers", "joined", "summary"]),
        ("orders, report", ["orders", "report"]),
        ([orders, "customers"], ["orders", "customers"]),
        ([[orders], (customers,)], ["orders", "customers"]),
        (orders, ["orders"]),
        ("+joined+", ["orders", "customers", "joined", "report", "summary"]),
        (["+joined", "report"], ["orders", "customers", "joined", "report"]),
    ],
)
def test_a_selection_means_these_assets(selection: Any, selected: list[str]) -> None:
    defs = Definitions(assets=ALL, jobs=[define_asset_job("daily", selection)])
    assert keys(defs.get_job_def("daily")) == selected


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("ordres", "the selection 'ordres' names no asset; did you mean 'orders'? (there are: orders, customers"),
        ("orders+", "asset 'joined' reads asset 'customers', which is not selected, and values of earlier runs"),
        ("summary", "add 'joined', 'orders', 'customers' to the selection"),
        ("a b", "the selection 'a b' cannot be read; write a name, '*', '+name'"),
        ("", "the selection '' selects nothing; name some assets, or '*' for all"),
        ([], "selects nothing"),
    ],
)
def test_a_selection_that_does_not_fit_is_an_error_when_it_meets_its_assets(selection: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Definitions(assets=ALL, jobs=[define_asset_job("daily", selection)])
    assert str(caught.value).startswith("job 'daily': ")
    assert said in str(caught.value)


def test_a_job_of_asset_objects_can_run_by_itself() -> None:
    made = define_asset_job("daily", [joined, orders, customers])
    assert keys(made) == ["orders", "customers", "joined"]


def test_a_job_of_names_waits_until_it_meets_its_assets() -> None:
    made = define_asset_job("daily", "+joined")
    with pytest.raises(DefinitionError, match=r"job 'daily' selects assets by name .* and has not met them; write Def"):
        _ = made.body
    Definitions(assets=ALL, jobs=[made])
    assert keys(made) == ["orders", "customers", "joined"]


def test_the_first_assets_that_a_job_meets_are_its_own() -> None:
    made = define_asset_job("daily", "*")
    first, second = Definitions(assets=[orders], jobs=[made]), Definitions(assets=[customers], jobs=[made])
    assert keys(made) == keys(first.get_job_def("daily")) == ["orders"]
    assert keys(second.get_job_def("daily")) == ["customers"]


def test_what_is_no_asset_cannot_be_selected() -> None:
    with pytest.raises(DefinitionError, match=r"job 'daily': 3 cannot be selected; give assets, or their names"):
        define_asset_job("daily", [3])
    with pytest.raises(DefinitionError, match=r"cannot be selected"):
        define_asset_job("daily", lambda: None)


def test_what_an_asset_waits_for_may_be_left_out_but_what_it_reads_may_not() -> None:
    assert keys(define_asset_job("daily", [report])) == ["report"]
    with pytest.raises(DefinitionError, match=r"job 'daily': asset 'summary' reads asset 'joined'"):
        _ = define_asset_job("daily", [summary]).body


def test_a_job_of_assets_for_materialize() -> None:
    made = job_of_assets([orders, [customers, joined]], tags={"a": 1})
    assert (made.name, keys(made), made.run_tags) == ("assets", ["orders", "customers", "joined"], {"a": "1"})
    part = job_of_assets(ALL, name="part", selection=[orders])
    assert (part.name, keys(part)) == ("part", ["orders"])


def test_a_job_keeps_what_it_was_given() -> None:
    policy = RetryPolicy(max_retries=3)
    config = {"execution": {"config": {"max_concurrent": 2}}}
    made = define_asset_job("daily", [orders], config, description="x", tags={"a": "1"}, op_retry_policy=policy)
    for item in (made, Definitions(assets=ALL, jobs=[made]).get_job_def("daily")):
        assert (item.name, item.description, item.run_tags, item.op_retry_policy) == ("daily", "x", {"a": "1"}, policy)
        assert item.settings().max_concurrent == 2


class TestDefinitions:
    def test_jobs_are_found_by_name(self) -> None:
        one = op(name="one")(lambda: 1)
        plain = job(name="plain")(lambda: one())
        from_graph = graph(name="from_graph")(lambda: one())
        defs = Definitions(assets=ALL, jobs=[plain, from_graph, define_asset_job("daily", "orders")])
        assert [item.name for item in defs.jobs] == ["plain", "from_graph", "daily"]
        assert defs.resolve_job_def("plain") is plain
        assert {item.key for item in defs.assets} == {item.key for item in ALL}
        assert repr(defs) == "<Definitions of 5 assets and 3 jobs>"
        with pytest.raises(UsageError, match=r"there is no job 'dayly'; did you mean 'daily'\? \(jobs: plain"):
            defs.get_job_def("dayly")

    def test_its_executor_is_for_jobs_without_one(self) -> None:
        two = multiprocess_executor.configured({"max_concurrent": 2})
        four = multiprocess_executor.configured({"max_concurrent": 4})
        one = op(name="one")(lambda: 1)
        defs = Definitions(
            assets=ALL,
            jobs=[
                define_asset_job("own", "orders", executor_def=two),
                define_asset_job("none", "orders"),
                job(name="op_own", executor_def=two)(lambda: one()),
                job(name="op_none")(lambda: one()),
            ],
            executor=four,
        )
        widths = {item.name: item.settings().max_concurrent for item in defs.jobs}
        assert widths == {"own": 2, "none": 4, "op_own": 2, "op_none": 4}
        assert defs.job_of_all_assets().settings().max_concurrent == 4

    def test_a_config_that_does_not_fit_that_executor_is_an_error(self) -> None:
        made = define_asset_job("daily", "orders", {"execution": {"config": {"max_concurrent": 2}}})
        with pytest.raises(DefinitionError, match=r"job 'daily': config.execution.config.max_concurrent: the"):
            Definitions(assets=ALL, jobs=[made], executor=in_process_executor)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"assets": [orders, asset(name="orders")(lambda: 1)]}, "Definitions: two assets have the key 'orders'"),
            ({"assets": [joined]}, "asset 'joined' reads asset 'orders'"),
            ({"assets": [3]}, "3 is not an asset"),
            ({"jobs": [3]}, "Definitions: 3 is not a job; give what @job or define_asset_job made"),
            ({"jobs": [define_asset_job("a", [orders])] * 2}, "Definitions: two jobs are called 'a'"),
            ({"executor": {"max_concurrent": 2}}, "Definitions: the executor is {'max_concurrent': 2}; give"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, arguments: dict[str, Any], said: str) -> None:
        assets: list[AssetsDefinition] = [orders]
        with pytest.raises(DefinitionError) as caught:
            Definitions(**{"assets": assets, **arguments})
        assert said in str(caught.value)

    def test_a_job_of_all_assets_needs_some(self) -> None:
        assert keys(Definitions(assets=ALL).job_of_all_assets("everything")) == [str(item.key) for item in ALL]
        with pytest.raises(UsageError, match=r"these Definitions have no assets"):
            Definitions().job_of_all_assets()

    def test_a_function_gives_them_when_they_are_needed_and_once(self) -> None:
        calls = []

        @definitions
        def defs() -> Definitions:
            """Mine."""
            calls.append(1)
            return Definitions(assets=[orders])

        assert (calls, defs.name, defs.__doc__) == ([], "defs", "Mine.")
        assert defs() is defs()
        assert calls == [1]

    def test_a_function_that_gives_something_else_is_an_error(self) -> None:
        with pytest.raises(DefinitionError, match=r"definitions '<lambda>' returned 3; return Definitions\(assets="):
            definitions(lambda: 3)()  # type: ignore[arg-type,return-value]  # that is the mistake
        with pytest.raises(DefinitionError, match=r"3 is not a function; put @definitions above"):
            definitions(3)  # type: ignore[arg-type]  # that is the mistake
