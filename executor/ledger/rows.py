"""The rows that matter for a grant, read as ``claims`` wants them: no more of them than are looked at.

What matters are the pools that were touched, and all that are connected with them by waiting claims of several pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.ledger.claims import Line, Needs, Pool, Urgency, Waiter, place
from executor.ledger.requests import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Execute = Callable[..., Any]  # ``execute`` of a transaction, a database or a reader

# So many who wait with one shape are put in order here; of more, SQLite reads no more than are looked at.
FEW = 8


def connected(execute: Execute, pools: Iterable[str]) -> tuple[dict[int, Needs], set[str]]:
    """The shapes of all who wait for these pools, or for pools connected with them; and all of these pools."""
    shapes: dict[int, Needs] = {}
    found = set(pools)
    todo = list(found)
    while todo:
        rows = execute(
            "SELECT shape.id, shape.needs FROM need JOIN shape ON shape.id = need.shape WHERE need.pool = ? "
            "AND EXISTS (SELECT 1 FROM claim WHERE claim.shape = need.shape AND claim.state = 'waiting')",
            (todo.pop(),),
        ).fetchall()
        for shape, text in rows:
            if shape not in shapes:
                shapes[shape] = needs = parse(text)
                more = [pool for pool, _ in needs if pool not in found]
                found.update(more)
                todo += more
    return shapes, found


def lines(execute: Execute, shape: int, needs: Needs, overdue_since: float) -> Iterator[Line]:
    """All who wait with this shape; those filed at ``overdue_since`` or before are overdue."""
    waiting = _Waiting(execute, shape, overdue_since)
    yield Line(needs, Urgency.OVERDUE, waiting.overdue())
    yield Line(needs, Urgency.PASSED, waiting.in_time(closes=True))
    yield Line(needs, Urgency.USUAL, waiting.in_time(closes=False))


class _Waiting:
    """Those who wait with one shape. Its lines share the first look, so that of a few there is no other."""

    __slots__ = ("_execute", "_oldest", "_overdue_since", "_shape")

    def __init__(self, execute: Execute, shape: int, overdue_since: float) -> None:
        self._execute, self._shape, self._overdue_since = execute, shape, overdue_since
        #: seq, owner, priority, passed, closes, filed of those who have waited longest; None: nobody has looked yet
        self._oldest: list[tuple[int, str, int, int, int, float]] | None = None

    def _look(self) -> list[tuple[int, str, int, int, int, float]]:
        if self._oldest is None:
            # Claims are numbered in the order in which they were filed.
            self._oldest = self._execute(
                "SELECT seq, owner, priority, passed, closes, filed FROM claim WHERE shape = ? AND state = 'waiting' "
                "ORDER BY seq LIMIT ?",
                (self._shape, FEW + 1),
            ).fetchall()
        return self._oldest

    def overdue(self) -> Iterator[Waiter]:
        oldest = self._look()
        for seq, owner, priority, passed, _, filed in oldest:
            if filed > self._overdue_since:  # and so is whoever comes after it
                return
            yield Waiter(seq, owner, priority, passed)
        if len(oldest) > FEW:
            for seq, owner, priority, passed, filed in self._execute(
                "SELECT seq, owner, priority, passed, filed FROM claim WHERE shape = ? AND state = 'waiting' "
                "AND seq > ? ORDER BY seq",
                (self._shape, oldest[-1][0]),
            ):
                if filed > self._overdue_since:
                    return
                yield Waiter(seq, owner, priority, passed)

    def in_time(self, *, closes: bool) -> Iterator[Waiter]:
        oldest = self._look()
        if len(oldest) <= FEW:
            found = [
                Waiter(seq, owner, priority, passed)
                for seq, owner, priority, passed, closing, filed in oldest
                if closing == closes and filed > self._overdue_since
            ]
            if len(found) > 1:
                found.sort(key=lambda waiter: place(waiter, overdue=False))
            yield from found
            return
        for row in self._execute(
            "SELECT seq, owner, priority, passed FROM claim WHERE shape = ? AND state = 'waiting' AND closes = ? "
            "AND filed > ? ORDER BY priority DESC, seq",
            (self._shape, closes, self._overdue_since),
        ):
            yield Waiter(*row)


def pool_numbers(execute: Execute, name: str, default_limit: int | None) -> Pool:
    """The limit of a pool and what is held of it. Where there is no limit, nothing is counted."""
    limit, held = execute(
        "SELECT slots, CASE WHEN slots IS NULL THEN 0 ELSE (SELECT coalesce(sum(weight * (SELECT count(*) FROM claim "
        "WHERE claim.shape = need.shape AND claim.state = 'granted')), 0) FROM need WHERE pool = ?) END "
        "FROM (SELECT coalesce((SELECT coalesce(explicit, yaml) FROM pool WHERE name = ?), ?) AS slots)",
        (name, name, default_limit),
    ).fetchone()
    return Pool(limit, held)


def holders(execute: Execute, pool: str) -> list[str]:
    """The owners of the granted claims of a pool."""
    return [
        owner
        for (owner,) in execute(
            "SELECT DISTINCT claim.owner FROM need JOIN claim ON claim.shape = need.shape "
            "WHERE need.pool = ? AND claim.state = 'granted'",
            (pool,),
        )
    ]
