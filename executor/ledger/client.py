"""What one run wants of the ledger and is told by it, without ever waiting: for the loop of its driver.

Wishes are collected and sent in one transaction by ``flush``. If the ledger's lock cannot be had at once, they stay
collected, and ``wake_at`` says when to try again. What comes back stands in ``news``. One descriptor, ``fileno``, can
be read when there is something to hear: the bell of this run, the end of another run, the end of a process that still
held the slots of a dead one. Nothing here blocks for more than a millisecond, starts a thread or looks around on a
schedule, but for a look once a second while something waits, which should find nothing, and counts when it does.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.database.crash_points import crash_point
from executor.database.errors import DatabaseBusy, DatabaseFull
from executor.database.sqlite import LOCK_TIMEOUT_S
from executor.ledger.deaths import DeathWatch
from executor.ledger.lingering import LingeringSteps, is_worked_on
from executor.ledger.news import LedgerTrouble
from executor.ledger.requests import Changes
from executor.ledger.wishes import Wishes
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from executor.ledger.ledger import Ledger
    from executor.ledger.news import News
    from executor.ledger.requests import Lease, Outcome, Request
    from executor.ledger.waiting import Wait

# After the lock was not to be had in ten tries: epoll cannot wait for less than a millisecond.
RETRY_S = 0.001

# Who has held it for so long is stopped, and to look at it a thousand times a second would cost a core for nothing.
STUCK_S = 0.1
RETRY_STUCK_S = 0.02

# While something waits, its rows are read again so often, in case a bell or a notice was lost.
SAFETY_S = 1.0

# Who waits now will mostly wait again soon; to begin to listen for deaths costs a transaction.
LISTEN_ON_S = 1.0

# Who rings commits within some 100 us. A look takes some 20 us and no lock; a transaction of our own takes as long as
# theirs, and would come before the step begins.
LOOKS = 8

# A disk that is full is not emptied within milliseconds.
FULL_S = 1.0


class LedgerClient:
    """One run's side of the ledger. The run is an owner from the beginning until ``close``, pools or not."""

    def __init__(
        self,
        ledger: Ledger,
        run: str,
        folder: Path,
        *,
        owner: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        """Register the run as an owner.

        Args:
            ledger: used by this client alone, and closed with it.
            run: the run's id.
            folder: where the run's lane files are.
            owner: the name of the owner, where its workers know it already (``liveness.new_owner``).
            clock: of the driver; ``wake_at`` is a time of it.
            timeout_s: how long to wait for the ledger's lock.
        """
        self._ledger, self._clock = ledger, clock
        self.owner = ledger.register(run, folder, owner=owner, timeout_s=timeout_s)
        self._wishes = Wishes()
        self.exchanges = 0  #: how often the ledger was written and read: something may have changed since the last
        self.saved_by_timer = 0  #: how often the look once a second found what should have been heard
        self._unread = False  #: the bell was heard, and the rows have not been read since
        self._rung = False  #: the bell was heard, and nobody has looked since
        self._deaths: DeathWatch | None = None  #: while something waits
        self._looked_at: set[str] = set()  #: pools whose holders were found alive since ``_deaths`` began
        self._retry_at: float | None = None
        self._busy_since: float | None = None  #: since when the ledger's lock could not be had
        self._safety_at: float | None = None
        self._deaf_at: float | None = None  #: when to listen for deaths no longer, if nothing waits until then
        self._in_trouble = False
        self._epoll = select.epoll()
        hygiene.register(self._epoll.fileno())
        self._epoll.register(self.owner.bell.fileno(), select.EPOLLIN)
        self._lingering = LingeringSteps(self._epoll)

    def fileno(self) -> int:
        """The descriptor to wait for: when it can be read, call ``on_ready``."""
        return self._epoll.fileno()

    # --- wishes ------------------------------------------------------------------------------------------------------

    @property
    def news(self) -> list[News]:
        """What has happened, to be taken by the driver."""
        return self._wishes.news

    def request(self, request: Request) -> int:
        """Ask for slots; the ticket by which the answer will be known."""
        return self._wishes.request(request)

    def release(self, ticket: int, files: Sequence[str] = ()) -> bool:
        """Give the slots of a granted request back: its attempt is over, and its processes are gone.

        ``files`` are those of its lane. While a process still carries the step's lock on one of them, the slots stay
        taken, and are given back when the last of these has ended; then this is False.
        """
        lease = self._wishes.lease_of(ticket)
        if is_worked_on(files, lease.claim):
            self._lingering.add(ticket, lease.claim, files, self._clock())
            return False
        self._wishes.release(ticket)
        return True

    def release_first(self, ticket: int, priority: int) -> bool:
        """Give back the slots of a granted request on which nobody works any more, ahead of what is asked for next.

        Only where others wait, who get ready meanwhile, and it comes to the same: where one of them is granted
        something, and nobody whom a claim of this priority would have come before. Whether it was done, which also
        says that they were held until now. If not, nothing has changed.
        """
        lease = self._wishes.lease_of(ticket)
        if self._wishes.orders or self._retry_at is not None or not self._announce(lease):
            return False
        outcome = self._try(Changes(release=[lease]), look=False, outranks=priority)
        if outcome is None or outcome.undone:
            return False
        self._wishes.note_released(ticket)
        self._note(outcome)
        return True

    def _announce(self, lease: Lease) -> bool:
        try:
            return self._ledger.announce(lease)
        except (DatabaseFull, DatabaseBusy, OSError):  # it is told when something is written
            return False

    def get_ready(self) -> bool:
        """Whether others have said that something is granted in a moment, since this was last asked.

        Then the rows are read that will be read after it, for nothing but that this goes faster the second time.
        """
        bell = self.owner.bell
        if not bell.announced:
            return False
        bell.announced = False
        with suppress(DatabaseFull, DatabaseBusy, OSError):  # it is told when it is read with the lock
            self._ledger.granted_after(self.owner, self._wishes.told)
        return bool(self._wishes.waiting)

    def park(self, ticket: int) -> None:
        """Hand back what was granted, because there is no capacity for the step now. It keeps its place in the order.

        To be called before the step was started.
        """
        self._wishes.park(ticket)

    def resume(self, ticket: int) -> None:
        """Let a parked request wait again, in its old place: there is capacity for its step."""
        self._wishes.resume(ticket)

    def withdraw(self, ticket: int) -> None:
        """Want a request no more that was not granted; nothing more is told of it."""
        self._wishes.withdraw(ticket)

    def is_held(self, lease: Lease) -> bool:
        """Whether a lease still holds: to be asked before the result of its step is published."""
        return self._ledger.is_held(lease)

    def waiting_for(self, ticket: int) -> Wait | None:
        """Why a request waits; None if it is not filed yet, does not wait, or is granted soon."""
        number = self._wishes.number_of(ticket)
        return None if number is None else self._ledger.waiting_for(number)

    def limit(self, pool: str) -> int | None:
        """The limit of a pool that is in force now; None: unlimited."""
        return self._ledger.limit(pool).limit

    def number_of(self, ticket: int) -> int | None:
        """The number of the claim of a request, by which others know it; None: it is not filed yet."""
        return self._wishes.number_of(ticket)

    @property
    def waiting(self) -> bool:
        """Whether any request is neither granted nor parked."""
        return self._wishes.open

    @property
    def pending(self) -> bool:
        """Whether there are wishes that were not sent yet."""
        return bool(self._wishes.orders)

    @property
    def quiet(self) -> bool:
        """Whether ``flush`` would do nothing now, and there are no news."""
        return self._retry_at is None and not (self._unread or self.news or self._wishes.orders or self._must_look())

    @property
    def blocked_s(self) -> float:
        """For how many seconds the ledger's lock could not be had; 0: it can be had."""
        return 0.0 if self._busy_since is None else self._clock() - self._busy_since

    @property
    def blocked_by(self) -> int | None:
        """The pid of the process that holds the ledger's lock now; None: nobody does, or it cannot be known."""
        return self._ledger.database.lock.holder()

    # --- the loop ----------------------------------------------------------------------------------------------------

    @property
    def wake_at(self) -> float | None:
        """When to call ``tick``, if nothing else happens before; None: never."""
        overdue = self._wishes.next_overdue(self._ledger.aging_s)
        dues = [self._retry_at, self._safety_at, self._deaf_at, overdue, self._lingering.wake_at]
        if self._deaths is not None:
            dues.append(self._deaths.wake_at)
        return min((due for due in dues if due is not None), default=None)

    def on_ready(self) -> None:
        """Hear what there is to hear. ``flush`` acts on it."""
        if self.owner.bell.heard():
            self._unread = self._rung = True
        if self._deaths is not None:
            self._wishes.orders.reap |= self._deaths.heard(self._clock())
        self._release_ended()

    def tick(self) -> None:
        """Do what is due. ``flush`` does the rest."""
        now = self._clock()
        self._release_ended()
        if self._deaths is not None and self._deaths.wake_at is not None and self._deaths.wake_at <= now:
            self._wishes.orders.reap |= self._deaths.look_again(now)
        if (due := self._wishes.next_overdue(self._ledger.aging_s)) is not None and due <= now:
            self._wishes.note_overdue(now, self._ledger.aging_s)
        if self._deaf_at is not None and self._deaf_at <= now:
            self._stop_listening()
        if self._safety_at is not None and self._safety_at <= now:
            self._safety_at = now + SAFETY_S
            self._look_in_case(now)

    def flush(self) -> None:
        """Send the wishes, and read what there is to read; with the ledger's lock taken by others, do neither.

        Raises:
            OwnerLost: this run was taken for dead.
            DatabaseLost: the ledger was deleted or replaced.
        """
        if self._unread and self._wishes.waiting and self._hear_grants():
            # The steps begin first. A bell may have been about more than is committed by now: what else waits is read
            # with the lock right after.
            if self._wishes.waiting or self._wishes.orders:
                self._retry_at = self._retry_at or self._clock()
                return
            self._unread = False
        if self._retry_at is not None:
            if self._retry_at > self._clock():
                return
            self._retry_at = None
        while self._unread or self._wishes.orders or self._must_look():
            look = self._must_look()
            outcome = self._try(self._wishes.orders, look=look)
            if outcome is None:
                return
            if look:
                self._looked_at |= self._wishes.pools()
            self._note(outcome)
        if self._wishes.waiting:
            self._deaf_at = None
        else:
            self._safety_at = None
            if self._deaths is not None and self._deaf_at is None:
                self._deaf_at = self._clock() + LISTEN_ON_S

    def close(self, *, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """End the owner: what it waits for is withdrawn, what it holds is free as soon as no process works on it.

        Args:
            timeout_s: how long to wait for the ledger's lock.

        Safe to call twice.

        Raises:
            DatabaseBusy: somebody holds the ledger's lock and does not go on; the owner counts as dead now.
        """
        if self._epoll.closed:
            return
        self._stop_listening()
        self._lingering.close()
        try:
            self._ledger.unregister(self.owner, timeout_s=timeout_s)
        finally:
            hygiene.forget(self._epoll.fileno())
            self._epoll.close()
            self._ledger.close(timeout_s=timeout_s)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _release_ended(self) -> None:
        if self._lingering.wake_at is not None:
            for ticket in self._lingering.ended(self._clock()):
                self.release(ticket)

    def _must_look(self) -> bool:
        """Whether something waits for a pool whose holders nobody has looked at since deaths are heard of."""
        return bool(self._wishes.waiting) and not self._wishes.pools() <= self._looked_at

    def _try(self, changes: Changes, *, look: bool, outranks: int | None = None) -> Outcome | None:
        if look and self._deaths is None:  # first listen, then look: nobody dies unnoticed between the two
            self._deaths = DeathWatch(self._ledger, self.owner.id, self._epoll, self._clock())
        now = self._clock()
        try:
            # What waited since the last time may have been granted; and what is withdrawn, before anybody heard of it.
            told = self._wishes.told if self._wishes.waiting or changes.withdraw else None
            outcome = self._ledger.try_exchange(self.owner, changes, told=told, look=look, outranks=outranks)
        except (DatabaseFull, DatabaseBusy, OSError) as error:  # OSError: this process has no descriptors left
            if not self._in_trouble:
                self._in_trouble = True
                self.news.append(LedgerTrouble(str(error)))
            self._retry_at = now + FULL_S
            return None
        if outcome is None:
            if self._busy_since is None:
                self._busy_since = now
            # Not all at the same time again: up to twice as long.
            retry_s = RETRY_S if now - self._busy_since < STUCK_S else RETRY_STUCK_S
            self._retry_at = now + retry_s * (1 + os.urandom(1)[0] / 256)
            return None
        self._busy_since, self._in_trouble = None, False
        if outcome.undone:
            return outcome
        self._unread = False
        self.exchanges += 1
        return outcome

    def _note(self, outcome: Outcome) -> None:
        """Remember what came of the orders, and listen for what follows from it."""
        now = self._clock()
        self._wishes.note(outcome, now)
        if outcome.granted:
            crash_point("granted")
        if self._deaths is not None and outcome.orphans:
            self._wishes.orders.reap |= self._deaths.watch_orphans(outcome.orphans, now)
        if self._wishes.waiting and self._safety_at is None:
            self._safety_at = now + SAFETY_S

    def _hear_grants(self) -> bool:
        """Take what was granted and is committed, without the ledger's lock; whether there was anything.

        Who gives slots back rings before he commits, and holds the lock for a while after that; and others come in
        between.
        """
        looks, self._rung = LOOKS if self._rung else 1, False
        try:
            while not (found := self._ledger.granted_after(self.owner, self._wishes.told)) and (looks := looks - 1):
                os.sched_yield()
        except (DatabaseFull, DatabaseBusy, OSError):  # it is told when it is read with the lock
            return False
        self._wishes.take(found)
        if found:
            crash_point("granted")
        return bool(found)

    def _stop_listening(self) -> None:
        self._safety_at = self._deaf_at = None
        self._looked_at.clear()
        if self._deaths is not None:
            self._deaths.close()
            self._deaths = None

    def _look_in_case(self, now: float) -> None:
        """Read the rows and look at the holders, although nothing was heard; count it if that was of use."""
        self.on_ready()
        if self._unread or self._wishes.orders:
            return  # it was heard, and is acted on now
        self._wishes.orders.look_at |= self._wishes.pools()
        outcome = self._try(self._wishes.orders, look=True)
        if outcome is None:
            self._wishes.orders.look_at.clear()
            return
        if self._was_lost(outcome, now):
            self.saved_by_timer += 1
        self._note(outcome)
        self._wishes.note_gone(self._ledger.waiting_of(self.owner))

    def _was_lost(self, outcome: Outcome, now: float) -> bool:
        """Whether that look brought something of which we should have heard."""
        if self._deaths is None or not self._deaths.hears_all:
            return False
        # Whatever is heard of before its effect can be seen may have come only now, however long the lock was waited
        # for. And who was suspected before would have been probed again soon.
        heard_of = self._deaths.notices(now) | self._deaths.suspects
        if self.owner.bell.heard() or not self._deaths.hears_all:
            return False
        return not outcome.reaped <= heard_of if outcome.reaped else bool(outcome.granted or outcome.gave)
