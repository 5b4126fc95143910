"""Large values that this process has made itself, for a later step in it: handed over where nobody could tell.

A step must see the same whether its process made the value or another one did. So a value is handed over as it is only
where no step can change what another sees: text and bytes, which nobody can change; and plain collections of numbers
and text, to the last step that reads them, while nobody else refers to them. Everything else is loaded. Large buffers
are mapped then, which costs nothing worth saving.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor.scheduler.outcomes import StoredValue

#: Nobody can change these.
UNCHANGING = frozenset({bytes, str})

#: Nor these, inside of a collection.
LEAVES = UNCHANGING | {int, float, complex, bool, type(None)}

COLLECTIONS = frozenset({list, dict, set, frozenset, tuple})

#: Stands for a value that is not here.
ABSENT = object()

# A larger one is not kept, since its memory may be missed until its reader comes, or for ever if that runs elsewhere.
# A list of numbers takes about seven times its pickle.
MOST_BYTES = 64 << 20

# What the last reference of a local variable counts, with that of the call; since Python 3.14 that may be one less.
SOLE = 2


class OwnValues:
    """The large values of the last attempt in this process that made any."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}  #: by the path of their files

    def keep(self, made: list[tuple[StoredValue, Any]]) -> None:
        """Keep what an attempt has made instead of what an earlier one had."""
        self._made = {
            stored.path: value
            for stored, value in made
            if stored.path is not None
            and stored.size <= MOST_BYTES
            and (type(value) in UNCHANGING or type(value) in COLLECTIONS)
        }

    def take(self, path: str, *, last: bool) -> Any:
        """The value itself, or ``ABSENT`` where it must be loaded. ``last``: no other step will read it."""
        if path not in self._made:
            return ABSENT
        if type(self._made[path]) in UNCHANGING:
            return self._made.pop(path) if last else self._made[path]
        if not last:
            return ABSENT
        value = self._made.pop(path)  # an attempt that comes after it finds it in the file, as it was
        return value if sys.getrefcount(value) <= SOLE and _only_leaves(value) else ABSENT


def _only_leaves(value: Any) -> bool:
    """Whether nothing in this collection can be changed by anybody."""
    if type(value) is dict:
        return LEAVES.issuperset(map(type, value)) and LEAVES.issuperset(map(type, value.values()))
    return LEAVES.issuperset(map(type, value))
