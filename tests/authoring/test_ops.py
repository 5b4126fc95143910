"""Ops as they are written, and called as plain functions in unit tests."""

import logging

import pytest

from executor import (
    AssetExecutionContext,
    In,
    Nothing,
    OpExecutionContext,
    Out,
    asset,
    build_asset_context,
    build_op_context,
    op,
)


@op
def add(a: int, b: int = 10) -> int:
    """Adds.

    More about it.
    """
    return a + b


@op(ins={"b": In(default_value=10)}, tags={"db": "x"})
def with_context(context: OpExecutionContext, a: int, b: int) -> tuple[str, int, dict[str, str]]:
    return context.step_key, a + b, dict(context.tags)


def test_an_op_has_the_name_and_the_first_paragraph_of_its_function() -> None:
    assert (add.name, add.description) == ("add", "Adds.")
    named = op(name="other", description="Mine.")(add.fn)
    assert (named.name, named.description) == ("other", "Mine.")


def test_an_op_is_called_as_a_plain_function() -> None:
    assert add(1) == 11
    assert add(1, 2) == 3
    assert add(a=1, b=2) == 3


def test_a_context_is_made_where_none_is_given() -> None:
    assert with_context(1) == ("with_context", 11, {"db": "x"})
    assert with_context(a=1, b=1) == ("with_context", 2, {"db": "x"})


def test_a_context_may_be_given_by_position_or_by_name() -> None:
    context = build_op_context(step_key="mine", tags={})
    assert with_context(context, 1) == ("mine", 11, {})
    assert with_context(context=context, a=1) == ("mine", 11, {})
    assert with_context(context, 1, 2) == ("mine", 3, {})


def test_a_test_may_bring_a_double_of_its_own_as_context() -> None:
    class Double:
        step_key, tags = "double", {"x": "y"}

    assert with_context(Double(), 1, 2) == ("double", 3, {"x": "y"})
    assert with_context(a=1, context=Double()) == ("double", 11, {"x": "y"})


def test_an_order_only_input_may_be_given_and_is_dropped() -> None:
    @op(ins={"start": In(Nothing)})
    def after(a: int = 1) -> int:
        return a

    assert after(start=None) == 1
    assert after(5, start="anything") == 5


def test_a_context_is_dropped_by_an_op_that_takes_none() -> None:
    assert add(build_op_context(), 1) == 11


def test_an_assets_function_is_called_the_same_way() -> None:
    @asset(key_prefix="raw")
    def orders(context: AssetExecutionContext, customers: int) -> tuple[str, int]:
        return context.asset_key, customers

    assert orders(5) == ("raw/orders", 5)
    assert orders(build_asset_context(asset_key="x"), 5) == ("x", 5)
    assert orders(customers=6) == ("raw/orders", 6)


def test_a_call_that_does_not_fit_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        add()
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        add(1, c=3)


def test_the_inputs_that_must_be_connected_are_those_without_a_default() -> None:
    assert add.required_inputs == ["a"]
    assert with_context.required_inputs == ["a"]


def test_a_context_tells_what_is_known_of_the_attempt() -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return True

    context = build_op_context(
        run_id="r",
        job_name="j",
        step_key="g.load",
        attempt=3,
        tags={"a": "1"},
        run_tags={"team": "x"},
        cancelled=cancelled,
    )
    assert (context.run_id, context.job_name, context.step_key, context.op_name) == ("r", "j", "g.load", "g.load")
    assert (context.attempt, context.retry_number) == (3, 2)
    assert (context.tags, context.run_tags) == ({"a": "1"}, {"team": "x"})
    assert context.has_tag("team")
    assert context.get_tag("nothing") is None
    assert asked == []
    assert context.is_cancelled
    assert context.op_execution_context is context
    assert repr(context) == "<OpExecutionContext of step 'g.load', attempt 3, run r>"


def test_a_test_context_logs_to_a_logger_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    context = build_op_context()
    with caplog.at_level(logging.INFO, "executor.test"):
        context.log.info("hello")
    assert caplog.messages == ["hello"]
    assert not context.is_cancelled


def test_an_assets_context_knows_the_key_in_parts() -> None:
    context = build_asset_context(asset_key="raw/orders")
    assert context.asset_key == "raw/orders"
    assert context.asset_key.path == ["raw", "orders"]
    assert isinstance(context, OpExecutionContext)


def test_the_declared_types_are_kept_for_people() -> None:
    made = op(name="f", ins={"a": In(int, "how many")}, out=Out(str, "what"))(lambda a: f"{a}")
    assert (made.ins["a"].dagster_type, made.outs["result"].description) == (int, "what")
