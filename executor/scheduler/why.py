"""Why a step is not running, as data and as a sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.states import StepState
from executor.scheduler.waits import MAX_CONCURRENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.scheduler.limits import BoundLimits

# More names than this are counted rather than listed.
NAMES = 5


class LimitUse(NamedTuple):
    """A limit without room."""

    name: str  #: ``max_concurrent``, or a tag limit such as ``tag database=warehouse``
    used: int
    limit: int
    held_by: tuple[str, ...]  #: keys of the steps that count against it


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What one step waits for, or why it will not run. As text it is one sentence."""

    key: str
    state: StepState
    attempt: int  #: number of the attempt that runs or was the last; 0: none yet
    full: tuple[LimitUse, ...] = ()  #: of a ready step: every limit that holds it back, max_concurrent first
    ahead: int = 0  #: of a ready step: ready steps that come before it
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
                return (f"is ready and waits for {limits}" if limits else "is ready") + before
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


def _listed(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:NAMES])
    more = len(names) - NAMES
    return f"{shown} and {more} more {what}" if more > 0 else shown
