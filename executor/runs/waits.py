"""For what each step of a run has waited, and who was in its way, as the run's history tells it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.runs.report import printable, seconds_text
from executor.scheduler.events import SlotsGranted, SlotsWaiting, StepCancelled, StepStarted
from executor.scheduler.waits import pool_cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.plan.plan import Plan
    from executor.scheduler.events import Event

# A shorter wait is the time that the engine itself takes.
SHOWN_S = 0.05

# How the ledger says who holds what somebody waits for: "... held by step 'load' of run 7f3a since 12:03:04; ..."
_HELD_BY = re.compile(r"\bheld (by .+?)(?:;|, and the step needs|$)")


class Wait(NamedTuple):
    """One thing that a step has waited for."""

    cause: str  #: ``max_concurrent``, ``retry``, ``tag database=warehouse``, ``pool database``
    seconds: float
    reason: str = ""  #: of a pool: what the ledger said for most of this time

    @property
    def held_by(self) -> str:
        """Who held it, as the ledger said it: ``by step 'load' of run 7f3a``; empty where that is not known."""
        found = _HELD_BY.search(self.reason)
        return found[1] if found else ""

    def __str__(self) -> str:
        because = f"held {self.held_by}" if self.held_by else self.reason
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
    reason: str
    since: float


class _Step:
    """What is known of one step."""

    __slots__ = ("now", "reasons", "waited")

    def __init__(self) -> None:
        self.waited: dict[str, float] = {}  #: seconds by cause, of the attempts that have started
        self.reasons: dict[str, dict[str, float]] = {}  #: cause -> what was told -> for how many seconds
        self.now: _Telling | None = None

    def told(self, t: float, telling: _Telling | None) -> None:
        """Something else holds from ``t`` on."""
        if self.now is not None and self.now.reason:
            reasons = self.reasons.setdefault(self.now.cause, {})
            reasons[self.now.reason] = reasons.get(self.now.reason, 0.0) + t - self.now.since
        self.now = telling

    def waits(self) -> tuple[Wait, ...]:
        """The longest first."""
        found = []
        for cause, seconds in self.waited.items():
            reasons = self.reasons.get(cause, {})
            found.append(Wait(cause, seconds, max(reasons, key=reasons.__getitem__, default="")))
        return tuple(sorted(found, key=lambda wait: -wait.seconds))


def waits_of(timeline: Iterable[tuple[float, Event]], plan: Plan) -> Mapping[str, tuple[Wait, ...]]:
    """For what each step that has started had waited, over all of its attempts; those that did not are left out."""
    steps: dict[str, _Step] = {}
    for t, event in timeline:
        match event:
            case SlotsWaiting():
                cause = pool_cause(event.pools or sorted(plan.step(event.key).pools))
                # What cannot be asked for a moment says nothing about who is in the way.
                reason = "" if event.cause == "busy" else event.reason
                steps.setdefault(event.key, _Step()).told(t, _Telling(cause, reason, t))
            case SlotsGranted() | StepCancelled():
                steps.setdefault(event.key, _Step()).told(t, None)
            case StepStarted():
                if event.waited or event.key in steps:
                    step = steps.setdefault(event.key, _Step())
                    step.told(t, None)
                    for cause, seconds in event.waited:
                        step.waited[cause] = step.waited.get(cause, 0.0) + seconds
    return {key: waits for key, step in steps.items() if (waits := step.waits())}
