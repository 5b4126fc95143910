"""A limit that limits nothing is told to people, with what they may have meant."""

from __future__ import annotations

from executor.config.settings import TagLimit
from executor.plan.plan import Plan, Step, make_plan
from executor.runs.notices import limit_notices
from executor.scheduler.limits import Limits

NOTHING = "limits nothing: no step of this run has"


def plan_of(*tags: dict[str, str]) -> Plan:
    return make_plan(
        "nightly", tuple(Step(index=i, key=f"s{i}", compute=None, tags=each) for i, each in enumerate(tags))
    )


def notices(plan: Plan, *limits: TagLimit) -> list[str]:
    return limit_notices(plan, Limits(max_concurrent=2, tags=limits))


def test_limits_that_match_a_step_say_nothing() -> None:
    plan = plan_of({"database": "warehouse"})
    assert notices(plan, TagLimit(key="database", limit=1), TagLimit(key="database", limit=1, value="warehouse")) == []


def test_a_misspelt_tag_or_value_gets_a_near_one() -> None:
    plan = plan_of({"database": "warehouse"}, {})
    assert notices(plan, TagLimit(key="databse", limit=1), TagLimit(key="database", limit=1, value="warehuose")) == [
        f"the limit on tag databse {NOTHING} the tag 'databse'; did you mean 'database'?",
        f"the limit on tag database=warehuose {NOTHING} that value; did you mean 'warehouse'?",
    ]


def test_without_a_near_one_what_there_is_is_named() -> None:
    plan = plan_of(*({"team": f"t{n}"} for n in range(7)))
    assert notices(plan, TagLimit(key="database", limit=1), TagLimit(key="team", limit=1, value="zzz")) == [
        f"the limit on tag database {NOTHING} the tag 'database'; tags that there are: 'team'",
        f"the limit on tag team=zzz {NOTHING} that value; values that there are: 't0', 't1', 't2', 't3', 't4', ...",
    ]
    assert notices(plan_of({}), TagLimit(key="database", limit=1)) == [
        f"the limit on tag database {NOTHING} the tag 'database'; no step has any tag"
    ]
