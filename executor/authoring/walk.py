"""What a job is made of, without compiling it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.authoring.asset_graph import AssetGraph
from executor.authoring.ops import OpDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.authoring.graphs import GraphDefinition


def distinct_ops(body: GraphDefinition | AssetGraph) -> tuple[OpDefinition, ...]:
    """Every op that a step of this body may run, each once, however often it is used. O(nodes)."""
    found = {id(op): op for op in _ops(body)}
    return tuple(found.values())


def _ops(body: GraphDefinition | AssetGraph) -> Iterator[OpDefinition]:
    if isinstance(body, AssetGraph):
        definitions = [asset.node for asset in body.assets]
    else:
        definitions = [node.definition for node in body.nodes.values()]
    for definition in definitions:
        if isinstance(definition, OpDefinition):
            yield definition
        else:
            yield from _ops(definition)


def configurable_ops(body: GraphDefinition | AssetGraph) -> Iterator[tuple[str, OpDefinition]]:
    """Every step of this body whose op takes config: its key, and the op. O(nodes)."""
    return ((key, op) for key, op in _steps(body, "") if op.config is not None)


def step_keys(body: GraphDefinition | AssetGraph) -> Iterator[str]:
    """The key of every step of this body. O(nodes)."""
    return (key for key, _ in _steps(body, ""))


def _steps(body: GraphDefinition | AssetGraph, prefix: str) -> Iterator[tuple[str, OpDefinition]]:
    if isinstance(body, AssetGraph):
        nodes = [(str(asset.step_key), asset.node) for asset in body.assets]
    else:
        nodes = [(name, node.definition) for name, node in body.nodes.items()]
    for name, definition in nodes:
        if isinstance(definition, OpDefinition):
            yield f"{prefix}{name}", definition
        else:
            yield from _steps(definition, f"{prefix}{name}.")
