"""Random runs without processes: what workers would report, and what must hold after each report.

``World`` plays the driver, its workers and the ledger. Whatever is told goes to the scheduler and to the slow model;
beside their agreement, promises are checked here that do not depend on the model. ``random_world`` and ``random_step``
make a run from any ``random.Random``, Hypothesis's included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fake_ledger import FakeLedger
from slow_model import OVER, SlowScheduler

from executor.authoring.retry import Backoff, Jitter, RetryPolicy
from executor.config.settings import TagLimit
from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan
from executor.scheduler.commands import ClaimSlots, Command, HandBackSlots, Record, StartStep, StopStep, UnparkClaim
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
    SlotsGranted,
    StepFailed,
    StepReturned,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
    Told,
    Woke,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import FailureKind, StepError
from executor.scheduler.scheduler import Scheduler
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from executor.scheduler.commands import LedgerCommand

# Times are multiples of this, so that sums of them are exact and the two schedulers can be compared to the last digit.
TICK_S = 0.25

#: What the steps of a random plan want of pools, by chance; none of them in some.
POOLS: list[list[dict[str, int]]] = [
    [],
    [],
    [{}, {"db": 1}],
    [{}, {"db": 1}, {"db": 1}, {"db": 1}],
    [{}, {}, {"db": 1}, {"db": 2}, {"db": 1, "api": 1}],
]

KINDS: list[FailureKind] = ["exception", "retry_requested", "worker_died", "not_picklable", "timed_out", "cancelled"]


class World:
    """A scheduler, the model beside it, the attempts that the workers hold, and the claims that the ledger has."""

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        *,
        retries: bool = True,
        expected_s: Mapping[str, float] | None = None,
        run_priority: int = 0,
        scheduler: type[Scheduler] = Scheduler,
    ) -> None:
        self.plan, self.limits = plan, limits
        self.real = scheduler(plan, limits, retries=retries, expected_s=expected_s, run_priority=run_priority)
        self.model = SlowScheduler(plan, limits, retries=retries, expected_s=expected_s, run_priority=run_priority)
        self.now = 0.0
        self.ledger = FakeLedger()
        self.grants = 0.5  #: how often the ledger grants when it says something
        self.asked: set[str] = set()  #: keys of steps whose claims have no answer yet
        self.waiting: set[str] = set()  #: keys of steps whose claims were answered, and wait
        self.running: dict[str, int] = {}  #: key -> attempt, as the workers know it
        self.lingering: dict[str, int] = {}  #: ended, with processes that have not
        self.good: set[str] = set()  #: succeeded or skipped
        self.attempts: dict[str, int] = {}  #: the last that was begun
        self.ended: list[StepSucceeded | StepFailed | SlotFreed | SlotsGranted] = []  #: were told, to be told again
        self.retry_not_before: dict[str, float] = {}
        self.stopped_late: set[str] = set()
        self.cancelled = False

    def start(self) -> None:
        self._follow(self.real.start(self.now), self.model.start(self.now))

    def tell(self, event: Told) -> list[Command]:
        """Tell both, and check what they answer."""
        self._before(event)
        commands = self.real.handle(event, self.now)
        self._follow(commands, self.model.handle(event, self.now))
        return commands

    def tell_again(self, event: Told) -> None:
        """Tell what was told before: nothing may come of it, but for what time alone brings."""
        self._follow(self.real.handle(event, self.now), self.model.handle(Woke(), self.now))

    def deliver(self, position: int) -> None:
        """Tell what the ledger had to say some time ago."""
        event = self.ledger.undelivered.pop(position)
        if isinstance(event, SlotsGranted):
            self.ended.append(event)
        elif event.key in self.asked and event.attempt == self.attempts.get(event.key, 0) + 1:
            self.asked.remove(event.key)
            self.waiting.add(event.key)
        self.tell(event)

    def refuse(self, key: str) -> None:
        """Tell that nobody can grant the slots of a step any more."""
        error = StepError("slots_lost", "the ledger is gone", allow_retries=len(self.asked) % 2 == 0)
        self.tell(StepFailed(key, self.ledger.claims[key].attempt, error))

    # --- the workers' side -------------------------------------------------------------------------------------------

    def _before(self, event: Told) -> None:
        """What the workers know when they report."""
        if isinstance(event, StepFailed) and event.key not in self.running:
            self.attempts[event.key] = event.attempt
            self.ended.append(event)
        elif isinstance(event, StepSucceeded | StepFailed):
            del self.running[event.key]
            if not event.freed:
                self.lingering[event.key] = event.attempt
            self.ended.append(event)
            if isinstance(event, StepSucceeded) and event.key not in self.stopped_late:
                self.good.add(event.key)
            self.stopped_late.discard(event.key)
        elif isinstance(event, StepReturned):
            del self.running[event.key]
            self.attempts[event.key] -= 1
            self.stopped_late.discard(event.key)
        elif isinstance(event, SlotFreed):
            del self.lingering[event.key]
            self.ended.append(event)
        elif isinstance(event, CancelRequested):
            self.cancelled = self.cancelled or not event.keys
            self.stopped_late -= set(event.keys or self.running)

    def _follow(self, commands: list[Command], expected: list[Command]) -> None:
        asks = [isinstance(command, ClaimSlots | UnparkClaim) for command in commands]
        gives = [
            not isinstance(command, ClaimSlots | UnparkClaim | Record | StartStep | StopStep) for command in commands
        ]
        assert True not in gives[asks.index(True) :] if any(asks) else True, (
            "something is asked before it is given back"
        )
        for command in commands:
            if isinstance(command, StartStep):
                self._check_start(command)
                self.running[command.key] = self.attempts[command.key] = command.attempt
                self.asked.discard(command.key)
                self.waiting.discard(command.key)
                gave_way = {row.step.key for row in self.model.rows if row.claim == "waiting"} & self.asked
                self.asked -= gave_way
                self.waiting |= gave_way
            elif not isinstance(command, StopStep | Record):
                self._check_claim(command)
                self.ledger.perform(command, command.key in {**self.running, **self.lingering})
                self.asked.discard(command.key)
                self.waiting.discard(command.key)
                if isinstance(command, ClaimSlots | UnparkClaim):
                    self.asked.add(command.key)
            elif isinstance(command, StopStep):
                assert self.running.get(command.key) == command.attempt, f"{command} stops what does not run"
                if command.reason == "timed_out":
                    self.stopped_late.add(command.key)
            elif isinstance(command.event, StepSkipped):
                self.good.add(command.event.key)
            elif isinstance(command.event, StepWillRetry):
                self.retry_not_before[command.event.key] = self.now + command.event.delay_s
        assert list(map(plain, commands)) == list(map(plain, expected)), "the scheduler and the model disagree"
        self.check()

    # --- promises ----------------------------------------------------------------------------------------------------

    def _check_start(self, command: StartStep) -> None:
        key = command.key
        step = self.plan.step(key)
        assert not self.cancelled, f"{key} started after the run was cancelled"
        assert key not in self.running, f"{key} was handed out twice"
        assert key not in self.lingering, f"{key} started while its earlier attempt has a slot"
        assert command.attempt == self.attempts.get(key, 0) + 1, f"{key} started as attempt {command.attempt}"
        assert self.now >= self.retry_not_before.get(key, 0.0), f"{key} was tried again too early"
        above = {self.plan.steps[index].key for index in self.plan.upstream[step.index]}
        assert above <= self.good, f"{key} started before {above - self.good}"
        if step.pools:
            self.ledger.start(key, command.attempt, command.token)
        else:
            assert command.token is None

    def _check_claim(self, command: LedgerCommand) -> None:
        step = self.plan.step(command.key)
        if isinstance(command, ClaimSlots | UnparkClaim):
            assert not self.cancelled, f"{command} comes after the run was cancelled"
            assert self._claims_like(step) <= self._free_capacity(step), f"{command} is one too many"
            assert self._free_capacity(step) > 0, f"{command} is for a step that could not start"
        elif isinstance(command, HandBackSlots):
            assert self._free_capacity(step, asked=False) == 0, f"{command} although it could start"
            assert command.key in self.waiting, f"{command} although its room was kept"

    def _holders(self, asked: bool = True) -> list[Step]:
        """The steps that count against limits: also those whose room is kept while the ledger is asked."""
        return [self.plan.step(key) for key in {*self.running, *self.lingering, *(self.asked if asked else ())}]

    def _free_capacity(self, step: Step, asked: bool = True) -> int:
        holders = self._holders(asked)
        free = [self.limits.max_concurrent - len(holders)]
        for limit in self.limits.tags:
            if matches(limit, step):
                free.append(limit.limit - groups(limit, holders).get(share(limit, step), 0))
        return min(free)

    def _claims_like(self, step: Step) -> int:
        """Claims that wait and want the same under the same limits."""
        return sum(like(self.plan.step(key), step, self.limits) for key in self.waiting)

    def check(self) -> None:
        """What holds at any time."""
        real, model = self.real, self.model
        holders = self._holders()
        assert len(holders) <= self.limits.max_concurrent, "over max_concurrent"
        used = [groups(limit, holders) for limit in self.limits.tags]
        for limit, by_value in zip(self.limits.tags, used, strict=True):
            assert all(count <= limit.limit for count in by_value.values()), f"over the limit of {limit}"
        counts = dict.fromkeys(StepState, 0)
        for row in model.rows:
            key = row.step.key
            state = real.state(key)
            counts[state] += 1
            assert state is row.state, f"{key} is {state}, not {row.state}"
            assert real.attempt(key) == row.attempt, f"{key} is at attempt {real.attempt(key)}, not {row.attempt}"
            assert (state is StepState.RUNNING) == (key in self.running), f"{key} is {state}, the workers differ"
            assert (state is StepState.CLAIMING) == (key in self.asked | self.waiting), f"{key} is {state}"
            if state is StepState.READY:
                self._check_blocked(row.step, len(holders), used)
            elif state is StepState.CLAIMING:
                why = real.why(key, self.now)
                assert why.claim is not None
                assert not why.claim.parked
        assert real.counts() == counts
        over = counts_over(counts) == len(self.plan) and not self.lingering
        assert real.finished == over
        assert not over or not self.ledger.claims, f"the run has ended and left {self.ledger.claims}"
        assert real.status == model.status
        assert real.wake_at == model.wake_at
        waits = self.running or self.lingering or real.wake_at is not None or self.asked or self.waiting
        assert real.finished or waits, "stuck: not finished, nothing runs, and nothing is due"

    def _check_blocked(self, step: Step, held: int, used: list[dict[str, int]]) -> None:
        """A ready step that did not start has a limit that is full, and ``why`` names every such limit.

        If it wants slots, there may be as many claims for the same instead as there may be, and ``why`` counts them.
        """
        full = ["max_concurrent"] if held >= self.limits.max_concurrent else []
        for limit, by_value in zip(self.limits.tags, used, strict=True):
            if matches(limit, step) and by_value.get(share(limit, step), 0) >= limit.limit:
                full.append(str(limit))
        why = self.real.why(step.key, self.now)
        if not full:
            claims = self._claims_like(step)
            assert step.pools, f"{step.key} fits every limit and waits"
            assert claims > self._free_capacity(step), f"{step.key} could ask for its slots and does not"
            assert why.claims_before == claims
        claim = self.ledger.claims.get(step.key)
        assert (why.claim is not None and why.claim.parked) == (claim is not None and claim.state == "parked")
        assert len(why.full) == len(full), f"{why} should name {full}"
        assert all(use.used == use.limit == len(use.held_by) for use in why.full)


def matches(limit: TagLimit, step: Step) -> bool:
    return limit.key in step.tags and limit.value in {None, step.tags[limit.key]}


def like(one: Step, other: Step, limits: Limits) -> bool:
    """Whether two steps want the same slots, with the same priority, and count against the same."""
    shares = [[(limit, share(limit, step)) for limit in limits.tags if matches(limit, step)] for step in (one, other)]
    return (one.pools, one.priority) == (other.pools, other.priority) and shares[0] == shares[1]


def share(limit: TagLimit, step: Step) -> str:
    """What of the limit the step shares with others: each value by itself, or all together."""
    return step.tags[limit.key] if limit.per_unique_value else ""


def groups(limit: TagLimit, holders: list[Step]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for step in holders:
        if matches(limit, step):
            counted[share(limit, step)] = counted.get(share(limit, step), 0) + 1
    return counted


def counts_over(counts: dict[StepState, int]) -> int:
    return sum(counts[state] for state in OVER)


def plain(command: Command) -> Command:
    """The command with its waits by cause in alphabetical order: which comes first carries no meaning."""
    if isinstance(command, StartStep):
        return StartStep(command.key, command.attempt, tuple(sorted(command.waited)), command.token)
    return command


# --- random runs -----------------------------------------------------------------------------------------------------


def random_world(random: Random, scheduler: type[Scheduler] = Scheduler) -> World:
    """A plan of up to 20 steps, often wide, under up to four tag limits, half of them with pools, started."""
    size = random.choice([3, 6, 10, 20])
    most_inputs = random.choice([0, 1, 2])
    pools, priorities = random.choice(POOLS), [0, 0, 0, 1, 2]
    if len(pools) > 1 and random.random() < 0.7:
        most_inputs, priorities = 0, [0]  # many steps that want the same
    plan = make_plan(
        "random", tuple(random_plan_step(random, index, most_inputs, pools, priorities) for index in range(size))
    )
    expected = {step.key: float(random.randint(1, 4)) for step in plan.steps if random.random() < 0.5}
    world = World(
        plan,
        Limits(max_concurrent=random.randint(1, 6 if pools else 4), tags=random_limits(random, most=3 if pools else 2)),
        retries=random.random() < 0.8,
        expected_s=expected if random.random() < 0.5 else None,
        run_priority=random.choice([0, 7]),
        scheduler=scheduler,
    )
    world.grants = random.choice([0.1, 0.5])
    world.start()
    return world


def random_limits(random: Random, most: int) -> tuple[TagLimit, ...]:
    """Limits of every form, without two that are the same."""
    forms = [(key, form) for key in ("db", "gpu") for form in ("any", "each", "x", "y")]
    return tuple(
        TagLimit(
            key=key,
            limit=random.randint(1, most),
            value=form if form in {"x", "y"} else None,
            per_unique_value=form == "each",
        )
        for key, form in random.sample(forms, random.randint(0, 4))
    )


def random_plan_step(
    random: Random, index: int, most_inputs: int, pools: list[dict[str, int]], priorities: list[int]
) -> Step:
    inputs = []
    for number in range(random.randint(0, min(most_inputs, index))):
        form = random.choice(["plain", "plain", "fan_in", "order_only"])
        sources = [
            Source(random.randrange(index), random.choice(["result", "result", "maybe"]))
            for _ in range(random.randint(1, 3) if form == "fan_in" else 1)
        ]
        inputs.append(
            StepInput(
                name=f"in{number}",
                sources=tuple(dict.fromkeys(sources)),
                fan_in=form == "fan_in",
                order_only=form == "order_only",
            )
        )
    tags = {key: random.choice("xyz") for key in ("db", "gpu") if random.random() < 0.6}
    return Step(
        index=index,
        key=f"s{index}",
        compute=None,
        inputs=tuple(inputs),
        outputs=(StepOutput(name="result"), StepOutput(name="maybe", required=False)),
        tags=tags,
        priority=random.choice(priorities),
        retry=random_retry(random),
        timeout_s=random.choice([None, None, 1.0, 2.0]),
        pools=random.choice(pools) if pools else {},
    )


def random_retry(random: Random) -> RetryPolicy | None:
    if random.random() < 0.4:
        return None
    delay = random.choice([None, 0.5, 1.0])
    return RetryPolicy(
        max_retries=random.randint(0, 2),
        delay=delay,
        backoff=random.choice([None, *Backoff]) if delay else None,
        jitter=random.choice([None, *Jitter]) if delay else None,
    )


def random_failure(random: Random, key: str, attempt: int) -> StepFailed:
    kind = random.choice(KINDS)
    asked = kind == "retry_requested"
    error = StepError(
        kind,
        "it failed",
        allow_retries=random.random() < 0.9,
        max_retries=random.choice([None, 0, 1, 2]) if asked else None,
        retry_after_s=random.choice([None, 0.0, 0.75]) if asked else None,
    )
    return StepFailed(key, attempt, error, chance=random.choice([0.0, 0.25, 0.75]), freed=random.random() < 0.7)


def random_step(random: Random, world: World) -> bool:
    """Let one thing happen. False: the run has ended, and nothing can."""
    if world.real.finished:
        return False
    if random.random() < 0.6:
        world.now += TICK_S * random.randint(0, 4)
    running, lingering = list(world.running), list(world.lingering)
    roll = random.random()
    if roll < 0.04:
        keys = [step.key for step in world.plan.steps]
        between = [key for key in lingering if world.real.state(key) is StepState.BACKOFF]
        if between and random.random() < 0.5:
            keys = between
        chosen = () if random.random() < 0.4 else tuple(random.sample(keys, random.randint(1, min(2, len(keys)))))
        world.tell(CancelRequested(keys=chosen, kill=random.random() < 0.5))
    elif roll < 0.12 and world.ended:
        # Most telling about a step whose later attempt goes on.
        going_on = [event for event in world.ended if event.key in {*running, *lingering, *world.asked, *world.waiting}]
        world.tell_again(random.choice(going_on or world.ended))
    elif (world.ledger.undelivered or world.ledger.waiting()) and (roll < 0.5 or not (running or lingering)):
        ledger_step(random, world)
    elif lingering and (roll < 0.3 or not running):
        key = random.choice(lingering)
        world.tell(SlotFreed(key, world.lingering[key]))
    elif running:
        key = random.choice(running)
        attempt = world.running[key]
        roll = random.random()
        if roll < 0.05:
            world.tell(StepStarted(key, attempt))
        elif roll < 0.15:
            world.tell(StepReturned(key, attempt))
        elif roll < 0.35:
            world.tell(random_failure(random, key, attempt))
        else:
            missing = ("maybe",) if random.random() < 0.4 else ()
            if random.random() < 0.1:
                missing += ("result",)
            world.tell(StepSucceeded(key, attempt, missing=missing, freed=random.random() < 0.7))
    else:
        wake_at = world.real.wake_at
        assert wake_at is not None, "stuck"
        world.now = max(world.now, wake_at)
        world.tell(Woke())
    return True


def ledger_step(random: Random, world: World) -> None:
    """Let the ledger grant slots to somebody or not, or let something arrive that it said before."""
    ledger = world.ledger
    waiting = ledger.waiting()
    if not waiting or (ledger.undelivered and random.random() < 0.5):
        world.deliver(random.randrange(len(ledger.undelivered)))
        return
    key = random.choice(waiting)
    roll = random.random()
    if roll < world.grants:
        ledger.grant(key)
    elif roll > 0.98:
        world.refuse(key)
        return
    else:
        wanted = sorted(world.plan.step(key).pools)
        pools = random.choice([(), tuple(wanted), tuple(wanted[:1])])
        ledger.block(key, pools, random.choice(["full", "paused", "unsatisfiable"]))
    if random.random() < 0.7:
        world.deliver(-1)


def play(random: Random, scheduler: type[Scheduler] = Scheduler, most_steps: int = 150) -> World:
    """Play a random run to its end, or as far as ``most_steps`` reports go."""
    world = random_world(random, scheduler)
    for _ in range(most_steps):
        if not random_step(random, world):
            break
    return world
