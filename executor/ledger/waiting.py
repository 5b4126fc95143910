"""What one waiting claim waits for, read when its run is told that it waits: which pool, who holds it, who comes first.

A few rows are read however many wait, so it may be asked in the middle of a run. ``views`` shows a person the whole
queue instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from executor.ledger import liveness, rows
from executor.ledger.claims import Needs, Urgency, Waiter
from executor.ledger.named import holder_text
from executor.ledger.open_files import is_inside, working_on
from executor.ledger.requests import parse
from executor.ledger.standing import standings
from executor.scheduler.events import SlotHolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.ledger.standing import Cause
    from executor.scheduler.events import WaitCause

    Execute = Callable[..., Any]

# Holders that are named; of more it is said how many there are.
NAMED = 2

# So many claims before one are counted, and no more: to count ten thousand takes a millisecond each time.
COUNTED = 200


class Wait(NamedTuple):
    """Why a claim waits."""

    pools: tuple[str, ...]  #: those in its way
    cause: WaitCause  #: with several: the one that lasts longest
    reason: str  #: the same for people, as a clause that follows a colon
    held_by: tuple[SlotHolder, ...] = ()  #: of full pools: those that are named, and one more if there are more


class _Claim(NamedTuple):
    seq: int
    run: str
    priority: int
    filed: float

    @property
    def standing(self) -> tuple[int, int, int]:
        """What decides who comes first, among those who are not overdue."""
        return self.priority, self.priority, self.seq


# What lasts longest comes last: a pool that is too small has to be raised by somebody.
_LASTING: list[Cause] = ["full", "reserved", "paused", "unsatisfiable"]


def waiting_for(execute: Execute, home: Path, claim: int, overdue_since: float) -> Wait | None:
    """Why this claim waits; None if it does not wait, or nothing is in its way, so that it is granted soon.

    ``overdue_since``: claims filed then or earlier, in seconds since boot, come before all others.
    """
    row = execute(
        "SELECT claim.run, priority, filed, shape.needs, (SELECT default_limit FROM about) FROM claim "
        "JOIN shape ON shape.id = claim.shape WHERE seq = ? AND state = 'waiting'",
        (claim,),
    ).fetchone()
    if row is None:
        return None
    run, priority, filed, text, default_limit = row
    mine = _Claim(claim, run, priority, filed)
    blocked: list[tuple[str, Cause, str]] = []
    held_by: list[SlotHolder] = []
    with_room: list[str] = []
    for pool, weight in parse(text):
        limit, held = rows.pool_numbers(execute, pool, default_limit)
        if limit is None:
            continue
        if weight > limit:
            blocked.append(_never(pool, weight, limit))
        elif weight > limit - held:
            holders, more = _holders(execute, home, pool, run)
            held_by += holders
            clause = f"{held} of {limit} slots of pool {pool!r} are held{_by(holders, more)}"
            if weight > 1:
                clause += f", and the step needs {weight}"
            blocked.append((pool, "full", clause + _before(execute, pool, limit, mine, overdue_since)))
        else:
            with_room.append(pool)
    if with_room and not blocked:
        # It has room and was not granted: what is free is kept for somebody who comes first.
        for pool, first in _kept_for(execute, mine, parse(text), default_limit, overdue_since):
            whom = holder_text(_holder(home, run, _read_claim(execute, first)))
            clause = f"the free slots of pool {pool!r} are kept for {whom}, which comes first"
            blocked.append((pool, "reserved", clause))
    if not blocked:
        return None
    cause = max((cause for _, cause, _ in blocked), key=_LASTING.index)
    reason = "; ".join(clause for _, _, clause in blocked)
    return Wait(tuple(pool for pool, _, _ in blocked), cause, reason, tuple(held_by))


def limit_command(pool: str, limit: int) -> str:
    """The command that sets the limit of a pool, to be typed as it is."""
    import shlex

    return f"executor instance concurrency set {shlex.quote(pool)} {limit}"


def _never(pool: str, weight: int, limit: int) -> tuple[str, Cause, str]:
    if limit == 0:
        clause = f"pool {pool!r} is paused (limit 0) until somebody raises it: {limit_command(pool, weight)}"
        return pool, "paused", clause
    clause = (
        f"the step needs {weight} slots of pool {pool!r}, which has {limit} in all; to raise its limit: "
        f"{limit_command(pool, weight)}"
    )
    return pool, "unsatisfiable", clause


class _Other(NamedTuple):
    """A claim that is in the way, and whose it is."""

    seq: int
    run: str
    step: str
    granted_at: float | None
    owner: str
    pid: int | None
    folder: str | None


_OTHER = "SELECT claim.seq, claim.run, claim.step, claim.granted_at, claim.owner, owner.pid, owner.folder FROM "
_OWNER = "LEFT JOIN owner ON owner.id = claim.owner "


def _read_claim(execute: Execute, seq: int) -> _Other:
    return _Other(*execute(_OTHER + "claim " + _OWNER + "WHERE seq = ?", (seq,)).fetchone())


def _holders(execute: Execute, home: Path, pool: str, own: str) -> tuple[list[SlotHolder], int]:
    """The first who hold slots of a pool, one more than are named if there are more; and how many are not named."""
    found = execute(
        _OTHER + "need JOIN claim ON claim.shape = need.shape AND claim.state = 'granted' " + _OWNER + "WHERE "
        "need.pool = ? ORDER BY claim.token LIMIT ?",
        (pool, NAMED + COUNTED),
    ).fetchall()
    return [_holder(home, own, _Other(*row)) for row in found[: NAMED + 1]], max(0, len(found) - NAMED)


def _holder(home: Path, own: str, claim: _Other) -> SlotHolder:
    if claim.run == own:
        return SlotHolder(claim.step, since=claim.granted_at)
    encloses = is_inside(claim.seq)
    if liveness.owner_is_alive(home, claim.owner):
        return SlotHolder(claim.step, claim.run, claim.pid or 0, claim.granted_at, encloses=encloses)
    pids = [pid for pid, _ in working_on(claim.folder, (claim.seq,))] if claim.folder else []
    return SlotHolder(claim.step, claim.run, pids[0] if pids else 0, claim.granted_at, outlived=True, encloses=encloses)


def _by(holders: list[SlotHolder], more: int) -> str:
    named = [holder_text(holder) for holder in holders[:NAMED]]
    if more:
        named.append(f"{more if more < COUNTED else f'at least {more}'} more")
    return f" by {' and '.join(named)}" if named else ""


def _before(execute: Execute, pool: str, limit: int, mine: _Claim, overdue_since: float) -> str:
    """How many come first for this pool: the order of ``claims.place`` again, counted where the rows are.

    ``tests/ledger/test_agreement.py`` compares the two.
    """
    condition = "(filed <= ? OR priority > ? OR (priority = ? AND seq < ?))"
    values: tuple[float, ...] = (overdue_since, *mine.standing)
    if mine.filed <= overdue_since:
        condition, values = "filed <= ? AND seq < ?", (overdue_since, mine.seq)
    (count,) = execute(
        "SELECT count(*) FROM (SELECT 1 FROM need JOIN claim ON claim.shape = need.shape AND claim.state = 'waiting' "  # noqa: S608  (a constant)
        "WHERE need.pool = ? AND need.weight <= ? AND NOT EXISTS "
        # Whoever can never fit, in this pool or in another, holds up nobody.
        "(SELECT 1 FROM need AS other LEFT JOIN pool ON pool.name = other.pool WHERE other.shape = need.shape AND "
        "other.weight > coalesce(pool.explicit, pool.yaml, (SELECT default_limit FROM about))) "
        f"AND {condition} LIMIT ?)",
        (pool, limit, *values, COUNTED),
    ).fetchone()
    if not count:
        return ""
    return f"; {'at least ' if count == COUNTED else ''}{count} claim{'s come' if count > 1 else ' comes'} before it"


def _kept_for(
    execute: Execute, mine: _Claim, needs: Needs, default_limit: int | None, overdue_since: float
) -> list[tuple[str, int]]:
    """The pools of a claim whose free slots are kept for another, and the number of that claim.

    As ``standing`` says it of the first of each line, behind whom nobody of the same line can change anything.
    """
    shapes, pools = rows.connected(execute, [pool for pool, _ in needs])
    heads: dict[int, tuple[Waiter, Needs, bool]] = {}
    for shape, wanted in shapes.items():
        for line in rows.lines(execute, shape, wanted, overdue_since):
            head = next(line.waiters, None)
            if head is not None:
                heads[head.seq] = head, wanted, line.urgency is Urgency.OVERDUE
    heads[mine.seq] = Waiter(mine.seq, "", mine.priority), needs, mine.filed <= overdue_since
    numbers = {pool: rows.pool_numbers(execute, pool, default_limit) for pool in pools}
    reasons = next(found.reasons for found in standings(heads.values(), numbers) if found.seq == mine.seq)
    return [(reason.pool, reason.reserved_for) for reason in reasons if reason.reserved_for is not None]
