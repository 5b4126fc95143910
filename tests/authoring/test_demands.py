"""Tags, priority, timeout and pools of ops and assets: what may be written, and what each conflict says."""

from typing import Any

import pytest

from executor import DefinitionError, OpDefinition, RetryPolicy, asset, op
from executor.authoring.demands import Demands


def demands(**arguments: Any) -> Demands:
    made = op(name="load", **arguments)(lambda: None)
    assert isinstance(made, OpDefinition)
    return made.demands


def refused(**arguments: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        demands(**arguments)
    return str(caught.value)


def test_tag_values_are_text_and_others_become_json() -> None:
    tags = {"a": "x", "n": 1, "b": True, "none": None, "d": {"y": 1}, "l": [1, "z"]}
    expected = {"a": "x", "n": "1", "b": "true", "none": "null", "d": '{"y": 1}', "l": '[1, "z"]'}
    assert demands(tags=tags).tags == expected


def test_a_tag_that_has_no_text_is_an_error() -> None:
    assert "op 'load': tag 'when' is neither text nor JSON" in refused(tags={"when": object()})
    assert "the tag key 3 is not text; write it as text, such as '3'" in refused(tags={3: "x"})
    assert "a tag has no key, only the value 'x'; give it a name" in refused(tags={" ": "x"})
    assert "tags are ['a']; give a dict" in refused(tags=["a"])


def test_tags_of_ops_may_have_any_key_and_tags_of_assets_keep_to_the_pattern() -> None:
    assert demands(tags={"a key": "x"}).tags == {"a key": "x"}

    @asset(op_tags={"a key": "x"}, tags={"team/owner": "me"})
    def orders() -> None: ...

    assert orders.tags == {"a key": "x", "team/owner": "me"}
    with pytest.raises(
        DefinitionError, match=r"asset 'orders': the tag key 'a key' does not fit; .* or give it in op_tags"
    ):
        asset(tags={"a key": "x"}, name="orders")(lambda: None)


def test_op_tags_win_over_tags() -> None:
    made = asset(tags={"db": "a", "x": "1"}, op_tags={"db": "b"}, name="orders")(lambda: None)
    assert made.tags == {"db": "b", "x": "1"}
    assert made.op is not None
    assert made.op.demands.tags == made.tags


def test_priority_comes_from_the_argument_or_from_dagsters_tag() -> None:
    assert demands().priority is None
    assert demands(priority=3).priority == 3
    assert demands(tags={"dagster/priority": "-2"}).priority == -2
    assert demands(tags={"dagster/priority": 4}).priority == 4
    assert demands(priority=2, tags={"dagster/priority": "2"}).priority == 2


def test_a_tag_merely_named_priority_is_not_one() -> None:
    assert demands(tags={"priority": "high"}).priority is None


def test_a_priority_that_is_no_whole_number_is_an_error_at_definition() -> None:
    assert "tag 'dagster/priority' is 'high'; a priority is a whole number" in refused(
        tags={"dagster/priority": "high"}
    )
    assert "priority is 1.5; give a whole number" in refused(priority=1.5)
    assert "priority is True" in refused(priority=True)
    assert "priority=1 and tag 'dagster/priority'=2 give two priorities" in refused(
        priority=1, tags={"dagster/priority": "2"}
    )


@pytest.mark.parametrize("number", [2**31, -(2**31), 2**63, -(10**30)])
def test_a_priority_that_does_not_fit_the_ledger_is_an_error_at_definition(number: int) -> None:
    said = "a priority is a whole number from -2147483647 to 2147483647"
    assert said in refused(priority=number)
    assert said in refused(tags={"dagster/priority": number})
    assert demands(priority=2**31 - 1).priority == demands(tags={"dagster/priority": 2**31 - 1}).priority == 2**31 - 1


def test_a_timeout_is_seconds_or_text() -> None:
    assert demands(timeout=2).timeout_s == 2.0
    assert demands(timeout="1h30m").timeout_s == 5400.0
    assert demands().timeout_s is None
    assert "op 'load': timeout '5 apples' is not a duration" in refused(timeout="5 apples")


def test_a_retry_policy_is_one() -> None:
    policy = RetryPolicy(max_retries=2)
    assert demands(retry_policy=policy).retry_policy is policy
    assert "retry_policy is 3; give RetryPolicy(max_retries=2, delay=1.0)" in refused(retry_policy=3)


@pytest.mark.parametrize(
    ("arguments", "pools"),
    [
        ({}, {}),
        ({"pool": "database"}, {"database": 1}),
        ({"pool": "database", "pool_slots": 2}, {"database": 2}),
        ({"pools": {"database": 2, "api": 1}}, {"database": 2, "api": 1}),
        ({"concurrency_group": "database"}, {"database": 1}),
        ({"tags": {"dagster/concurrency_key": "database"}}, {"database": 1}),
        ({"tags": {"dagster/concurrency_key": "database"}, "pool_slots": 3}, {"database": 3}),
        ({"pool": "database", "concurrency_group": "database"}, {"database": 1}),
        ({"pool": "database", "tags": {"dagster/concurrency_key": "database"}}, {"database": 1}),
        ({"pool": "database", "pools": {"database": 1}}, {"database": 1}),
        ({"pool": ""}, {}),
    ],
)
def test_every_spelling_of_a_pool_ends_in_its_slots(arguments: dict[str, Any], pools: dict[str, int]) -> None:
    assert demands(**arguments).pools == pools


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pool": "my db"}, "the pool name 'my db' has a blank or is empty; write 'my_db'"),
        ({"pools": {"": 1}}, "the pool name '' has a blank or is empty; write 'database'"),
        (
            {"pool": ["a", "b"]},
            "the pool ['a', 'b'] is not text; for several pools write pools={'database': 1, 'api': 1}",
        ),
        ({"pool": "a", "pool_slots": 0}, "pool_slots is 0; a step takes a whole number of slots, 1 or more"),
        ({"pools": {"a": -1}}, "pools['a'] is -1; a step takes a whole number of slots"),
        ({"pools": {"a": True}}, "pools['a'] is True"),
        ({"pools": ["a"]}, "pools is ['a']; give the slots of each"),
        ({"pool_slots": 2}, "pool_slots=2 says how many, but not of which pool"),
        (
            {"pools": {"a": 1}, "pool_slots": 2},
            "pool_slots goes with pool=; with pools= write the number of slots beside each name",
        ),
        ({"pool": "a", "concurrency_group": "b"}, "pool 'a' and concurrency_group 'b' name different pools"),
        (
            {"pool": "a", "tags": {"dagster/concurrency_key": "b"}},
            "pool 'a' and tag 'dagster/concurrency_key' 'b' name different pools",
        ),
        ({"pool": "a", "pools": {"a": 2}}, "pool 'a' and pools={'a': 2} are both given; put all in pools="),
    ],
)
def test_a_pool_that_does_not_fit_is_an_error_at_definition(arguments: dict[str, Any], said: str) -> None:
    assert f"op 'load': {said}" in refused(**arguments)
