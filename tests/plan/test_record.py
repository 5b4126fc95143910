"""A plan comes back from JSON as it was, but for what its steps compute."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.authoring.retry import Backoff, Jitter, RetryPolicy
from executor.errors import UnmetRequirement
from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan
from executor.plan.record import plan_from_record, plan_to_record


def through_json(plan: Plan) -> Plan:
    return plan_from_record(json.loads(json.dumps(plan_to_record(plan))))


def plan_of(*steps: Step) -> Plan:
    return make_plan("job", steps)


FULL = plan_of(
    Step(
        index=0,
        key="load",
        compute=None,
        outputs=(StepOutput(name="rows", asset="raw/rows"), StepOutput(name="bad", required=False)),
        tags={"database": "warehouse", "team": "a"},
        priority=-3,
        retry=RetryPolicy(2, 0.5, Backoff.EXPONENTIAL, Jitter.PLUS_MINUS),
        timeout_s=2.5,
        pools={"api": 2},
        description="loads it",
    ),
    Step(
        index=1,
        key="train",
        compute=None,
        inputs=(
            StepInput(name="rows", sources=(Source(0, "rows"),)),
            StepInput(name="after", sources=(Source(0, "bad"),), order_only=True),
        ),
        outputs=(StepOutput(name="result", order_only=True),),
        retry=RetryPolicy(1),
    ),
    Step(
        index=2,
        key="gather",
        compute=None,
        inputs=(
            StepInput(name="all", sources=(Source(0, "rows"), Source(1, "result")), fan_in=True),
            StepInput(name="one", sources=(Source(1, "result"),), fan_in=True),
            StepInput(name="none", sources=(), fan_in=True),
        ),
        retry=RetryPolicy(2, 0.5, Backoff.EXPONENTIAL, Jitter.PLUS_MINUS),
    ),
)


def test_every_field_of_a_step_comes_back() -> None:
    assert through_json(FULL) == FULL


def test_what_a_step_computes_does_not_come_back() -> None:
    step = Step(index=0, key="a", compute=object())
    assert through_json(plan_of(step)) == plan_of(replace(step, compute=None))


def test_a_plan_without_steps_comes_back() -> None:
    assert through_json(plan_of()) == plan_of()


def test_what_many_steps_share_stands_there_once() -> None:
    steps = [Step(index=index, key=f"s{index}", compute=None, tags={"database": "x"}) for index in range(1000)]
    text = json.dumps(plan_to_record(plan_of(*steps)))
    assert text.count("database") == 1
    keys_only = json.dumps([step.key for step in steps])
    assert len(text) < len(keys_only) + 4 * len(steps) + 500


def test_a_record_of_another_form_is_refused_by_name() -> None:
    record = plan_to_record(FULL) | {"version": 7}
    with pytest.raises(UnmetRequirement, match="form 7, and this version of executor reads form 1"):
        plan_from_record(record)


@pytest.mark.parametrize(
    "damage",
    [{"keys": ["load"]}, {"names": []}, {"columns": {}}, {"keys": ["a", "a", "b"]}, {"tags": None}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_record_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the recorded plan is damaged"):
        plan_from_record(plan_to_record(FULL) | damage)


def steps_of(rows: list[tuple[str, int, float | None, list[int]]]) -> tuple[Step, ...]:
    steps = []
    for index, (tag, priority, timeout_s, reads) in enumerate(rows):
        sources = tuple(Source(each % index, "result" if each % 2 else "other") for each in reads) if index else ()
        steps.append(
            Step(
                index=index,
                key=f"s{index}",
                compute=None,
                inputs=(StepInput(name=tag, sources=sources, fan_in=True),) if sources else (),
                tags={tag: "x"} if tag else {},
                priority=priority,
                timeout_s=timeout_s,
            )
        )
    return tuple(steps)


ROWS = st.tuples(
    st.sampled_from(["", "a", "b"]),
    st.integers(-2, 2),
    st.none() | st.floats(0.1, 10),
    st.lists(st.integers(0, 20), max_size=4),
)


@settings(derandomize=True)
@given(st.lists(ROWS, max_size=12))
def test_any_plan_comes_back(rows: list[tuple[str, int, float | None, list[int]]]) -> None:
    plan = plan_of(*steps_of(rows))
    assert through_json(plan) == plan
