"""``@asset``: a function whose value is kept under a key, and that names what it reads by its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from executor.authoring import composition
from executor.authoring.context import AssetExecutionContext, OpExecutionContext
from executor.authoring.demands import Demands, make_demands
from executor.authoring.graphs import GraphDefinition
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.names import AssetKey, as_asset_key
from executor.authoring.ops import OpDefinition
from executor.authoring.ports import DEFAULT_OUTPUT, AssetIn, In, Out, declared_inputs, is_nothing
from executor.authoring.references import rebuild, reference_of, resolve_reference
from executor.authoring.signature import check_function, read_signature
from executor.authoring.tags import normalized_tags
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from executor.authoring.retry import RetryPolicy

#: A dependency as it may be written: a key, or an asset.
AssetLike = Any


class AssetDep(NamedTuple):
    """An asset that another one waits for without reading its value."""

    key: AssetKey
    exists: bool  #: it was given as an object; a name alone may be misspelt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AssetsDefinition:
    """What ``@asset`` makes of a function: the op that does the work, the keys of what it makes, and what it reads."""

    node: OpDefinition | GraphDefinition
    key_of: Mapping[str, AssetKey]  #: output name -> key of the asset that it is the value of
    #: input name -> keys that it may mean, likeliest first: a name alone may stand for an asset with the same prefix
    reads: Mapping[str, tuple[AssetKey, ...]]
    deps: tuple[AssetDep, ...] = ()
    tags: Mapping[str, str]  #: ``tags`` and ``op_tags`` together; op_tags win
    description: str | None = None
    group_name: str | None = None
    metadata: Mapping[str, object] | None = None
    owners: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()

    @property
    def op(self) -> OpDefinition | None:
        """The op that does the work; None for an asset made by a graph."""
        return self.node if isinstance(self.node, OpDefinition) else None

    @property
    def keys(self) -> tuple[AssetKey, ...]:
        """The keys of all assets that this makes."""
        return tuple(self.key_of.values())

    @property
    def key(self) -> AssetKey:
        """The key of the asset.

        Raises:
            DefinitionError: it makes several.
        """
        if len(self.key_of) != 1:
            raise DefinitionError(f"{self!r} makes several assets ({', '.join(self.keys)}); use .keys")
        return self.keys[0]

    @property
    def step_key(self) -> str:
        """The key of the step that makes it (of all steps, before a dot, where a graph makes it)."""
        return self.node.name

    @property
    def selection_names(self) -> tuple[str, ...]:
        """What a selection of this object selects."""
        return tuple(str(key) for key in self.keys)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # whatever the function returns
        """What the function returns for these arguments, as in a unit test; a context is made where none is given."""
        if composition.is_composing():
            raise DefinitionError(
                f"{self!r} cannot be used in the body of a job or graph; make it an @op to use it there"
            )
        if isinstance(self.node, GraphDefinition):
            raise DefinitionError(f"{self!r} is made by a graph; call the ops in it, or use materialize([…])")
        return self.node.call_function(args, kwargs)

    def __repr__(self) -> str:
        return f"<asset {', '.join(map(repr, self.selection_names))}>"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        reference = reference_of(self, self.node.fn)
        if reference is not None:
            return resolve_reference, reference
        return rebuild, (AssetsDefinition, {name: getattr(self, name) for name in self.__slots__})


@overload
def asset(compute_fn: Callable[..., Any], /) -> AssetsDefinition: ...
@overload
def asset(
    *,
    name: str | None = None,
    key_prefix: str | Iterable[str] | None = None,
    key: AssetLike = None,
    ins: Mapping[str, AssetIn] | None = None,
    deps: Iterable[AssetLike] | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
    op_tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    group_name: str | None = None,
    owners: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    dagster_type: object = None,
    output_required: bool = True,
    priority: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | str | None = None,
    pool: str | None = None,
    pool_slots: int | None = None,
    pools: Mapping[str, int] | None = None,
    concurrency_group: str | None = None,
    config_schema: Any = None,
) -> Callable[[Callable[..., Any]], AssetsDefinition]: ...
def asset(
    compute_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    key_prefix: str | Iterable[str] | None = None,
    key: AssetLike = None,
    ins: Mapping[str, AssetIn] | None = None,
    deps: Iterable[AssetLike] | None = None,
    description: str | None = None,
    tags: Mapping[str, object] | None = None,
    op_tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    group_name: str | None = None,
    owners: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    dagster_type: object = None,
    output_required: bool = True,
    priority: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | str | None = None,
    pool: str | None = None,
    pool_slots: int | None = None,
    pools: Mapping[str, int] | None = None,
    concurrency_group: str | None = None,
    config_schema: Any = None,
    **_misplaced: Any,
) -> Any:  # the overloads say what
    """An asset made of the decorated function; each parameter is the value of the asset of that name.

    Args:
        compute_fn: the function, when the decorator stands without parentheses.
        name: last part of the key; the function's name without it.
        key_prefix: the parts before it, as text or a list.
        key: the whole key, instead of name and prefix.
        ins: ``AssetIn`` by parameter name, where the asset is called otherwise or is only waited for.
        deps: assets (names, keys or objects) that come first and whose values are not read.
        description: for people; the docstring's first paragraph without it.
        tags: text, other values become JSON text; limits match on ``tags`` and ``op_tags`` together.
        op_tags: more tags, with any keys; they win over ``tags``.
        metadata: kept with the definition, for people.
        group_name: kept with the definition, for people.
        owners: kept with the definition, for people.
        kinds: kept with the definition, for people.
        dagster_type: not checked; ``Nothing`` keeps no value.
        output_required: False: the function may yield nothing, and what reads the asset is skipped.
        priority: whole number; of the steps that could start, the highest starts first. 0 without it.
        retry_policy: when a failed attempt is tried again.
        timeout: seconds an attempt may take, or text such as "90s", "5m", "1h30m".
        pool: name of the pool that the step takes slots of; ``concurrency_group`` is an older name for it.
        pool_slots: how many slots of ``pool`` it takes; 1 without it.
        pools: slots by pool name, for several pools at once.
        concurrency_group: the same as ``pool``.
        config_schema: what config it takes; as for ``op``.

    Raises:
        DefinitionError: the function and the arguments do not fit; the text says what to change.
    """
    refuse_misplaced(asset, _misplaced, takes_executor=False)

    def decorate(fn: Callable[..., Any]) -> AssetsDefinition:
        check_function("an asset", fn)
        own_key = asset_key(fn, name, key_prefix, key)
        owner = f"asset {str(own_key)!r}"
        all_tags = asset_tags(owner, tags, op_tags)
        demands = make_demands(
            owner,
            tags=all_tags,
            priority=priority,
            timeout=timeout,
            retry_policy=retry_policy,
            pool=pool,
            pool_slots=pool_slots,
            pools=pools,
            concurrency_group=concurrency_group,
        )
        asset_ins = declared_inputs(owner, ins, AssetIn)
        out = Out(dagster_type, None, output_required)
        node = asset_op(
            fn,
            name=str(own_key),
            owner=owner,
            description=description,
            asset_ins=asset_ins,
            out=out,
            demands=demands,
            config_schema=config_schema,
        )
        return AssetsDefinition(
            node=node,
            key_of={DEFAULT_OUTPUT: own_key},
            reads=asset_reads(node.ins, asset_ins, own_key.path[:-1]),
            deps=asset_deps(owner, deps),
            tags=all_tags,
            description=node.description,
            group_name=group_name,
            metadata=metadata,
            owners=tuple(owners or ()),
            kinds=frozenset(kinds or ()),
        )

    return decorate if compute_fn is None else decorate(compute_fn)


def asset_key(fn: object, name: str | None, prefix: str | Iterable[str] | None, key: AssetLike) -> AssetKey:
    """The key that the arguments of a decorator give the asset of ``fn``.

    Raises:
        DefinitionError: they contradict each other, or give no key that can be used.
    """
    if key is not None:
        if name is not None or prefix is not None:
            raise DefinitionError(f"asset {key!r}: key= is the whole key; leave out name= and key_prefix=")
        return as_asset_key(key)
    last = getattr(fn, "__name__", None) if name is None else name
    if last is None:
        raise DefinitionError(f"{fn!r} has no name of its own; give the asset one with name='…'")
    return as_asset_key([*(prefix.split("/") if isinstance(prefix, str) else prefix or ()), last])


def asset_tags(owner: str, tags: Mapping[str, object] | None, op_tags: Mapping[str, object] | None) -> dict[str, str]:
    """``tags`` and ``op_tags`` together, as text; op_tags win."""
    return {**normalized_tags(owner, tags, strict_keys=True), **normalized_tags(owner, op_tags)}


def asset_op(
    fn: Callable[..., Any],
    *,
    name: str,
    owner: str,
    description: str | None,
    asset_ins: Mapping[str, AssetIn],
    out: Out | Mapping[str, Out],
    demands: Demands,
    config_schema: Any = None,
) -> OpDefinition:
    """The op that does the work of an asset."""
    context_class: type[OpExecutionContext] = AssetExecutionContext
    returns = read_signature(owner, fn).returns
    if isinstance(out, Out) and out.dagster_type is None and is_nothing(returns):
        out = Out(returns, None, out.is_required)
    return OpDefinition(
        fn,
        name=name,
        description=description,
        ins={input_name: In(item.dagster_type, copy=item.copy) for input_name, item in asset_ins.items()},
        out=out,
        demands=demands,
        owner=owner,
        context_class=context_class,
        config_schema=config_schema,
    )


def asset_reads(
    ins: Mapping[str, In], asset_ins: Mapping[str, AssetIn], prefix: list[str]
) -> dict[str, tuple[AssetKey, ...]]:
    """For each input the keys that it may mean."""
    reads: dict[str, tuple[AssetKey, ...]] = {}
    for name in ins:
        if name in asset_ins:
            reads[name] = (asset_ins[name].key_for(name),)
        else:
            reads[name] = (AssetKey([name]), AssetKey([*prefix, name])) if prefix else (AssetKey([name]),)
    return reads


def asset_deps(owner: str, deps: Iterable[AssetLike] | None) -> tuple[AssetDep, ...]:
    """What ``deps=`` names, each asset once."""
    if deps is None:
        return ()
    if isinstance(deps, str) or not hasattr(deps, "__iter__"):
        raise DefinitionError(f"{owner}: deps is {deps!r}; give a list, such as deps=['orders'] or deps=[orders]")
    found: dict[AssetKey, AssetDep] = {}
    for item in deps:
        if isinstance(item, AssetsDefinition):
            for key in item.keys:
                found[key] = AssetDep(key, exists=True)
        else:
            key = as_asset_key(item)
            found.setdefault(key, AssetDep(key, exists=False))
    return tuple(found.values())
