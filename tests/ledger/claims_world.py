"""Claims that come and go at random, granted by ``claims.grant`` and compared with the slow rule at every step."""

from __future__ import annotations

from random import Random
from types import ModuleType

from slow_grant import Waiting, slow_grant

from executor.ledger import claims as real_claims
from executor.ledger.claims import Needs

AGING_S = 50.0
POOLS = ("a", "b", "c", "free")
OWNERS = ("o1", "o2", "o3", "o4")


class World:
    """All claims of an imaginary ledger. ``settle`` is what its transactions do."""

    def __init__(self, claims: ModuleType = real_claims) -> None:
        self.claims = claims
        self.limits: dict[str, int | None] = {"a": 1, "b": 2, "c": 4, "free": None}
        self.held: dict[int, tuple[str, Needs]] = {}
        self.waiting: dict[int, tuple[str, int, Needs, float]] = {}
        self.passed: dict[int, int] = {}
        self.dead: set[str] = set()
        self.now = 0.0
        self.last_seq = 0
        self.last_token = 0
        self.grants: list[int] = []  #: in the order in which they were made
        self.probes: list[str] = []

    def file(self, owner: str, needs: Needs, priority: int = 0) -> int:
        self.last_seq += 1
        self.waiting[self.last_seq] = (owner, priority, needs, self.now)
        self.settle()
        return self.last_seq

    def release(self, seq: int) -> None:
        del self.held[seq]
        self.settle()

    def withdraw(self, seq: int) -> None:
        del self.waiting[seq]
        self.settle()

    def set_limit(self, pool: str, limit: int | None) -> None:
        self.limits[pool] = limit
        self.settle()

    def die(self, owner: str) -> None:
        """What it holds is free at once; what it waits for is found dead by whoever looks at it."""
        self.dead.add(owner)
        for seq in [seq for seq, (whose, _) in self.held.items() if whose == owner]:
            del self.held[seq]
        self.settle()

    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def used(self, pool: str) -> int:
        return sum(weight for _, needs in self.held.values() for name, weight in needs if name == pool)

    def overdue(self, seq: int) -> bool:
        return self.now - self.waiting[seq][3] >= AGING_S

    def is_alive(self, owner: str) -> bool:
        self.probes.append(owner)
        return owner not in self.dead

    def settle(self) -> None:
        """Grant what fits; the slow rule must say the same, and what was promised must hold afterwards."""
        claims = self.claims
        waiting = [
            (claims.Waiter(seq, owner, priority, self.passed.get(seq, 0)), needs, self.overdue(seq))
            for seq, (owner, priority, needs, _) in self.waiting.items()
        ]
        slow = [
            Waiting(waiter.seq, waiter.owner, waiter.priority, needs, overdue, waiter.passed)
            for waiter, needs, overdue in waiting
        ]
        used = {pool: self.used(pool) for pool in POOLS}
        wanted, passed = slow_grant(slow, self.limits, used, self.dead)
        decisions = claims.grant(
            claims.line_up(waiting),
            {pool: claims.Pool(self.limits[pool], used[pool]) for pool in POOLS},
            is_alive=self.is_alive,
            last_token=self.last_token,
        )
        assert [granted.seq for granted in decisions.granted] == wanted
        assert decisions.passed == passed
        assert all(count <= claims.PASSES for count in passed.values()), "passed more often than is allowed"
        tokens = [granted.token for granted in decisions.granted]
        assert tokens == list(range(self.last_token + 1, self.last_token + 1 + len(tokens)))
        self.last_token += len(tokens)
        for seq in decisions.dead:
            owner = self.waiting.pop(seq)[0]
            assert owner in self.dead
        for granted in decisions.granted:
            owner, _, needs, _ = self.waiting.pop(granted.seq)
            assert owner == granted.owner not in self.dead
            self.held[granted.seq] = (owner, needs)
            self.grants.append(granted.seq)
        self.passed.update(passed)
        for pool in {name for granted in decisions.granted for name, _ in self.held[granted.seq][1]}:
            limit = self.limits[pool]
            assert limit is None or self.used(pool) <= limit, f"pool {pool} is over its limit"

    def check(self) -> None:
        """Nobody waits who need not."""
        for seq, (owner, priority, needs, _) in self.waiting.items():
            if owner in self.dead or any(weight > self.room(pool, all_of_it=True) for pool, weight in needs):
                continue
            if any(weight > self.room(pool) for pool, weight in needs):
                continue
            # It would fit: then somebody who comes first waits for one of its pools.
            pools = {pool for pool, _ in needs if self.limits[pool] is not None}
            assert any(
                pools & {pool for pool, _ in theirs}
                and (self.overdue(other) or (not self.overdue(seq) and (-their_priority, other) < (-priority, seq)))
                for other, (_, their_priority, theirs, _) in self.waiting.items()
                if other != seq and len(theirs) + theirs[0][1] > 1
            ), f"claim {seq} waits for nobody"

    def room(self, pool: str, *, all_of_it: bool = False) -> float:
        limit = self.limits[pool]
        if limit is None:
            return float("inf")
        return limit if all_of_it else limit - self.used(pool)


def random_needs(random: Random) -> Needs:
    count = random.choice((1, 1, 1, 2, 2, 3))
    return tuple(sorted((pool, random.choice((1, 1, 1, 2, 3))) for pool in random.sample(POOLS, count)))


def step(world: World, random: Random) -> None:
    """Something happens."""
    dice = random.random()
    if dice < 0.5:
        alive = [owner for owner in OWNERS if owner not in world.dead]
        world.file(random.choice(alive), random_needs(random), random.choice((0, 0, 0, 1, -1, 5)))
    elif dice < 0.8:
        if world.held:
            world.release(random.choice(list(world.held)))
    elif dice < 0.86:
        world.set_limit(random.choice(POOLS), random.choice((0, 1, 1, 2, 3, 5, None)))
    elif dice < 0.9:
        if world.waiting:
            world.withdraw(random.choice(list(world.waiting)))
    elif dice < 0.98:
        world.let_time_pass(random.choice((1.0, 10.0, 30.0)))
    elif len(world.dead) < len(OWNERS) - 1:
        world.die(random.choice([owner for owner in OWNERS if owner not in world.dead]))


def play(random: Random, claims: ModuleType = real_claims, steps: int = 60) -> World:
    """A random life of a ledger; then limits are set that let everybody through, and everybody gets through."""
    world = World(claims)
    for _ in range(steps):
        step(world, random)
        world.check()
    for pool in POOLS:
        world.set_limit(pool, 3)
    while world.held:
        world.release(random.choice(list(world.held)))
    left = [seq for seq, (owner, *_) in world.waiting.items() if owner not in world.dead]
    assert not left, f"claims {left} wait for ever"
    return world


def pass_often(claims: ModuleType = real_claims) -> None:
    """A claim of two pools that fill up in turns; the small ones go on for ever, and it has its turn all the same."""
    world = World(claims)
    world.limits.update(a=1, b=1)
    in_a, in_b = world.file("o1", (("a", 1),)), world.file("o1", (("b", 1),))
    wide = world.file("o2", (("a", 1), ("b", 1)))
    also = world.file("o2", (("a", 1), ("b", 1)))
    for turn in range(4 * claims.PASSES):
        if wide in world.held:
            break
        assert turn < 2 * claims.PASSES + 2, "it is passed for ever"
        next_a, next_b = world.file("o1", (("a", 1),)), world.file("o1", (("b", 1),))
        for seq in (in_a, in_b):
            if seq in world.held:
                world.release(seq)
        in_a = next_a if next_a in world.held else in_a
        in_b = next_b if next_b in world.held else in_b
        for seq in (next_a, next_b):
            if seq in world.waiting and wide not in world.held:
                world.withdraw(seq)
    assert wide in world.held
    assert also in world.waiting


def outrank(claims: ModuleType = real_claims) -> None:
    """An endless stream of small claims of high priority against a wide one of low priority, until that is overdue."""
    world = World(claims)
    world.limits.update(b=2)
    running = [world.file("o1", (("b", 1),), 9) for _ in range(2)]
    wide = world.file("o2", (("b", 2),), -9)
    for _ in range(int(AGING_S) + 10):
        running.append(world.file("o1", (("b", 1),), 9))
        world.let_time_pass(1.0)
        for seq in [seq for seq in running if seq in world.held][:1]:
            world.release(seq)
        if wide in world.held:
            break
    assert wide in world.held, "a claim that is overdue waits on"
    assert world.now <= AGING_S + 3


def pass_many_at_once(claims: ModuleType = real_claims) -> None:
    """A pool is opened for a hundred small claims, behind one that needs it and a full one: not all of them pass."""
    world = World(claims)
    world.limits.update(a=1, b=0)
    world.file("o1", (("a", 1),))
    wide = world.file("o2", (("a", 1), ("b", 1)))
    for _ in range(100):
        world.file("o1", (("b", 1),))
    world.set_limit("b", 1000)
    assert world.passed[wide] == claims.PASSES == len(world.held) - 1
