"""Durations: seconds as a number, or text with units."""

import pytest

from executor.config.durations import parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("250ms", 0.25),
        (" 1H 30M ", 5400.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_text_with_units(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["5", "m", "", "5 minutes", "-5m", "1h30", None, True, [5]])
def test_anything_else_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="'90s', '5m' or '1h30m'"):
        parse_duration(written)


@pytest.mark.parametrize("written", [0, -1, float("inf"), float("nan"), "0s"])
def test_it_must_be_above_nothing_and_finite(written: object) -> None:
    with pytest.raises(ValueError, match="not above 0"):
        parse_duration(written)
