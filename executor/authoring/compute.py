"""Running one op: its function is called with a context and its inputs, and what it gives is sorted to its outputs.

The one way in which a worker runs a step. Unaware of plans, workers and where values are kept.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from executor.authoring.ports import DEFAULT_OUTPUT, Output
from executor.errors import ExecutorError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from executor.authoring.context import OpExecutionContext
    from executor.authoring.ops import OpDefinition

    #: Given an op's label, and what its ``async`` function gave: the returned value, or a list of the yielded ones.
    RunAsync = Callable[[str, Any], Any]


#: What an ``async def`` gives when it is called: an event loop must run it.
ASYNC = (CoroutineType, AsyncGeneratorType)

#: What must be run or sorted; anything else is a plain value.
SEVERAL = (Output, GeneratorType, *ASYNC)


class BadOutput(ExecutorError):
    """What an op returned or yielded does not fit the outputs that it declares; the text says how."""


def call_op(
    op: OpDefinition,
    context: OpExecutionContext | None,
    inputs: Mapping[str, Any],
    run_async: RunAsync | None = None,
) -> dict[str, Any]:
    """The outputs that ``op`` produced, by name; optional ones that it left out are missing, order-only ones are None.

    ``inputs`` are its values by name; those that are missing take their defaults. The context is needed only where
    ``op.takes_context``; ``run_async``, which runs what is ``async``, only where its function is.

    Raises:
        BadOutput: what it gave does not fit the outputs that it declares.
        Exception: whatever the user's function raises.
    """
    if op.prepares:
        inputs = op.prepared(context, inputs)
    given = op.fn(context, **inputs) if op.takes_context else op.fn(**inputs)
    only = op.only_output
    if only is not None and not isinstance(given, SEVERAL):
        return {only: given}
    if isinstance(given, ASYNC):
        assert run_async is not None  # noqa: S101  (given by whoever runs steps)
        streams = isinstance(given, AsyncGeneratorType)
        given = run_async(op.label, given)
        if streams:
            given = (item for item in given)  # as a generator gives them
    return _sorted_outputs(op, given)


def _sorted_outputs(op: OpDefinition, given: object) -> dict[str, Any]:
    """What is given, by output name: an ``Output``, a generator or tuple of them, one value, or None."""
    produced: dict[str, Any] = {}
    if isinstance(given, GeneratorType):
        _take_stream(op, given, produced)
    elif isinstance(given, Output):
        _take(op, given.output_name, given.value, produced)
    elif len(op.outs) > 1 and given is not None:
        _take_tuple(op, given, produced)
    elif len(op.outs) == 1:
        _take(op, next(iter(op.outs)), given, produced)
    elif given is not None:
        raise BadOutput(f"{op.label} declares no outputs, but returned {_kind(given)}; declare out=, or return nothing")
    _check_complete(op, produced)
    return produced


def _take_stream(op: OpDefinition, stream: Iterable[object], produced: dict[str, Any]) -> None:
    for item in stream:
        if not isinstance(item, Output):
            raise BadOutput(f"{op.label} yielded {_kind(item)}; yield Output(value, output_name=…)")
        _take(op, item.output_name, item.value, produced)


def _take_tuple(op: OpDefinition, given: object, produced: dict[str, Any]) -> None:
    names = list(op.outs)
    if not isinstance(given, tuple) or len(given) != len(names):
        what = f"a tuple of {len(given)}" if isinstance(given, tuple) else _kind(given)
        raise BadOutput(
            f"{op.label} returned {what}, but declares {len(names)} outputs ({', '.join(names)}); "
            f"return a tuple with one value for each in that order, or yield Output(value, output_name=…)"
        )
    for name, item in zip(names, given, strict=True):
        if isinstance(item, Output):
            if item.output_name not in (name, DEFAULT_OUTPUT):
                raise BadOutput(
                    f"{op.label} returned output {item.output_name!r} in the place of {name!r}; "
                    f"keep the declared order ({', '.join(names)})"
                )
            _take(op, name, item.value, produced)
        else:
            _take(op, name, item, produced)


def _take(op: OpDefinition, name: str, value: object, produced: dict[str, Any]) -> None:
    out = op.outs.get(name)
    if out is None and name == DEFAULT_OUTPUT and len(op.outs) == 1:
        name, out = next(iter(op.outs.items()))  # an Output that names none means the only one
    if out is None:
        known = ", ".join(op.outs) or "none"
        raise BadOutput(f"{op.label} has no output {name!r}{did_you_mean(name, op.outs)} (it declares: {known})")
    if name in produced:
        raise BadOutput(f"{op.label} gave its output {name!r} twice; give each output once")
    if out.order_only and value is not None:
        raise BadOutput(
            f"{op.label} gave {_kind(value)} for its output {name!r}, which is declared Nothing and keeps no value; "
            f"give nothing, or declare it as Out()"
        )
    produced[name] = value


def _check_complete(op: OpDefinition, produced: dict[str, Any]) -> None:
    """Raises for what is required and missing; order-only outputs need not be given."""
    for name, out in op.outs.items():
        if name in produced or not out.is_required:
            continue
        if not out.order_only:
            raise BadOutput(
                f"{op.label} did not give its output {name!r}; yield Output(value, output_name={name!r}), "
                f"or declare it as Out(is_required=False)"
            )
        produced[name] = None


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
