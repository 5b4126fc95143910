"""Running one op: how its function is called, and how what it gives is sorted to its outputs."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from executor import (
    BadOutput,
    DefinitionError,
    In,
    Nothing,
    OpDefinition,
    Out,
    Output,
    asset,
    build_op_context,
    graph,
    job,
    op,
)
from executor.authoring.compute import call_op
from executor.workers.event_loop import LoopIsRunning, run_async
from executor.workers.runner import Stop

TWO = {"rows": Out(), "count": Out()}


def run(definition: OpDefinition, **inputs: Any) -> dict[str, Any]:
    return call_op(definition, build_op_context(), inputs, partial(run_async, Stop()))


def refused(definition: OpDefinition, **inputs: Any) -> str:
    with pytest.raises(BadOutput) as caught:
        run(definition, **inputs)
    return str(caught.value)


class TestInputs:
    def test_they_are_passed_by_name_and_missing_ones_take_their_defaults(self) -> None:
        @op(ins={"c": In(default_value=30), "d": In(default_value=None)})
        def add(a: int, b: int = 20, *, c: int, d: object) -> tuple[object, ...]:
            return a, b, c, d

        assert run(add, a=1) == {"result": (1, 20, 30, None)}
        assert run(add, a=1, b=2, c=3, d=4) == {"result": (1, 2, 3, 4)}

    def test_a_default_declared_wins_over_that_of_the_function(self) -> None:
        @op(ins={"a": In(default_value="declared")})
        def echo(a: str = "own") -> str:
            return a

        assert run(echo) == {"result": "declared"}

    @pytest.mark.parametrize("name", ["context", "_context", "_"])
    def test_a_context_is_passed_to_a_first_parameter_of_that_name(self, name: str) -> None:
        scope: dict[str, Any] = {}
        exec(f"def ask({name}, a): return {name}.attempt, a", scope)
        definition = op(scope["ask"])
        assert list(definition.ins) == ["a"]
        assert run(definition, a=5) == {"result": (1, 5)}

    def test_a_context_is_passed_to_a_first_parameter_annotated_so(self) -> None:
        import executor

        @op
        def by_class(ctx: executor.OpExecutionContext) -> str:
            return ctx.run_id

        @op
        def by_text(c: "executor.AssetExecutionContext") -> str:
            return c.run_id

        assert run(by_class) == run(by_text) == {"result": "test"}

    def test_a_second_parameter_called_context_is_an_input(self) -> None:
        assert list(op(name="f")(lambda a, context: None).ins) == ["a", "context"]

    def test_further_inputs_go_to_kwargs_where_the_function_takes_any(self) -> None:
        @op(ins={"x": In(), "y": In(default_value=2)})
        def total(**numbers: int) -> int:
            return sum(numbers.values())

        assert run(total, x=5) == {"result": 7}

    def test_an_input_that_is_no_parameter_is_an_error_at_definition(self) -> None:
        with pytest.raises(DefinitionError, match=r"ins declares 'ordres', .* did you mean 'orders'\?"):
            op(name="f", ins={"ordres": In()})(lambda orders: None)

    def test_an_order_only_input_is_no_parameter(self) -> None:
        assert run(op(name="f", ins={"start": In(Nothing)})(lambda: 3)) == {"result": 3}
        with pytest.raises(DefinitionError, match="input 'start' is Nothing, so the function gets no value"):
            op(name="f", ins={"start": In(Nothing)})(lambda start: None)
        with pytest.raises(DefinitionError, match="cannot have a default value"):
            In(Nothing, default_value=3)

    def test_other_callables_work_too(self) -> None:
        def power(base: int, exponent: int) -> int:
            return int(base**exponent)

        assert run(op(name="square")(functools.partial(power, exponent=2)), base=3) == {"result": 9}


class TestRefusedFunctions:
    def test_what_is_no_function(self) -> None:
        with pytest.raises(DefinitionError, match="is not a function; put the decorator above a def"):
            op(name="f")(3)  # type: ignore[arg-type]  # that is the mistake
        with pytest.raises(DefinitionError, match="3 is not a function"):
            op(3)  # type: ignore[call-overload]  # that is the mistake

    def test_an_async_one_as_the_body_of_a_graph(self) -> None:
        async def body() -> None: ...

        for decorator in (job, graph):
            with pytest.raises(DefinitionError, match=r"its body is called once.*the ops in it may be async"):
                decorator(body)

    def test_one_whose_inputs_have_no_names(self) -> None:
        with pytest.raises(DefinitionError, match=r"the parameter \*rows has none"):
            op(name="f")(lambda *rows: None)
        with pytest.raises(DefinitionError, match="inputs are passed by name"):
            op(name="f")(lambda a, /: None)

    @pytest.mark.parametrize("name", ["two words", "a.b", "", None, 5])
    def test_one_whose_name_does_not_fit(self, name: Any) -> None:
        with pytest.raises(DefinitionError, match="cannot be the name of an op; use a to z, A to Z, 0 to 9 and _ only"):
            op(name=name)(lambda: None)


class TestAsync:
    def test_what_a_coroutine_returns_is_the_output(self) -> None:
        @op
        async def fetch(a: int) -> int:
            await asyncio.sleep(0)
            return a + 1

        @op(out=TWO)
        async def both() -> tuple[list[int], int]:
            return [1], 1

        @op
        async def named() -> Output:
            return Output(5)

        assert run(fetch, a=1) == {"result": 2}
        assert run(both) == {"rows": [1], "count": 1}
        assert run(named) == {"result": 5}

    def test_what_an_async_generator_yields_are_the_outputs(self) -> None:
        @op(out=TWO)
        async def stream() -> AsyncIterator[Output]:
            yield Output(1, "count")
            await asyncio.sleep(0)
            yield Output([1], "rows")

        @op(out=TWO)
        async def half() -> AsyncIterator[Output]:
            yield Output(1, "count")

        assert run(stream) == {"rows": [1], "count": 1}
        assert "did not give its output 'rows'" in refused(half)

    def test_a_function_whose_wrapper_is_not_async(self) -> None:
        def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(fn)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return fn(*args, **kwargs)

            return wrapper

        @op
        @logged
        async def fetch(a: int) -> int:
            return a

        assert run(fetch, a=3) == {"result": 3}

    def test_a_thread_with_a_loop_of_its_own_gets_a_way_out(self) -> None:
        @op
        async def fetch() -> int:
            return 1

        async def cell() -> dict[str, Any]:
            return run(fetch)

        with pytest.raises(LoopIsRunning, match=r"op 'fetch' is async, and an event loop runs .*job\.execute\(\)"):
            asyncio.run(cell())


class TestOutputs:
    def test_one_output_is_the_returned_value_even_none(self) -> None:
        assert run(op(name="f")(lambda: [1])) == {"result": [1]}
        assert run(op(name="f")(lambda: None)) == {"result": None}
        assert run(op(name="f")(lambda: (1, 2))) == {"result": (1, 2)}

    def test_an_output_object_is_unwrapped(self) -> None:
        assert run(op(name="f")(lambda: Output(3, metadata={"rows": 3}))) == {"result": 3}
        assert run(op(name="f", out={"rows": Out()})(lambda: Output(3))) == {"rows": 3}

    def test_several_are_a_tuple_in_the_declared_order(self) -> None:
        assert run(op(name="f", out=TWO)(lambda: ([1, 2], 2))) == {"rows": [1, 2], "count": 2}
        mixed = op(name="f", out=TWO)(lambda: (Output([1]), Output(1, "count")))
        assert run(mixed) == {"rows": [1], "count": 1}

    def test_several_may_be_yielded_in_any_order(self) -> None:
        @op(out=TWO)
        def split() -> Iterator[Output]:
            yield Output(2, "count")
            yield Output([1, 2], output_name="rows")

        assert run(split) == {"count": 2, "rows": [1, 2]}

    def test_a_generator_may_yield_the_only_output(self) -> None:
        @op
        def one() -> Iterator[Output]:
            yield Output(1)

        assert run(one) == {"result": 1}

    def test_an_optional_output_may_be_left_out_by_a_generator(self) -> None:
        @op(out={"yes": Out(is_required=False), "no": Out(is_required=False)})
        def branch(flag: bool) -> Iterator[Output]:
            yield Output("go", "yes" if flag else "no")

        assert run(branch, flag=True) == {"yes": "go"}
        assert run(branch, flag=False) == {"no": "go"}

    def test_a_returned_none_is_the_value_of_an_optional_output(self) -> None:
        assert run(op(name="f", out=Out(is_required=False))(lambda: None)) == {"result": None}

    def test_an_output_that_is_nothing_has_no_value(self) -> None:
        assert run(op(name="f", out=Out(Nothing))(lambda: None)) == {"result": None}
        assert run(op(name="f", out={"done": Out(Nothing), "n": Out()})(lambda: (None, 3))) == {"done": None, "n": 3}

    def test_an_annotation_of_nothing_declares_it(self) -> None:
        @op
        def wait() -> Nothing:  # type: ignore[empty-body]  # it gives nothing
            ...

        assert wait.outs["result"].order_only
        assert run(wait) == {"result": None}

    def test_a_generator_need_not_yield_what_has_no_value(self) -> None:
        @op(out={"done": Out(Nothing), "n": Out()})
        def work() -> Iterator[Output]:
            yield Output(3, "n")

        assert run(work) == {"n": 3, "done": None}

    def test_an_op_may_have_no_outputs(self) -> None:
        assert run(op(name="f", out={})(lambda: None)) == {}

    def test_two_outputs_that_are_nothing_need_no_tuple(self) -> None:
        assert run(op(name="f", out={"a": Out(Nothing), "b": Out(Nothing)})(lambda: None)) == {"a": None, "b": None}


class TestBadOutput:
    def test_an_unknown_output(self) -> None:
        said = refused(op(name="f", out=TWO)(lambda: Output(1, "row")))
        assert said == "op 'f' has no output 'row'; did you mean 'rows'? (it declares: rows, count)"

    def test_a_missing_output(self) -> None:
        @op(out=TWO)
        def split() -> Iterator[Output]:
            yield Output([], "rows")

        said = refused(split)
        assert said.startswith("op 'split' did not give its output 'count'; yield Output(value, output_name='count')")
        assert "did not give its output 'rows'" in refused(op(name="f", out=TWO)(lambda: None))

    def test_an_output_given_twice(self) -> None:
        @op
        def twice() -> Iterator[Output]:
            yield Output(1)
            yield Output(2)

        assert refused(twice) == "op 'twice' gave its output 'result' twice; give each output once"

    def test_a_yielded_value_that_is_no_output(self) -> None:
        @op
        def wrong() -> Iterator[int]:
            yield 1

        assert refused(wrong).startswith("op 'wrong' yielded a value of type int; yield Output(")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ((1,), "a tuple of 1"),
            ((1, 2, 3), "a tuple of 3"),
            (5, "a value of type int"),
            ([1, 2], "a value of type list"),
        ],
    )
    def test_a_tuple_of_the_wrong_length(self, given: object, said: str) -> None:
        text = refused(op(name="f", out=TWO)(lambda: given))
        assert text.startswith(f"op 'f' returned {said}, but declares 2 outputs (rows, count); return a tuple")

    def test_a_tuple_in_the_wrong_order(self) -> None:
        wrong = op(name="f", out=TWO)(lambda: (Output(1, "count"), Output([], "rows")))
        assert "returned output 'count' in the place of 'rows'; keep the declared order" in refused(wrong)

    def test_a_value_for_nothing(self) -> None:
        said = refused(op(name="f", out=Out(Nothing))(lambda: "text"))
        assert "gave a value of type str for its output 'result', which is declared Nothing" in said

    def test_a_value_where_no_output_is_declared(self) -> None:
        assert "declares no outputs, but returned a value of type int" in refused(op(name="f", out={})(lambda: 1))

    def test_it_names_an_asset_as_such(self) -> None:
        @asset(output_required=True)
        def orders() -> Iterator[Output]:
            yield Output(1, "wrong")

        assert orders.op is not None
        assert refused(orders.op).startswith("asset 'orders' has no output 'wrong'")

    def test_it_pickles(self) -> None:
        import pickle

        assert str(pickle.loads(pickle.dumps(BadOutput("why")))) == "why"


def test_what_the_function_raises_is_raised() -> None:
    @op
    def fails() -> None:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        run(fails)


@pytest.mark.parametrize("wrong", [3, {"a": 1}, [Out()]])
def test_out_is_an_out_or_a_dict_of_them(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=r"op 'f': out is .*; give Out"):
        op(name="f", out=wrong)(lambda: None)


def test_ins_is_a_dict_of_in() -> None:
    with pytest.raises(DefinitionError, match=r"op 'f': ins is .*; give a dict of In by input name"):
        op(name="f", ins={"a": 3})(lambda a: None)  # type: ignore[dict-item]  # that is the mistake
