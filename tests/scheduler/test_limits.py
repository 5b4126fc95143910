"""Which limits each step counts against."""

from __future__ import annotations

import pytest
from builders import plan_of, step

from executor.config.settings import TagLimit
from executor.scheduler.limits import Limits, bind

PLAN = plan_of(
    "none", step("x", tags={"db": "x"}), step("y", tags={"db": "y", "gpu": "1"}), step("x_too", tags={"db": "x"})
)


def names_of(limits: Limits) -> list[list[str]]:
    """Of each step: the names of the counters that it counts against."""
    bound = bind(limits, PLAN)
    return [[bound.names[counter] for counter in bound.signatures[number]] for number in bound.signature_of]


def tags(*limits: TagLimit) -> Limits:
    return Limits(max_concurrent=1, tags=limits)


def test_a_limit_with_a_value_counts_the_steps_that_have_it() -> None:
    assert names_of(tags(TagLimit(key="db", value="x", limit=1))) == [[], ["tag db=x"], [], ["tag db=x"]]


def test_a_limit_without_a_value_counts_every_step_with_the_key() -> None:
    assert names_of(tags(TagLimit(key="db", limit=1))) == [[], ["tag db"], ["tag db"], ["tag db"]]


def test_a_limit_of_each_value_counts_each_by_itself() -> None:
    each = TagLimit(key="db", limit=1, per_unique_value=True)
    assert names_of(tags(each)) == [[], ["tag db=x"], ["tag db=y"], ["tag db=x"]]


def test_two_limits_that_meet_in_one_value_have_two_names() -> None:
    limits = tags(TagLimit(key="db", value="x", limit=2), TagLimit(key="db", limit=1, per_unique_value=True))
    assert names_of(limits)[1] == ["tag db=x", "tag db=x (each value)"]


def test_steps_that_count_against_the_same_limits_share_a_signature() -> None:
    bound = bind(tags(TagLimit(key="db", limit=1), TagLimit(key="gpu", limit=1)), PLAN)
    assert bound.signature_of[1] == bound.signature_of[3] != bound.signature_of[2]
    assert len(bound.signatures) == 3


def test_steps_that_want_other_slots_or_have_another_priority_do_not_share_a_signature() -> None:
    plan = plan_of(
        "none",
        step("db", pools={"db": 1}),
        step("db_too", pools={"db": 1}),
        step("two", pools={"db": 2}),
        step("both", pools={"db": 1, "api": 1}),
        step("urgent", pools={"db": 1}, priority=1),
        step("none_urgent", priority=1),
    )
    bound = bind(Limits(max_concurrent=1), plan)
    assert bound.signature_of == (0, 1, 1, 2, 3, 4, 0)
    assert bound.signatures == ((),) * 5
    assert bound.wanted == ((), (("db", 1),), (("db", 2),), (("api", 1), ("db", 1)), (("db", 1),))


def test_a_plan_without_pools_wants_nothing() -> None:
    assert bind(Limits(max_concurrent=1), PLAN).wanted == ()


def test_a_limit_that_no_step_counts_against_is_named() -> None:
    unused = TagLimit(key="dbb", limit=1)
    assert bind(tags(unused, TagLimit(key="db", limit=1)), PLAN).unmatched == (unused,)


def test_a_limit_under_which_steps_would_wait_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="max_concurrent is 0; it must be 1 or more"):
        Limits(max_concurrent=0)
    with pytest.raises(ValueError, match="the limit of tag db is -1; it must be 1 or more"):
        tags(TagLimit(key="db", limit=-1))
