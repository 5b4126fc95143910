# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""Assets: their keys, what they read and wait for, and what is found wrong when they meet."""

import functools
from typing import Any

import pytest

from executor import (
    AssetIn,
    AssetKey,
    AssetOut,
    AssetsDefinition,
    DefinitionError,
    Nothing,
    Output,
    asset,
    graph_asset,
    multi_asset,
    op,
)
from executor.authoring.asset_graph import AssetGraph, asset_graph


def of(*assets: Any) -> AssetGraph:
    return asset_graph("here", assets)


def named(name: str, **arguments: Any) -> AssetsDefinition:
    made = asset(name=name, **arguments)(lambda: None)
    assert isinstance(made, AssetsDefinition)
    return made


def reading(name: str, *inputs: str, **arguments: Any) -> AssetsDefinition:
    """An asset of that name whose function has these parameters."""
    made = asset(name=name, **arguments)(eval(f"lambda {', '.join(inputs)}: None"))
    assert isinstance(made, AssetsDefinition)
    return made


def refused(*assets: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        of(*assets)
    return str(caught.value)


class TestKeys:
    def test_a_key_is_text_made_of_parts(self) -> None:
        key = AssetKey(["raw", "orders"])
        assert key == "raw/orders" == AssetKey("raw/orders")
        assert (key.path, key.to_user_string(), f"{key}") == (["raw", "orders"], "raw/orders", "raw/orders")
        assert type(str(key)) is str

    def test_it_pickles_as_itself(self) -> None:
        import pickle

        copy = pickle.loads(pickle.dumps(AssetKey("a/b")))
        assert (type(copy), copy) == (AssetKey, "a/b")

    @pytest.mark.parametrize("wrong", ["", "a//b", "a b", "a.b", [], ["a", 3], "a*"])
    def test_other_characters_are_refused(self, wrong: Any) -> None:
        with pytest.raises(DefinitionError, match="cannot be part of an asset's key"):
            AssetKey(wrong)

    def test_an_asset_is_named_by_its_function_or_by_arguments(self) -> None:
        def orders() -> None: ...

        assert asset(orders).key == "orders"
        assert asset(name="o-1")(orders).key == "o-1"
        assert asset(key_prefix="raw")(orders).key == "raw/orders"
        assert asset(key_prefix=["a", "b"], name="c")(orders).key == "a/b/c"
        assert asset(key=["x", "y"])(orders).key == "x/y"
        assert asset(key=AssetKey("x"))(orders).key == "x"
        with pytest.raises(DefinitionError, match="key= is the whole key; leave out name= and key_prefix="):
            asset(key="x", name="y")(orders)

    def test_dagsters_own_key_objects_are_understood(self) -> None:
        class Foreign:
            path = ("raw", "orders")

        assert asset(key=Foreign(), deps=[Foreign()])(lambda: None).key == "raw/orders"

    def test_a_function_without_a_name_needs_one(self) -> None:
        nameless = functools.partial(lambda value: value, value=3)
        assert asset(name="three")(nameless).key == "three"
        with pytest.raises(DefinitionError, match="has no name of its own; give the asset one with name="):
            asset(nameless)

    def test_what_is_no_key_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="3 is not an asset's key; give text, a list of parts"):
            asset(key=3)(lambda: None)


class TestDefinition:
    def test_it_keeps_what_is_for_people(self) -> None:
        @asset(group_name="sales", metadata={"rows": 1}, owners=["team:x"], kinds={"python"})
        def orders() -> None:
            """All orders."""

        assert (orders.group_name, orders.metadata, orders.owners) == ("sales", {"rows": 1}, ("team:x",))
        assert orders.kinds == {"python"}
        assert (orders.description, repr(orders)) == ("All orders.", "<asset 'orders'>")

    def test_what_is_no_function_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="an asset: 3 is not a function"):
            asset(3)  # type: ignore[call-overload]  # that is the mistake

    def test_a_second_decorator_is_refused(self) -> None:
        with pytest.raises(
            DefinitionError, match="an asset: <op 'f'> is decorated already; keep one of the decorators"
        ):
            asset(op(name="f")(lambda: 1))

    def test_a_wrong_input_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"ins declares 'ordrs', .* did you mean 'orders'\?"):
            reading("a", "orders", ins={"ordrs": AssetIn("orders")})
        with pytest.raises(DefinitionError, match="give a dict of AssetIn by input name"):
            reading("a", "orders", ins={"orders": "raw/orders"})
        with pytest.raises(DefinitionError, match="AssetIn takes key= or key_prefix=, not both"):
            AssetIn("a", key_prefix="b")

    @pytest.mark.parametrize("wrong", ["orders", 3])
    def test_deps_are_a_list(self, wrong: Any) -> None:
        with pytest.raises(DefinitionError, match=r"asset 'a': deps is .*; give a list, such as deps="):
            named("a", deps=wrong)


class TestReading:
    def test_a_parameter_reads_the_asset_of_that_name(self) -> None:
        graph = of(reading("b", "a"), named("a"))
        assert [item.key for item in graph.assets] == ["a", "b"]
        assert graph.reads == ({}, {"a": "a"})

    def test_ins_name_other_keys(self) -> None:
        raw = named("orders", key_prefix="raw")
        by_key = reading("x", "orders", ins={"orders": AssetIn("raw/orders")})
        by_prefix = reading("y", "orders", ins={"orders": AssetIn(key_prefix="raw")})
        by_object = reading("z", "o", ins={"o": AssetIn(raw)})
        graph = of(raw, by_key, by_prefix, by_object)
        assert [set(reads.values()) for reads in graph.reads[1:]] == [{"raw/orders"}] * 3

    def test_a_name_alone_may_mean_an_asset_with_the_same_prefix(self) -> None:
        near, far = named("orders", key_prefix="raw"), named("orders")
        reader = reading("clean", "orders", key_prefix="raw")
        assert of(near, reader).reads[1] == {"orders": "raw/orders"}
        assert of(near, far, reader).reads[2] == {"orders": "orders"}

    def test_an_input_with_a_default_may_be_read_from_nowhere(self) -> None:
        graph = of(reading("b", "a=3"))
        assert graph.reads == ({},)
        assert of(reading("b", "a=3"), named("a")).reads[1] == {"a": "a"}

    def test_an_input_that_is_nothing_only_waits(self) -> None:
        waiting = asset(name="b", ins={"a": AssetIn(dagster_type=Nothing)})(lambda: None)
        assert of(named("a"), waiting).upstream == ((), (0,))

    def test_an_unknown_asset_is_an_error_with_a_suggestion(self) -> None:
        assert refused(reading("b", "oders"), named("orders")) == (
            "here: asset 'b' reads asset 'oders' (its input 'oders'), which is not there; add that asset, "
            "name another with ins=, or give the input a default; did you mean 'orders'?"
        )


class TestWaiting:
    def test_deps_are_names_keys_and_assets_in_any_mixture(self) -> None:
        a, b, c = named("a"), named("b", key_prefix="raw"), named("c")
        last = named("last", deps=["a", ["raw", "b"], c, AssetKey("a")])
        graph = of(last, a, b, c)
        assert graph.assets[-1] is last
        assert graph.waits[-1] == ("a", "raw/b", "c")

    def test_an_unknown_name_is_an_error(self) -> None:
        assert refused(named("b", deps=["ordres"]), named("orders")) == (
            "here: asset 'b' depends on asset 'ordres', which is not there; add that asset, or correct its deps"
            "; did you mean 'orders'?"
        )

    def test_an_asset_that_is_elsewhere_holds_nothing_back(self) -> None:
        elsewhere = named("elsewhere")
        assert of(named("b", deps=[elsewhere])).waits == ((),)


class TestMeeting:
    def test_assets_come_after_what_they_read_and_keep_their_order_otherwise(self) -> None:
        graph = of([reading("d", "b", "c"), [reading("c", "a")]], reading("b", "a"), named("a"), named("z"))
        assert [item.key for item in graph.assets] == ["a", "c", "b", "d", "z"]
        assert graph.upstream == ((), (0,), (0,), (1, 2), ())
        assert graph.downstream == ((1, 2), (3,), (3,), (), ())

    def test_two_assets_of_one_key_are_an_error(self) -> None:
        assert "here: two assets have the key 'a'; give one of them another name=" in refused(named("a"), named("a"))
        one = named("a")
        assert of(one, one).assets == (one,)

    def test_a_circle_is_printed_as_the_circle(self) -> None:
        said = refused(named("z"), reading("a", "c"), reading("b", "a"), reading("c", "b"), reading("d", "a"))
        assert said == (
            "here: assets wait for each other in a circle: a -> b -> c -> a; remove one of these dependencies"
        )
        assert "in a circle: a -> a" in refused(reading("a", "a"))
        assert "in a circle: a -> b -> a" in refused(named("a", deps=["b"]), named("b", deps=["a"]))

    def test_what_is_no_asset_is_an_error(self) -> None:
        assert "here: 'orders' is not an asset; give functions decorated with @asset" in refused("orders")
        assert "is not an asset" in refused(lambda: None)

    def test_many_assets_are_ordered_quickly_and_without_recursion(self) -> None:
        chain = [named("a0")] + [reading(f"a{n}", f"a{n - 1}") for n in range(1, 3000)]
        graph = of(chain[::-1])
        assert [item.key for item in graph.assets] == [f"a{n}" for n in range(3000)]


class TestSeveralAssetsOfOneStep:
    def test_each_output_is_an_asset(self) -> None:
        outs = {"rows": AssetOut(), "count": AssetOut(key_prefix="stats", is_required=False)}

        @multi_asset(outs=outs, op_tags={"a": 1})
        def split(items: Any) -> Any: ...

        graph = of(split, named("items"), reading("total", "rows"))
        assert split.keys == ("rows", "stats/count")
        assert graph.made["stats/count"].output == "count"  # type: ignore[index]  # a key is text
        assert [item.step_key for item in graph.assets] == ["items", "split", "total"]
        assert split.tags == {"a": "1"}
        with pytest.raises(DefinitionError, match=r"makes several assets \(rows, stats/count\); use \.keys"):
            _ = split.key

    @pytest.mark.parametrize("outs", [{}, {"a": 3}, None])
    def test_outs_are_needed(self, outs: Any) -> None:
        with pytest.raises(DefinitionError, match="give an AssetOut for each asset"):
            multi_asset(outs=outs, name="m")(lambda: None)


class TestGraphAssets:
    def test_ops_make_the_asset(self) -> None:
        @op
        def double(x: int) -> int:
            return 2 * x

        @graph_asset(key_prefix="made", tags={"team": "x"})
        def doubled(orders: Any) -> Any:
            """Twice."""
            return double(double(orders))

        graph = of(named("orders"), doubled)
        assert (doubled.key, doubled.description, doubled.op) == ("made/doubled", "Twice.", None)
        assert graph.reads[1] == {"orders": "orders"}

    def test_it_cannot_be_called(self) -> None:
        one = op(name="one")(lambda: 1)
        made = graph_asset(name="g")(lambda: one())
        with pytest.raises(DefinitionError, match="<asset 'g'> is made by a graph; call the ops in it"):
            made()

    def test_its_body_returns_one_result(self) -> None:
        with pytest.raises(DefinitionError, match="graph_asset 'g': its body must return the result of one op"):
            graph_asset(name="g")(lambda: None)

    def test_its_ins_are_parameters(self) -> None:
        made = op(name="f")(lambda x: x)
        with pytest.raises(DefinitionError, match=r"ins declares 'ordrs', .* did you mean 'orders'\?"):
            graph_asset(name="g", ins={"ordrs": AssetIn("a")})(lambda orders: made(orders))


def test_an_output_may_be_left_out_where_it_is_not_required() -> None:
    @asset(output_required=False)
    def maybe() -> Any:
        yield Output(1)

    assert maybe.op is not None
    assert not maybe.op.outs["result"].is_required
