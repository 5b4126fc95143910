"""Plants a bug in each rule of the ledger and shows that random lives of it, or an example, find the bug."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from types import ModuleType

import claims_world as world
import pytest
import sql_world
from ledger_mutants import MUTANTS, Mutant, load

from executor.ledger.requests import Changes, Lease, Request
from executor.ledger.rows import FEW

# Most are found by the first few; ``test_the_bank_finds_out_that`` fails when one needs more.
PURE_SEEDS = range(300)
SQL_SEEDS = range(60)


def stale_tokens_are_refused(ledger_module: ModuleType) -> None:
    """A lease that was taken away by force proves nothing any more, even when its claim is held again."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "runs" / "r").mkdir(parents=True)
        with ledger_module.Ledger(home) as ledger:
            owner = ledger.register("r", home / "runs" / "r")
            request = Request(step="s", attempt=1, needs=(("a", 1),))
            (first,) = ledger.exchange(owner, Changes(request=[request]), told=0).granted
            again = ledger.exchange(owner, Changes(park=[first], resume=[first.claim]), told=first.token)
            (second,) = again.granted
            try:
                assert first.claim == second.claim
                assert second.token > first.token
                assert ledger.is_held(second)
                assert not ledger.is_held(first)
                assert ledger.exchange(owner, Changes(release=[first]), told=second.token).lost == [first]
                assert ledger.is_held(second)
                assert not ledger.exchange(owner, Changes(release=[Lease(*second)]), told=second.token).lost
            finally:
                ledger.unregister(owner)


def finds_a_bug(modules: dict[str, ModuleType]) -> bool:
    """Whether any of the bank fails."""
    try:
        world.pass_often(modules["claims"])
        world.outrank(modules["claims"])
        world.pass_many_at_once(modules["claims"])
        sql_world.play_passes(modules["ledger"])
        sql_world.play_overdue(modules["ledger"])
        stale_tokens_are_refused(modules["ledger"])
        for seed in PURE_SEEDS:
            world.play(Random(seed), modules["claims"])
        for seed in SQL_SEEDS:
            modules["rows"].FEW = FEW if seed % 2 else 0  # type: ignore[attr-defined]  # of a copy of rows.py
            sql_world.play(Random(seed), modules["ledger"])
    except Exception:
        return True
    return False


def test_a_copy_without_a_bug_passes_the_whole_bank() -> None:
    assert not finds_a_bug(load(None))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.says)
def test_the_bank_finds_out_that(mutant: Mutant) -> None:
    assert finds_a_bug(load(mutant)), f"nothing shows that {mutant.says}"
