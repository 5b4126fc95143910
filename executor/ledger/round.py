"""One transaction of the ledger: its changes touch pools, and at its end whoever fits now is granted, and rung.

``claims.grant`` decides, ``rows`` brings what it wants to know, and this writes down what comes of it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.database.crash_points import crash_point
from executor.ledger import bell, liveness, rows
from executor.ledger.claims import PASSES, Granted, Needs, Waiter, grant, line_up
from executor.ledger.requests import Lease, Orphan, Request, parse, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from executor.database.sqlite import Transaction

# Shapes that no claim has any more are removed when there are more than this.
SHAPES = 256


class _New(NamedTuple):
    """A claim that is filed in this transaction and not yet in the table."""

    seq: int
    shape: int
    run: str
    request: Request


def granted_to(execute: Callable[..., Any], owner: str, after_token: int) -> list[Lease]:
    """The leases of an owner with a larger token than this one, in the order of their tokens."""
    found = execute("SELECT seq, token FROM claim WHERE owner = ? AND token > ? ORDER BY token", (owner, after_token))
    return [Lease(seq, token) for seq, token in found.fetchall()]


class Round:
    """The changes of one transaction. ``settle`` comes last: it grants whatever fits after them."""

    def __init__(
        self,
        home: Path,
        transaction: Transaction,
        *,
        owner: str | None,
        now: float,
        aging_s: float,
        is_alive: Callable[[Path, str], bool] = liveness.owner_is_alive,
    ) -> None:
        self._home, self._owner, self._now = home, owner, now
        self._overdue_since = now - aging_s
        self.execute: Callable[..., Any] = transaction.execute
        self._probe = is_alive
        row = self.execute(
            "SELECT counter, default_limit, EXISTS (SELECT 1 FROM owner WHERE id = ?) FROM about", (owner,)
        ).fetchone()
        self._counter = self._saved_counter = int(row[0])
        self._default_limit: int | None = row[1]
        self.owner_is_known = bool(row[2])  #: False: this owner was taken for dead
        self._alive: dict[str, bool] = {} if owner is None else {owner: True}
        self._new: list[_New] = []
        self._touched: set[str] = set()
        self._ring: dict[str, None] = {}  #: owners, in the order of their grants
        self._reaped: set[str] = set()
        self.granted: list[Granted] = []  #: to anybody
        self.freed: list[int] = []  #: claims that were taken from the dead
        self.freed_from: set[str] = set()  #: their owners
        self.orphans: list[Orphan] = []  #: claims of dead owners on which a process still works

    # --- changes -----------------------------------------------------------------------------------------------------

    def touch(self, pools: Iterable[str]) -> None:
        """Let the claims that wait for these pools be looked at."""
        self._touched.update(pools)

    def file(self, request: Request, run: str) -> int:
        """A new claim of this owner; the number that it is known by from now on."""
        text = text_of(request.needs)
        row = self.execute("SELECT id FROM shape WHERE needs = ?", (text,)).fetchone()
        if row is None:
            row = self.execute("INSERT INTO shape (needs) VALUES (?) RETURNING id", (text,)).fetchone()
            for pool, weight in request.needs:
                self.execute("INSERT INTO need (pool, shape, weight) VALUES (?, ?, ?)", (pool, row[0], weight))
        self._counter += 1
        self._new.append(_New(self._counter, row[0], run, request))
        return self._counter

    def remove(self, condition: str, *values: object) -> list[int]:
        """Delete the claims that meet a condition; their numbers."""
        found = self.execute(
            f"DELETE FROM claim WHERE {condition} "  # noqa: S608  (conditions are constants of this package)
            "RETURNING seq, (SELECT needs FROM shape WHERE shape.id = claim.shape)",
            values,
        ).fetchall()
        self._touch_needs(found)
        return [seq for seq, _ in found]

    def park(self, lease: Lease) -> bool:
        """Let a granted claim wait aside, in its old place but out of the order; False if it is not held so."""
        return self._update("state = 'parked', token = NULL, granted_at = NULL", "seq = ? AND token = ?", *lease)

    def resume(self, claim: int, owner: str) -> bool:
        """Let a parked claim wait in the order again, in its old place; False if it is not parked."""
        return self._update("state = 'waiting'", "seq = ? AND owner = ? AND state = 'parked'", claim, owner)

    def reload_default(self) -> None:
        """Take note that the default limit was changed in this transaction."""
        (self._default_limit,) = self.execute("SELECT default_limit FROM about").fetchone()

    def _update(self, change: str, condition: str, *values: object) -> bool:
        found = self.execute(
            f"UPDATE claim SET {change} WHERE {condition} "  # noqa: S608  (constants of this class)
            "RETURNING seq, (SELECT needs FROM shape WHERE shape.id = claim.shape)",
            values,
        ).fetchall()
        self._touch_needs(found)
        return bool(found)

    def _touch_needs(self, found: list[tuple[int, str]]) -> None:
        for _, text in found:
            self._touched.update([pool for pool, _ in parse(text)])

    # --- the dead ----------------------------------------------------------------------------------------------------

    def is_alive(self, owner: str) -> bool:
        """Whether that owner lives; each is probed once."""
        alive = self._alive.get(owner)
        if alive is None:
            alive = self._alive[owner] = self._probe(self._home, owner)
        return alive

    def reap(self, owner: str) -> None:
        """Take from a dead owner what it waits for, and what it holds as far as no process works on it any more."""
        if owner in self._reaped or self.is_alive(owner):
            return
        self._reaped.add(owner)
        crash_point("owner-probed")
        row = self.execute("SELECT folder FROM owner WHERE id = ?", (owner,)).fetchone()
        self.end_owner(owner, row[0] if row else None)

    def reap_holders(self, pools: Iterable[str]) -> None:
        """Reap whoever holds slots of these pools and is dead."""
        for owner in sorted({owner for pool in pools for owner in rows.holders(self.execute, pool)}):
            self.reap(owner)

    def end_owner(self, owner: str, folder: str | None) -> None:
        """Remove an owner and its claims, but for those on which a process still works, in that folder of a run."""
        freed = self.remove("owner = ? AND state <> 'granted'", owner)
        held = dict(
            self.execute(
                "SELECT seq, (SELECT needs FROM shape WHERE shape.id = claim.shape) FROM claim "
                "WHERE owner = ? AND token > 0 ORDER BY seq",
                (owner,),
            ).fetchall()
        )
        live = liveness.live_steps(folder, held) if folder and held else {}
        for seq, text in held.items():
            if seq in live:
                self.orphans.append(Orphan(seq, owner, tuple([pool for pool, _ in parse(text)]), tuple(live[seq])))
            else:
                freed += self.remove("seq = ?", seq)
        if freed:
            self.freed += freed
            self.freed_from.add(owner)
        if not live:
            self.forget_owner(owner)

    def forget_owner(self, owner: str) -> None:
        """Remove an owner that has no claims: its files first, since an owner without them counts as dead."""
        for path in (bell.bell_file(self._home, owner), liveness.owner_file(self._home, owner)):
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  (a text, and no Path is made of it)
        crash_point("owner-files-removed")
        self.execute("DELETE FROM owner WHERE id = ?", (owner,))
        (shapes,) = self.execute("SELECT count(*) FROM shape").fetchone()
        if shapes > SHAPES:
            used = {claim.shape for claim in self._new}
            for (shape,) in self.execute("SELECT id FROM shape WHERE id NOT IN (SELECT shape FROM claim)").fetchall():
                if shape not in used:
                    self.execute("DELETE FROM need WHERE shape = ?", (shape,))
                    self.execute("DELETE FROM shape WHERE id = ?", (shape,))

    # --- what an owner is told ---------------------------------------------------------------------------------------

    def waited_for_by(self, owner: str) -> set[str]:
        """The pools for which an owner waits."""
        found = self.execute(
            "SELECT DISTINCT need.pool FROM claim JOIN need ON need.shape = claim.shape "
            "WHERE claim.owner = ? AND claim.token IS NULL AND claim.state = 'waiting'",
            (owner,),
        )
        return {pool for (pool,) in found}

    # --- grants ------------------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Grant until nothing that was touched fits any more; nobody is rung."""
        while self._touched or self._new:
            self._grant()

    def settle(self) -> None:
        """Decide, write down up to where was counted, and ring those who were granted."""
        self.decide()
        if self._counter != self._saved_counter:
            self.execute("UPDATE about SET counter = ?", (self._counter,))
            self._saved_counter = self._counter
        if self._ring:
            crash_point("written")
            for owner in self._ring:
                bell.ring(self._home, owner)  # one that does not hear has ended, and its end is noticed by itself
            self._ring.clear()

    def _grant(self) -> None:
        touched, self._touched = self._touched, set()
        new, self._new = self._new, []
        for claim in new:
            touched.update([pool for pool, _ in claim.request.needs])
        shapes, pools = rows.connected(self.execute, touched)
        if shapes:
            for claim in new:
                self._insert(claim, None)
                shapes.setdefault(claim.shape, claim.request.needs)
            lines = [
                line
                for shape, needs in shapes.items()
                for line in rows.lines(self.execute, shape, needs, self._overdue_since)
            ]
        elif not new:
            return
        else:  # nobody waits but those who have just come: decided before they are written down
            lines = line_up(self._waiter(claim) for claim in new)
        decisions = grant(
            lines,
            {pool: rows.pool_numbers(self.execute, pool, self._default_limit) for pool in pools},
            is_alive=self.is_alive,
            last_token=self._counter,
        )
        del lines  # an open SELECT of theirs would keep this transaction's view of the file after its end
        self._counter += len(decisions.granted)
        if shapes:
            at = time.time()
            for seq, _, token in decisions.granted:
                self.execute(
                    "UPDATE claim SET state = 'granted', token = ?, granted_at = ? WHERE seq = ?", (token, at, seq)
                )
        else:
            tokens = {granted.seq: granted.token for granted in decisions.granted}
            for claim in new:
                self._insert(claim, tokens.get(claim.seq))
        for seq, passed in decisions.passed.items():
            self.execute("UPDATE claim SET passed = ?, closes = ? WHERE seq = ?", (passed, passed >= PASSES, seq))
        for granted in decisions.granted:
            if granted.owner != self._owner:
                self._ring[granted.owner] = None
        self.granted += decisions.granted
        if decisions.dead:
            for owner in sorted(owner for owner, alive in self._alive.items() if not alive):
                self.reap(owner)

    def _waiter(self, claim: _New) -> tuple[Waiter, Needs, bool]:
        assert self._owner is not None  # noqa: S101  (only an owner files claims)
        return Waiter(claim.seq, self._owner, claim.request.priority), claim.request.needs, False

    def _insert(self, claim: _New, token: int | None) -> None:
        at = time.time()
        request = claim.request
        self.execute(
            "INSERT INTO claim (seq, owner, run, step, attempt, priority, shape, state, token, filed, filed_at, "
            "granted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                claim.seq,
                self._owner,
                claim.run,
                request.step,
                request.attempt,
                request.priority,
                claim.shape,
                "waiting" if token is None else "granted",
                token,
                self._now,
                at,
                None if token is None else at,
            ),
        )
