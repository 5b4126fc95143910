"""Selections: which nodes of a graph ``load``, ``*train``, ``clean+``, ``a,b`` and lists of them mean.

Knows names and edges only, so that it serves for assets and for the steps of a plan.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from executor.authoring.nested import flattened
from executor.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: What a selection may be: text, a definition, or a list of them.
Selection = Any

_CLAUSE = re.compile(r"(\*|\++)?([A-Za-z0-9_./-]+)(\*|\++)?")


def selected(
    selection: Selection,
    *,
    count: int,
    names: Mapping[str, Sequence[int]],
    upstream: Sequence[Sequence[int]],
    downstream: Sequence[Sequence[int]],
    what: str,
    find: Callable[[object], Sequence[int] | None] = lambda _: None,
) -> set[int]:
    """The nodes that ``selection`` means, of ``count`` in all.

    ``names`` says which nodes a name stands for, ``what`` what they are called in messages (``asset``, ``step``), and
    ``find`` gives the nodes of an object that is no name, or None where it has no special meaning.

    Raises:
        UsageError: a name is unknown, a clause cannot be read, or nothing is selected.
    """
    chosen: set[int] = set()
    for item in flattened(selection, _is_item):
        found = None if isinstance(item, str) else find(item)
        if found is not None:
            chosen.update(found)
            continue
        for clause in _clauses(item, what):
            if clause == "*":
                chosen.update(range(count))
                continue
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise UsageError(
                    f"the selection {clause!r} cannot be read; write a name, '*', '+name' (with what is directly above)"
                    f", 'name+' (below), '*name' or 'name*' (all above or below), or several with commas"
                )
            above, name, below = match.groups()
            if name not in names:
                raise UsageError(
                    f"the selection {clause!r} names no {what}{did_you_mean(name, names)} ({_known(names)})"
                )
            chosen.update(names[name])
            chosen.update(_reached(names[name], upstream, above))
            chosen.update(_reached(names[name], downstream, below))
    if not chosen:
        raise UsageError(f"the selection {selection!r} selects nothing; name some {what}s, or '*' for all")
    return chosen


def objects_in(selection: Selection) -> list[object]:
    """The objects in a selection, without the text."""
    return [item for item in flattened(selection, _is_item) if not isinstance(item, str)]


def _is_item(item: object) -> bool:
    return isinstance(item, str) or hasattr(item, "selection_names") or not hasattr(item, "__iter__")


def _clauses(item: object, what: str) -> list[str]:
    if isinstance(item, str):
        return [clause.strip() for clause in item.split(",") if clause.strip()]
    names = getattr(item, "selection_names", None)
    if names is None:
        raise UsageError(f"{item!r} cannot be selected; give the names of {what}s, or what @op or @asset made")
    return list(names)


def _reached(start: Sequence[int], edges: Sequence[Sequence[int]], levels: str | None) -> set[int]:
    """What is reached from ``start`` over ``edges``: as many levels as there are plus signs, or all for a star."""
    if not levels:
        return set()
    left = len(levels) if levels[0] == "+" else len(edges)
    seen, frontier = set(start), set(start)
    while frontier and left > 0:
        frontier = {other for node in frontier for other in edges[node]} - seen
        seen |= frontier
        left -= 1
    return seen


def _known(names: Mapping[str, object]) -> str:
    """Some of the names, for a message."""
    shown = list(names)[:10]
    return f"there are: {', '.join(shown)}{', …' if len(names) > len(shown) else ''}"
