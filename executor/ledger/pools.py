"""The limits of pools: where each comes from, and which of them is in force.

Set by a command beats set in the configuration file beats the default limit beats none at all. 0 pauses a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from executor.config.machine import MAX_POOL_LIMIT_VARIABLE, largest_pool_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LimitSource = Literal["explicit", "yaml", "default", "unlimited"]


@dataclass(frozen=True, slots=True)
class PoolLimit:
    """The limit of a pool that is in force."""

    name: str
    limit: int | None  #: slots; None: unlimited; 0: paused
    source: LimitSource

    @property
    def paused(self) -> bool:
        """Whether nobody can be granted a slot, until the limit is raised."""
        return self.limit == 0


def check_pool_name(name: str) -> None:
    """Pass if a pool can have this name.

    Raises:
        ValueError: it is empty or has a blank in it.
    """
    if not name or any(char.isspace() for char in name):
        raise ValueError(f"a pool cannot be named {name!r}: a name is one word, without blanks")


def check_limit(name: str, limit: int) -> None:
    """Pass if ``limit`` can be the limit of the pool ``name``.

    Raises:
        ValueError: it is no whole number, below 0, or too large to be meant.
    """
    if type(limit) is not int:
        raise ValueError(f"the limit of pool {name!r} cannot be {limit!r}: it is a whole number of slots")
    if limit < 0:
        raise ValueError(
            f"the limit of pool {name!r} cannot be {limit}: give 0 to pause it, 1 or more to admit as many, or delete "
            "the limit"
        )
    largest = largest_pool_limit()
    if limit > largest:
        raise ValueError(
            f"the limit of pool {name!r} cannot be {limit}: {largest} is the most; delete the limit to have none, or "
            f"set {MAX_POOL_LIMIT_VARIABLE} where slots stand for something small"
        )


def limit_of(execute: Callable[..., Any], name: str) -> PoolLimit:
    """The limit of one pool, read now; a pool that nobody has named anywhere has the default."""
    explicit, yaml, default = execute(
        "SELECT (SELECT explicit FROM pool WHERE name = ?), (SELECT yaml FROM pool WHERE name = ?), default_limit "
        "FROM about",
        (name, name),
    ).fetchone()
    return in_force(name, explicit, yaml, default)


def in_force(name: str, explicit: int | None, yaml: int | None, default: int | None) -> PoolLimit:
    """Which of these limits counts; None: not set."""
    if explicit is not None:
        return PoolLimit(name, explicit, "explicit")
    if yaml is not None:
        return PoolLimit(name, yaml, "yaml")
    return PoolLimit(name, default, "unlimited" if default is None else "default")


def set_explicit(execute: Callable[..., Any], name: str, limit: int | None) -> bool:
    """Set or delete what a command sets; whether there was something to change."""
    row = execute("SELECT explicit FROM pool WHERE name = ?", (name,)).fetchone()
    if (row[0] if row else None) == limit:
        return False
    execute(
        "INSERT INTO pool (name, explicit) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET explicit = excluded.explicit",
        (name, limit),
    )
    _forget_unset(execute)
    return True


def configured(execute: Callable[..., Any]) -> tuple[dict[str, int], int | None]:
    """The limits of the configuration file that are in force, and its default; None: no default."""
    (default,) = execute("SELECT default_limit FROM about").fetchone()
    return dict(execute("SELECT name, yaml FROM pool WHERE yaml IS NOT NULL").fetchall()), default


def set_configured(execute: Callable[..., Any], limits: Mapping[str, int], default: int | None) -> set[str]:
    """Put the limits of the configuration file in force, for everybody; the pools whose limit may have changed."""
    before, old_default = configured(execute)
    changed = {name for name in before.keys() | limits.keys() if before.get(name) != limits.get(name)}
    for name in sorted(changed):
        execute(
            "INSERT INTO pool (name, yaml) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET yaml = excluded.yaml",
            (name, limits.get(name)),
        )
    if old_default != default:
        execute("UPDATE about SET default_limit = ?", (default,))
        changed |= {name for (name,) in execute("SELECT DISTINCT pool FROM need")}
    _forget_unset(execute)
    return changed


def _forget_unset(execute: Callable[..., Any]) -> None:
    execute("DELETE FROM pool WHERE explicit IS NULL AND yaml IS NULL")
