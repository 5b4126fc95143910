"""For what each step of a run has waited, and who was in its way, as the run's history tells it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.runs.report import printable, seconds_text
from executor.scheduler.events import RunEnded, SlotsGranted, SlotsWaiting, StepCancelled, StepFailed, StepStarted
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
    others: bool = False  #: at other times others held it

    @property
    def held_by(self) -> str:
        """Who held it, as the ledger said it: ``by step 'load' of run 7f3a``; empty where that is not known."""
        holders = _holders(self.reason)
        return f"{holders} and others" if holders and self.others else holders

    def __str__(self) -> str:
        because = f"held {self.held_by}" if self.held_by else self.reason
        return f"{seconds_text(self.seconds)} {printable(self.cause)}" + (f" ({printable(because)})" if because else "")


def _holders(reason: str) -> str:
    found = _HELD_BY.search(reason)
    return found[1] if found else ""


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

    __slots__ = ("now", "reasons", "told_of", "waited")

    def __init__(self) -> None:
        self.waited: dict[str, float] = {}  #: seconds by cause, of the attempts that are over or have started
        self.told_of: dict[str, float] = {}  #: the same of the attempt that waits, as far as it was told
        self.reasons: dict[str, dict[str, float]] = {}  #: cause -> what was told -> for how many seconds
        self.now: _Telling | None = None

    def told(self, t: float, telling: _Telling | None) -> None:
        """Something else holds from ``t`` on."""
        if self.now is not None:
            lasted = t - self.now.since
            self.told_of[self.now.cause] = self.told_of.get(self.now.cause, 0.0) + lasted
            if self.now.reason:
                reasons = self.reasons.setdefault(self.now.cause, {})
                reasons[self.now.reason] = reasons.get(self.now.reason, 0.0) + lasted
        self.now = telling

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
            longest = max(reasons, key=reasons.__getitem__, default="")
            found.append(Wait(cause, seconds, longest, others=len(set(map(_holders, reasons))) > 1))
        return tuple(sorted(found, key=lambda wait: -wait.seconds))


def waits_of(timeline: Iterable[tuple[float, Event]], plan: Plan) -> Mapping[str, tuple[Wait, ...]]:
    """For what each step had waited, over all attempts that began or were given up; those that did not are left out.

    What still waits while the run goes on is not among it.
    """
    steps: dict[str, _Step] = {}
    for t, event in timeline:
        match event:
            case SlotsWaiting():
                cause = pool_cause(event.pools or sorted(plan.step(event.key).pools))
                # What cannot be asked for a moment says nothing about who is in the way.
                reason = "" if event.cause == "busy" else event.reason
                steps.setdefault(event.key, _Step()).told(t, _Telling(cause, reason, t))
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
    return {key: waits for key, step in steps.items() if (waits := step.waits())}
