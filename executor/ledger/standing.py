"""What each waiting claim waits for, in the order of ``claims.grant``: for people who ask. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from executor.ledger.claims import PASSES, Needs, Pool, Waiter, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Cause = Literal[
    "full",  #: too few slots of it are free
    "reserved",  #: its free slots are kept for a claim that comes first
    "paused",  #: its limit is 0
    "unsatisfiable",  #: its limit is smaller than what the claim needs
]


class Reason(NamedTuple):
    """One pool that a claim waits for."""

    pool: str
    cause: Cause
    weight: int  #: slots that the claim needs of it
    limit: int
    held: int  #: slots that are held by granted claims
    ahead: int  #: claims that wait for this pool and come first
    reserved_for: int | None = None  #: number of the claim that its free slots are kept for

    def __str__(self) -> str:
        name = f"pool {self.pool!r}"
        match self.cause:
            case "paused":
                return f"{name}, which is paused (limit 0)"
            case "unsatisfiable":
                in_all = f"{self.limit} slot{'s' if self.limit > 1 else ''} in all"
                return f"{name}, which has {in_all}, while the step needs {self.weight}"
            case "reserved":
                text = f"{name}, whose free slots are kept for claim {self.reserved_for}, which comes first"
            case "full":
                text = f"{name} ({self.held} of {self.limit} held"
                text += f", {self.weight} needed)" if self.weight > 1 else ")"
        if self.ahead:
            text += f", {self.ahead} claim{'s' if self.ahead > 1 else ''} before it"
        return text


class Standing(NamedTuple):
    """Where one waiting claim stands."""

    seq: int
    reasons: tuple[Reason, ...]  #: empty: it fits, and is granted at the ledger's next change

    @property
    def unsatisfiable(self) -> bool:
        """Whether no release can help it: a limit has to be raised first."""
        return any(reason.cause in {"paused", "unsatisfiable"} for reason in self.reasons)


def standings(waiting: Iterable[tuple[Waiter, Needs, bool]], pools: Mapping[str, Pool]) -> list[Standing]:
    """All of ``waiting`` (claim, needs, whether it is overdue) in their order, each with what it waits for."""
    walk = _Walk(pools)
    return [
        walk.look_at(waiter, needs, overdue=overdue)
        for waiter, needs, overdue in sorted(waiting, key=lambda item: place(item[0], overdue=item[2]))
    ]


class _Walk:
    """What those who come first leave to those who come later."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._room = {name: free for name, pool in pools.items() if (free := pool.room) is not None}
        self._closed_by: dict[str, int] = {}
        self._ahead: dict[str, int] = {}

    def look_at(self, waiter: Waiter, needs: Needs, *, overdue: bool) -> Standing:
        """The next in the order."""
        room = self._room
        reasons = tuple(reason for pool, weight in needs if (reason := self._reason(pool, weight)))
        standing = Standing(waiter.seq, reasons)
        if standing.unsatisfiable:
            return standing
        for pool, weight in needs:
            if pool not in room:
                continue
            self._ahead[pool] = self._ahead.get(pool, 0) + 1
            if not reasons:
                room[pool] -= weight
            elif overdue or waiter.passed >= PASSES or weight > room[pool]:
                self._closed_by.setdefault(pool, waiter.seq)
        return standing

    def _reason(self, name: str, weight: int) -> Reason | None:
        limit, held = self._pools[name]
        if limit is None:
            return None
        cause: Cause
        if weight > limit:
            cause = "unsatisfiable" if limit else "paused"
        elif weight > self._room[name]:
            cause = "full"
        elif name in self._closed_by:
            cause = "reserved"
        else:
            return None
        return Reason(name, cause, weight, limit, held, self._ahead.get(name, 0), self._closed_by.get(name))
