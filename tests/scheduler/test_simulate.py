"""What a run would do, without one."""

from __future__ import annotations

import pytest
from builders import chain, plan_of, step

from executor.authoring.retry import RetryPolicy
from executor.config.settings import TagLimit
from executor.plan.paths import critical_path
from executor.scheduler.limits import Limits
from executor.scheduler.simulate import Interval, simulate

FAN = plan_of(*[f"s{number}" for number in range(8)])


def test_without_durations_each_step_takes_one() -> None:
    simulation = simulate(chain(3), Limits(max_concurrent=4))
    assert simulation.order == (Interval("s0", 1, 0, 1), Interval("s1", 1, 1, 2), Interval("s2", 1, 2, 3))
    assert simulation.makespan_s == simulation.busy_s == 3.0
    assert simulation.width == 1
    assert simulation.waits_s == {}
    assert simulation.binds is None
    assert simulation.status == "succeeded"


@pytest.mark.parametrize(("at_once", "makespan_s"), [(1, 8.0), (2, 4.0), (3, 3.0), (8, 1.0), (100, 1.0)])
def test_more_at_once_make_a_fan_shorter(at_once: int, makespan_s: float) -> None:
    simulation = simulate(FAN, Limits(max_concurrent=at_once))
    assert simulation.makespan_s == makespan_s
    assert simulation.width == min(at_once, 8)
    assert simulation.binds == ("max_concurrent" if at_once < 8 else None)


def test_the_limit_that_binds_is_the_one_that_steps_wait_for_most() -> None:
    plan = plan_of(*[step(f"db{number}", tags={"db": "x"}) for number in range(4)], "free")
    limits = Limits(max_concurrent=4, tags=(TagLimit(key="db", limit=1),))
    simulation = simulate(plan, limits)
    assert simulation.makespan_s == 4.0
    assert simulation.waits_s == {"tag db": 1.0 + 2.0 + 3.0}
    assert simulation.binds == "tag db"


def test_the_longest_path_goes_first_and_no_limit_beats_it() -> None:
    plan = plan_of("a", "b", step("c", "b"), step("d", "c"))
    seconds = {"a": 2.0, "b": 1.0, "c": 1.0, "d": 1.0}
    simulation = simulate(plan, Limits(max_concurrent=2), seconds)
    assert [interval.key for interval in simulation.order] == ["b", "a", "c", "d"]
    assert simulation.makespan_s == critical_path(plan, seconds)[1] == 3.0


def test_a_step_that_takes_longer_than_its_timeout_fails_when_that_is_over() -> None:
    plan = plan_of(step("slow", timeout_s=2.0, retry=RetryPolicy(1, delay=3.0)), step("below", "slow"))
    simulation = simulate(plan, Limits(max_concurrent=1), {"slow": 5.0, "below": 1.0})
    assert simulation.order == (Interval("slow", 1, 0, 2), Interval("slow", 2, 5, 7))
    assert simulation.status == "failed"
    assert simulation.waits_s == {"retry": 3.0}
    assert simulation.binds is None


def test_a_step_that_takes_exactly_its_timeout_succeeds() -> None:
    simulation = simulate(plan_of(step("a", timeout_s=2.0)), Limits(max_concurrent=1), {"a": 2.0})
    assert simulation.status == "succeeded"


def test_a_plan_without_steps_takes_no_time() -> None:
    simulation = simulate(plan_of(), Limits(max_concurrent=1))
    assert (simulation.makespan_s, simulation.width, simulation.order) == (0.0, 0, ())


def test_a_step_without_a_known_duration_takes_the_mean_of_the_others() -> None:
    simulation = simulate(plan_of("a", "b", "c"), Limits(max_concurrent=3), {"a": 1.0, "b": 3.0})
    assert [interval.end_s for interval in simulation.order if interval.key == "c"] == [2.0]


def test_a_pool_holds_back_the_steps_that_use_it() -> None:
    plan = plan_of(*[step(f"q{number}", pools={"db": 1}) for number in range(4)], "free")
    simulation = simulate(plan, Limits(max_concurrent=4), pool_limits={"db": 1})
    assert simulation.makespan_s == 4.0
    assert simulation.width == 2
    assert simulation.waits_s == {"pool db": 1.0 + 2.0 + 3.0}
    assert simulation.binds == "pool db"
    assert simulate(plan, Limits(max_concurrent=5), pool_limits={"db": 4}).makespan_s == 1.0


def test_a_pool_without_a_limit_holds_nobody_back() -> None:
    plan = plan_of(*[step(f"q{number}", pools={"db": 9}) for number in range(4)])
    simulation = simulate(plan, Limits(max_concurrent=4))
    assert (simulation.makespan_s, simulation.binds) == (1.0, None)


def test_a_wide_claim_is_not_overtaken_by_narrow_ones_for_ever() -> None:
    narrow = [step(f"n{number}", pools={"db": 1}) for number in range(6)]
    plan = plan_of(*narrow[:2], step("wide", pools={"db": 2}), *narrow[2:])
    simulation = simulate(plan, Limits(max_concurrent=8), pool_limits={"db": 2})
    assert [interval.start_s for interval in simulation.order if interval.key == "wide"] == [1.0]
    assert simulation.makespan_s == 4.0


def test_slots_are_free_between_two_attempts() -> None:
    plan = plan_of(
        step("slow", pools={"db": 1}, timeout_s=2.0, retry=RetryPolicy(1, delay=3.0)), step("other", pools={"db": 1})
    )
    simulation = simulate(plan, Limits(max_concurrent=2), {"slow": 5.0, "other": 1.0}, pool_limits={"db": 1})
    assert [interval for interval in simulation.order if interval.key == "other"] == [Interval("other", 1, 2, 3)]
    assert simulation.makespan_s == 7.0


@pytest.mark.parametrize(("limit", "slots"), [(1, 2), (0, 1)])
def test_a_step_that_could_never_have_its_slots_is_an_error_that_names_it(limit: int, slots: int) -> None:
    plan = plan_of(step("a", pools={"db": slots}))
    with pytest.raises(ValueError, match=f"step 'a' wants {slots} slots? of pool 'db', whose limit is {limit}; "):
        simulate(plan, Limits(max_concurrent=1), pool_limits={"db": limit})
