"""A plan as data that JSON can hold, so that a run's folder is read without the code of its job. Pure.

Everything of a plan is in it but ``compute``, which comes back as None. It is written by columns, one list over all
steps for each field, and what many steps share, such as tags and retry policies, stands in a table once. A column in
which every step has the same stands as that one value. So a large plan takes little more room than its keys and edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.authoring.retry import Backoff, Jitter, RetryPolicy
from executor.errors import UnmetRequirement
from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan

if TYPE_CHECKING:
    from collections.abc import Hashable

#: Of the form below. A reader of another version refuses it.
VERSION = 1

FAN_IN, ORDER_ONLY = 1, 2


def plan_to_record(plan: Plan) -> dict[str, Any]:
    """The plan as lists, dicts, strings and numbers. O(steps + edges)."""
    names, outputs, tags, retries, pools = _Table(), _Table(), _Table(), _Table(), _Table()
    steps = plan.steps
    columns: dict[str, list[Any]] = {
        "inputs": [[_input_to_record(item, names) for item in step.inputs] for step in steps],
        "outputs": [outputs.number(step.outputs) for step in steps],
        "tags": [tags.number(tuple(step.tags.items())) for step in steps],
        "priority": [step.priority for step in steps],
        "retry": [retries.number(step.retry) for step in steps],
        "timeout_s": [step.timeout_s for step in steps],
        "pools": [pools.number(tuple(step.pools.items())) for step in steps],
        "description": [step.description for step in steps],
    }
    return {
        "version": VERSION,
        "job_name": plan.job_name,
        "keys": [step.key for step in steps],
        "columns": {name: _fold(column) for name, column in columns.items()},
        "names": names.items,
        "outputs": [[[each.name, each.required, each.order_only, each.asset] for each in row] for row in outputs.items],
        "tags": [dict(row) for row in tags.items],
        "retries": [_retry_to_record(row) for row in retries.items],
        "pools": [dict(row) for row in pools.items],
    }


def plan_from_record(record: dict[str, Any]) -> Plan:
    """The plan that ``plan_to_record`` wrote, with None for each ``compute``. O(steps + edges).

    Raises:
        UnmetRequirement: another version of this package wrote it; read it with that one.
        ValueError: the record is damaged: it describes no plan.
    """
    version = record.get("version")
    if version != VERSION:
        raise UnmetRequirement(
            f"this plan was recorded in form {version!r}, and this version of executor reads form {VERSION}; "
            "read it with the version that ran the job"
        )
    try:
        return _plan_of(record)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the recorded plan is damaged ({type(error).__name__}: {error}); run the job again"
        ) from error


def _plan_of(record: dict[str, Any]) -> Plan:
    keys, names = record["keys"], record["names"]
    columns = {name: _unfold(column, len(keys)) for name, column in record["columns"].items()}
    outputs = [
        tuple(
            StepOutput(name=name, required=required, order_only=order_only, asset=asset)
            for name, required, order_only, asset in row
        )
        for row in record["outputs"]
    ]
    retries = [_retry_from_record(row) for row in record["retries"]]
    rows = zip(
        *[keys, columns["inputs"], columns["outputs"], columns["tags"], columns["priority"], columns["retry"]],
        *[columns["timeout_s"], columns["pools"], columns["description"]],
        strict=True,
    )
    steps = tuple(
        Step(
            index=index,
            key=key,
            compute=None,
            inputs=tuple([_input_from_record(item, names) for item in inputs]),
            outputs=outputs[output],
            tags=record["tags"][tag],
            priority=priority,
            retry=retries[retry],
            timeout_s=timeout_s,
            pools=record["pools"][pool],
            description=description,
        )
        for index, (key, inputs, output, tag, priority, retry, timeout_s, pool, description) in enumerate(rows)
    )
    return make_plan(record["job_name"], steps)


class _Table:
    """Distinct values, each known by the number of its place."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, item: Hashable) -> int:
        number = self._numbers.setdefault(item, len(self.items))
        if number == len(self.items):
            self.items.append(item)
        return number


def _fold(column: list[Any]) -> list[Any] | dict[str, Any]:
    """The column, or the one value that all of it has."""
    if column and all(value == column[0] for value in column):
        return {"all": column[0]}
    return column


def _unfold(column: list[Any] | dict[str, Any], size: int) -> list[Any]:
    return [column["all"]] * size if isinstance(column, dict) else column


def _input_to_record(item: StepInput, names: _Table) -> list[Any]:
    """Name, flags, steps, outputs: the last two as numbers where there is one of them, as lists otherwise."""
    flags = FAN_IN * item.fan_in + ORDER_ONLY * item.order_only
    steps = [source.step for source in item.sources]
    outputs = [names.number(source.output) for source in item.sources]
    return [
        names.number(item.name),
        flags,
        steps[0] if len(steps) == 1 else steps,
        outputs[0] if len(set(outputs)) == 1 else outputs,
    ]


def _input_from_record(record: list[Any], names: list[str]) -> StepInput:
    name, flags, steps, outputs = record
    if not isinstance(steps, list):
        steps = [steps]
    if not isinstance(outputs, list):
        outputs = [outputs] * len(steps)
    return StepInput(
        name=names[name],
        sources=tuple([Source(step, names[output]) for step, output in zip(steps, outputs, strict=True)]),
        fan_in=bool(flags & FAN_IN),
        order_only=bool(flags & ORDER_ONLY),
    )


def _retry_to_record(retry: RetryPolicy | None) -> list[Any] | None:
    if retry is None:
        return None
    backoff, jitter = retry.backoff, retry.jitter
    return [retry.max_retries, retry.delay, backoff.value if backoff else None, jitter.value if jitter else None]


def _retry_from_record(record: list[Any] | None) -> RetryPolicy | None:
    if record is None:
        return None
    max_retries, delay, backoff, jitter = record
    return RetryPolicy(max_retries, delay, Backoff(backoff) if backoff else None, Jitter(jitter) if jitter else None)
