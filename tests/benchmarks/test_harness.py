"""Ratios are taken within a round; what failed is shown and is not counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_ratio_is_taken_within_a_round_and_skips_what_failed() -> None:
    from harness import ratios

    assert ratios([2.0, None, 9.0, 8.0], [1.0, 2.0, 3.0, None]) == [2.0, 3.0]


def test_a_table_shows_median_spread_and_ratio() -> None:
    from harness import Row, table

    rows = [
        Row(name="slow", samples=[30.0, 10.0, 20.0]),
        Row(name="fast", samples=[10.0, 5.0, 5.0], reference=True),
        Row(name="broken", samples=[None, None, None]),
    ]
    lines = table(rows, "us").splitlines()
    assert lines[2] == "| slow | 20.0 | 10.0 - 30.0 | 3.00x | 3 |"
    assert lines[4] == "| broken | failed |  |  | 0 |"


def test_a_target_that_is_missed_or_was_not_measured_says_so() -> None:
    from harness import Target, target_table

    text = target_table(
        [
            Target(what="met", found=[1.0, 1.4], at_most=1.5),
            Target(what="missed", found=[1.6], at_most=1.5),
            Target(what="unknown", found=[], at_most=1.5),
        ]
    )
    assert [line.split(" | ")[-1].strip(" |") for line in text.splitlines()[2:]] == ["yes", "**no**", "not measured"]


def test_a_measurement_that_fails_gives_its_last_lines(tmp_path: Path) -> None:
    from harness import MeasurementFailed, run_process

    with pytest.raises(MeasurementFailed, match=r"ended with 1: .*no such thing"):
        run_process([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)


def test_rounds_are_shuffled_the_same_way_by_the_same_seed(tmp_path: Path) -> None:
    from harness import Case, Figures, parse, parser, run_rounds

    def order(seed: int) -> list[str]:
        ran: list[str] = []

        def case(name: str) -> Case:
            def measure(_folder: Path) -> Figures:
                ran.append(name)
                return {"wall_s": 1.0}

            return Case(group="all", name=name, measure=measure)

        options = parse(parser("?"), ["--rounds", "3", "--seed", str(seed), "--folder", str(tmp_path)])
        run_rounds([case(name) for name in "abcdef"], options)
        return ran

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:6] != order(1)[6:12]
