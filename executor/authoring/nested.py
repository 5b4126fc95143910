"""Lists in lists, as people give assets and selections: in order, however deep they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def flattened(items: Any, is_item: Callable[[object], bool]) -> Iterator[Any]:
    """The items of nested lists, in order. A list that holds itself is not entered again inside of itself.

    ``is_item`` is asked of all that is met; what is no item must be iterable.
    """
    if is_item(items):
        yield items
        return
    levels = [(items, iter(items))]
    while levels:
        for item in levels[-1][1]:
            if is_item(item):
                yield item
            elif all(item is not outer for outer, _ in levels):
                levels.append((item, iter(item)))
                break
        else:
            levels.pop()
