"""What a job is made of, without compiling it. Graphs may lie in graphs as deep as they like: nothing here recurses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.authoring.asset_graph import AssetGraph
from executor.authoring.ops import OpDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.authoring.graphs import GraphDefinition


def distinct_ops(body: GraphDefinition | AssetGraph) -> tuple[OpDefinition, ...]:
    """Every op that a step of this body may run, each once, however often it is used. O(nodes)."""
    found = {id(op): op for _, _, op in _uses(body)}
    return tuple(found.values())


def configurable_ops(body: GraphDefinition | AssetGraph) -> Iterator[tuple[str, OpDefinition]]:
    """Every step of this body whose op takes config: its key, and the op. O(nodes)."""
    return ((prefix + name, op) for prefix, name, op in _uses(body) if op.config is not None)


def step_keys(body: GraphDefinition | AssetGraph) -> Iterator[str]:
    """The key of every step of this body. O(nodes)."""
    return (prefix + name for prefix, name, _ in _uses(body))


def _uses(body: GraphDefinition | AssetGraph) -> Iterator[tuple[str, str, OpDefinition]]:
    """Every use of an op: what goes before its name in the step's key, the name, and the op."""
    levels = [("", _nodes(body))]
    while levels:
        prefix, nodes = levels[-1]
        for name, definition in nodes:
            if isinstance(definition, OpDefinition):
                yield prefix, name, definition
            else:
                levels.append((f"{prefix}{name}.", _nodes(definition)))
                break
        else:
            levels.pop()


def _nodes(body: GraphDefinition | AssetGraph) -> Iterator[tuple[str, Any]]:
    """What lies directly in a body, by name: ops and graphs."""
    if isinstance(body, AssetGraph):
        return ((str(asset.step_key), asset.node) for asset in body.assets)
    return ((name, node.definition) for name, node in body.nodes.items())
