# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""Bodies of jobs and graphs: calls become nodes, and every mistake is found while the body runs."""

from typing import Any

import pytest

from executor import (
    DefinitionError,
    GraphOut,
    In,
    JobDefinition,
    Nothing,
    Out,
    RetryPolicy,
    UsageError,
    asset,
    graph,
    job,
    op,
)
from executor.authoring.composition import OutputHandle


@op
def one() -> int:
    return 1


@op
def add(a: int, b: int = 10) -> int:
    return a + b


@op(out={"rows": Out(), "count": Out()})
def split(items: Any) -> Any: ...


@op
def join(items: list[int]) -> int:
    return sum(items)


@op(out=Out(Nothing))
def prepare() -> None: ...


@op(ins={"start": In(Nothing)})
def after() -> int:
    return 2


def wires(made: JobDefinition) -> dict[str, dict[str, object]]:
    """Of each node its inputs, as text such as ``one.result``; lists for fan-ins."""

    def text(wire: Any) -> object:
        if isinstance(wire, tuple):
            return [text(item) for item in wire]
        return f"{wire.node}.{wire.output}" if isinstance(wire, OutputHandle) else f"<{wire.name}>"

    return {name: {n: text(w) for n, w in node.wires.items()} for name, node in made.graph.nodes.items()}  # type: ignore[union-attr]  # an op job


def refused(body: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        job(name="daily")(body)
    return str(caught.value)


def test_a_call_connects_by_position_and_by_name() -> None:
    @job
    def daily() -> None:
        first = one()
        add(first, b=one())

    assert wires(daily) == {"one": {}, "one_2": {}, "add": {"a": "one.result", "b": "one_2.result"}}


def test_an_op_used_many_times_is_numbered_and_skips_names_that_are_taken() -> None:
    @job
    def daily() -> None:
        one.alias("one_3")()
        for _ in range(4):
            one()

    assert list(wires(daily)) == ["one_3", "one", "one_2", "one_4", "one_5"]


def test_several_outputs_can_be_unpacked_and_taken_by_name_or_position() -> None:
    @job
    def daily() -> None:
        parts = split(one())
        rows, count = parts
        add(parts.rows, parts["count"])
        add(parts[0], count)
        join([rows, *parts])
        assert len(parts) == 2

    found = wires(daily)
    assert found["add"] == found["add_2"] == {"a": "split.rows", "b": "split.count"}
    assert found["join"] == {"items": ["split.rows", "split.rows", "split.count"]}


def test_a_list_of_results_is_a_fan_in() -> None:
    @job
    def daily() -> None:
        join([one(), one()])

    assert wires(daily)["join"] == {"items": ["one.result", "one_2.result"]}


def test_an_order_only_input_waits_for_any_output() -> None:
    @job
    def daily() -> None:
        after(start=prepare())
        after(one())
        after([one(), prepare()])
        after()

    found = wires(daily)
    assert found["after"] == {"start": "prepare.result"}
    assert found["after_3"] == {"start": ["one_2.result", "prepare_2.result"]}
    assert found["after_4"] == {}


def test_a_use_may_have_a_name_tags_and_a_retry_policy_of_its_own() -> None:
    policy = RetryPolicy(max_retries=5)

    @job
    def daily() -> None:
        one.alias("first").tag({"db": "x"}).with_retry_policy(policy)()
        one.tag({"n": 1}).tag({"m": 2}).alias("second")()
        one.with_retry_policy(policy)()

    nodes = daily.graph.nodes  # type: ignore[union-attr]  # an op job
    assert (nodes["first"].tags, nodes["first"].retry_policy) == ({"db": "x"}, policy)
    assert (nodes["second"].tags, nodes["second"].retry_policy) == ({"n": "1", "m": "2"}, None)
    assert nodes["one"].retry_policy is policy


class TestMistakes:
    def test_an_input_that_is_not_connected(self) -> None:
        said = refused(lambda: add())
        assert said.startswith("job 'daily': op 'add': input 'a' is not connected and has no default; pass the result")

    def test_an_unknown_input(self) -> None:
        said = refused(lambda: join(itms=one()))
        assert said == "job 'daily': op 'join' has no input 'itms'; did you mean 'items'? (its inputs: items)"

    def test_too_many_inputs(self) -> None:
        assert "op 'add' takes 2 inputs (a, b), but was given 3" in refused(lambda: add(one(), one(), one()))
        assert "op 'one_2' takes 0 inputs (none), but was given 1" in refused(lambda: one(one()))

    def test_an_input_given_twice(self) -> None:
        assert "op 'add': input 'a' is given twice" in refused(lambda: add(one(), a=one()))

    def test_a_constant(self) -> None:
        said = refused(lambda: add(5))
        assert (
            "input 'a' was given 5, which is not the result of an op; for a constant declare In(default_value" in said
        )
        assert "was given 'x'" in refused(lambda: join([one(), "x"]))

    def test_all_outputs_where_one_is_meant(self) -> None:
        said = refused(lambda: add(split(one())))
        assert "takes one output, but was given all outputs rows, count of 'split'; pick one, such as .rows" in said

    def test_an_unknown_output(self) -> None:
        said = refused(lambda: split(one()).cuont)
        assert said == "'split' has no output 'cuont'; did you mean 'count'? (it has: rows, count)"

    def test_nothing_where_a_value_is_meant(self) -> None:
        said = refused(lambda: add(prepare()))
        assert "takes a value, but output 'result' of 'prepare' is declared Nothing and has none" in said

    def test_two_ops_of_one_name(self) -> None:
        other = op(name="one")(lambda: 2)

        def body() -> None:
            one()
            other()

        assert "two different ops are called 'one'; give one of them another name=" in refused(body)

        @job
        def fine() -> None:
            one()
            other.alias("one_other")()

        assert list(wires(fine)) == ["one", "one_other"]

    def test_one_alias_twice(self) -> None:
        assert "two ops are called 'x'" in refused(lambda: [one.alias("x")(), one.alias("x")()])

    def test_an_alias_that_does_not_fit(self) -> None:
        with pytest.raises(DefinitionError, match="'a b' cannot be the name of an op"):
            one.alias("a b")

    def test_a_value_that_belongs_to_another_body(self) -> None:
        kept: list[Any] = []
        job(name="first")(lambda: kept.append(one()))
        said = refused(lambda: add(kept[0]))
        assert "was given output 'result' of 'one', which belongs to job 'first'" in said

    @pytest.mark.parametrize("use", [lambda value: 1 if value else 2, list, lambda value: [*value]])
    def test_using_a_handle_as_a_value(self, use: Any) -> None:
        said = refused(lambda: use(one()))
        assert "output 'result' of 'one' cannot be" in said
        assert "the body of job 'daily' only connects ops" in said

    def test_an_asset_in_a_body(self) -> None:
        orders = asset(name="orders")(lambda: 1)
        assert "<asset 'orders'> cannot be used in the body" in refused(lambda: orders())

    def test_a_body_with_parameters(self) -> None:
        assert "its body has the parameter 'x'; a job has no inputs" in refused(lambda x: add(x))

    def test_a_retry_policy_that_is_none(self) -> None:
        with pytest.raises(DefinitionError, match="with_retry_policy was given 3"):
            one.with_retry_policy(3)  # type: ignore[arg-type]  # that is the mistake

    def test_a_use_outside_of_a_body(self) -> None:
        with pytest.raises(DefinitionError, match="op 'one' can be used like this only in the body of a job or graph"):
            one.alias("x")()

    def test_an_error_of_the_body_leaves_no_body_behind(self) -> None:
        with pytest.raises(ZeroDivisionError):
            job(name="daily")(lambda: 1 / 0)
        assert one() == 1


class TestGraphs:
    def test_its_parameters_are_inputs_and_its_result_is_the_output(self) -> None:
        @graph
        def twice(x: Any) -> Any:
            """Adds to itself."""
            return add(x, x)

        @job
        def daily() -> None:
            add(twice(one()))

        assert (list(twice.ins), list(twice.outs), twice.description) == (["x"], ["result"], "Adds to itself.")
        assert wires(daily) == {"one": {}, "twice": {"x": "one.result"}, "add": {"a": "twice.result"}}

    def test_several_outputs_are_a_dict_or_named_by_out(self) -> None:
        @graph
        def by_dict() -> Any:
            return {"first": one(), "second": one()}

        @graph(out={"first": GraphOut(), "second": GraphOut()})
        def by_tuple() -> Any:
            return one(), one()

        @graph
        def by_op() -> Any:
            return split(one())

        @graph(out={"only": GraphOut()})
        def renamed() -> Any:
            return one()

        assert list(by_dict.outs) == list(by_tuple.outs) == ["first", "second"]
        assert (list(by_op.outs), list(renamed.outs)) == (["rows", "count"], ["only"])

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (lambda: 5, "its body returned 5; return the result of an op"),
            (lambda: (one(), one()), "return the result of an op, or several by name"),
            (lambda: {"a": 3}, "output 'a' is 3, not the output of an op used in its body"),
            (lambda x: x, "its body returned input 'x' of graph 'g'"),
            (lambda x=3: one(), "'x' in its body has a default or no name; set defaults on the ops inside"),
            (lambda **x: one(), "in its body has a default or no name"),
        ],
    )
    def test_a_result_that_is_no_output_is_an_error(self, body: Any, said: str) -> None:
        with pytest.raises(DefinitionError) as caught:
            graph(name="g")(body)
        assert str(caught.value).startswith("graph 'g': ")
        assert said in str(caught.value)

    def test_declared_and_returned_outputs_must_agree(self) -> None:
        with pytest.raises(DefinitionError, match="does not return the output 'b' that out= declares"):
            graph(name="g", out={"a": GraphOut(), "b": GraphOut()})(lambda: {"a": one()})
        with pytest.raises(DefinitionError, match="returns 'c', which out= does not declare"):
            graph(name="g", out={"a": GraphOut()})(lambda: {"a": one(), "c": one()})
        with pytest.raises(DefinitionError, match="out is 3; give GraphOut"):
            graph(name="g", out=3)(lambda: one())  # type: ignore[call-overload]  # that is the mistake

    def test_an_input_may_stay_unconnected_where_all_that_reads_it_has_a_default(self) -> None:
        @graph
        def optional(x: Any) -> Any:
            return add(one(), x)

        @job
        def daily() -> None:
            optional()

        assert wires(daily) == {"optional": {}}
        required = graph(name="required")(lambda x: add(x))
        assert "graph 'required': input 'x' is not connected" in refused(lambda: required())

    def test_an_input_that_only_orders_takes_what_has_no_value(self) -> None:
        ordered = graph(name="ordered")(lambda x: after(x))
        reading = graph(name="reading")(lambda x: add(x))

        @job
        def daily() -> None:
            ordered(prepare())

        assert wires(daily)["ordered"] == {"x": "prepare.result"}
        assert "is declared Nothing and has none" in refused(lambda: reading(prepare()))

    def test_it_can_be_made_a_job_unless_an_input_would_have_no_value(self) -> None:
        whole = graph(name="whole")(lambda: one())
        made = whole.to_job(name="daily", tags={"team": "x"}, op_retry_policy=RetryPolicy())
        assert (made.name, made.tags, made.op_retry_policy) == ("daily", {"team": "x"}, RetryPolicy())
        part = graph(name="part")(lambda x: add(x))
        with pytest.raises(DefinitionError, match=r"input 'x' of graph 'part' is not connected, .* pass 'x' there"):
            part.to_job()

    def test_it_cannot_be_called_outside_of_a_body(self) -> None:
        whole = graph(name="whole")(lambda: one())
        with pytest.raises(DefinitionError, match="graph 'whole' can be used like this only in the body"):
            whole()


def test_a_job_has_the_name_and_the_first_paragraph_of_its_function() -> None:
    @job
    def daily() -> None:
        """Every day.

        More.
        """
        one()

    assert (daily.name, daily.description, repr(daily)) == ("daily", "Every day.", "<job 'daily'>")
    assert job(name="other", description="Mine.")(daily.graph.fn).name == "other"  # type: ignore[union-attr]  # an op job


def test_tags_of_a_job_are_those_of_its_runs_unless_run_tags_are_given() -> None:
    assert job(name="a", tags={"n": 1})(lambda: one()).run_tags == {"n": "1"}
    both = job(name="a", tags={"n": 1}, run_tags={"m": "2"})(lambda: one())
    assert (both.tags, both.run_tags) == ({"n": "1"}, {"m": "2"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"executor_def": 3}, "job 'daily': the executor is 3; give multiprocess_executor.configured"),
        ({"op_retry_policy": 3}, "job 'daily': op_retry_policy is 3"),
        ({"tags": 3}, "job 'daily': tags are 3"),
        ({"name": "a b"}, "'a b' cannot be the name of a job"),
        ({"config": {"max_concurrent": 2}}, "job 'daily': config: \"max_concurrent\" is not read there"),
        (
            {"config": {"execution": {"config": {"multiprocess": {"max_concurent": 2}}}}},
            "job 'daily': config.execution.config.multiprocess: unknown key \"max_concurent\"",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_an_error_at_definition(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        job(**{"name": "daily", **arguments})(lambda: one())
    assert str(caught.value).startswith(said)


def test_usage_errors_are_not_definition_errors() -> None:
    assert not issubclass(UsageError, DefinitionError)
