"""Whatever workers report and the ledger grants, in any order: the promises hold, and the run comes to its end."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import TICK_S, World, random_failure, random_world

from executor.scheduler.events import CancelRequested, SlotFreed, StepReturned, StepStarted, StepSucceeded, Woke

WHICH = st.integers(0, 30)


class Runs(RuleBasedStateMachine):
    """One run of a random plan under random limits; the rules are what workers, the ledger and people can do."""

    world: World

    @initialize(random=st.randoms(use_true_random=False))
    def begin(self, random: Random) -> None:
        self.world = random_world(random)

    def is_running(self) -> bool:
        return bool(self.world.running)

    def running(self, which: int) -> tuple[str, int]:
        return list(self.world.running.items())[which % len(self.world.running)]

    @rule(ticks=st.integers(1, 6))
    def time_passes(self, ticks: int) -> None:
        self.world.now += TICK_S * ticks

    @precondition(is_running)
    @rule(which=WHICH, missing=st.sampled_from([(), (), ("maybe",), ("maybe", "result")]), freed=st.booleans())
    def succeed(self, which: int, missing: tuple[str, ...], freed: bool) -> None:
        key, attempt = self.running(which)
        self.world.tell(StepSucceeded(key, attempt, missing=missing, freed=freed))

    @precondition(is_running)
    @rule(which=WHICH, random=st.randoms(use_true_random=False))
    def fail(self, which: int, random: Random) -> None:
        self.world.tell(random_failure(random, *self.running(which)))

    @precondition(is_running)
    @rule(which=WHICH)
    def give_back(self, which: int) -> None:
        self.world.tell(StepReturned(*self.running(which)))

    @precondition(is_running)
    @rule(which=WHICH)
    def say_that_it_started(self, which: int) -> None:
        assert self.world.tell(StepStarted(*self.running(which))) is not None

    @precondition(lambda self: bool(self.world.lingering))
    @rule(which=WHICH)
    def free_slot(self, which: int) -> None:
        lingering = list(self.world.lingering.items())
        self.world.tell(SlotFreed(*lingering[which % len(lingering)]))

    @precondition(lambda self: bool(self.world.ledger.waiting()))
    @rule(which=WHICH, told=st.booleans())
    def grant(self, which: int, told: bool) -> None:
        waiting = self.world.ledger.waiting()
        self.world.ledger.grant(waiting[which % len(waiting)])
        if told:
            self.world.deliver(-1)

    @precondition(lambda self: bool(self.world.ledger.waiting()))
    @rule(which=WHICH, named=st.booleans(), told=st.booleans())
    def do_not_grant(self, which: int, named: bool, told: bool) -> None:
        waiting = self.world.ledger.waiting()
        key = waiting[which % len(waiting)]
        self.world.ledger.block(key, tuple(sorted(self.world.plan.step(key).pools)[:1]) if named else ())
        if told:
            self.world.deliver(-1)

    @precondition(lambda self: bool(self.world.ledger.waiting()))
    @rule(which=WHICH)
    def refuse(self, which: int) -> None:
        waiting = self.world.ledger.waiting()
        self.world.refuse(waiting[which % len(waiting)])

    @precondition(lambda self: bool(self.world.ledger.undelivered))
    @rule(which=WHICH)
    def deliver(self, which: int) -> None:
        self.world.deliver(which % len(self.world.ledger.undelivered))

    @rule()
    def wake(self) -> None:
        self.world.tell(Woke())

    @precondition(lambda self: self.world.real.wake_at is not None)
    @rule()
    def wake_when_due(self) -> None:
        assert self.world.real.wake_at is not None
        self.world.now = max(self.world.now, self.world.real.wake_at)
        self.world.tell(Woke())

    @rule(kill=st.booleans())
    def cancel_the_run(self, kill: bool) -> None:
        self.world.tell(CancelRequested(kill=kill))

    @rule(which=st.lists(WHICH, min_size=1, max_size=2), kill=st.booleans())
    def cancel_steps(self, which: list[int], kill: bool) -> None:
        steps = self.world.plan.steps
        self.world.tell(CancelRequested(keys=tuple(steps[each % len(steps)].key for each in which), kill=kill))

    @precondition(lambda self: bool(self.world.ended))
    @rule(which=WHICH)
    def tell_again(self, which: int) -> None:
        self.world.tell_again(self.world.ended[which % len(self.world.ended)])

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """Let everything that still runs succeed, and every claim be granted: the run must end."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for _ in range(20 * len(world.plan) + 10 + len(world.ledger.undelivered)):
            if world.real.finished:
                break
            if world.ledger.undelivered:
                world.deliver(0)
            elif waiting := world.ledger.waiting():
                world.ledger.grant(waiting[0])
            elif world.lingering:
                world.tell(SlotFreed(*next(iter(world.lingering.items()))))
            elif world.running:
                world.tell(StepSucceeded(*next(iter(world.running.items()))))
            else:
                assert world.real.wake_at is not None, "stuck"
                world.now = max(world.now, world.real.wake_at)
                world.tell(Woke())
        assert world.real.status in {"succeeded", "failed", "cancelled"}


Runs.TestCase.settings = settings(max_examples=150, stateful_step_count=40, derandomize=True)
TestRuns = Runs.TestCase
