"""A YAML loader that refuses what is small to write and large to read: aliases of aliases, and deep nesting."""

from __future__ import annotations

from typing import Any

import yaml

from executor.config.layers import MOST_DEPTH
from executor.config.yaml_file import MOST_ALIASED


class TooMuch(Exception):
    """The document is refused; ``mark`` is where."""

    def __init__(self, mark: Any, text: str) -> None:
        super().__init__(text)
        self.mark = mark


class BoundedLoader(yaml.SafeLoader):
    """Composes nodes as ``SafeLoader`` does, and counts what they stand for."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._count = 0  # of nodes, those that aliases stand for included
        self._aliased = 0
        self._sizes: dict[int, int] = {}  # nodes that each node stands for, itself included; by id, once it is whole

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node.

        Raises:
            TooMuch: the document stands for too many values, or is nested too deeply.
        """
        event = self.peek_event()  # type: ignore[no-untyped-call]  # as below: PyYAML's stubs have no types here
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            size = self._sizes.get(id(node))
            if size is None:
                raise TooMuch(event.start_mark, f"*{event.anchor} stands inside of what it means; write it out")
            self._aliased += size
            self._count += size
            if self._aliased > MOST_ALIASED:
                raise TooMuch(
                    event.start_mark,
                    f"with *{event.anchor} the aliases of this file stand for more than {MOST_ALIASED} values; "
                    "write out what is meant",
                )
            return node
        if self._depth == MOST_DEPTH:
            raise TooMuch(event.start_mark, f"is nested more than {MOST_DEPTH} levels deep; no setting stands there")
        before = self._count
        self._count += 1
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[id(node)] = self._count - before
        return node
