"""Assets among each other: who reads whom, in an order in which they can be made. Finds wrong names and cycles."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.authoring.assets import AssetsDefinition
from executor.authoring.nested import flattened
from executor.errors import DefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from executor.authoring.names import AssetKey


class Made(NamedTuple):
    """Where an asset comes from: which definition, by position, and which of its outputs."""

    position: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetGraph:
    """Assets in an order in which each comes after what it reads; those that need no order keep that of definition."""

    assets: tuple[AssetsDefinition, ...]
    made: Mapping[AssetKey, Made]
    reads: tuple[
        Mapping[str, AssetKey], ...
    ]  #: of each: input -> the asset that it reads or waits for; defaults are left out
    waits: tuple[tuple[AssetKey, ...], ...]  #: of each: what it waits for without reading it (``deps``)
    upstream: tuple[tuple[int, ...], ...]
    downstream: tuple[tuple[int, ...], ...]

    def subset(self, owner: str, positions: Collection[int]) -> AssetGraph:
        """The graph of these assets only; what they merely wait for may be left out, what they read may not.

        Raises:
            DefinitionError: an asset reads one that is left out; the text names what to add.
        """
        for position in sorted(positions):
            for input_name, key in self.reads[position].items():
                if self.made[key].position in positions:
                    continue
                asset = self.assets[position]
                if asset.node.ins[input_name].order_only or asset.node.has_default(input_name):
                    continue
                missing = ", ".join(repr(name) for name in self._missing(positions))
                raise DefinitionError(
                    f"{owner}: asset {str(asset.keys[0])!r} reads asset {str(key)!r}, which is not selected, and "
                    f"values of earlier runs are not read in a new run; add {missing} to the selection"
                )
        return asset_graph(owner, [self.assets[position] for position in sorted(positions)], known=self.made)

    def _missing(self, positions: Collection[int]) -> Iterator[str]:
        """The keys that must be added to these assets so that all values that they read are there."""
        seen, queue = set(positions), sorted(positions)
        while queue:
            position = queue.pop()
            asset = self.assets[position]
            for input_name, key in self.reads[position].items():
                above = self.made[key].position
                if above not in seen and not asset.node.ins[input_name].order_only:
                    seen.add(above)
                    queue.append(above)
                    yield str(key)


def asset_graph(owner: str, assets: Iterable[object], *, known: Collection[AssetKey] = ()) -> AssetGraph:
    """The graph of these assets, nested lists included. ``known`` are keys that exist elsewhere and may be waited for.

    Raises:
        DefinitionError: two have one key, one reads what is not there, or they wait for each other in a circle.
    """
    found = list(dict.fromkeys(_flat(owner, assets)))
    by_key: dict[AssetKey, Made] = {}
    steps: dict[str, AssetsDefinition] = {}
    for position, asset in enumerate(found):
        if steps.setdefault(asset.step_key, asset) is not asset:
            raise DefinitionError(
                f"{owner}: two assets have the key {asset.step_key!r}; give one of them another name="
            )
        for output, key in asset.key_of.items():
            if key in by_key:
                raise DefinitionError(f"{owner}: two assets have the key {str(key)!r}; give one of them another name=")
            by_key[key] = Made(position=position, output=output)
    reads = [_resolved_reads(owner, asset, by_key, known) for asset in found]
    waits = [_resolved_waits(owner, asset, by_key, known) for asset in found]
    upstream = [
        sorted({by_key[key].position for key in (*reads[position].values(), *waits[position])})
        for position in range(len(found))
    ]
    order = _topological(owner, found, upstream)
    place = {position: index for index, position in enumerate(order)}
    moved_up = [tuple(sorted(place[above] for above in upstream[position])) for position in order]
    downstream: list[list[int]] = [[] for _ in found]
    for index, above in enumerate(moved_up):
        for other in above:
            downstream[other].append(index)
    return AssetGraph(
        assets=tuple(found[position] for position in order),
        made={key: Made(position=place[item.position], output=item.output) for key, item in by_key.items()},
        reads=tuple(reads[position] for position in order),
        waits=tuple(waits[position] for position in order),
        upstream=tuple(moved_up),
        downstream=tuple(map(tuple, downstream)),
    )


def _flat(owner: str, assets: object) -> Iterator[AssetsDefinition]:
    def is_asset(item: object) -> bool:
        if isinstance(item, AssetsDefinition):
            return True
        if isinstance(item, str) or not hasattr(item, "__iter__"):
            raise DefinitionError(f"{owner}: {item!r} is not an asset; give functions decorated with @asset")
        return False

    return flattened(assets, is_asset)


def _resolved_reads(
    owner: str, asset: AssetsDefinition, by_key: Mapping[AssetKey, Made], known: Collection[AssetKey]
) -> dict[str, AssetKey]:
    """Which asset each input of ``asset`` reads."""
    reads: dict[str, AssetKey] = {}
    for name, candidates in asset.reads.items():
        key = next((key for key in candidates if key in by_key), None)
        if key is not None:
            reads[name] = key
        elif asset.node.ins[name].order_only:
            _check_known(owner, asset, candidates[0], by_key, known)
        elif not asset.node.has_default(name):
            raise DefinitionError(
                f"{owner}: asset {str(asset.keys[0])!r} reads asset {str(candidates[0])!r} (its input {name!r}), which "
                f"is not there; add that asset, name another with ins=, or give the input a default"
                f"{did_you_mean(candidates[0], by_key)}"
            )
    return reads


def _resolved_waits(
    owner: str, asset: AssetsDefinition, by_key: Mapping[AssetKey, Made], known: Collection[AssetKey]
) -> tuple[AssetKey, ...]:
    """Which assets of ``deps`` are in the graph; one that exists only elsewhere holds nothing back."""
    waits: list[AssetKey] = []
    for dep in asset.deps:
        if dep.key in by_key:
            waits.append(dep.key)
        elif not dep.exists:
            _check_known(owner, asset, dep.key, by_key, known)
    return tuple(waits)


def _check_known(
    owner: str, asset: AssetsDefinition, key: AssetKey, by_key: Mapping[AssetKey, Made], known: Collection[AssetKey]
) -> None:
    if key not in known:
        raise DefinitionError(
            f"{owner}: asset {str(asset.keys[0])!r} depends on asset {str(key)!r}, which is not there; "
            f"add that asset, or correct its deps{did_you_mean(key, by_key)}"
        )


def _topological(owner: str, assets: list[AssetsDefinition], upstream: list[list[int]]) -> list[int]:
    """Positions so that each stands after its upstreams, otherwise as they were. O(n log n)."""
    waiting = [len(above) for above in upstream]
    downstream: list[list[int]] = [[] for _ in assets]
    for position, above in enumerate(upstream):
        for other in above:
            downstream[other].append(position)
    ready = [position for position, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for below in downstream[position]:
            waiting[below] -= 1
            if waiting[below] == 0:
                heapq.heappush(ready, below)
    if len(order) < len(assets):
        circle = " -> ".join(assets[position].step_key for position in _circle(waiting, upstream))
        raise DefinitionError(
            f"{owner}: assets wait for each other in a circle: {circle}; remove one of these dependencies"
        )
    return order


def _circle(waiting: list[int], upstream: list[list[int]]) -> list[int]:
    """One circle among the positions that still wait, in the order in which data would flow, its first one repeated."""
    seen: dict[int, int] = {}
    trail: list[int] = []
    position = next(position for position, count in enumerate(waiting) if count)
    while position not in seen:
        seen[position] = len(trail)
        trail.append(position)
        position = next(above for above in upstream[position] if waiting[above])
    circle = trail[seen[position] :][::-1]
    start = circle.index(min(circle))
    circle = circle[start:] + circle[:start]
    return [*circle, circle[0]]
