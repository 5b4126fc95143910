"""Real runs on one ledger under torture, in short; the long form is ``python -m tests.torture --engine``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def torture(*options: str) -> dict[str, Any]:
    """The figures; in a session of its own."""
    command = [sys.executable, "-m", "tests.torture", "--engine", "--drivers", "4", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.parametrize(
    "options",
    [
        ("--kill-every", "0.3", "--crash", "0.4"),
        ("--kill-every", "0.6", "--stop-every", "0.3", "--limits-every", "0.1"),
    ],
    ids=["killed, also at named points", "killed, stopped, limits changed"],
)
def test_runs_that_are_killed_at_random_exceed_no_limit_and_lose_no_slot(options: tuple[str, ...]) -> None:
    figures = torture("--seconds", "10", "--seed", "30", *options)
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
