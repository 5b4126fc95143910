"""How a definition travels to another process: by the name under which its module holds it, or else piece by piece.

A definition that a module holds under the name of its function is sent as (module, name), as Python does for
functions. One of ``__main__``, of a notebook or made inside another function is sent as its fields, and its function
is left to cloudpickle.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Attribute of a definition in which it holds the op that does its work.
HELD = "op"


def reference_of(definition: object, fn: Callable[..., object]) -> tuple[str, str, bool] | None:
    """(module, qualified name, held) by which ``definition`` can be found again, or None where it cannot.

    ``held``: what stands there is not the definition itself but holds it, as an asset holds its op.
    """
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return None
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is definition:
        return module, name, False
    if found is not None and getattr(found, HELD, None) is definition:
        return module, name, True
    return None


def resolve_reference(module: str, name: str, held: bool) -> object:
    """The definition that ``reference_of`` described; imports its module where that is not yet done.

    Raises:
        ImportError: the module cannot be imported here.
        AttributeError: it has no such name any more.
    """
    if module not in sys.modules:
        import importlib

        importlib.import_module(module)
    found: object = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return getattr(found, HELD) if held else found


def rebuild(kind: type, fields: dict[str, object]) -> object:
    """An object of ``kind`` with these fields, without another check: they were checked when it was made."""
    made: object = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
