"""Why a step is not running, as data and as a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.states import StepState
from executor.scheduler.waits import MAX_CONCURRENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.plan.plan import Plan
    from executor.scheduler.commands import Wanted
    from executor.scheduler.events import WaitCause
    from executor.scheduler.limits import BoundLimits

# More names than this are counted rather than listed.
NAMES = 5


class LimitUse(NamedTuple):
    """A limit without room."""

    name: str  #: ``max_concurrent``, or a tag limit such as ``tag database=warehouse``
    used: int
    limit: int
    held_by: tuple[str, ...]  #: keys of the steps that count against it


class ClaimWait(NamedTuple):
    """The claim of a step that has not started."""

    waited_s: float = 0.0  #: seconds that it has been waiting; 0 where it is parked
    blockers: tuple[str, ...] = ()  #: the pools in its way, as far as known
    cause: WaitCause = "full"
    reason: str = ""  #: what the ledger said of it, for people
    parked: bool = False  #: it was granted when the run had no room, and keeps its place until there is


#: What stands in the way of a claim, where the ledger did not say it in its own words.
CAUSES: dict[WaitCause, str] = {
    "full": "too few slots of {} are free",
    "reserved": "the free slots of {} are kept for a claim that comes first",
    "paused": "{} is paused",
    "unsatisfiable": "there are fewer slots of {} in all",
    "busy": "the ledger could not be asked yet about {}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What one step waits for, or why it will not run. As text it is one sentence."""

    key: str
    state: StepState
    attempt: int  #: number of the attempt that runs or was the last; 0: none yet
    full: tuple[LimitUse, ...] = ()  #: of a ready step: every limit that holds it back, max_concurrent first
    ahead: int = 0  #: of a ready step: ready steps that come before it
    wanted: Wanted = ()  #: of a ready or claiming step: the slots of pools without which it does not start
    claim: ClaimWait | None = None  #: how its claim of these stands; None: it has none yet
    claims_before: int = 0  #: of a ready step that no limit holds back: claims of steps like it that wait
    upstream: tuple[tuple[str, StepState], ...] = ()  #: of a waiting step: what it waits for, and how that stands
    retry_in_s: float | None = None  #: seconds until its next attempt may start; None: it is not between attempts
    lingering: bool = False  #: its last attempt is over, but processes of it have not ended and keep its slot
    stopping: str | None = None  #: of a running step that was told to stop: ``timed_out`` or ``cancelled``
    because: str | None = None  #: of a skipped step: the output left out; of one not run: the step that did not succeed

    def __str__(self) -> str:
        text = f"step {self.key!r} {self._sentence()}"
        if self.lingering:
            text += f"; processes of attempt {self.attempt} have not ended yet and keep its slot"
        return text

    def _sentence(self) -> str:
        match self.state:
            case StepState.WAITING:
                return "waits for " + _listed([f"{key!r} ({state.value})" for key, state in self.upstream], "steps")
            case StepState.READY:
                limits = " and ".join(
                    f"{use.name} ({use.used} of {use.limit}, held by {_listed(list(map(repr, use.held_by)), 'steps')})"
                    for use in self.full
                )
                before = (
                    f"; {self.ahead} ready step{'s are' if self.ahead > 1 else ' is'} before it" if self.ahead else ""
                )
                return (f"is ready and waits for {limits}" if limits else "is ready") + before + self._ready_for_pools()
            case StepState.CLAIMING:
                return self._claiming()
            case StepState.BACKOFF:
                wait = f"{self.retry_in_s or 0.0:.1f} s"
                return f"failed in attempt {self.attempt}; the next starts in {wait} at the earliest"
            case StepState.RUNNING:
                return f"is running (attempt {self.attempt})" + (
                    f" and was stopped: {self.stopping}" if self.stopping else ""
                )
            case StepState.SKIPPED:
                return f"was skipped, because {self.because} was left out"
            case StepState.NOT_RUN:
                return f"was not run, because {self.because!r} did not succeed"
            case StepState.SUCCEEDED | StepState.FAILED | StepState.CANCELLED:
                return f"{self.state.value} in attempt {self.attempt}" if self.attempt else f"was {self.state.value}"

    def _ready_for_pools(self) -> str:
        if self.claim is not None:
            return f"; its claim of {_slots(self.wanted)} is parked, and keeps its place until this run has room"
        if self.claims_before:
            others = f"{self.claims_before} claim{'s' if self.claims_before > 1 else ''} of steps like it"
            return f"; for {_slots(self.wanted)}, {others} are looked at first"
        return ""

    def _claiming(self) -> str:
        claim = self.claim or ClaimWait()
        text = f"has waited {claim.waited_s:.1f} s for {_slots(self.wanted)}"
        if claim.cause == "unsatisfiable":
            text += ", which is unsatisfiable until a limit is raised"
        pools = _listed([f"pool {pool!r}" for pool in claim.blockers], "pools")
        return f"{text}: {claim.reason or CAUSES[claim.cause].format(pools)}"


def full_limits(
    bound: BoundLimits, max_concurrent: int, keys: Sequence[str], holders: Sequence[int], index: int
) -> tuple[LimitUse, ...]:
    """The limits that step ``index`` counts against and that have no room while ``holders`` hold their slots."""
    full = []
    if len(holders) >= max_concurrent:
        full.append(LimitUse(MAX_CONCURRENT, len(holders), max_concurrent, tuple(keys[step] for step in holders)))
    for counter in bound.signatures[bound.signature_of[index]]:
        held_by = tuple(keys[step] for step in holders if counter in bound.signatures[bound.signature_of[step]])
        if len(held_by) >= bound.capacity[counter]:
            full.append(LimitUse(bound.names[counter], len(held_by), bound.capacity[counter], held_by))
    return tuple(full)


def unfinished(plan: Plan, states: Sequence[StepState], index: int) -> tuple[tuple[str, StepState], ...]:
    """The steps that step ``index`` reads from and that it still waits for."""
    done = (StepState.SUCCEEDED, StepState.SKIPPED)
    return tuple((plan.steps[above].key, states[above]) for above in plan.upstream[index] if states[above] not in done)


def _slots(wanted: Wanted) -> str:
    return " and ".join(f"{slots} slot{'s' if slots > 1 else ''} of pool {pool!r}" for pool, slots in wanted)


def _listed(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:NAMES])
    more = len(names) - NAMES
    return f"{shown} and {more} more {what}" if more > 0 else shown
