"""Plants a bug in each rule of the scheduler and shows that the comparison with the slow model finds it."""

from __future__ import annotations

from random import Random

import pytest
from mutants import MUTANTS, Loaded, Mutant, load
from slow_queue import play_queue
from world import play

# The most hidden of the mutants takes 447 of them; most are found by the first few.
SEEDS = range(600)


def first_seed_that_fails(loaded: Loaded) -> int | None:
    """The first of the fixed bank of random runs in which the scheduler breaks a promise, or falls over."""
    for seed in SEEDS:
        try:
            play(Random(seed), loaded.scheduler)
            play_queue(Random(seed), loaded.queue)
        except Exception:
            return seed
    return None


def test_a_copy_without_a_bug_passes_the_whole_bank() -> None:
    assert first_seed_that_fails(load(None)) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.says)
def test_the_bank_finds_out_that(mutant: Mutant) -> None:
    assert first_seed_that_fails(load(mutant)) is not None, f"no run shows that {mutant.says}"
