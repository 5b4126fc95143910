"""What a definition asks of whoever runs it: tags, priority, timeout, retries, slots of pools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.authoring.retry import RetryPolicy
from executor.authoring.tags import POOL_TAG, PRIORITY_RANGE, PRIORITY_TAG, fits_priority, tagged_priority
from executor.config.durations import parse_duration
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What an op asks of whoever runs it, in one checked form."""

    tags: Mapping[str, str] = field(default_factory=dict)
    priority: int | None = None  #: higher first; None: not said, which counts as 0
    timeout_s: float | None = None  #: seconds an attempt may take; None: no bound
    retry_policy: RetryPolicy | None = None  #: None: the job's, if it has one
    pools: Mapping[str, int] = field(default_factory=dict)  #: slots wanted of each pool

    def used(
        self,
        owner: str,
        *,
        tags: Mapping[str, str],
        outer_tags: Mapping[str, str],
        retry_policy: RetryPolicy | None,
    ) -> Demands:
        """These demands as one use of the op has them.

        Its own ``tags`` and retry policy win over those of the op, and those over the tags of what is around it.

        Raises:
            DefinitionError: a tag gives a priority that is no number, or another pool than the op's.
        """
        if not tags and not outer_tags and retry_policy is None:
            return self
        priority = tagged_priority(owner, tags)
        if priority is None:
            priority = self.priority
        if priority is None:
            priority = tagged_priority(owner, outer_tags)
        pools, pool = self.pools, tags.get(POOL_TAG)
        if not pool and not pools:
            pool = outer_tags.get(POOL_TAG)
        if pool and pool not in pools:
            if pools:
                raise DefinitionError(
                    f"{owner}: tag {POOL_TAG!r} names the pool {pool!r}, but the op itself takes {', '.join(pools)}; "
                    f"leave the tag out, or write pools={{name: slots}} on the op"
                )
            pools = {_check_pool_name(owner, pool): 1}
        return Demands(
            tags={**outer_tags, **self.tags, **tags},
            priority=priority,
            timeout_s=self.timeout_s,
            retry_policy=retry_policy or self.retry_policy,
            pools=pools,
        )


def make_demands(
    owner: str,
    *,
    tags: Mapping[str, str],
    priority: int | None = None,
    timeout: float | str | None = None,
    retry_policy: RetryPolicy | None = None,
    pool: str | None = None,
    pool_slots: int | None = None,
    pools: Mapping[str, int] | None = None,
    concurrency_group: str | None = None,
) -> Demands:
    """The demands of ``owner`` (``op 'load'``), from the arguments of its decorator and its checked tags.

    Raises:
        DefinitionError: one of them does not fit, or two spellings of one thing differ.
    """
    if retry_policy is not None and not isinstance(retry_policy, RetryPolicy):
        raise DefinitionError(f"{owner}: retry_policy is {retry_policy!r}; give RetryPolicy(max_retries=2, delay=1.0)")
    try:
        timeout_s = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise DefinitionError(f"{owner}: timeout {error}") from None
    spelled = {"pool": pool, "concurrency_group": concurrency_group, f"tag {POOL_TAG!r}": tags.get(POOL_TAG)}
    return Demands(
        tags=tags,
        priority=_priority(owner, priority, tags),
        timeout_s=timeout_s,
        retry_policy=retry_policy,
        pools=_pools(owner, spelled, pool_slots, pools),
    )


def _priority(owner: str, priority: object, tags: Mapping[str, str]) -> int | None:
    tagged = tagged_priority(owner, tags)
    if priority is None:
        return tagged
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise DefinitionError(f"{owner}: priority is {priority!r}; give a whole number (higher runs first, 0 is usual)")
    if not fits_priority(priority):
        raise DefinitionError(f"{owner}: priority is too large or too small; {PRIORITY_RANGE}")
    if tagged is not None and tagged != priority:
        raise DefinitionError(
            f"{owner}: priority={priority} and tag {PRIORITY_TAG!r}={tagged} give two priorities; give one"
        )
    return priority


def _pools(
    owner: str, spelled: Mapping[str, str | None], slots: int | None, pools: Mapping[str, int] | None
) -> dict[str, int]:
    if slots is not None:
        _check_slots(owner, "pool_slots", slots)
    if pools is None:
        pool = _one_pool(owner, spelled)
        if slots is not None and pool is None:
            raise DefinitionError(f"{owner}: pool_slots={slots} says how many, but not of which pool; add pool='…'")
        return {} if pool is None else {pool: slots or 1}
    if not hasattr(pools, "items"):
        raise DefinitionError(
            f"{owner}: pools is {pools!r}; give the slots of each, such as pools={{'database': 2, 'api': 1}}"
        )
    if slots is not None:
        raise DefinitionError(
            f"{owner}: pool_slots goes with pool=; with pools= write the number of slots beside each name"
        )
    for name, wanted in pools.items():
        _check_pool_name(owner, name)
        _check_slots(owner, f"pools[{name!r}]", wanted)
    for spelling, one in spelled.items():
        if one and dict(pools) != {one: 1}:
            raise DefinitionError(
                f"{owner}: {spelling} {one!r} and pools={dict(pools)} are both given; put all in pools="
            )
    return dict(pools)


def _one_pool(owner: str, spelled: Mapping[str, str | None]) -> str | None:
    """The one pool that all of these spellings name, or None where none names any ("" is none, as in Dagster)."""
    named = {spelling: _check_pool_name(owner, name) for spelling, name in spelled.items() if name not in (None, "")}
    if len(set(named.values())) > 1:
        said = " and ".join(f"{spelling} {name!r}" for spelling, name in named.items())
        raise DefinitionError(f"{owner}: {said} name different pools; name one, or several with pools={{name: slots}}")
    return next(iter(named.values()), None)


def _check_pool_name(owner: str, name: object) -> str:
    if not isinstance(name, str):
        raise DefinitionError(
            f"{owner}: the pool {name!r} is not text; for several pools write pools={{'database': 1, 'api': 1}}"
        )
    if not name or any(character.isspace() for character in name):
        better = "_".join(name.split()) or "database"
        raise DefinitionError(f"{owner}: the pool name {name!r} has a blank or is empty; write {better!r}")
    return name


def _check_slots(owner: str, argument: str, slots: object) -> None:
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
        raise DefinitionError(f"{owner}: {argument} is {slots!r}; a step takes a whole number of slots, 1 or more")
