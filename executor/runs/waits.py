"""For what each step of a run has waited, and who was in its way, as the run's history tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from executor.ledger.named import holder_text
from executor.runs.report import printable, seconds_text
from executor.scheduler.events import (
    RunEnded,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from executor.scheduler.waits import pool_cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.plan.plan import Plan
    from executor.scheduler.events import Event, SlotHolder

# A shorter wait is the time that the engine itself takes.
SHOWN_S = 0.05

# More are "others".
NAMED = 2


class Wait(NamedTuple):
    """One thing that a step has waited for."""

    cause: str  #: ``max_concurrent``, ``retry``, ``tag database=warehouse``, ``pool database``
    seconds: float
    reason: str = ""  #: of a pool: what the ledger said when those held it who held it for most of this time
    held_by: tuple[SlotHolder, ...] = ()  #: the first of them
    others: bool = False  #: there were more of them, or others at other times

    def __str__(self) -> str:
        because = self.reason
        if self.held_by:
            because = f"held by {' and '.join(map(holder_text, self.held_by))}{' and others' if self.others else ''}"
        return f"{seconds_text(self.seconds)} {printable(self.cause)}" + (f" ({printable(because)})" if because else "")


def waits_text(waits: Iterable[Wait]) -> str:
    """``41.2 s: 38.0 s pool database (held by step 'load' of run 7f3a), 3.2 s max_concurrent``; empty for none."""
    shown = [wait for wait in waits if wait.seconds >= SHOWN_S]
    if not shown:
        return ""
    if len(shown) == 1:
        return str(shown[0])
    total = seconds_text(sum(wait.seconds for wait in shown))
    return f"{total}: {', '.join(map(str, shown))}"


@dataclass(slots=True)
class _Telling:
    """What was last told of a claim that waits."""

    cause: str
    since: float
    reason: str = ""
    held_by: tuple[SlotHolder, ...] = ()
    outdated: bool = False  #: all of those who were named have ended since, and nobody was told who came after them
    still_hold: set[str] = field(default_factory=set)  #: of ``held_by``, if all of them are of the same run

    def __post_init__(self) -> None:
        if not any(holder.run for holder in self.held_by):
            self.still_hold.update(holder.step for holder in self.held_by)

    @property
    def whom(self) -> object:
        """What tells it from other tellings: who holds the slots, else what was said."""
        return frozenset((holder.run, holder.step) for holder in self.held_by) or self.reason


class _Step:
    """What is known of one step."""

    __slots__ = ("now", "outdated", "reasons", "told_of", "waited")

    def __init__(self) -> None:
        self.waited: dict[str, float] = {}  #: seconds by cause, of the attempts that are over or have started
        self.told_of: dict[str, float] = {}  #: the same of the attempt that waits, as far as it was told
        #: cause -> who was told to be in the way -> for how many seconds, and what was said of it at last
        self.reasons: dict[str, dict[object, tuple[float, _Telling]]] = {}
        self.outdated: dict[str, float] = {}  #: cause -> for how many seconds it was others than those who were told
        self.now: _Telling | None = None

    def told(self, t: float, telling: _Telling | None) -> None:
        """Something else holds from ``t`` on."""
        if self.now is not None:
            lasted = t - self.now.since
            self.told_of[self.now.cause] = self.told_of.get(self.now.cause, 0.0) + lasted
            if self.now.reason:
                reasons = self.reasons.setdefault(self.now.cause, {})
                before, _ = reasons.get(self.now.whom, (0.0, None))
                reasons[self.now.whom] = before + lasted, self.now
            if self.now.outdated:
                self.outdated[self.now.cause] = self.outdated.get(self.now.cause, 0.0) + lasted
        self.now = telling

    def holder_ended(self, t: float, key: str) -> None:
        """A step of the same run has given its slots back: if it was the last that was named, others hold them now."""
        if self.now is not None and key in self.now.still_hold:
            self.now.still_hold.discard(key)
            if not self.now.still_hold:
                self.told(t, _Telling(self.now.cause, t, outdated=True))

    def started(self, t: float, waited: Iterable[tuple[str, float]]) -> None:
        """An attempt begins; how long it had waited is known exactly."""
        self.told(t, None)
        self.told_of.clear()
        for cause, seconds in waited:
            self.waited[cause] = self.waited.get(cause, 0.0) + seconds

    def given_up(self, t: float) -> None:
        """What waited never began: what was told of it is all that is known."""
        self.told(t, None)
        told_of, self.told_of = self.told_of, {}
        self.started(t, told_of.items())

    def waits(self) -> tuple[Wait, ...]:
        """The longest first."""
        found = []
        for cause, seconds in self.waited.items():
            reasons = self.reasons.get(cause, {})
            if reasons:
                _, telling = max(reasons.values(), key=lambda reason: reason[0])
                others = sum(bool(each.held_by) for _, each in reasons.values()) > 1 or len(telling.held_by) > NAMED
                others = others or self.outdated.get(cause, 0.0) >= SHOWN_S
                found.append(Wait(cause, seconds, telling.reason, telling.held_by[:NAMED], others=others))
            else:
                found.append(Wait(cause, seconds))
        return tuple(sorted(found, key=lambda wait: -wait.seconds))


def waits_of(timeline: Iterable[tuple[float, Event]], plan: Plan) -> Mapping[str, tuple[Wait, ...]]:
    """For what each step had waited, over all attempts that began or were given up; those that did not are left out.

    What still waits while the run goes on is not among it.
    """
    steps: dict[str, _Step] = {}
    behind: dict[str, set[str]] = {}  #: step -> those who were told that it is in their way, since it last ended
    for t, event in timeline:
        match event:
            case SlotsWaiting():
                cause = pool_cause(event.pools or sorted(plan.step(event.key).pools))
                telling = _Telling(cause, t)
                if event.cause != "busy":  # what cannot be asked for a moment says nothing about who is in the way
                    telling = _Telling(cause, t, event.reason, event.held_by)
                steps.setdefault(event.key, _Step()).told(t, telling)
                for holder in telling.still_hold:
                    behind.setdefault(holder, set()).add(event.key)
            case SlotsGranted():
                steps.setdefault(event.key, _Step()).told(t, None)
            case StepCancelled() | StepFailed():
                if event.key in steps:
                    steps[event.key].given_up(t)
            case RunEnded():
                for step in steps.values():
                    step.given_up(t)
            case StepStarted():
                if event.waited or event.key in steps:
                    steps.setdefault(event.key, _Step()).started(t, event.waited)
        if isinstance(event, SlotFreed) or (isinstance(event, StepSucceeded | StepFailed) and event.freed):
            for key in behind.pop(event.key, ()):
                steps[key].holder_ended(t, event.key)
    return {key: waits for key, step in steps.items() if (waits := step.waits())}
