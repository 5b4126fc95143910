"""Who gets the free slots of pools: rows and numbers in, decisions out. Pure.

Claims are looked at in one order: those that have waited too long first, oldest first; then by priority, then by age. A
claim gets all of its slots at once or none, so nobody holds some while waiting for others, and no deadlock is possible.
A claim that does not fit *closes* the pools that lack room for it: nobody after it may take slots there, or it could
wait for ever behind smaller ones. It leaves its other pools open, so that a full pool delays nobody who does not need
it; unless it was passed often enough or has waited too long, and then it closes all of its pools. What no release can
help (a pool that is paused, or smaller than what the claim needs) closes nothing.

Claims that need the same, and are equally urgent, stand in one *line*. Within a line, none can be granted once one was
refused: it needs the same and comes later. So only the first of each line is looked at, and after it as many as are
granted. Ten thousand that wait for one pool cost as much as one.
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: What a claim asks for: pools, each once and in order of their names, with the slots that it takes of each.
Needs = tuple[tuple[str, int], ...]

# Long enough that priorities mean something for hours of work, short enough that nobody gives up on a run.
AGING_S = 300.0

# A claim of two pools that fill up in turns would be passed for ever; this many times is no injustice yet.
PASSES = 16


class Urgency(IntEnum):
    """How much a waiting claim may demand."""

    OVERDUE = 0  #: waits for longer than the ageing time: before all others, oldest first, and closes all of its pools
    PASSED = 1  #: was passed too often: in its usual place, but closes all of its pools
    USUAL = 2


class Pool(NamedTuple):
    """The numbers of one pool."""

    limit: int | None  #: slots; None: no limit
    held: int = 0  #: slots that granted claims hold; may be above a limit that was lowered

    @property
    def room(self) -> int | None:
        """Slots that are free, below 0 after the limit was lowered; None: no limit."""
        return None if self.limit is None else self.limit - self.held


class Waiter(NamedTuple):
    """A waiting claim, as far as it matters here. What it needs is said by its line."""

    seq: int  #: number of the claim; a smaller one was filed earlier
    owner: str  #: whose it is; a dead owner's claim is dropped
    priority: int = 0  #: higher comes first
    passed: int = 0  #: claims after it that were granted slots of its pools, while it was the first of its line


class Line(NamedTuple):
    """Waiting claims that need the same and are equally urgent, best first: by ``seq`` if overdue, else by ``place``.

    ``waiters`` is read only as far as needed.
    """

    needs: Needs
    urgency: Urgency
    waiters: Iterator[Waiter]


class Granted(NamedTuple):
    """A claim that gets its slots, and the token that proves it."""

    seq: int
    owner: str
    token: int


class Decisions(NamedTuple):
    """What ``grant`` decided."""

    granted: list[Granted]  #: in the order of their tokens
    dead: list[int]  #: claims whose owner was found dead: to be removed
    passed: dict[int, int]  #: claim -> how often it was passed by now, for those whose count has changed


def can_ever_fit(needs: Needs, pools: Mapping[str, Pool]) -> bool:
    """Whether releases alone could make room; False if a pool is paused or smaller than what is needed of it."""
    for pool, weight in needs:
        limit = pools[pool].limit
        if limit is not None and weight > limit:
            return False
    return True


def urgency_of(passed: int, *, overdue: bool) -> Urgency:
    """How urgent a claim is."""
    return Urgency.OVERDUE if overdue else Urgency.PASSED if passed >= PASSES else Urgency.USUAL


def place(waiter: Waiter, *, overdue: bool) -> tuple[int, int, int]:
    """Where a waiting claim stands: smaller comes first."""
    return (0, 0, waiter.seq) if overdue else (1, -waiter.priority, waiter.seq)


def grant(
    lines: Iterable[Line], pools: Mapping[str, Pool], *, is_alive: Callable[[str], bool], last_token: int = 0
) -> Decisions:
    """Who of those who wait gets slots now.

    Args:
        lines: all that wait and need any of the pools that have changed, and all that are connected with these by
            claims that need several pools.
        pools: the numbers of every pool that stands in ``lines``.
        is_alive: asked only where the answer makes a difference; it should remember its answers.
        last_token: the largest that was ever given; those given now follow it.
    """
    grants = _Grants(pools, is_alive, last_token)
    late: list[Line] = []
    rest: list[Line] = []
    for line in lines:
        if can_ever_fit(line.needs, pools):
            (late if line.urgency is Urgency.OVERDUE else rest).append(line)
    if late:
        grants.look_at(late)
    grants.look_at(rest)
    return Decisions(grants.granted, grants.dead, grants.passed)


class _Grants:
    """What was decided so far, and how much room it leaves."""

    __slots__ = ("_is_alive", "_last_token", "_refused", "_room", "dead", "granted", "passed")

    def __init__(self, pools: Mapping[str, Pool], is_alive: Callable[[str], bool], last_token: int) -> None:
        self._is_alive, self._last_token = is_alive, last_token
        #: Of each pool with a limit. A pool is closed by setting this to 0: nothing that needs a slot fits any more.
        self._room = {name: free for name, pool in pools.items() if (free := pool.room) is not None}
        self._refused: list[tuple[Waiter, Needs]] = []  #: those who left a pool open, where others may pass them
        self.granted: list[Granted] = []
        self.dead: list[int] = []
        self.passed: dict[int, int] = {}

    def look_at(self, lines: list[Line]) -> None:
        """Go through these lines in the order of their claims, as far as there is room."""
        room = self._room
        heads: list[tuple[tuple[int, int, int], Waiter, Line]] = []
        for line in lines:
            # One whose pools are all full or closed changes nothing, so its first claim is not even read.
            if any(room.get(pool, 1) > 0 for pool, _ in line.needs):
                _look_at_next(heads, line)
        while heads:
            _, waiter, line = heappop(heads)
            limited = [(pool, weight) for pool, weight in line.needs if pool in room]
            if all(weight <= room[pool] for pool, weight in limited):
                keep = self._grant(waiter, limited)
            else:
                keep = self._refuse(waiter, line, limited)
            if keep:
                _look_at_next(heads, line)

    def _grant(self, waiter: Waiter, limited: list[tuple[str, int]]) -> bool:
        """Give it what it needs, if its owner lives; whether the next of its line is to be looked at."""
        if not self._is_alive(waiter.owner):
            self.dead.append(waiter.seq)
            return True
        self._last_token += 1
        self.granted.append(Granted(waiter.seq, waiter.owner, self._last_token))
        for pool, weight in limited:
            self._room[pool] -= weight
        if self._refused:
            self._pass({pool for pool, _ in limited})
        return True

    def _refuse(self, waiter: Waiter, line: Line, limited: list[tuple[str, int]]) -> bool:
        """Close the pools that it may close, if its owner lives; whether the next of its line is to be looked at."""
        room = self._room
        whole = line.urgency is not Urgency.USUAL
        still_open = [(pool, weight) for pool, weight in limited if room[pool] > 0]
        if not still_open:
            return False
        if not self._is_alive(waiter.owner):
            self.dead.append(waiter.seq)
            return True
        closes = [pool for pool, weight in still_open if whole or weight > room[pool]]
        for pool in closes:
            room[pool] = 0
        if len(closes) < len(still_open):
            self._refused.append((waiter, line.needs))
        return False

    def _pass(self, taken: set[str]) -> None:
        """Somebody took slots of these pools: count it for those before him who wait for one of them.

        What now lacks room for them they close, as they would if this were the next transaction.
        """
        for waiter, needs in self._refused:
            if any(pool in taken for pool, _ in needs):
                count = self.passed[waiter.seq] = self.passed.get(waiter.seq, waiter.passed) + 1
                for pool, weight in needs:
                    room = self._room.get(pool, 0)
                    if room > 0 and (count >= PASSES or weight > room):
                        self._room[pool] = 0


def _look_at_next(heads: list[tuple[tuple[int, int, int], Waiter, Line]], line: Line) -> None:
    waiter = next(line.waiters, None)
    if waiter is not None:
        heappush(heads, (place(waiter, overdue=line.urgency is Urgency.OVERDUE), waiter, line))


def line_up(waiting: Iterable[tuple[Waiter, Needs, bool]]) -> list[Line]:
    """The lines in which these claims stand; each comes with what it needs, and whether it is overdue."""
    lines: dict[tuple[Needs, Urgency], list[Waiter]] = {}
    for waiter, needs, overdue in waiting:
        lines.setdefault((needs, urgency_of(waiter.passed, overdue=overdue)), []).append(waiter)
    for (_, urgency), found in lines.items():
        overdue = urgency is Urgency.OVERDUE
        found.sort(key=lambda waiter: place(waiter, overdue=overdue))
    return [Line(needs, urgency, iter(found)) for (needs, urgency), found in lines.items()]
