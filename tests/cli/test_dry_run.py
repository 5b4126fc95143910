"""A dry run says in which order steps would run, how many at once, and what holds them back."""

from __future__ import annotations

import json

from executor import job, op
from executor.cli.dry_run import dry_run_text


@op(tags={"db": "x"}, timeout=0.1)
def load():
    return 1


@op
def total(parts):
    return sum(parts)


@job
def sums():
    total([load() for _ in range(5)])


def config(**settings: object) -> dict[str, object]:
    return {"execution": {"config": settings}}


def test_what_binds_is_named_with_the_rounds_that_steps_wait_for_it() -> None:
    limits = config(max_concurrent=4, tag_concurrency_limits=[{"key": "db", "limit": 2}])
    assert dry_run_text(sums, limits, None).splitlines() == [
        "job sums: 6 steps; this is a dry run, nothing is executed",
        "  at most 4 at once: max_concurrent",
        "  at most 2 at once: tag db",
        "order, if every step took the same time:",
        "  1  load, load_2",
        "  2  load_3, load_4",
        "  3  load_5",
        "  4  total",
        "width 2: 4 rounds for 6 steps; the limit that binds is tag db (rounds waited by all steps: 4 tag db)",
    ]


def test_where_no_limit_holds_a_step_back_it_says_so() -> None:
    text = dry_run_text(sums, config(max_concurrent=8), None)
    assert text.endswith(
        "width 5: 2 rounds for 6 steps; no limit holds a step back, more than 5 at once would change nothing"
    )


def test_a_selection_and_a_process_of_its_own_are_taken_into_account() -> None:
    text = dry_run_text(sums, config(in_process={}), ["load,load_2"])
    assert "  1  load\n  2  load_2\nwidth 1: 2 rounds for 2 steps; the limit that binds is max_concurrent=1" in text


def test_a_limit_that_limits_nothing_is_told() -> None:
    limits = config(tag_concurrency_limits=[{"key": "dbb", "limit": 2}])
    assert (
        "\nnotice: the limit on tag dbb limits nothing: no step of this run has the tag 'dbb'; did you mean 'db'?\n"
        in (dry_run_text(sums, limits, None))
    )


def test_long_rounds_are_wrapped() -> None:
    @job
    def wide():
        for _ in range(40):
            load()

    lines = dry_run_text(wide, config(max_concurrent=40), None).splitlines()
    assert all(len(line) <= 100 for line in lines[:-1])
    assert " ".join(lines[3:-1]).count("load") == 40


def test_as_json_it_is_one_object() -> None:
    record = json.loads(dry_run_text(sums, config(max_concurrent=2), None, as_json=True))
    assert record == {
        "job": "sums",
        "steps": 6,
        "max_concurrent": 2,
        "tag_limits": [],
        "rounds": [["load", "load_2"], ["load_3", "load_4"], ["load_5"], ["total"]],
        "width": 2,
        "binds": "max_concurrent",
        "notices": [],
    }
