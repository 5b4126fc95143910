# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""From jobs to plans: flat steps with keys, sources, and all that decides how they run."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor import (
    AssetIn,
    AssetOut,
    DefinitionError,
    GraphOut,
    In,
    JobDefinition,
    Nothing,
    Out,
    RetryPolicy,
    asset,
    graph,
    graph_asset,
    job,
    multi_asset,
    op,
)
from executor.authoring.jobs import job_of_assets
from executor.authoring.resolve import named
from executor.authoring.walk import distinct_ops, step_keys
from executor.plan.compile import compile_job
from executor.plan.plan import Plan, StepOutput


@op
def one() -> int:
    return 1


@op
def add(a: int, b: int = 10) -> int:
    return a + b


@op
def join(items: list[int]) -> int:
    return sum(items)


@op(out={"rows": Out(), "count": Out(is_required=False)})
def split(items: Any) -> Any: ...


@op(ins={"start": In(Nothing)}, out=Out(Nothing))
def after() -> None: ...


def only(*_handles: object) -> None:
    """Nothing: for a body that uses ops and has no output."""


def edges(plan: Plan) -> dict[str, dict[str, object]]:
    """Of each step its inputs as text: ``load.result``, lists for fan-ins, ``!`` for order-only."""
    found: dict[str, dict[str, object]] = {}
    for step in plan.steps:
        mine: dict[str, object] = {}
        for item in step.inputs:
            sources = [f"{plan.steps[s.step].key}.{s.output}" for s in item.sources]
            name = f"!{item.name}" if item.order_only else item.name
            mine[name] = sources if item.fan_in else sources[0]
        found[step.key] = mine
    return found


def compiled(body: Any, **arguments: Any) -> Plan:
    return compile_job(job(name="daily", **arguments)(body))


def test_a_job_becomes_steps_in_the_order_of_its_calls() -> None:
    def body() -> None:
        first = one()
        parts = split(first)
        add(first, parts.count)
        join([first, parts.rows, one()])
        after(start=first)

    plan = compiled(body)
    assert plan.job_name == "daily"
    assert edges(plan) == {
        "one": {},
        "split": {"items": "one.result"},
        "add": {"a": "one.result", "b": "split.count"},
        "one_2": {},
        "join": {"items": ["one.result", "split.rows", "one_2.result"]},
        "after": {"!start": "one.result"},
    }
    assert plan.step("add").compute is add
    assert plan.upstream[plan.index_of["join"]] == (0, 1, 3)


def test_inputs_left_to_their_default_are_not_listed() -> None:
    plan = compiled(lambda: add(one()))
    assert edges(plan)["add"] == {"a": "one.result"}


def test_outputs_say_what_may_be_missing_and_what_has_no_value() -> None:
    plan = compiled(lambda: [after(split(one()).rows)])
    assert plan.step("split").outputs == (StepOutput(name="rows"), StepOutput(name="count", required=False))
    assert plan.step("after").outputs == (StepOutput(name="result", order_only=True),)


def test_an_empty_list_is_an_empty_fan_in_and_waits_for_nothing() -> None:
    plan = compiled(lambda: [join([]), after([])])
    assert edges(plan) == {"join": {"items": []}, "after": {}}


class TestGraphs:
    def test_graphs_in_graphs_become_keys_with_dots(self) -> None:
        @graph
        def inner(x: Any) -> Any:
            return add(add(x))

        @graph(out={"sum": GraphOut(), "first": GraphOut()})
        def outer(y: Any) -> Any:
            first = inner(y)
            return join([inner(first), y]), first

        def body() -> None:
            results = outer(one())
            add(results.first, results.sum)

        assert edges(compiled(body)) == {
            "one": {},
            "outer.inner.add": {"a": "one.result"},
            "outer.inner.add_2": {"a": "outer.inner.add.result"},
            "outer.inner_2.add": {"a": "outer.inner.add_2.result"},
            "outer.inner_2.add_2": {"a": "outer.inner_2.add.result"},
            "outer.join": {"items": ["outer.inner_2.add_2.result", "one.result"]},
            "add": {"a": "outer.inner.add_2.result", "b": "outer.join.result"},
        }

    def test_an_input_that_is_not_connected_leaves_the_default(self) -> None:
        optional = graph(name="optional")(lambda x: add(one(), x))
        deeper = graph(name="deeper")(lambda y: optional(y))
        assert edges(compiled(lambda: deeper()))["deeper.optional.add"] == {"a": "deeper.optional.one.result"}

    def test_a_list_may_be_passed_through_but_not_put_in_a_list(self) -> None:
        through = graph(name="through")(lambda xs: join(xs))
        nested = graph(name="nested")(lambda xs: join([xs, one()]))
        assert edges(compiled(lambda: through([one(), one()])))["through.join"] == {
            "items": ["one.result", "one_2.result"]
        }
        with pytest.raises(
            DefinitionError, match=r"step 'nested.join': its input 'items' is a list that holds input 'xs'"
        ):
            compiled(lambda: nested([one(), one()]))

    def test_a_graph_as_a_job_has_keys_without_its_name(self) -> None:
        plan = compile_job(graph(name="whole")(lambda: add(one())).to_job())
        assert (plan.job_name, list(plan.index_of)) == ("whole", ["one", "add"])


class TestHowStepsRun:
    def test_a_step_has_what_its_op_declares(self) -> None:
        policy = RetryPolicy(max_retries=2)

        @op(tags={"db": "x"}, priority=3, timeout="5m", pools={"api": 2}, retry_policy=policy)
        def load() -> None:
            """Loads."""

        step = compiled(lambda: load()).step("load")
        assert (step.tags, step.priority, step.timeout_s, step.pools) == ({"db": "x"}, 3, 300.0, {"api": 2})
        assert (step.retry, step.description) == (policy, "Loads.")

    def test_a_step_without_demands_has_the_defaults(self) -> None:
        step = compiled(lambda: one()).step("one")
        assert (step.tags, step.priority, step.timeout_s, step.pools, step.retry) == ({}, 0, None, {}, None)

    def test_a_retry_policy_is_that_of_the_use_then_the_op_then_the_graph_then_the_job(self) -> None:
        of_job, of_graph, of_op, of_use = (RetryPolicy(max_retries=n) for n in range(1, 5))
        with_own = op(name="with_own", retry_policy=of_op)(lambda: None)
        part = graph(name="part")(lambda: only(one(), with_own(), one.with_retry_policy(of_use).alias("used")()))

        def body() -> None:
            one()
            with_own()
            with_own.with_retry_policy(of_use).alias("used")()
            part.with_retry_policy(of_graph)()

        plan = compiled(body, op_retry_policy=of_job)
        assert {step.key: step.retry for step in plan.steps} == {
            "one": of_job,
            "with_own": of_op,
            "used": of_use,
            "part.one": of_graph,
            "part.with_own": of_op,
            "part.used": of_use,
        }

    def test_tags_of_the_use_win_over_those_of_the_op_and_those_over_the_graphs(self) -> None:
        load = op(name="load", tags={"a": "op", "b": "op"})(lambda: None)
        part = graph(name="part")(lambda: load.tag({"a": "use"})())
        plan = compiled(lambda: [load.tag({"b": "use"})(), part.tag({"a": "graph", "b": "graph", "c": "graph"})()])
        assert plan.step("load").tags == {"a": "op", "b": "use"}
        assert plan.step("part.load").tags == {"a": "use", "b": "op", "c": "graph"}

    def test_a_priority_may_come_from_the_tag_of_a_use(self) -> None:
        load = op(name="load", priority=2)(lambda: None)
        part = graph(name="part")(lambda: only(one(), load()))

        def body() -> None:
            load.tag({"dagster/priority": 5})()
            one.tag({"dagster/priority": "-1"})()
            part.tag({"dagster/priority": "7"})()

        plan = compiled(body)
        assert {step.key: step.priority for step in plan.steps} == {"load": 5, "one": -1, "part.one": 7, "part.load": 2}
        with pytest.raises(DefinitionError, match="op 'one': tag 'dagster/priority' is 'high'"):
            compiled(lambda: one.tag({"dagster/priority": "high"})())

    def test_a_pool_may_come_from_the_tag_of_a_use(self) -> None:
        heavy = op(name="heavy", pools={"db": 2, "api": 1})(lambda: None)
        key = "dagster/concurrency_key"
        part = graph(name="part")(lambda: only(one(), heavy()))
        plan = compiled(lambda: [one.tag({key: "db"})(), heavy.tag({key: "api"})(), part.tag({key: "disk"})()])
        assert {step.key: dict(step.pools) for step in plan.steps} == {
            "one": {"db": 1},
            "heavy": {"db": 2, "api": 1},
            "part.one": {"disk": 1},
            "part.heavy": {"db": 2, "api": 1},
        }
        with pytest.raises(DefinitionError, match=r"names the pool 'disk', but the op itself takes db, api"):
            compiled(lambda: heavy.tag({key: "disk"})())
        with pytest.raises(DefinitionError, match="the pool name 'a b' has a blank"):
            compiled(lambda: one.tag({key: "a b"})())


class TestAssets:
    def test_each_asset_is_a_step_under_its_key(self) -> None:
        @asset(key_prefix="raw")
        def orders() -> int:
            return 1

        @asset(ins={"o": AssetIn("raw/orders")}, tags={"db": "x"}, output_required=False)
        def clean(o: int) -> int:
            return o

        @asset(deps=[clean, "raw/orders"], op_tags={"db": "y"})
        def report(clean: int) -> int:
            return clean

        plan = compile_job(job_of_assets([report, clean, orders]))
        assert edges(plan) == {
            "raw/orders": {},
            "clean": {"o": "raw/orders.result"},
            "report": {"clean": "clean.result", "!raw/orders": "raw/orders.result"},
        }
        assert [step.outputs for step in plan.steps[:2]] == [
            (StepOutput(name="result", asset="raw/orders"),),
            (StepOutput(name="result", required=False, asset="clean"),),
        ]
        assert plan.step("report").tags == {"db": "y"}
        assert plan.step("clean").compute is clean.op
        assert all(type(step.key) is str for step in plan.steps)

    def test_several_assets_of_one_step(self) -> None:
        @multi_asset(outs={"rows": AssetOut(), "count": AssetOut(key_prefix="stats")})
        def split_orders() -> Any: ...

        @asset
        def total(rows: int) -> int:
            return rows

        plan = compile_job(job_of_assets([split_orders, total]))
        assert edges(plan) == {"split_orders": {}, "total": {"rows": "split_orders.rows"}}
        assert [output.asset for output in plan.steps[0].outputs] == ["rows", "stats/count"]

    def test_an_asset_made_by_a_graph(self) -> None:
        inner = graph(name="inner")(lambda x: add(x))

        @asset
        def orders() -> int:
            return 1

        @graph_asset(key_prefix="made", tags={"team": "x"})
        def doubled(orders: Any) -> Any:
            return inner(add(orders))

        @asset(deps=[doubled])
        def report() -> None: ...

        plan = compile_job(job_of_assets([orders, doubled, report]))
        assert edges(plan) == {
            "orders": {},
            "made/doubled.add": {"a": "orders.result"},
            "made/doubled.inner.add": {"a": "made/doubled.add.result"},
            "report": {"!made/doubled": "made/doubled.inner.add.result"},
        }
        assert [output.asset for step in plan.steps for output in step.outputs] == [
            "orders",
            None,
            "made/doubled",
            "report",
        ]
        assert plan.step("made/doubled.add").tags == {"team": "x"}

    def test_a_job_of_assets_has_a_retry_policy_for_those_without(self) -> None:
        from executor import define_asset_job

        own, of_job = RetryPolicy(max_retries=5), RetryPolicy(max_retries=1)
        a = asset(name="a", retry_policy=own)(lambda: 1)
        b = asset(name="b")(lambda: 1)
        plan = compile_job(define_asset_job("daily", [a, b], op_retry_policy=of_job))
        assert [step.retry for step in plan.steps] == [own, of_job]


def test_compiling_twice_gives_equal_plans() -> None:
    made = job(name="daily")(lambda: join([add(one()), one()]))
    assert compile_job(made) == compile_job(made)


def test_graphs_may_lie_in_graphs_as_deep_as_they_like() -> None:
    depth = 2_000

    def around(inner: Any, level: int) -> Any:
        return graph(name=f"g{level}")(lambda x: inner(add(x)))

    nest: Any = graph(name="g0")(lambda x: add.with_retry_policy(RetryPolicy(max_retries=1))(x))
    for level in range(1, depth):
        nest = around(nest, level)
    made = job(name="deepest")(lambda: nest(one()))
    plan = compile_job(made)
    path = ".".join(f"g{level}" for level in reversed(range(depth)))
    assert len(plan) == depth + 1
    assert plan.steps[-1].key == f"{path}.add"
    assert plan.steps[-1].retry == RetryPolicy(max_retries=1)
    assert plan.upstream == ((), *((index,) for index in range(depth)))
    assert list(step_keys(made.body)) == [step.key for step in plan.steps]
    assert distinct_ops(made.body) == (one, add)
    assert named(made.body, f"{path}.add") == (f"{path}.add", add)
    assert named(made.body, f"{path}.ad") is None
    of_asset = compile_job(job_of_assets([graph_asset(name="deep")(lambda: nest(one()))]))
    assert of_asset.steps[-1].outputs[0].asset == "deep"
    assert compile_job(made, selection=["one", "g1999"]) == plan


def test_a_large_job_compiles_without_recursion_and_shares_what_is_equal() -> None:
    def body() -> None:
        handle = one()
        for _ in range(20_000):
            handle = add(handle)

    plan = compiled(body)
    assert len(plan) == 20_001
    assert plan.steps[-1].key == "add_20000"
    assert plan.steps[1].outputs is plan.steps[-1].outputs
    assert plan.steps[1].tags is plan.steps[-1].tags


@settings(max_examples=60, derandomize=True)
@given(st.data())
def test_any_job_compiles_to_a_topological_plan_with_the_edges_of_its_body(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    reads = [data.draw(st.lists(st.integers(0, n - 1), max_size=3)) if n else [] for n in range(size)]

    def body() -> None:
        handles: list[Any] = []
        for above in reads:
            handles.append(join([handles[n] for n in above]))

    plan = compiled(body)
    for step, above in zip(plan.steps, reads, strict=True):
        assert [source.step for source in step.inputs[0].sources] == above
        assert all(other < step.index for other in above)
        assert plan.upstream[step.index] == tuple(sorted(set(above)))


def test_a_job_without_steps_is_an_empty_plan() -> None:
    made: JobDefinition = job(name="empty")(lambda: None)
    assert len(compile_job(made)) == 0


def test_keys_and_names_of_a_plan_are_plain_text_whatever_they_were_written_as() -> None:
    first = asset(name="first")(lambda: 1)
    second = asset(name="second", ins={first.key: AssetIn(key=first.key)})(lambda first: first)
    plan = compile_job(job_of_assets([first, second]))
    texts = [step.key for step in plan.steps]
    texts += [item.name for step in plan.steps for item in step.inputs]
    texts += [output.name for step in plan.steps for output in step.outputs]
    assert {type(text) for text in texts} == {str}
