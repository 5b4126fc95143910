"""A real ledger in a folder, and beside it what the slow rule says should stand in it, after every change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

from slow_grant import Waiting, slow_grant

from executor.ledger import ledger as real_ledger
from executor.ledger.claims import Needs
from executor.ledger.requests import Changes, Lease, Request
from executor.ledger.rows import FEW
from executor.workers import hygiene

AGING_S = 50.0
POOLS = ("a", "b", "c", "d")
OWNERS = 4


class SqlWorld:
    """Several owners in one process, which take turns."""

    def __init__(self, home: Path, module: ModuleType = real_ledger) -> None:
        self.now = 1000.0
        module.boot_time_s = lambda: self.now  # type: ignore[attr-defined]
        self.ledger = module.Ledger(home, aging_s=AGING_S)
        self.owners = {}
        for number in range(OWNERS):
            folder = home / "runs" / f"r{number}"
            folder.mkdir(parents=True)
            owner = self.ledger.register(f"r{number}", folder)
            self.owners[owner.id] = owner
        self.explicit: dict[str, int] = {}
        self.yaml: dict[str, int] = {}
        self.default: int | None = None
        self.waiting: dict[int, Waiting] = {}
        self.filed: dict[int, float] = {}
        self.parked: dict[int, Waiting] = {}
        self.held: dict[int, tuple[str, Needs, int]] = {}
        self.told = dict.fromkeys(self.owners, 0)
        self.tokens: set[int] = set()
        self.last_token = 0

    def limits(self) -> dict[str, int | None]:
        return {pool: self.explicit.get(pool, self.yaml.get(pool, self.default)) for pool in POOLS}

    def change(self, owner: str, changes: Changes) -> list[int]:
        """Do it in the ledger, and take over what came of it for this owner; the claims that were filed."""
        outcome = self.ledger.exchange(self.owners[owner], changes, told=self.told[owner])
        assert not outcome.lost
        for lease in outcome.granted:
            self.told[owner] = max(self.told[owner], lease.token)
        for request, seq in zip(changes.request, outcome.filed, strict=True):
            self.waiting[seq] = Waiting(seq, owner, request.priority, request.needs, False, 0)
            self.filed[seq] = self.now
        return outcome.filed

    def agree(self) -> None:
        """The ledger says what the slow rule says; and it holds what was promised of tokens."""
        for seq, waiting in self.waiting.items():
            self.waiting[seq] = replace(waiting, overdue=self.now - self.filed[seq] >= AGING_S)
        used = dict.fromkeys(POOLS, 0)
        for _, needs, _ in self.held.values():
            for pool, weight in needs:
                used[pool] += weight
        granted, passed = slow_grant(list(self.waiting.values()), self.limits(), used, set())
        for seq, count in passed.items():
            self.waiting[seq].passed = count
        rows = {
            seq: (owner, state, token, count, closes)
            for seq, owner, state, token, count, closes in self.ledger.database.execute(
                "SELECT seq, owner, state, token, passed, closes FROM claim"
            )
        }
        for seq in granted:
            _, state, token, *_ = rows[seq]
            assert state == "granted", f"claim {seq} should have been granted"
            assert token > self.last_token, "tokens do not increase"
            self.last_token = token
            waiting = self.waiting.pop(seq)
            self.held[seq] = (waiting.owner, waiting.needs, token)
        assert {seq for seq, row in rows.items() if row[1] == "granted"} == set(self.held)
        assert {seq for seq, row in rows.items() if row[1] == "waiting"} == set(self.waiting)
        assert {seq for seq, row in rows.items() if row[1] == "parked"} == set(self.parked)
        assert all(rows[seq][2] == token for seq, (_, _, token) in self.held.items())
        for seq, waiting in self.waiting.items():
            assert rows[seq][3] == waiting.passed
            assert rows[seq][4] == (waiting.passed >= 16)

    def die(self, owner: str) -> None:
        """The owner's process ends; another hears of it."""
        hygiene.close(self.owners[owner].lock_fd)
        self.owners.pop(owner).bell.close()
        for claims in (self.waiting, self.parked):
            for seq in [seq for seq, claim in claims.items() if claim.owner == owner]:
                del claims[seq]
        for seq in [seq for seq, (whose, *_) in self.held.items() if whose == owner]:
            del self.held[seq]
        self.change(next(iter(self.owners)), Changes(reap={owner}))

    def close(self) -> None:
        for owner in self.owners.values():
            self.ledger.unregister(owner)
        (left,) = self.ledger.database.execute("SELECT count(*) FROM claim").fetchone()
        assert not left
        self.ledger.close()

    def abandon(self) -> None:
        """After a failure: give back what the process would run out of."""
        for owner in self.owners.values():
            hygiene.close(owner.lock_fd)
            owner.bell.close()
        self.ledger.close()


def random_request(random: Random) -> Request:
    count = random.choice((1, 1, 1, 2, 2, 3))
    needs = tuple(sorted((pool, random.choice((1, 1, 1, 2))) for pool in random.sample(POOLS, count)))
    return Request(step="s", attempt=1, needs=needs, priority=random.choice((0, 0, 0, 1, -1)))


def step(world: SqlWorld, random: Random) -> None:
    """Something happens."""
    owner = random.choice(list(world.owners))
    dice = random.random()
    mine = [seq for seq, (whose, *_) in world.held.items() if whose == owner]
    waiting = [seq for seq, claim in world.waiting.items() if claim.owner == owner]
    parked = [seq for seq, claim in world.parked.items() if claim.owner == owner]
    if dice < 0.6:
        changes = Changes(request=[random_request(random) for _ in range(random.choice((0, 1, 1, 2)))])
        if mine and random.random() < 0.6:
            seq = random.choice(mine)
            changes.release.append(Lease(seq, world.held.pop(seq)[2]))
        if waiting and random.random() < 0.1:
            seq = random.choice(waiting)
            changes.withdraw.append(seq)
            del world.waiting[seq]
        world.change(owner, changes)
    elif dice < 0.7 and mine:
        seq = random.choice(mine)
        whose, needs, token = world.held.pop(seq)
        (priority,) = world.ledger.database.execute("SELECT priority FROM claim WHERE seq = ?", (seq,)).fetchone()
        (passed,) = world.ledger.database.execute("SELECT passed FROM claim WHERE seq = ?", (seq,)).fetchone()
        world.parked[seq] = Waiting(seq, whose, priority, needs, False, passed)
        world.change(owner, Changes(park=[Lease(seq, token)]))
    elif dice < 0.78 and parked:
        seq = random.choice(parked)
        world.waiting[seq] = world.parked.pop(seq)
        world.change(owner, Changes(resume=[seq]))
    elif dice < 0.88:
        pool = random.choice(POOLS)
        limit = random.choice((0, 1, 1, 2, 3, 4))
        kind = random.random()
        if kind < 0.6:
            world.explicit[pool] = limit
            world.ledger.set_limit(pool, limit)
        elif kind < 0.8:
            world.explicit.pop(pool, None)
            world.ledger.delete_limit(pool)
        else:
            world.yaml = {random.choice(POOLS): limit}
            world.default = random.choice((None, 2, 3))
            world.ledger.configure(world.yaml, world.default)
    elif dice < 0.95:
        world.now += random.choice((1.0, 10.0, 40.0))
        world.change(owner, Changes(look_at=set(POOLS)))
    elif len(world.owners) > 2:
        world.die(owner)


def pass_often(world: SqlWorld, random: Random) -> None:
    """A claim of two pools that fill up in turns."""
    small, large = list(world.owners)[:2]
    world.explicit.update(a=1, b=1)
    for pool in ("a", "b"):
        world.ledger.set_limit(pool, 1)
        world.change(small, Changes(request=[Request(step="s", attempt=1, needs=((pool, 1),))]))
        world.agree()
    both = Request(step="s", attempt=1, needs=(("a", 1), ("b", 1)))
    (wide,) = world.change(large, Changes(request=[both]))
    world.agree()
    for _ in range(100):
        seq = random.choice([seq for seq, (owner, *_) in world.held.items() if owner == small])
        _, needs, token = world.held.pop(seq)
        follower = Request(step="s", attempt=1, needs=needs)
        world.change(small, Changes(request=[follower]))
        world.change(small, Changes(release=[Lease(seq, token)]))
        world.agree()
        if wide in world.held:
            return
    raise AssertionError("it is passed for ever")


def overdue_together(world: SqlWorld) -> None:
    """More wait than are put in order without SQLite, all for too long; then there is room for all of them."""
    world.explicit["a"] = 0
    world.ledger.set_limit("a", 0)
    (owner, *_) = world.owners
    world.change(owner, Changes(request=[Request(step="s", attempt=1, needs=(("a", 1),)) for _ in range(2 * FEW)]))
    world.now += AGING_S
    world.agree()
    world.explicit["a"] = 2 * FEW
    world.ledger.set_limit("a", 2 * FEW)
    world.agree()
    assert len(world.held) == 2 * FEW


@contextmanager
def made(module: ModuleType) -> Iterator[SqlWorld]:
    """A ledger in a folder of its own; nothing of it is left."""
    home = Path(tempfile.mkdtemp(prefix="executor-ledger-"))
    before = module.boot_time_s
    world = SqlWorld(home, module)
    try:
        yield world
        world.close()
    except BaseException:
        world.abandon()
        raise
    finally:
        module.boot_time_s = before  # type: ignore[attr-defined]
        shutil.rmtree(home)


def play(random: Random, module: ModuleType = real_ledger, steps: int = 40) -> None:
    """A random life of a ledger."""
    with made(module) as world:
        for _ in range(steps):
            step(world, random)
            world.agree()


def play_overdue(module: ModuleType = real_ledger) -> None:
    """The life of many claims that have waited for too long."""
    with made(module) as world:
        overdue_together(world)


def play_passes(module: ModuleType = real_ledger) -> None:
    """The life of a claim that is passed often."""
    with made(module) as world:
        pass_often(world, Random(1))
