"""Real runs on one ledger under torture, in short; the long form is ``python -m tests.torture --engine``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.torture.short import torture


def engine_torture(*options: str) -> dict[str, Any]:
    """The figures of real runs."""
    return torture("--engine", "--drivers", "4", *options)


@pytest.mark.parametrize(
    "options",
    [
        ("--kill-every", "0.3", "--crash", "0.4"),
        ("--kill-every", "0.6", "--stop-every", "0.3", "--limits-every", "0.1"),
    ],
    ids=["killed, also at named points", "killed, stopped, limits changed"],
)
def test_runs_that_are_killed_at_random_exceed_no_limit_and_lose_no_slot(options: tuple[str, ...]) -> None:
    figures = engine_torture("--seconds", "10", "--seed", "30", *options)
    assert figures["faults"] == []
    assert figures["kills"] > 0
    assert figures["grants"] > 0


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_two_thousand_kills_of_real_runs() -> None:
    for options in (
        ("--kills", "1000", "--kill-every", "0.3"),
        ("--kills", "600", "--kill-every", "0.3", "--crash", "0.5"),
        ("--kills", "400", "--kill-every", "0.4", "--stop-every", "0.3", "--limits-every", "0.1"),
    ):
        assert torture(*options)["faults"] == []
