"""The ledger under torture, in short; the long form is ``python -m tests.torture``. And bugs that the torture finds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.torture.mutants import MUTANTS, ProcessMutant
from tests.torture.short import ROOT, torture
from tests.torture.suite_mutants import MUTANTS as SUITE_MUTANTS
from tests.torture.suite_mutants import SuiteMutant

# Each is found within a few hundred grants, and together they need every kind of process to be killed or to meet.
SOON = {
    "a dead owner's slots are taken while a process of the step still works",
    "a child that has only the step's input does not keep its slots",
    "nobody is rung",
    "SQLite does the waiting, and not for long",
}


@pytest.mark.parametrize(
    "options",
    [
        ("--kill-every", "0.05", "--leaves", "0.01"),
        ("--kill-every", "0.1", "--crash", "0.7"),
        ("--kill-every", "0.2", "--stop-every", "0.15", "--limits-every", "0.05"),
        ("--kill-every", "0.1", "--hold", "0.03", "--lanes", "1", "--pools", "solo,left,right"),
        ("--kill-every", "0.1", "--hold", "0.03", "--withdraw-every", "0.05", "--pools", "solo,left,right"),
    ],
    ids=["killed", "killed at named points", "stopped, limits changed", "one slot, orphans", "minds changed"],
)
def test_no_limit_is_exceeded_no_slot_is_lost_and_nobody_is_forgotten(options: tuple[str, ...]) -> None:
    figures = torture("--kills", "20", "--grants", "200", "--seed", "20", *options)
    assert figures["faults"] == []
    assert figures["kills"] >= 20
    assert figures["grants"] >= 200


def test_ten_thousand_that_wait_elsewhere_change_nothing() -> None:
    figures = torture("--kills", "30", "--grants", "300", "--seed", "21", "--waiters", "10000")
    assert figures["faults"] == []


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_two_thousand_kills_in_all_ways() -> None:
    for options in (
        ("--kills", "700"),
        ("--kills", "700", "--crash", "0.5", "--leaves", "0.01"),
        ("--kills", "600", "--crash", "0.3", "--stop-every", "0.2", "--limits-every", "0.1"),
    ):
        assert torture(*options)["faults"] == []


@pytest.mark.parametrize("mutant", [*MUTANTS, *SUITE_MUTANTS], ids=lambda mutant: mutant.says)
def test_what_a_planted_bug_replaces_is_there(mutant: ProcessMutant | SuiteMutant) -> None:
    for module, old, _ in mutant.edits:
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        assert source.count(old) == 1


def finds(mutant: ProcessMutant) -> bool:
    """Whether any of three tortures finds it."""
    until = ("--until-fault", "--seconds", "20", "--grants", "200")
    return any(
        torture(*until, "--seed", str(seed), "--mutant", mutant.says, *mutant.options)["faults"] for seed in (7, 8, 9)
    )


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.says in SOON], ids=lambda mutant: mutant.says)
def test_the_torture_finds_out_soon_that(mutant: ProcessMutant) -> None:
    assert finds(mutant)


@pytest.mark.torture
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.says not in SOON], ids=lambda mutant: mutant.says)
def test_the_torture_finds_out_that(mutant: ProcessMutant) -> None:
    assert finds(mutant)


@pytest.mark.torture
@pytest.mark.parametrize("mutant", SUITE_MUTANTS, ids=lambda mutant: mutant.says)
def test_the_suite_finds_out_that(mutant: SuiteMutant) -> None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", mutant.test]
    environment = {**os.environ, "EXECUTOR_PLANT": mutant.says, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed" in done.stdout.splitlines()[-1] or "FAILED" in done.stdout or "ERROR" in done.stdout, done.stdout
