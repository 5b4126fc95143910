"""Runs that share pools in every which way, in a circle as well: none waits for another for ever."""

from __future__ import annotations

import os
from random import Random

import pytest
from several_runs import Pools, play

from executor.scheduler.commands import LedgerCommand, ReleaseSlots

#: Each plays two to four runs to their end; the long form takes some minutes.
SEEDS = 100_000 if os.environ.get("EXECUTOR_LONG_TESTS") else 400


def play_all(seeds: int) -> int:
    """How many runs have ended."""
    ended = 0
    for seed in range(seeds):
        try:
            ended += len(play(Random(seed)).runs)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    return ended


@pytest.mark.timeout(3600)
def test_runs_that_want_any_pools_together_all_end() -> None:
    assert play_all(SEEDS) >= 2 * SEEDS


def test_a_ledger_that_loses_what_is_given_back_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    perform = Pools.perform

    def forget(self: Pools, run: int, command: LedgerCommand, now: float) -> None:
        if not isinstance(command, ReleaseSlots):
            perform(self, run, command, now)

    monkeypatch.setattr(Pools, "perform", forget)
    with pytest.raises(AssertionError):
        play_all(400)
