"""Golden traces: a plan, its limits, and events as text, with what the scheduler answered below each event.

A file has comments (``#``), then lines that describe the run, then lines that begin with a time and tell an event. What
is indented below an event is the answer; ``replay`` writes it anew. The description:

    limit max_concurrent 2
    limit db=warehouse 1           a tag limit; ``db`` alone: any value; ``db=*``: each value by itself
    retries off
    priority 5                     of the run
    step load priority=1 timeout=5 retry=2 delay=1 backoff=LINEAR tags=db:warehouse
    step report reads=load.maybe   reads the output of another step; the output is ``result`` where none is named
    step merge gathers=a,b,c       a fan-in
    step last after=report,merge   order only
    step query pools=api:1,db:2    wants slots of pools

and the events:

    0 start
    1 succeeded load 1 missing=maybe lingering
    2 failed report 1 exception    any kind of failure; then max_retries=2 retry_after=5 chance=0.5 final lingering
    2 returned report 1
    3 freed load 1
    4 granted query 1 token=7
    4 blocked query 1 paused pools=db reason=closed
    4 woke
    5 cancel report kill           some steps; none: the run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from executor.authoring.retry import Backoff, RetryPolicy
from executor.config.settings import TagLimit
from executor.plan.plan import Source, Step, StepInput, make_plan
from executor.scheduler.commands import (
    ClaimSlots,
    Command,
    HandBackSlots,
    LedgerCommand,
    Record,
    ReleaseSlots,
    StartStep,
    StopStep,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSkipped,
    StepSucceeded,
    StepWillRetry,
    Told,
    WaitCause,
    Woke,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import FailureKind, StepError
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable


def replay(text: str) -> str:
    """The trace with the answers that the scheduler gives now."""
    steps: list[Step] = []
    tags: list[TagLimit] = []
    max_concurrent, retries, priority = 1, True, 0
    scheduler: Scheduler | None = None
    now = 0.0
    written = []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        words = line.partition("#")[0].split()
        if words and words[0] == "end":
            continue
        written.append(line)
        match words:
            case []:
                pass
            case ["limit", "max_concurrent", number]:
                max_concurrent = int(number)
            case ["limit", name, number]:
                key, _, value = name.partition("=")
                each = value == "*"
                tags.append(
                    TagLimit(key=key, limit=int(number), value=None if each else value or None, per_unique_value=each)
                )
            case ["retries", "off"]:
                retries = False
            case ["priority", number]:
                priority = int(number)
            case ["step", key, *options]:
                steps.append(read_step(key, options, steps))
            case [time, "start"]:
                now = float(time)
                limits = Limits(max_concurrent=max_concurrent, tags=tuple(tags))
                plan = make_plan("golden", tuple(steps))
                scheduler = Scheduler(plan, limits, retries=retries, run_priority=priority)
                written += answer(scheduler, scheduler.start(now))
            case [time, *event]:
                assert scheduler is not None, f"{line!r} comes before the start"
                assert float(time) >= now, f"{line!r} goes back in time"
                now = float(time)
                written += answer(scheduler, scheduler.handle(read_event(event), now))
    assert scheduler is not None, "the trace never starts"
    counts = ", ".join(f"{count} {state.value}" for state, count in scheduler.counts().items() if count)
    written.append(f"end {scheduler.status or 'not finished'}: {counts}")
    return "\n".join(written) + "\n"


def read_options(words: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def read_step(key: str, words: list[str], above: list[Step]) -> Step:
    options = read_options(words)
    index_of = {step.key: step.index for step in above}

    def sources(names: str) -> list[Source]:
        pairs = [name.partition(".") for name in names.split(",") if name]
        return [Source(index_of[step], output or "result") for step, _, output in pairs]

    inputs = [
        StepInput(name=f"in{number}", sources=(source,))
        for number, source in enumerate(sources(options.pop("reads", "")))
    ]
    if "gathers" in options:
        inputs.append(StepInput(name="gathered", sources=tuple(sources(options.pop("gathers"))), fan_in=True))
    if "after" in options:
        inputs.append(StepInput(name="after", sources=tuple(sources(options.pop("after"))), order_only=True))
    retry = None
    if "retry" in options:
        delay, backoff = options.pop("delay", None), options.pop("backoff", None)
        retry = RetryPolicy(
            max_retries=int(options.pop("retry")),
            delay=float(delay) if delay else None,
            backoff=Backoff[backoff] if backoff else None,
        )
    tags = dict(cast("tuple[str, str]", tag.split(":")) for tag in options.pop("tags", "").split(",") if tag)
    pairs = [cast("tuple[str, str]", pool.split(":")) for pool in options.pop("pools", "").split(",") if pool]
    pools = {pool: int(slots) for pool, slots in pairs}
    timeout = options.pop("timeout", None)
    priority = int(options.pop("priority", "0"))
    assert not options, f"step {key} has what nobody reads: {options}"
    return Step(
        index=len(above),
        key=key,
        compute=None,
        inputs=tuple(inputs),
        tags=tags,
        pools=pools,
        retry=retry,
        timeout_s=float(timeout) if timeout else None,
        priority=priority,
    )


def read_event(words: list[str]) -> Told:
    match words:
        case ["succeeded", key, attempt, *rest]:
            options = read_options(rest)
            missing = tuple(name for name in options.get("missing", "").split(",") if name)
            return StepSucceeded(key, int(attempt), missing=missing, freed="lingering" not in options)
        case ["failed", key, attempt, kind, *rest]:
            options = read_options(rest)
            error = StepError(
                cast("FailureKind", kind),
                "it failed",
                allow_retries="final" not in options,
                max_retries=int(options["max_retries"]) if "max_retries" in options else None,
                retry_after_s=float(options["retry_after"]) if "retry_after" in options else None,
            )
            chance = float(options.get("chance", 0.0))
            return StepFailed(key, int(attempt), error, chance=chance, freed="lingering" not in options)
        case ["returned", key, attempt]:
            return StepReturned(key, int(attempt))
        case ["freed", key, attempt]:
            return SlotFreed(key, int(attempt))
        case ["granted", key, attempt, token]:
            return SlotsGranted(key, int(attempt), int(read_options([token])["token"]))
        case ["blocked", key, attempt, cause, *rest]:
            options = read_options(rest)
            pools = tuple(name for name in options.get("pools", "").split(",") if name)
            return SlotsWaiting(key, int(attempt), pools, cast("WaitCause", cause), options.get("reason", ""))
        case ["woke"]:
            return Woke()
        case ["cancel", *keys]:
            return CancelRequested(keys=tuple(key for key in keys if key != "kill"), kill="kill" in keys)
        case _:
            raise AssertionError(f"{' '.join(words)!r} is no event")


def answer(scheduler: Scheduler, commands: list[Command]) -> list[str]:
    """What the scheduler answered, indented, and when it wants to be woken."""
    lines = [f"    {describe(command)}" for command in commands]
    if scheduler.wake_at is not None:
        lines.append(f"    wakes at {scheduler.wake_at:g}")
    return lines or ["    nothing"]


def describe(command: Command) -> str:
    if isinstance(command, StartStep):
        token = "" if command.token is None else f" token={command.token}"
        waited = ", ".join(f"{cause} {seconds:g}" for cause, seconds in command.waited)
        return f"start {command.key} {command.attempt}{token}" + (f" waited {waited}" if waited else "")
    if isinstance(command, StopStep):
        return f"stop {command.key} {command.attempt} {command.reason}" + (" kill" if command.kill else "")
    if not isinstance(command, Record):
        return describe_claim(command)
    match command.event:
        case StepWillRetry(key, attempt, delay_s):
            return f"record {key} will retry as {attempt} in {delay_s:g}"
        case StepSkipped(key, because):
            return f"record {key} skipped because of {because}"
        case StepNotRun(key, because):
            return f"record {key} not run because of {because}"
        case StepCancelled(key):
            return f"record {key} cancelled"


def describe_claim(command: LedgerCommand) -> str:
    match command:
        case ClaimSlots(key, attempt, pools, priority):
            wanted = ",".join(f"{pool}:{slots}" for pool, slots in pools)
            return f"claim {key} {attempt} {wanted}" + (f" priority={priority}" if priority else "")
        case UnparkClaim(key, attempt):
            return f"unpark {key} {attempt}"
        case WithdrawClaim(key, attempt):
            return f"withdraw {key} {attempt}"
        case HandBackSlots(key, attempt, token):
            return f"hand back {key} {attempt} token={token}"
        case ReleaseSlots(key, attempt, token):
            return f"release {key} {attempt} token={token}"
