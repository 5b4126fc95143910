"""What one run has asked the ledger for, and what became of it: tickets, numbers of claims, leases. Pure.

Wishes are collected in ``orders`` until they are sent; what came of them is noted, and stands in ``news`` for whoever
asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.ledger.news import RequestGone, SlotsGranted, SlotsLost
from executor.ledger.requests import Changes

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from executor.ledger.news import News
    from executor.ledger.requests import Lease, Outcome, Request

# Stands for the time when a claim was filed that is known to be overdue.
TOLD = float("inf")


class _Wish:
    """A request that is not over."""

    __slots__ = ("lease", "number", "parked", "request", "since", "ticket", "unwanted")

    def __init__(self, ticket: int, request: Request) -> None:
        self.ticket, self.request = ticket, request
        self.number: int | None = None  #: of the claim, once it is filed
        self.since = 0.0  #: when it was filed, on the client's clock
        self.lease: Lease | None = None  #: while it is granted
        self.parked = False
        self.unwanted = False  #: withdrawn; if it was granted meanwhile, that is given back at once


class Wishes:
    """The requests of one run that are not over."""

    def __init__(self) -> None:
        self.orders = Changes()  #: what is to be sent
        self.news: list[News] = []  #: what came of it, to be taken by whoever asked
        self.waiting: set[int] = set()  #: numbers of claims that are filed, and neither granted nor parked
        self.told = 0  #: the largest token that this run has been told of
        self._filing: list[_Wish] = []  #: those of ``orders.request``
        self._by_ticket: dict[int, _Wish] = {}
        self._by_number: dict[int, _Wish] = {}
        self._last_ticket = 0

    # --- what the run wants ------------------------------------------------------------------------------------------

    def request(self, request: Request) -> int:
        """Ask for slots; the ticket by which the answer will be known."""
        self._last_ticket += 1
        wish = self._by_ticket[self._last_ticket] = _Wish(self._last_ticket, request)
        self.orders.request.append(request)
        self._filing.append(wish)
        return wish.ticket

    def release(self, ticket: int) -> None:
        """Give back what was granted; the request is over."""
        self.orders.release.append(self.lease_of(ticket))
        self.note_released(ticket)

    def park(self, ticket: int) -> None:
        """Hand back what was granted, and keep its place in the order."""
        self.orders.park.append(self.lease_of(ticket))
        wish = self._by_ticket[ticket]
        wish.lease, wish.parked = None, True

    def resume(self, ticket: int) -> None:
        """Let a parked request wait again, in its old place."""
        wish = self._by_ticket[ticket]
        assert wish.parked  # noqa: S101  (what waits already need not be resumed)
        wish.parked = False
        number = _number(wish)
        self.orders.resume.append(number)
        self.waiting.add(number)

    def withdraw(self, ticket: int) -> None:
        """Want a request no more that was not granted; nothing more is told of it."""
        wish = self._by_ticket.pop(ticket)
        if wish in self._filing:
            at = self._filing.index(wish)
            del self._filing[at], self.orders.request[at]
            return
        number = _number(wish)
        wish.unwanted = True
        self.waiting.discard(number)
        self.orders.withdraw.append(number)

    # --- how it stands -----------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether any request is neither granted nor parked."""
        return bool(self.waiting or self._filing)

    def lease_of(self, ticket: int) -> Lease:
        """What a granted request holds."""
        lease = self._by_ticket[ticket].lease
        assert lease is not None  # noqa: S101  (only what was granted can be given back)
        return lease

    def number_of(self, ticket: int) -> int | None:
        """The number of the claim of a request; None: it is not filed yet."""
        return self._by_ticket[ticket].number

    def pools(self, numbers: Iterable[int] | None = None) -> set[str]:
        """The pools that these claims of the run need; None: those that wait."""
        found = self.waiting if numbers is None else numbers
        return {pool for number in found for pool, _ in self._by_number[number].request.needs}

    def next_overdue(self, aging_s: float) -> float | None:
        """When the next of the claims that wait will have waited for too long, and so may come before others."""
        since = min((self._by_number[number].since for number in self.waiting), default=TOLD)
        return None if since == TOLD else since + aging_s

    # --- what became of it -------------------------------------------------------------------------------------------

    def note(self, outcome: Outcome, now: float) -> None:
        """Remember what came of the orders, and tell it. Grants are noted by ``take``."""
        withdrawn = self.orders.withdraw
        self.orders, filed, self._filing = Changes(), self._filing, []
        for wish, number in zip(filed, outcome.filed, strict=True):
            wish.number, wish.since = number, now
            self._by_number[number] = wish
            self.waiting.add(number)
        for lease in outcome.lost:
            self.news.append(SlotsLost(lease))
        self.take(outcome.granted)
        for number in withdrawn:
            self._by_number.pop(number, None)

    def note_released(self, ticket: int) -> None:
        """What was granted is given back; the request is over."""
        lease = self.lease_of(ticket)
        del self._by_ticket[ticket], self._by_number[lease.claim]

    def take(self, granted: list[Lease]) -> None:
        """Remember what was granted, and tell it; give back at once what nobody wants any more."""
        for lease in granted:
            self.told = max(self.told, lease.token)
            found = self._by_number.get(lease.claim)
            if found is None or found.unwanted:
                self._by_number.pop(lease.claim, None)
                self.orders.release.append(lease)
                continue
            self.waiting.discard(lease.claim)
            found.lease, found.parked = lease, False
            self.news.append(SlotsGranted(found.ticket, lease))

    def note_overdue(self, now: float, aging_s: float) -> None:
        """Let the ledger look at those that have waited for too long by now."""
        late = [number for number in self.waiting if self._by_number[number].since + aging_s <= now]
        for number in late:
            self._by_number[number].since = TOLD
        self.orders.look_at |= self.pools(late)

    def note_gone(self, there: Container[int]) -> None:
        """Tell of those that wait no more and were not granted: ``there`` are the claims that the ledger knows of."""
        for number in [number for number in self.waiting if number not in there]:
            wish = self._by_number.pop(number)
            self.waiting.discard(number)
            if self._by_ticket.pop(wish.ticket, None) is not None:
                self.news.append(RequestGone(wish.ticket))


def _number(wish: _Wish) -> int:
    assert wish.number is not None  # noqa: S101  (what is not filed stands in ``_filing``)
    return wish.number
