"""The record of pools and claims that all runs share: what a run may change in it, and what a person may.

Every change is one transaction under one lock, and whoever can be granted something by it is granted in that same
transaction. Nothing is cleaned up on a schedule: what a dead run held is taken back by whoever waits for it, and at the
latest by the next run that starts. This module knows no selector and no worker; ``client.py`` waits for a run.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from executor.database.crash_points import crash_point
from executor.database.errors import DatabaseLost
from executor.database.ledger_schema import LEDGER
from executor.database.sqlite import LOCK_TIMEOUT_S, Database
from executor.errors import ExecutorError
from executor.ledger import bell, liveness, pools
from executor.ledger.claims import AGING_S
from executor.ledger.folders import make_folders, refuse_to_make_under_running_work
from executor.ledger.requests import Changes, Lease, Outcome
from executor.ledger.round import Round, granted_to
from executor.ledger.waiting import waiting_for
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from executor.database.sqlite import Transaction
    from executor.ledger.pools import PoolLimit
    from executor.ledger.waiting import Wait

LEDGER_FILE = "ledger.db"

# Of those who wait for a pool of a lease: the first of a line, if that is another owner's.
_FIRST_IN_LINE = """
    SELECT head.owner
    FROM claim AS held
    JOIN need AS mine ON mine.shape = held.shape
    JOIN need AS other ON other.pool = mine.pool
    JOIN claim AS head ON head.seq = (
        SELECT seq FROM claim WHERE shape = other.shape AND state = 'waiting' AND closes = 0
        ORDER BY priority DESC, seq LIMIT 1
    )
    WHERE held.seq = ? AND held.token = ? AND head.owner <> held.owner
    LIMIT 1
"""

# Who cannot be written down, since the disk is full, closes its lock file right after it has let go of the ledger's.
GIVES_UP_S = 0.1


class OwnerLost(ExecutorError):
    """A run that lives was taken for dead, because its lock file is gone; it can claim nothing any more."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds and waits: one for each run that is being driven, with a lock and a bell of its own."""

    id: str
    run: str
    folder: str  #: of the run, where its lane files are
    lock_fd: int
    bell: bell.Bell


@dataclass(frozen=True, slots=True)
class Freed:
    """What came of ``Ledger.free``."""

    claims: tuple[int, ...]  #: taken away
    alive: tuple[int, ...]  #: left, because the run or a process of the step lives
    stopped: tuple[int, ...] = ()  #: pids of the processes that were stopped for it


class _Undone(Exception):
    """A transaction is not wanted for what came of it."""


def _others_come_first(change: Round, owner: Owner, priority: int) -> bool:
    """Whether others were granted something, and nobody with a lower priority than this."""
    if all(whose == owner.id for _, whose, _ in change.granted):
        return False
    query = "SELECT priority FROM claim WHERE seq = ?"
    return all(change.execute(query, (seq,)).fetchone()[0] >= priority for seq, _, _ in change.granted)


def boot_time_s() -> float:
    """Seconds since the machine was started, also those in which it slept; the same for all of its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Ledger:
    """The ledger of one home folder. Not safe for several threads: each opens its own, and each run is an owner."""

    def __init__(self, home: Path, *, aging_s: float = AGING_S, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Open the ledger, and make it where there is none.

        Args:
            home: the home folder, as ``runs.home.open_home`` gave it.
            aging_s: a claim that has waited for longer comes before all younger ones.
            timeout_s: how long to wait for the ledger's lock.

        Raises:
            DatabaseUnusable: it cannot be used as it is, or is missing while work that it knew of is running.
            DatabaseBusy: somebody holds its lock and does not go on.
        """
        self.home, self.aging_s = home, aging_s
        make_folders(home)
        self.database = Database(
            home / LEDGER_FILE,
            LEDGER,
            descriptors=hygiene,
            before_making=lambda: refuse_to_make_under_running_work(home),
            timeout_s=timeout_s,
        )

    def close(self, *, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Give everything back. Safe to call twice, and does nothing in a forked child."""
        self.database.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- owners ------------------------------------------------------------------------------------------------------

    def register(self, run: str, folder: Path, *, owner: str | None = None, timeout_s: float = LOCK_TIMEOUT_S) -> Owner:
        """Make a run an owner; it is alive from now on until ``unregister`` or the end of this process.

        Also clears up after owners that are dead. ``owner`` is what ``liveness.new_owner`` gave, where that has to be
        known before.
        """
        owner = owner or liveness.new_owner()
        lock_fd: int | None = None
        own_bell: bell.Bell | None = None
        try:
            with self.database.transaction(timeout_s) as transaction:
                clearing = self._round(transaction, None)
                self._clear_up(clearing)
                clearing.settle()
                # Under the ledger's lock, so that nobody takes the files for some that were left behind.
                lock_fd = liveness.lock_owner(self.home, owner)
                own_bell = bell.Bell(self.home, owner)
                crash_point("owner-locked")
                pid = os.getpid()
                transaction.execute(
                    "INSERT INTO owner (id, run, folder, host, pid, start_time, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (owner, run, str(folder), socket.gethostname(), pid, liveness.start_time_of(pid), time.time()),
                )
        except BaseException:
            if own_bell is not None:
                own_bell.close()
            if lock_fd is not None:
                hygiene.close(lock_fd)
            raise
        return Owner(owner, run, str(folder), lock_fd, own_bell)

    def unregister(self, owner: Owner, *, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """End an owner: its claims are gone, but for those on which a process of their step still works.

        These stay taken until that process ends, and whoever waits for them then takes them back.
        """
        lock_fd: int | None = owner.lock_fd
        try:
            with self.database.transaction(timeout_s) as transaction:
                # First the owner ends, then its steps are looked at: a worker that takes its lock too late for that
                # look finds its owner dead.
                hygiene.close(owner.lock_fd)
                lock_fd = None
                ending = self._round(transaction, None)
                ending.end_owner(owner.id, owner.folder)
                ending.settle()
        finally:
            owner.bell.close()
            if lock_fd is not None:
                hygiene.close(lock_fd)

    def _clear_up(self, clearing: Round) -> None:
        owners = {owner for (owner,) in clearing.execute("SELECT id FROM owner")}
        for owner in sorted(owners):
            clearing.reap(owner)
        for name in os.listdir(self.home / "own"):  # noqa: PTH208  (names are all that is needed)
            stray = name.removesuffix(".lock")
            if stray in owners:
                continue
            # Owners come and go under the ledger's lock, which we hold, so a living one must be known.
            if self._stays_alive(stray):
                raise DatabaseLost(
                    f"{self.database.path} knows nothing of the run with the lock file own/{name}, which lives: it was "
                    "replaced by an older copy or by another file, and would give away slots that are in use. Let the "
                    f"runs on this machine end, or end them; then remove {LEDGER_FILE}* in {self.home}, and set your "
                    "limits again"
                )
            clearing.forget_owner(stray)

    def _stays_alive(self, stray: str) -> bool:
        """Whether an unknown owner lives, and is not one that could not be written down and gives up right now."""
        end = time.monotonic() + GIVES_UP_S
        while liveness.owner_is_alive(self.home, stray):
            if time.monotonic() >= end:
                return True
            time.sleep(GIVES_UP_S / 10)
        return False

    # --- claims ------------------------------------------------------------------------------------------------------

    def try_exchange(
        self, owner: Owner, changes: Changes, *, told: int | None, look: bool = False, outranks: int | None = None
    ) -> Outcome | None:
        """Make these changes and grant what fits, or None if the ledger's lock cannot be had at once.

        Args:
            owner: whose changes they are.
            changes: all of them count, or none.
            told: the largest token that this owner has been told of; it is told of all that are larger. None: it
                waits for nothing, so only what is granted now can be new.
            look: also look whether those who hold what this owner waits for are alive.
            outranks: let all be ``undone`` unless another owner is granted something by it, and nobody is whom a
                claim of this priority would have come before.

        Raises:
            OwnerLost: the owner was taken for dead.
            DatabaseLost: the ledger was deleted or replaced.
            DatabaseFull: nothing was changed; try again later.
        """
        transaction = self.database.try_transaction()
        if transaction is None:
            return None
        try:
            return self._exchange(transaction, owner, changes, told=told, look=look, outranks=outranks)
        except _Undone:
            return Outcome(undone=True)

    def exchange(
        self, owner: Owner, changes: Changes, *, told: int | None, look: bool = False, timeout_s: float = LOCK_TIMEOUT_S
    ) -> Outcome:
        """As ``try_exchange``, for a caller that may wait for the lock."""
        return self._exchange(self.database.transaction(timeout_s), owner, changes, told=told, look=look)

    def _exchange(
        self,
        transaction: Transaction,
        owner: Owner,
        changes: Changes,
        *,
        told: int | None,
        look: bool,
        outranks: int | None = None,
    ) -> Outcome:
        outcome = Outcome()
        with transaction:
            change = self._round(transaction, owner.id)
            if not change.owner_is_known:
                raise OwnerLost(
                    f"run {owner.run} can claim no slots any more: its lock file "
                    f"{liveness.owner_file(self.home, owner.id)} was removed, so others took it for dead; start the "
                    "run again"
                )
            for lease in changes.release:
                if not change.remove("seq = ? AND token = ?", lease.claim, lease.token):
                    outcome.lost.append(lease)
            for lease in changes.park:
                if not change.park(lease):
                    outcome.lost.append(lease)
            for claim in changes.withdraw:
                change.remove("seq = ? AND owner = ? AND state <> 'granted'", claim, owner.id)
            for claim in changes.resume:
                change.resume(claim, owner.id)
            for dead in sorted(changes.reap):
                change.reap(dead)
            change.touch(changes.look_at)
            outcome.filed = [change.file(request, owner.run) for request in changes.request]
            if outranks is not None:
                change.decide()
                if not _others_come_first(change, owner, outranks):
                    raise _Undone
            change.settle()
            if look:
                change.reap_holders(change.waited_for_by(owner.id))
                change.settle()
            if told is None:
                outcome.granted = [Lease(seq, token) for seq, whose, token in change.granted if whose == owner.id]
            else:
                outcome.granted = granted_to(change.execute, owner.id, told)
            outcome.freed, outcome.reaped, outcome.orphans = change.freed, change.freed_from, change.orphans
            outcome.gave = len(change.granted)
        if any(whose != owner.id for _, whose, _ in change.granted):
            # who was rung may stand behind us on this processor, and its step is to begin
            os.sched_yield()
        return outcome

    def is_held(self, lease: Lease) -> bool:
        """Whether a claim is still held with this very token: to be asked before its step's result is published."""
        with self.database.explained():
            row = self.database.execute(
                "SELECT 1 FROM claim WHERE seq = ? AND token = ?", (lease.claim, lease.token)
            ).fetchone()
        return row is not None

    def announce(self, lease: Lease) -> bool:
        """Let another owner get ready, who may be granted something when this lease is released in a moment.

        False if nobody else stands first in a line for what it holds. Nothing is promised: it is read without the
        lock, and who is granted what is decided at the release.
        """
        with self.database.explained():
            row = self.database.execute(_FIRST_IN_LINE, lease).fetchone()
        return row is not None and bell.announce(self.home, row[0])

    def granted_after(self, owner: Owner, token: int) -> list[Lease]:
        """The leases of an owner with a larger token that are committed by now, read without the lock.

        What a bell was about may be committed a moment later: only who holds the lock knows that there is no more.
        """
        with self.database.explained():
            return granted_to(self.database.execute, owner.id, token)

    def knows(self, owner: str) -> bool:
        """Whether there is such an owner; a run that has ended in good order has none."""
        with self.database.explained():
            return self.database.execute("SELECT 1 FROM owner WHERE id = ?", (owner,)).fetchone() is not None

    def owners(self) -> list[str]:
        """The ids of all owners, dead ones that hold something included."""
        with self.database.explained():
            return [owner for (owner,) in self.database.execute("SELECT id FROM owner")]

    def waiting_of(self, owner: Owner) -> set[int]:
        """The claims of an owner that wait or are granted; parked ones are not among them."""
        with self.database.explained():
            query = "SELECT seq FROM claim WHERE owner = ? AND state <> 'parked'"
            return {seq for (seq,) in self.database.execute(query, (owner.id,))}

    def waiting_for(self, claim: int) -> Wait | None:
        """Why a claim waits; None if it does not, or is granted soon. A few rows are read, without the lock."""
        with self.database.snapshot():
            return waiting_for(self.database.execute, self.home, claim, boot_time_s() - self.aging_s)

    def free(self, run: str, step: str | None = None) -> Freed:
        """Take away what a run, or one step of it, holds and waits for, if it is dead."""
        condition, values = "run = ?", [run]
        if step is not None:
            condition, values = "run = ? AND step = ?", [run, step]
        with self.database.transaction() as transaction:
            freeing = self._round(transaction, None)
            query = "SELECT DISTINCT owner FROM claim WHERE " + condition  # noqa: S608  (one of the two above)
            owners = [owner for (owner,) in freeing.execute(query, values)]
            for owner in owners:
                freeing.reap(owner)
            query = "SELECT seq FROM claim WHERE " + condition  # noqa: S608  (as above)
            alive = [seq for (seq,) in freeing.execute(query, values)]
            freeing.settle()
        return Freed(tuple(freeing.freed), tuple(alive))

    def try_reap(self, owners: Iterable[str]) -> bool:
        """Take from these owners, as far as they are dead, what they have left, and grant it to whoever waits for it.

        As whoever waits would do it. False if the ledger's lock cannot be had at once.
        """
        if (transaction := self.database.try_transaction()) is None:
            return False
        with transaction:
            reaping = self._round(transaction, None)
            for owner in sorted(owners):
                reaping.reap(owner)
            reaping.settle()
        return True

    def take_away(self, held: Iterable[Lease], waiting: Iterable[int] = ()) -> list[int]:
        """Remove claims of owners that may live: the numbers of those that were there.

        Args:
            held: the caller has stopped what worked on them; one that was granted anew since then stays.
            waiting: claims that wait; one that was granted meanwhile stays.

        An owner that lives finds them gone, and its tokens stale.
        """
        with self.database.transaction() as transaction:
            taking = self._round(transaction, None)
            found = [seq for lease in held for seq in taking.remove("seq = ? AND token = ?", *lease)]
            found += [seq for claim in waiting for seq in taking.remove("seq = ? AND state <> 'granted'", claim)]
            taking.settle()
        return found

    # --- limits ------------------------------------------------------------------------------------------------------

    def set_limit(self, pool: str, limit: int) -> None:
        """Set a pool's limit, in force from the next grant on; 0 pauses it. What is held stays held.

        Raises:
            ValueError: a name with a blank, or a limit below 0.
        """
        pools.check_pool_name(pool)
        pools.check_limit(pool, limit)
        self._set_limit(pool, limit)

    def delete_limit(self, pool: str) -> None:
        """Delete what ``set_limit`` has set: the configuration file's limit or the default is in force again."""
        self._set_limit(pool, None)

    def configure(
        self, limits: Mapping[str, int], default_limit: int | None, *, if_still: Callable[[], bool] = lambda: True
    ) -> bool:
        """Put the limits of the configuration file in force; what a command has set still comes first.

        ``if_still`` is asked at that moment; if it says no, nothing is changed, and this is False. What is in
        force already is not written again, so it may be asked for by those who cannot write.

        Raises:
            ValueError: a name with a blank, or a limit below 0.
        """
        for pool, limit in limits.items():
            pools.check_pool_name(pool)
            pools.check_limit(pool, limit)
        if default_limit is not None:
            pools.check_limit("(default)", default_limit)
        with self.database.snapshot():
            in_force = pools.configured(self.database.execute) == (limits, default_limit)
        if in_force:
            return if_still()
        with self.database.transaction() as transaction:
            if not if_still():
                return False
            change = self._round(transaction, None)
            change.touch(pools.set_configured(transaction.execute, limits, default_limit))
            change.reload_default()
            change.settle()
        return True

    def born(self) -> str:
        """What tells this ledger from one that was there before, or comes after it."""
        with self.database.explained():
            (born,) = self.database.execute("SELECT born FROM about").fetchone()
        return str(born)

    def limit(self, pool: str) -> PoolLimit:
        """The limit of a pool that is in force now, and where it comes from."""
        with self.database.explained():
            return pools.limit_of(self.database.execute, pool)

    def _set_limit(self, pool: str, limit: int | None) -> None:
        with self.database.transaction() as transaction:
            change = self._round(transaction, None)
            if pools.set_explicit(transaction.execute, pool, limit):
                change.touch({pool})
            change.settle()

    def _round(self, transaction: Transaction, owner: str | None) -> Round:
        return Round(self.home, transaction, owner=owner, now=boot_time_s(), aging_s=self.aging_s)
