"""What stands in the ledger after every change is what the slow rule says, whatever changes."""

from __future__ import annotations

from random import Random

import pytest
from sql_world import play


@pytest.mark.parametrize("seed", range(30))
def test_the_ledger_grants_what_the_rule_says(seed: int) -> None:
    play(Random(seed), steps=60)
