"""Whatever comes, goes, dies or is changed: no limit is exceeded, the order holds, nobody waits without a reason."""

from __future__ import annotations

from random import Random

from claims_world import OWNERS, POOLS, World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

WHICH = st.integers(0, 30)
NEEDS = st.dictionaries(st.sampled_from(POOLS), st.integers(1, 3), min_size=1, max_size=3)


class Claims(RuleBasedStateMachine):
    """``World.settle`` compares each decision with the slow rule; the rules are what can happen to a ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(owner=st.sampled_from(OWNERS), needs=NEEDS, priority=st.integers(-2, 2))
    def file(self, owner: str, needs: dict[str, int], priority: int) -> None:
        if owner not in self.world.dead:
            self.world.file(owner, tuple(sorted(needs.items())), priority)

    @precondition(lambda self: bool(self.world.held))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        held = list(self.world.held)
        self.world.release(held[which % len(held)])

    @precondition(lambda self: bool(self.world.waiting))
    @rule(which=WHICH)
    def withdraw(self, which: int) -> None:
        waiting = list(self.world.waiting)
        self.world.withdraw(waiting[which % len(waiting)])

    @rule(pool=st.sampled_from(POOLS), limit=st.sampled_from([0, 1, 2, 3, 5, None]))
    def set_limit(self, pool: str, limit: int | None) -> None:
        self.world.set_limit(pool, limit)

    @rule(owner=st.sampled_from(OWNERS[:2]))
    def die(self, owner: str) -> None:
        self.world.die(owner)

    @rule(seconds=st.sampled_from([1.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.let_time_pass(seconds)

    @invariant()
    def nobody_waits_who_need_not(self) -> None:
        self.world.check()

    @invariant()
    def nothing_is_left_to_grant(self) -> None:
        before = len(self.world.grants)
        self.world.settle()
        assert len(self.world.grants) == before

    def teardown(self) -> None:
        """Let everybody through: everybody gets through."""
        world = self.world
        for pool in POOLS:
            world.set_limit(pool, 3)
        random = Random(0)
        while world.held:
            world.release(random.choice(list(world.held)))
        assert all(owner in world.dead for owner, *_ in world.waiting.values())


Claims.TestCase.settings = settings(max_examples=150, stateful_step_count=40, derandomize=True)
TestClaims = Claims.TestCase
