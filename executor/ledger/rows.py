"""The rows that matter for a grant, read as ``claims`` wants them: no more of them than are looked at.

What matters are the pools that were touched, and all that are connected with them by waiting claims of several pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.ledger.claims import Line, Needs, Pool, Urgency, Waiter
from executor.ledger.requests import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Execute = Callable[..., Any]  # ``execute`` of a transaction, a database or a reader


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
    yield Line(needs, Urgency.OVERDUE, _overdue(execute, shape, overdue_since))
    yield Line(needs, Urgency.PASSED, _in_time(execute, shape, overdue_since, closes=True))
    yield Line(needs, Urgency.USUAL, _in_time(execute, shape, overdue_since, closes=False))


def _overdue(execute: Execute, shape: int, overdue_since: float) -> Iterator[Waiter]:
    # Claims are numbered in the order in which they were filed, so the first that is not overdue is the last to read.
    for seq, owner, priority, passed, filed in execute(
        "SELECT seq, owner, priority, passed, filed FROM claim WHERE shape = ? AND state = 'waiting' ORDER BY seq",
        (shape,),
    ):
        if filed > overdue_since:
            break
        yield Waiter(seq, owner, priority, passed)


def _in_time(execute: Execute, shape: int, overdue_since: float, *, closes: bool) -> Iterator[Waiter]:
    for row in execute(
        "SELECT seq, owner, priority, passed FROM claim WHERE shape = ? AND state = 'waiting' AND closes = ? "
        "AND filed > ? ORDER BY priority DESC, seq",
        (shape, closes, overdue_since),
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
