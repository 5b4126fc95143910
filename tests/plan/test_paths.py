"""The longest path through a plan, and what steps count whose duration is not known."""

from __future__ import annotations

from executor.plan.paths import critical_path, durations, longest_paths
from executor.plan.plan import Plan, Source, Step, StepInput, make_plan


def plan_of(**reads: str) -> Plan:
    """A plan of steps by key, each with the keys that it reads from."""
    index_of = {key: index for index, key in enumerate(reads)}
    return make_plan(
        "job",
        tuple(
            Step(
                index=index,
                key=key,
                compute=None,
                inputs=tuple(
                    StepInput(name=other, sources=(Source(index_of[other], "result"),)) for other in above.split()
                ),
            )
            for index, (key, above) in enumerate(reads.items())
        ),
    )


DIAMOND = plan_of(a="", b="a", c="a", d="b c", alone="")


def test_without_durations_the_critical_path_is_the_one_with_most_steps() -> None:
    assert critical_path(DIAMOND) == (("a", "b", "d"), 3.0)


def test_the_critical_path_goes_through_the_slower_branch() -> None:
    assert critical_path(DIAMOND, {"a": 1, "b": 2, "c": 5, "d": 1, "alone": 3}) == (("a", "c", "d"), 7.0)


def test_one_slow_step_may_be_the_critical_path() -> None:
    assert critical_path(DIAMOND, {"a": 1, "b": 2, "c": 5, "d": 1, "alone": 8}) == (("alone",), 8.0)


def test_a_plan_without_steps_has_no_critical_path() -> None:
    assert critical_path(plan_of()) == ((), 0.0)


def test_a_step_of_unknown_duration_counts_as_the_mean_of_the_others() -> None:
    assert durations(DIAMOND, {"a": 1.0, "b": 3.0}) == [1.0, 3.0, 2.0, 2.0, 2.0]


def test_durations_of_other_steps_alone_count_as_none() -> None:
    assert durations(DIAMOND, {"of another job": 9.0}) == [1.0] * 5


def test_each_step_knows_the_longest_path_below_it() -> None:
    assert longest_paths(DIAMOND, [1.0, 2.0, 5.0, 1.0, 3.0]) == [7.0, 3.0, 6.0, 1.0, 3.0]
