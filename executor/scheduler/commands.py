"""What the scheduler asks for. The driver performs each; none is performed by the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from executor.scheduler.events import Derived

#: Slots wanted of pools: names in alphabetical order, each with a number of 1 or more.
Wanted = tuple[tuple[str, int], ...]


@dataclass(slots=True)
class StartStep:
    """Hand this attempt of this step to a worker.

    ``waited`` says for how many seconds what held the step back since it was ready: ``(("max_concurrent", 3.2),)``.
    """

    key: str
    attempt: int
    waited: tuple[tuple[str, float], ...] = ()
    token: int | None = None  #: the fencing token that its claim was granted with; None: it uses no pool


@dataclass(slots=True)
class StopStep:
    """Ask the attempt that is running to stop, and kill it after the grace; or, with ``kill``, at once."""

    key: str
    attempt: int
    reason: Literal["timed_out", "cancelled"]
    kill: bool = False


@dataclass(slots=True)
class ClaimSlots:
    """Enter a claim in the ledger: slots of pools, all of them or none, for an attempt that could start at once.

    The answer is to be told as soon as there is one, since room is kept until then: ``SlotsGranted``, or
    ``SlotsWaiting``, which a ``SlotsGranted`` follows later. If the ledger cannot be asked at once, that is
    ``SlotsWaiting`` too.
    """

    key: str
    attempt: int
    pools: Wanted
    priority: int  #: of the run and of the step together; higher comes first


@dataclass(slots=True)
class HandBackSlots:
    """Park the claim that was just granted: the run has no room for the attempt any more.

    The slots are free for others at once. The claim keeps its place, and is passed over until ``UnparkClaim``.
    """

    key: str
    attempt: int
    token: int  #: of the grant


@dataclass(slots=True)
class UnparkClaim:
    """Ask for the slots of a parked claim again, in its old place: the run has room for the attempt.

    Answered as ``ClaimSlots`` is; a grant has a new token.
    """

    key: str
    attempt: int


@dataclass(slots=True)
class WithdrawClaim:
    """Remove the claim of an attempt that will not start, whether it waits, is parked, or was granted meanwhile."""

    key: str
    attempt: int


@dataclass(slots=True)
class ReleaseSlots:
    """Give back the slots that an attempt held: all of its processes are gone."""

    key: str
    attempt: int
    token: int  #: of the grant that it started with


@dataclass(slots=True)
class Record:
    """Keep this consequence in the history and show it."""

    event: Derived


#: What goes to the ledger that all runs share. Those of one answer belong in one exchange, in their order: what is
#: given back and withdrawn comes before what is asked for.
LedgerCommand = ClaimSlots | HandBackSlots | UnparkClaim | WithdrawClaim | ReleaseSlots
Command = StartStep | StopStep | LedgerCommand | Record
