"""Several runs that share pools, without processes and without a ledger's file: their schedulers, and ``claims.grant``.

Who does what next, and how late a run hears of its grants, is chance. ``play`` ends when every run has; it is an error
if nothing can happen any more before that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builders import plan_of, step

from executor.authoring.retry import RetryPolicy
from executor.config.settings import TagLimit
from executor.ledger.claims import Pool, Waiter, grant, line_up
from executor.scheduler.commands import (
    ClaimSlots,
    HandBackSlots,
    ReleaseSlots,
    StartStep,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import SlotsGranted, SlotsWaiting, StepFailed, StepSucceeded, Woke
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import StepError
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from random import Random

    from executor.ledger.claims import Needs
    from executor.scheduler.commands import Command, LedgerCommand

POOLS = ("a", "b", "c", "d")
AGING_S = 100.0


@dataclass
class Claim:
    """What a run has in the ledger for one attempt."""

    seq: int
    run: int
    key: str
    attempt: int
    needs: Needs
    priority: int
    filed: float
    passed: int = 0
    state: str = "waiting"  #: or parked, or granted


class Pools:
    """The ledger: claims in a list, granted by the rule of the real one."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.claims: dict[tuple[int, str], Claim] = {}
        self.last = 0

    def used(self, pool: str) -> int:
        held = [claim for claim in self.claims.values() if claim.state == "granted"]
        return sum(weight for claim in held for name, weight in claim.needs if name == pool)

    def perform(self, run: int, command: LedgerCommand, now: float) -> None:
        at = run, command.key
        match command:
            case ClaimSlots(key, attempt, needs, priority):
                assert at not in self.claims
                self.last += 1
                self.claims[at] = Claim(self.last, run, key, attempt, needs, priority, now)
            case HandBackSlots():
                self.claims[at].state = "parked"
            case UnparkClaim():
                self.claims[at].state = "waiting"
            case WithdrawClaim() | ReleaseSlots():
                del self.claims[at]

    def settle(self, now: float) -> list[Claim]:
        """Those who are granted now."""
        waiting = {claim.seq: claim for claim in self.claims.values() if claim.state == "waiting"}
        decisions = grant(
            line_up(
                (Waiter(seq, str(claim.run), claim.priority, claim.passed), claim.needs, now - claim.filed >= AGING_S)
                for seq, claim in waiting.items()
            ),
            {pool: Pool(limit, self.used(pool)) for pool, limit in self.limits.items()},
            is_alive=lambda _: True,
            last_token=self.last,
        )
        for seq, passed in decisions.passed.items():
            waiting[seq].passed = passed
        granted = [waiting[each.seq] for each in decisions.granted]
        self.last += len(granted)
        for claim in granted:
            claim.state = "granted"
        for pool, limit in self.limits.items():
            assert self.used(pool) <= limit, f"pool {pool} is over its limit"
        return granted


@dataclass
class Run:
    """A scheduler and what its driver knows."""

    scheduler: Scheduler
    running: dict[str, int] = field(default_factory=dict)  #: key -> attempt
    unheard: list[SlotsGranted | SlotsWaiting] = field(default_factory=list)


class Machine:
    """The runs, and the pools that they share."""

    def __init__(self, limits: dict[str, int], schedulers: list[Scheduler]) -> None:
        self.pools = Pools(limits)
        self.runs = [Run(scheduler) for scheduler in schedulers]
        self.now = 0.0
        for number, run in enumerate(self.runs):
            self.obey(number, run.scheduler.start(self.now))

    def obey(self, number: int, commands: list[Command]) -> None:
        """Do what the scheduler of a run says; all that concerns the ledger is one exchange with it."""
        run = self.runs[number]
        asked = []
        for command in commands:
            if isinstance(command, StartStep):
                run.running[command.key] = command.attempt
            elif isinstance(command, ClaimSlots | UnparkClaim | HandBackSlots | WithdrawClaim | ReleaseSlots):
                self.pools.perform(number, command, self.now)
                if isinstance(command, WithdrawClaim | HandBackSlots):
                    run.unheard = [told for told in run.unheard if told.key != command.key]
                if isinstance(command, ClaimSlots | UnparkClaim):
                    asked.append((command.key, command.attempt))
        for claim in self.pools.settle(self.now):
            self.runs[claim.run].unheard.append(SlotsGranted(claim.key, claim.attempt, self.pools.last))
        for key, attempt in asked:
            if self.pools.claims[number, key].state == "waiting":
                run.unheard.append(SlotsWaiting(key, attempt, (), "full"))

    def possible(self) -> list[tuple[int, str]]:
        """What can happen next: a run hears something, or one of its steps ends, or time passes for it."""
        found = []
        for number, run in enumerate(self.runs):
            if run.unheard:
                found.append((number, "hear"))
            if run.running:
                found.append((number, "end"))
            if run.scheduler.wake_at is not None:
                found.append((number, "wake"))
        return found

    def happen(self, number: int, what: str, random: Random) -> None:
        run = self.runs[number]
        if what == "hear":
            self.obey(number, run.scheduler.handle(run.unheard.pop(0), self.now))
            return
        if what == "wake":
            assert run.scheduler.wake_at is not None
            self.now = max(self.now, run.scheduler.wake_at)
            self.obey(number, run.scheduler.handle(Woke(), self.now))
            return
        self.now += random.choice((0.0, 1.0, 30.0))
        key = random.choice(list(run.running))
        attempt = run.running.pop(key)
        if random.random() < 0.15:
            error = StepError("exception", "chance")
            self.obey(number, run.scheduler.handle(StepFailed(key, attempt, error), self.now))
        else:
            self.obey(number, run.scheduler.handle(StepSucceeded(key, attempt), self.now))


def random_scheduler(random: Random, limits: dict[str, int], offset: int) -> Scheduler:
    """A run whose steps want any pools together; ``offset`` turns their order, so that runs want them in a circle."""
    names = [POOLS[(number + offset) % len(POOLS)] for number in range(len(POOLS))]
    steps = []
    for number in range(random.randint(1, 7)):
        reads = [f"s{above}" for above in range(number) if random.random() < 0.25]
        first = random.randrange(len(names))
        count = random.choice((0, 1, 2, 2, 3, 4))
        pools = {names[(first + k) % len(names)]: 1 for k in range(count)}
        pools = {pool: random.randint(1, limits[pool]) for pool in pools}
        steps.append(
            step(
                f"s{number}",
                " ".join(reads),
                pools=pools,
                priority=random.choice((0, 0, 0, 1, -1)),
                tags={"site": random.choice("xy")},
                retry=RetryPolicy(max_retries=random.choice((0, 0, 2)), delay=random.choice((0, 10))),
            )
        )
    tags = (TagLimit(key="site", limit=1, value="x"),) if random.random() < 0.3 else ()
    plan = plan_of(*steps)
    return Scheduler(
        plan, Limits(max_concurrent=random.randint(1, 3), tags=tags), run_priority=random.choice((0, 0, 5))
    )


def play(random: Random) -> Machine:
    """Runs that share pools, from their begin to their end."""
    limits = {pool: random.randint(1, 3) for pool in POOLS}
    machine = Machine(limits, [random_scheduler(random, limits, number) for number in range(random.randint(2, 4))])
    while not all(run.scheduler.finished for run in machine.runs):
        possible = machine.possible()
        assert possible, "every run waits, and nothing can end that"
        machine.happen(*random.choice(possible), random)
    assert machine.pools.claims == {}, "slots were left behind"
    return machine
