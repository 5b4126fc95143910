"""The claims of one run, between its scheduler and the ledger: commands go in, events come out.

The scheduler names a step and an attempt, the ledger a ticket; here they meet. All that the scheduler commands in one
answer reaches the ledger in one exchange, and every claim that is asked for is answered by that exchange: granted, or
waiting, with a sentence that says for what.

While a claim waits, the sentence is looked at again when the run has had to do with the ledger anyway and some time
has passed, and it is told again if it has changed. Nothing is looked at on a schedule for it.

Unaware of how steps run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from executor.database.errors import DatabaseBusy, DatabaseFull
from executor.errors import ExecutorError
from executor.ledger import news as heard
from executor.ledger.liveness import carriers
from executor.ledger.requests import Request
from executor.ledger.waiting import Wait
from executor.scheduler.commands import ClaimSlots, HandBackSlots, ReleaseSlots, UnparkClaim, WithdrawClaim
from executor.scheduler.events import RunNotice, SlotsGranted, SlotsWaiting, StepFailed
from executor.scheduler.outcomes import StepError

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.ledger.client import LedgerClient
    from executor.ledger.news import News
    from executor.ledger.requests import Lease
    from executor.runs.home import RunFolder
    from executor.scheduler.commands import LedgerCommand
    from executor.scheduler.events import StepSucceeded
    from executor.workers.selector import Selector

    Told = SlotsGranted | SlotsWaiting | StepFailed | RunNotice

T = TypeVar("T")

# What is said of a wait is looked at again after so many seconds at first, and then whenever the wait has become half
# as long again; so a history holds few lines of a long one.
LOOK_AFTER_S = 1.0
LONGEST_LOOK_S = 60.0

# The ledger's lock is held for microseconds. Who holds it for longer than this is stopped, and is named.
BLOCKED_S = 0.1

BUSY = "the ledger is being written by another process"


class _Claim:
    """The claim of one attempt, from when it is asked for until it is released or withdrawn."""

    __slots__ = (
        "attempt",
        "key",
        "lease",
        "let_go",
        "look_at",
        "parked",
        "refused",
        "request",
        "since",
        "ticket",
        "told",
    )

    def __init__(self, key: str, attempt: int, request: Request, ticket: int | None) -> None:
        self.key, self.attempt, self.request = key, attempt, request
        self.ticket = ticket  #: None: the ledger knows nothing of it
        self.lease: Lease | None = None  #: while it is granted
        self.parked = False
        self.let_go = False  #: its worker has dropped its lock, and goes on
        self.refused = False  #: it was told that nobody can grant it any more
        self.told: Wait | None = None  #: of its wait, as last told; None: nothing was told of it
        self.since = 0.0  #: when it was first told that it waits
        self.look_at = 0.0  #: when to look again at what it waits for


class RunClaims:
    """What one run has in the ledger. ``perform`` what the scheduler commands, then ``exchange`` until it is quiet."""

    def __init__(
        self,
        client: LedgerClient,
        folder: RunFolder,
        selector: Selector,
        *,
        highest_priority: int = 0,
        on_announced: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_announced`` is called when something that the run waits for may be granted in a moment.

        No claim of the run has a higher priority than ``highest_priority``.
        """
        self._client, self._folder, self._selector = client, folder, selector
        self._highest_priority, self._on_announced = highest_priority, on_announced
        selector.add(client.fileno(), self._on_ready)
        self._claims: dict[str, _Claim] = {}  #: by step key: a step has one at a time
        self._of_ticket: dict[int, _Claim] = {}
        self._asked: dict[str, _Claim] = {}  #: of ``_claims``: those that wait for an answer
        self._lanes: dict[str, int] = {}  #: step key -> the lane on which an attempt with a claim was started
        self._carriers: dict[int, tuple[str, ...]] = {}  #: by lane
        self._releasing: dict[int, str] = {}  #: claim -> step key, until the ledger has heard of it
        self._stale: set[int] = set()  #: claims whose loss was told
        self._news: list[News] = []  #: of the client, heard and not told yet
        self._limits: dict[str, int | None] = {}  #: of the pools that something waits for, when last looked at
        self._limits_at = 0.0  #: when they are to be looked at again
        self._heard = 0  #: the client's exchanges, when the waits were last looked at
        self._trouble: str | None = None  #: why the ledger cannot be written for now
        self._blocked_told = False
        self._lost_told = False
        self.lost: str | None = None  #: why no slots can be had any more

    @property
    def wake_at(self) -> float | None:
        """When to call ``tick``, if nothing else happens before."""
        return None if self.lost else self._client.wake_at

    @property
    def pending(self) -> bool:
        """Whether the ledger has not heard of everything yet."""
        return self.lost is None and self._client.pending

    def tick(self) -> None:
        """Do what is due. ``exchange`` does the rest."""
        self._ask(self._client.tick, None)
        self._hear()

    # --- what the scheduler commands ---------------------------------------------------------------------------------

    def perform(self, command: LedgerCommand) -> None:
        """Collect a command for the next exchange. Those of one answer are to be performed in their order."""
        match command:
            case ClaimSlots(key, attempt, pools, priority):
                request = Request(step=key, attempt=attempt, needs=pools, priority=priority)
                self._asked[key] = self._claims[key] = claim = _Claim(key, attempt, request, None)
                self._file(claim)
            case UnparkClaim(key):
                self._asked[key] = claim = self._claims[key]
                claim.parked, claim.told = False, None
                if self.lost is None:
                    self._file(claim) if claim.ticket is None else self._client.resume(claim.ticket)
            case HandBackSlots(key):
                claim = self._claims[key]
                claim.lease, claim.parked = None, True
                if self.lost is None and claim.ticket is not None:
                    self._client.park(claim.ticket)
            case WithdrawClaim(key):
                self._asked.pop(key, None)
                self._end(self._claims.pop(key), None)
            case ReleaseSlots(key):
                self._end(self._claims.pop(key), self._lanes.pop(key, None))

    def lease(self, key: str) -> Lease | None:
        """What the attempt of a step holds; None: it uses no pool."""
        claim = self._claims.get(key)
        return None if claim is None else claim.lease

    def started(self, key: str, lane: int) -> None:
        """Note on which lane an attempt was handed to a worker; -1: in this process."""
        if key in self._claims:
            self._lanes[key] = lane

    def checked(self, event: StepSucceeded) -> StepSucceeded | StepFailed:
        """The event that tells of this success: a failure, if the slots of the attempt were taken from it meanwhile."""
        claim = self._claims.get(event.key)
        if claim is None or claim.lease is None:
            return event
        lease = claim.lease
        if self._was_held(claim, event):
            return event
        self._stale.add(lease.claim)
        message = (
            "its slots were freed by force while it ran, and others may have used them at the same time, so its result "
            "does not count"
        )
        return StepFailed(event.key, event.attempt, StepError("slots_lost", message), 0.0, event.facts, event.freed)

    def _was_held(self, claim: _Claim, event: StepSucceeded) -> bool:
        """Whether the slots were not taken from an attempt until now, or until they are given back in here."""
        lease, ticket = claim.lease, claim.ticket
        assert lease is not None  # noqa: S101  (only what runs can succeed)
        claim.let_go = event.freed and self._lanes.get(claim.key, -1) >= 0
        if claim.let_go and ticket is not None and self._ask(lambda: self._gives_back_first(ticket), False):
            del self._of_ticket[ticket]
            claim.ticket = None
            self._hear()
            return True
        # Where it cannot be read, nobody else can have been granted anything either.
        return self._ask(lambda: self._client.is_held(lease), True)

    def _gives_back_first(self, ticket: int) -> bool:
        """Give slots back ahead of the history, and of what the run does next, if others wait; whether that was done.

        A parked claim has an old place in the order. Whatever else the run claims next comes after everybody of its
        priority who waits now.
        """
        parked = any(claim.parked for claim in self._claims.values())
        return not parked and self._client.release_first(ticket, self._highest_priority)

    # --- the exchange ------------------------------------------------------------------------------------------------

    def exchange(self, now: float) -> list[Told]:
        """Send what was commanded and hear what there is: what is to be told, in this order.

        Whatever is told may lead to further commands; so it is to be called until there is nothing to tell.
        """
        told: list[Told] = []
        client = self._client
        if client.quiet and client.exchanges == self._heard and not (self._asked or self._news or self.lost):
            return told  # as mostly, since every turn of the driver's loop asks
        self._ask(client.flush, None)
        self._hear()
        self._take_news(told)
        if told and self.lost is None:
            return told  # what was granted begins before it is looked up what the others wait for
        if self.lost is None:
            asked, self._asked = self._asked, {}
            told += [self._waiting(claim, now) for claim in asked.values()]
            if client.exchanges != self._heard:
                self._heard, self._trouble = client.exchanges, None
                self._look_again(told, now)
            self._tell_blocked(told)
        return told if self.lost is None else [*told, *self._refusals()]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], T], otherwise: T) -> T:
        """What the ledger says, unless it is lost or cannot be asked now."""
        if self.lost is None:
            try:
                return call()
            except (OSError, DatabaseBusy, DatabaseFull) as error:  # no descriptors are left, or it cannot be read now
                self._trouble = str(error)  # what was missed is found a second later
            except ExecutorError as error:  # OwnerLost, DatabaseLost, DatabaseUnusable
                self.lost = str(error)
                self._selector.remove(self._client.fileno())  # nobody would read what comes there
        return otherwise

    def _on_ready(self) -> None:
        self._ask(self._client.on_ready, None)
        if self._ask(self._client.get_ready, False):
            self._on_announced()

    def _file(self, claim: _Claim) -> None:
        if self.lost is None:
            claim.ticket = self._client.request(claim.request)
            self._of_ticket[claim.ticket] = claim

    def _end(self, claim: _Claim, lane: int | None) -> None:
        """Give back what a claim holds, or let it wait no longer."""
        self._hear()
        if claim.ticket is None or self.lost is not None:
            return
        self._of_ticket.pop(claim.ticket, None)
        if claim.lease is None:
            self._client.withdraw(claim.ticket)
            return
        files = () if lane is None or claim.let_go else self._carriers_of(max(lane, 0))
        if claim.lease.claim not in self._stale:
            self._releasing[claim.lease.claim] = claim.key
        self._client.release(claim.ticket, files)

    def _carriers_of(self, lane: int) -> tuple[str, ...]:
        """The files that carry the lock of an attempt on a lane: as texts and made once, for somebody waits."""
        files = self._carriers.get(lane)
        if files is None:
            files = self._carriers[lane] = carriers(str(self._folder.lane_log(lane)))
        return files

    def _hear(self) -> None:
        """Take over the client's news, and note what is held at once: a command may come before they are told."""
        for item in self._client.news:
            if isinstance(item, heard.SlotsGranted) and (claim := self._of_ticket.get(item.ticket)) is not None:
                claim.lease, claim.told = item.lease, None
            self._news.append(item)
        self._client.news.clear()

    def _take_news(self, told: list[Told]) -> None:
        news, self._news = self._news, []
        for item in news:
            match item:
                case heard.SlotsGranted(ticket, lease):
                    claim = self._of_ticket.get(ticket)
                    if claim is not None and claim.lease == lease:
                        self._asked.pop(claim.key, None)
                        told.append(SlotsGranted(claim.key, claim.attempt, lease.token))
                case heard.SlotsLost(lease):
                    self._on_lost(lease, told)
                case heard.RequestGone(ticket):
                    if (found := self._of_ticket.pop(ticket, None)) is not None:
                        self._file_again(found, told)
                case heard.LedgerTrouble(message):
                    self._trouble = message
                    told.append(RunNotice(f"steps that need slots of pools wait, and go on by themselves: {message}"))
        if not self._client.pending:
            self._releasing.clear()

    def _on_lost(self, lease: Lease, told: list[Told]) -> None:
        """What was given back or parked had been taken away before."""
        for claim in self._claims.values():
            if claim.parked and claim.ticket is not None and self._client.number_of(claim.ticket) == lease.claim:
                self._client.withdraw(claim.ticket)
                del self._of_ticket[claim.ticket]
                claim.ticket = None  # it is filed anew when the run has room for it
        key = self._releasing.pop(lease.claim, None)
        if key is not None:
            told.append(
                RunNotice(f"the slots of step {key!r} had been freed by force while it ran; others may have used them")
            )

    def _file_again(self, claim: _Claim, told: list[Told]) -> None:
        claim.look_at = 0.0
        self._file(claim)
        told.append(
            RunNotice(
                f"the claim of step {claim.key!r} was removed from the ledger by force; the run is alive, so it was "
                "filed again, behind those that wait"
            )
        )

    def _refusals(self) -> list[Told]:
        """What is told of the claims that are neither held nor parked: nobody can grant them any more."""
        told: list[Told] = []
        if not self._lost_told:
            self._lost_told = True
            told.append(RunNotice(f"no slots of pools can be had any more, so steps that need some fail: {self.lost}"))
        error = StepError("slots_lost", f"no slots of its pools can be had any more: {self.lost}", allow_retries=False)
        for claim in self._claims.values():
            if claim.lease is None and not claim.parked and not claim.refused:
                claim.refused = True
                told.append(StepFailed(claim.key, claim.attempt, error))
        return told

    # --- what is said of a wait --------------------------------------------------------------------------------------

    def _waiting(self, claim: _Claim, now: float) -> SlotsWaiting:
        """What is told of a claim that has to wait, as it stands now."""
        said = Wait((), "full", "")
        ticket = claim.ticket
        if ticket is None or self._client.number_of(ticket) is None:
            said = Wait((), "busy", self._trouble or BUSY)
        elif (wait := self._ask(lambda: self._client.waiting_for(ticket), None)) is not None:
            said = wait
        if claim.told is None:
            claim.since = now
        claim.told = said
        claim.look_at = now + min(LONGEST_LOOK_S, max(LOOK_AFTER_S, (now - claim.since) / 2))
        if said.cause == "busy":
            claim.look_at = now
        return SlotsWaiting(claim.key, claim.attempt, *said)

    def _look_again(self, told: list[Told], now: float) -> None:
        """Tell what has changed for claims that wait, where it is time to look."""
        waiting = [claim for claim in self._claims.values() if self._is_filed(claim)]
        if not waiting:
            return
        changed = self._changed_limits(waiting, now)
        for claim in waiting:
            if claim.look_at <= now or changed.intersection(pool for pool, _ in claim.request.needs):
                before = claim.told
                event = self._waiting(claim, now)
                if claim.told != before:
                    told.append(event)

    def _is_filed(self, claim: _Claim) -> bool:
        """Whether a claim waits in the ledger, and that was told."""
        if claim.told is None or claim.lease is not None or claim.ticket is None:
            return False
        return self._client.number_of(claim.ticket) is not None

    def _changed_limits(self, waiting: list[_Claim], now: float) -> set[str]:
        """The pools whose limits were changed: a pool that was paused or is too small is told of soon."""
        if self._limits_at > now:
            return set()
        self._limits_at = now + LOOK_AFTER_S
        pools = {pool for claim in waiting for pool, _ in claim.request.needs}
        found = self._ask(lambda: {pool: self._client.limit(pool) for pool in pools}, self._limits)
        changed = {pool for pool in found if pool in self._limits and self._limits[pool] != found[pool]}
        self._limits = found
        return changed

    def _tell_blocked(self, told: list[Told]) -> None:
        """Name who holds the ledger's lock and does not go on, once."""
        if self._client.blocked_s < BLOCKED_S:
            self._blocked_told = self._blocked_told and self._client.blocked_s > 0
            return
        waiting = [claim for claim in self._claims.values() if claim.told is not None and claim.told.cause == "busy"]
        if self._blocked_told or not waiting:
            return
        self._blocked_told = True
        pid = self._client.blocked_by
        whom = "another process holds" if pid is None else f"process {pid} holds"
        reason = f"{whom} the ledger's lock and does not go on"
        if pid is not None:
            reason += f"; if it is stopped, continue it with kill -CONT {pid}, or end it with kill -KILL {pid}"
        for claim in waiting:
            claim.told = Wait((), "busy", reason)
            told.append(SlotsWaiting(claim.key, claim.attempt, *claim.told))
