"""What a run is told by the ledger after it has asked for slots, or has given some back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from executor.ledger.requests import Lease


class SlotsGranted(NamedTuple):
    """A request was granted; the step may start."""

    ticket: int
    lease: Lease


class SlotsLost(NamedTuple):
    """A lease that was given back or parked had been taken away before: its step must not publish its result."""

    lease: Lease


class RequestGone(NamedTuple):
    """Somebody has removed a request that waited, by force."""

    ticket: int


class LedgerTrouble(NamedTuple):
    """The ledger cannot be written for now; it is tried again. Told once, until it works again."""

    message: str


News = SlotsGranted | SlotsLost | RequestGone | LedgerTrouble
