"""What a run asks of the ledger and what it is told: plain values, shared by the ledger and whoever drives a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.ledger.claims import Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A claim to be filed for one attempt of a step that could start at once."""

    step: str
    attempt: int
    needs: Needs  #: see ``needs_of``
    priority: int = 0  #: of run and step together; higher comes first


class Lease(NamedTuple):
    """Slots that are held: the number of the claim, and the token that proves it in everything that follows."""

    claim: int
    token: int


class Orphan(NamedTuple):
    """Slots whose owner is dead, and which a process of the step still holds: it is watched for its end."""

    claim: int
    owner: str
    pools: tuple[str, ...]
    files: tuple[str, ...]  #: those that its processes have open and locked


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one owner wants changed in one transaction; what is given back counts before what is asked for."""

    release: list[Lease] = field(default_factory=list)  #: the attempt is over, its processes are gone
    park: list[Lease] = field(default_factory=list)  #: granted, and no capacity for it now: others may have the slots
    withdraw: list[int] = field(default_factory=list)  #: waiting or parked claims that are not wanted any more
    resume: list[int] = field(default_factory=list)  #: parked claims for which there is capacity again
    request: list[Request] = field(default_factory=list)
    reap: set[str] = field(default_factory=set)  #: owners that are said to be dead
    look_at: set[str] = field(default_factory=set)  #: pools whose holders may be dead, or whose claims became overdue

    def __bool__(self) -> bool:
        return bool(
            self.request or self.release or self.park or self.withdraw or self.resume or self.reap or self.look_at
        )


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of it, once it is committed."""

    filed: list[int] = field(default_factory=list)  #: the claims of ``Changes.request``, in its order
    granted: list[Lease] = field(default_factory=list)  #: to this owner, now or since it was last told
    lost: list[Lease] = field(default_factory=list)  #: of ``release`` and ``park``: were not held with this token
    freed: list[int] = field(default_factory=list)  #: claims that were taken from the dead
    reaped: set[str] = field(default_factory=set)  #: owners from whom these were taken
    orphans: list[Orphan] = field(default_factory=list)
    gave: int = 0  #: claims that were granted in it, to anybody
    undone: bool = False  #: nothing of it counts, as the caller wanted for what came of it


def needs_of(pools: Mapping[str, int]) -> Needs:
    """Slots of each pool, in the form in which they are asked for.

    Raises:
        ValueError: a weight below 1, or no pool at all.
    """
    if not pools:
        raise ValueError("a claim needs at least one pool")
    for pool, weight in pools.items():
        if weight < 1:
            raise ValueError(f"pool {pool!r}: {weight} slots cannot be claimed; 1 is the least")
    return tuple(sorted(pools.items()))


@lru_cache(maxsize=1024)
def text_of(needs: Needs) -> str:
    """How they are kept."""
    return json.dumps(needs, separators=(",", ":"))


@lru_cache(maxsize=1024)
def parse(text: str) -> Needs:
    """Back from how they are kept."""
    return tuple((pool, weight) for pool, weight in json.loads(text))
