"""Names: what may be called what, and the keys of assets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z0-9_]+")
# Dots part an op from the graph around it, slashes part a key; commas, stars and plus signs belong to selections.
_KEY_PART = re.compile(r"[A-Za-z0-9_-]+")


def check_name(kind: str, name: object) -> str:
    """``name``, when an op, graph, job, input or output (``kind`` says which) may be called so.

    Raises:
        DefinitionError: it is not text made of letters, digits and ``_``.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} cannot be the name of {kind}; use a to z, A to Z, 0 to 9 and _ only, as in clean_orders"
        )
    return name


class AssetKey(str):
    """The key of an asset: its name, or its parts joined with slashes. A plain string, made from text or a list.

    ``AssetKey(["raw", "orders"]) == "raw/orders"``; ``path`` gives the parts.

    Raises:
        DefinitionError: a part is empty or has other characters than letters, digits, ``_`` and ``-``.
    """

    __slots__ = ()

    def __new__(cls, path: str | Iterable[str]) -> Self:
        """Raises ``DefinitionError`` where a part does not fit."""
        parts: list[object] = [*(path.split("/") if isinstance(path, str) else path)]
        for part in parts or [""]:
            if not isinstance(part, str) or not _KEY_PART.fullmatch(part):
                raise DefinitionError(
                    f"{part!r} cannot be part of an asset's key; use letters, digits, _ and -, "
                    f"and give several parts as a list or with slashes: ['raw', 'orders'] or 'raw/orders'"
                )
        return super().__new__(cls, "/".join(map(str, parts)))

    @property
    def path(self) -> list[str]:
        """The parts of the key."""
        return self.split("/")

    def to_user_string(self) -> str:
        """The key as text, parts joined with slashes."""
        return str(self)


def as_asset_key(value: object) -> AssetKey:
    """``value`` as an asset's key: text, a list of parts, an ``AssetKey``, or anything that has such a ``path``.

    Raises:
        DefinitionError: it is none of them.
    """
    if isinstance(value, AssetKey):
        return value
    parts = value if isinstance(value, str | list | tuple) else getattr(value, "path", None)
    if not isinstance(parts, str | list | tuple):
        raise DefinitionError(f"{value!r} is not an asset's key; give text, a list of parts, or an AssetKey")
    return AssetKey(parts)
