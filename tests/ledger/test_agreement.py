"""What stands in the ledger after every change is what the slow rule says, and so is what is said of it.

Who comes first is said twice: by ``claims.place``, for grants and for those who look at the whole queue, and in SQL,
for a run that asks what one claim of it waits for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from sql_world import POOLS, SqlWorld, made, play, random_request, step

from executor.ledger import ledger as real_ledger
from executor.ledger import rows
from executor.ledger.claims import Pool, Waiter
from executor.ledger.ledger import Ledger, Owner
from executor.ledger.requests import Changes, Lease, Request
from executor.ledger.standing import Standing, standings


@pytest.mark.parametrize("few", [0, 1, rows.FEW])
@pytest.mark.parametrize("seed", range(30))
def test_the_ledger_grants_what_the_rule_says(seed: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether those who wait are put in order by SQLite, as where they are many, or by us."""
    monkeypatch.setattr(rows, "FEW", few)
    play(Random(seed), steps=60)


Said = list[tuple[str, str, int]]  #: of each pool in the way: its name, the cause, how many come before it


def from_the_queue(standing: Standing) -> Said:
    """Where others hold what it needs, a run is not told of what is kept for somebody besides."""
    reasons = [reason for reason in standing.reasons if reason.cause != "reserved"] or standing.reasons
    return [(reason.pool, reason.cause, reason.ahead if reason.cause == "full" else 0) for reason in reasons]


def from_the_sentence(text: str) -> Said:
    said: Said = []
    for clause in text.split("; "):
        if found := re.match(r"\d+ of \d+ slots of pool '(\w+)' are held", clause):
            said.append((found[1], "full", 0))
        elif found := re.match(r"(\d+) claims? comes? before it$", clause):
            said[-1] = (*said[-1][:2], int(found[1]))
        elif found := re.match(r"the step needs \d+ slots of pool '(\w+)', which has", clause):
            said.append((found[1], "unsatisfiable", 0))
        elif found := re.match(r"pool '(\w+)' is paused", clause):
            said.append((found[1], "paused", 0))
        elif found := re.match(r"the free slots of pool '(\w+)' are kept for", clause):
            said.append((found[1], "reserved", 0))
    return said


def agree_on_waits(world: SqlWorld) -> int:
    """What each run is told of its waits is what the whole queue shows; how many came before somebody, in all."""
    used = dict.fromkeys(world.limits(), 0)
    for _, needs, _ in world.held.values():
        for pool, weight in needs:
            used[pool] += weight
    queue = standings(
        (
            (Waiter(claim.seq, claim.owner, claim.priority, claim.passed), claim.needs, claim.overdue)
            for claim in world.waiting.values()
        ),
        {pool: Pool(limit, used[pool]) for pool, limit in world.limits().items()},
    )
    before = 0
    for standing in queue:
        wait = world.ledger.waiting_for(standing.seq)
        assert wait is not None
        assert from_the_sentence(wait.reason) == from_the_queue(standing)
        before += sum(reason.ahead for reason in standing.reasons)
    return before


def test_a_run_is_told_of_its_place_what_the_whole_queue_shows() -> None:
    before = 0
    for seed in range(10):
        random = Random(seed)
        with made(real_ledger) as world:
            for _ in range(60):
                step(world, random)
                world.agree()
                before += agree_on_waits(world)
    assert before > 1000, "hardly anybody waited behind another"


def random_wait(random: Random, ledger: Ledger, owners: list[Owner]) -> tuple[Lease, int]:
    """One of a few pools is full, and several wait; a lease on it, and a priority."""
    limits = [(pool, random.choice((1, 1, 2, 3))) for pool in POOLS]
    for pool, limit in limits:
        ledger.set_limit(pool, limit)
    needs = tuple((pool, random.randint(1, limit)) for pool, limit in limits if random.random() < 0.5) or (
        (POOLS[0], 1),
    )
    held = ledger.exchange(
        owners[0], Changes(request=[Request(step="held", attempt=1, needs=needs)]), told=None
    ).granted
    for number in range(random.randint(0, 6)):
        request = replace(random_request(random), step=f"waits {number}")
        ledger.exchange(random.choice(owners), Changes(request=[request]), told=None)
    return held[0], random.choice((-1, 0, 0, 1))


def test_to_release_first_and_to_ask_then_comes_to_the_same_where_the_ledger_says_so(tmp_path: Path) -> None:
    """A run may do so where others wait, and nothing that it asks for next can come before any of them."""
    earlier = 0
    for seed in range(300):
        outcomes = []
        for split in (False, True):
            random, home = Random(seed), tmp_path / f"{seed}-{split}"
            home.mkdir()
            with Ledger(home) as ledger:
                owners = [ledger.register(run, home / run) for run in ("mine", "theirs", "others")]
                lease, priority = random_wait(random, ledger, owners)
                after = [replace(random_request(random), step="next", priority=priority - random.choice((0, 0, 1)))]
                release = Changes(release=[lease])
                first = ledger.try_exchange(owners[0], release, told=None, outranks=priority) if split else None
                if first is None or first.undone:
                    ledger.exchange(owners[0], Changes(release=[lease], request=after), told=None)
                else:
                    earlier += 1
                    ledger.exchange(owners[0], Changes(request=after), told=None)
                query = "SELECT step, state, passed FROM claim ORDER BY step"
                outcomes.append(ledger.database.execute(query).fetchall())
                for owner in owners:
                    ledger.unregister(owner)
        assert outcomes[0] == outcomes[1], f"seed {seed}"
    assert earlier > 50, "it was hardly ever so"
