"""What one waiting claim waits for, read when its run is told that it waits: which pool, who holds it, who comes first.

A few rows are read however many wait, so it may be asked in the middle of a run. ``views`` shows a person the whole
queue instead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.ledger import rows
from executor.ledger.claims import Needs, Urgency, Waiter
from executor.ledger.requests import parse
from executor.ledger.standing import standings

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.ledger.standing import Cause

    Execute = Callable[..., Any]

# Holders that are named; of more it is said how many there are.
NAMED = 2

# So many claims before one are counted, and no more: to count ten thousand takes a millisecond each time.
COUNTED = 200

# The first characters of a run's id, by which people tell runs apart and commands find them.
RUN_SHOWN = 8

DAY_S = 86_400.0


class Wait(NamedTuple):
    """Why a claim waits."""

    pools: tuple[str, ...]  #: those in its way
    cause: Cause  #: with several: the one that lasts longest
    reason: str  #: the same for people, as a clause that follows a colon


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


def waiting_for(execute: Execute, claim: int, overdue_since: float) -> Wait | None:
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
    with_room: list[str] = []
    for pool, weight in parse(text):
        limit, held = rows.pool_numbers(execute, pool, default_limit)
        if limit is None:
            continue
        if weight > limit:
            blocked.append(_never(pool, weight, limit))
        elif weight > limit - held:
            clause = f"{held} of {limit} slots of pool {pool!r} are held{_by(execute, pool, run)}"
            if weight > 1:
                clause += f", and the step needs {weight}"
            blocked.append((pool, "full", clause + _before(execute, pool, limit, mine, overdue_since)))
        else:
            with_room.append(pool)
    if with_room and not blocked:
        # It has room and was not granted: what is free is kept for somebody who comes first.
        for pool, first in _kept_for(execute, mine, parse(text), default_limit, overdue_since):
            blocked.append((pool, "reserved", f"the free slots of pool {pool!r} are kept for {first}"))
    if not blocked:
        return None
    cause = max((cause for _, cause, _ in blocked), key=_LASTING.index)
    return Wait(tuple(pool for pool, _, _ in blocked), cause, "; ".join(clause for _, _, clause in blocked))


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


def _by(execute: Execute, pool: str, own: str) -> str:
    holders = execute(
        "SELECT claim.run, claim.step, owner.pid, claim.granted_at FROM need "
        "JOIN claim ON claim.shape = need.shape AND claim.state = 'granted' "
        "LEFT JOIN owner ON owner.id = claim.owner WHERE need.pool = ? ORDER BY claim.token LIMIT ?",
        (pool, NAMED + COUNTED),
    ).fetchall()
    named = [
        f"step {step!r} of {_run(run, own, pid)} since {_time_of_day(since)}"
        for run, step, pid, since in holders[:NAMED]
    ]
    if more := len(holders) - NAMED if len(holders) > NAMED else 0:
        named.append(f"{more if more < COUNTED else f'at least {more}'} more")
    return f" by {' and '.join(named)}" if named else ""


def _before(execute: Execute, pool: str, limit: int, mine: _Claim, overdue_since: float) -> str:
    """How many come first for this pool."""
    condition = "(filed <= ? OR priority > ? OR (priority = ? AND seq < ?))"
    values: tuple[float, ...] = (overdue_since, *mine.standing)
    if mine.filed <= overdue_since:  # the order is that of ``claims.place``
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
) -> list[tuple[str, str]]:
    """The pools of a claim whose free slots are kept for another, and for whom.

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
    kept = []
    for reason in reasons:
        if reason.reserved_for is not None:
            run, step, pid = execute(
                "SELECT claim.run, claim.step, owner.pid FROM claim LEFT JOIN owner ON owner.id = claim.owner "
                "WHERE seq = ?",
                (reason.reserved_for,),
            ).fetchone()
            kept.append((reason.pool, f"step {step!r} of {_run(run, mine.run, pid)}, which comes first"))
    return kept


def _run(run: str, own: str, pid: int | None) -> str:
    """How a run is named: by what commands find it by, and the process that drives it."""
    return "this run" if run == own else f"run {run[:RUN_SHOWN]} (pid {pid or 'not known'})"


def _time_of_day(at: float) -> str:
    form = "%H:%M:%S" if abs(time.time() - at) < DAY_S else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(at))
