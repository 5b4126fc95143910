"""Assets that are not one function's one value: several made by one step, or one made by a graph of ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, overload

from executor.authoring.assets import (
    AssetLike,
    AssetsDefinition,
    asset_deps,
    asset_key,
    asset_op,
    asset_reads,
    asset_tags,
)
from executor.authoring.demands import Demands, make_demands
from executor.authoring.graphs import GraphDefinition
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.ports import DEFAULT_OUTPUT, AssetIn, AssetOut, Out, declared_inputs
from executor.authoring.signature import check_function, own_name
from executor.errors import DefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from executor.authoring.retry import RetryPolicy


def multi_asset(
    *,
    outs: Mapping[str, AssetOut],
    name: str | None = None,
    ins: Mapping[str, AssetIn] | None = None,
    deps: Iterable[AssetLike] | None = None,
    description: str | None = None,
    op_tags: Mapping[str, object] | None = None,
    group_name: str | None = None,
    priority: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | str | None = None,
    pool: str | None = None,
    pool_slots: int | None = None,
    pools: Mapping[str, int] | None = None,
    concurrency_group: str | None = None,
    config_schema: Any = None,
    **_misplaced: Never,
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Several assets made by one step: ``outs`` names them, the function returns a tuple or yields an ``Output`` each.

    Selecting one of them selects all. The other arguments are those of ``asset``; ``name`` is the key of the step.

    Raises:
        DefinitionError: the function and the arguments do not fit; the text says what to change.
    """
    refuse_misplaced(multi_asset, _misplaced)

    def decorate(fn: Callable[..., Any]) -> AssetsDefinition:
        step = own_name("a multi_asset", fn, name)
        owner = f"multi_asset {step!r}"
        if not isinstance(outs, dict) or not outs or not all(isinstance(item, AssetOut) for item in outs.values()):
            raise DefinitionError(
                f"{owner}: outs is {outs!r}; give an AssetOut for each asset: outs={{'orders': AssetOut()}}"
            )
        tags = asset_tags(owner, None, op_tags)
        demands = make_demands(
            owner,
            tags=tags,
            priority=priority,
            timeout=timeout,
            retry_policy=retry_policy,
            pool=pool,
            pool_slots=pool_slots,
            pools=pools,
            concurrency_group=concurrency_group,
        )
        asset_ins = declared_inputs(owner, ins, AssetIn)
        out = {name: Out(item.dagster_type, item.description, item.is_required) for name, item in outs.items()}
        node = asset_op(
            fn,
            name=step,
            owner=owner,
            description=description,
            asset_ins=asset_ins,
            out=out,
            demands=demands,
            config_schema=config_schema,
        )
        return AssetsDefinition(
            node=node,
            key_of={name: item.key_for(name) for name, item in outs.items()},
            reads=asset_reads(node.ins, asset_ins, []),
            deps=asset_deps(owner, deps),
            tags=tags,
            description=node.description,
            group_name=group_name,
        )

    return decorate


@overload
def graph_asset(compose_fn: Callable[..., Any], /) -> AssetsDefinition: ...
@overload
def graph_asset(
    *,
    name: str | None = None,
    key_prefix: str | Iterable[str] | None = None,
    key: AssetLike = None,
    ins: Mapping[str, AssetIn] | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    group_name: str | None = None,
    owners: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
) -> Callable[[Callable[..., Any]], AssetsDefinition]: ...
def graph_asset(
    compose_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    key_prefix: str | Iterable[str] | None = None,
    key: AssetLike = None,
    ins: Mapping[str, AssetIn] | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    group_name: str | None = None,
    owners: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    **_misplaced: Any,
) -> Any:  # the overloads say what
    """An asset made by a graph of ops: the decorated body calls ops and returns the result of one.

    Its parameters are the values of other assets, as those of ``asset`` are, and the arguments mean the same. Its
    steps have keys such as ``my_asset.op``, each with the tags and pools of its op; ``tags`` go to all of them.

    Raises:
        DefinitionError: the body and the arguments do not fit; the text says what to change.
    """
    refuse_misplaced(graph_asset, _misplaced)

    def decorate(fn: Callable[..., Any]) -> AssetsDefinition:
        check_function("a graph_asset", fn)
        own_key = asset_key(fn, name, key_prefix, key)
        owner = f"graph_asset {str(own_key)!r}"
        asset_ins = declared_inputs(owner, ins, AssetIn)
        node = GraphDefinition(fn, name=str(own_key), description=description, owner=owner)
        if list(node.outputs) != [DEFAULT_OUTPUT]:
            raise DefinitionError(f"{owner}: its body must return the result of one op, which is the asset's value")
        for input_name in asset_ins:
            if input_name not in node.ins:
                hint = did_you_mean(input_name, node.ins)
                raise DefinitionError(f"{owner}: ins declares {input_name!r}, which is no parameter of the body{hint}")
        own_tags = asset_tags(owner, tags, None)
        Demands().used(owner, tags=own_tags, outer_tags={}, retry_policy=None)  # raises for what would not fit later
        return AssetsDefinition(
            node=node,
            key_of={DEFAULT_OUTPUT: own_key},
            reads=asset_reads(node.ins, asset_ins, own_key.path[:-1]),
            tags=own_tags,
            description=node.description,
            group_name=group_name,
            metadata=metadata,
            owners=tuple(owners or ()),
            kinds=frozenset(kinds or ()),
        )

    return decorate if compose_fn is None else decorate(compose_fn)
