"""``@op``: a function with named inputs and outputs that a job can use any number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from executor.authoring import composition
from executor.authoring.context import AssetExecutionContext, OpExecutionContext, build_asset_context, build_op_context
from executor.authoring.demands import make_demands
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.ports import MISSING, In, Out, declared_inputs, declared_outputs
from executor.authoring.references import rebuild, reference_of, resolve_reference
from executor.authoring.signature import own_name, read_signature
from executor.authoring.tags import normalized_tags
from executor.errors import DefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.authoring.demands import Demands
    from executor.authoring.op_config import OpConfig
    from executor.authoring.retry import RetryPolicy


class OpDefinition(composition.Invocable):
    """What ``@op`` makes of a function. Call it in the body of a job or graph to use it there, elsewhere to run it.

    ``name``, ``description``, ``ins`` and ``outs`` by name, and ``demands`` (tags, priority, pools) are as declared.
    """

    __slots__ = (
        "config",
        "context_class",
        "context_name",
        "demands",
        "description",
        "fn",
        "in_defaults",
        "ins",
        "label",
        "name",
        "only_output",
        "outs",
        "prepares",
        "python_defaults",
        "takes_context",
    )

    kind: ClassVar[str] = "op"
    name: str
    label: str  #: ``op 'load'`` or ``asset 'orders'``, for messages
    description: str | None
    fn: Callable[..., Any]
    ins: dict[str, In]
    outs: dict[str, Out]
    demands: Demands
    config: OpConfig | None  #: what config it takes; None: none
    prepares: bool  #: whether its inputs need more than being passed on: it has config, or defaults of its own
    context_name: str | None  #: of the function's first parameter, when it is for the context; None: it takes none
    takes_context: bool  #: whether it takes one
    in_defaults: dict[str, Any]  #: given by ``In(default_value=)``; the function has none of its own for them
    python_defaults: frozenset[str]  #: inputs for which the function has a default of its own
    only_output: str | None  #: name of the output of an op that has exactly one that is required and kept
    context_class: type[OpExecutionContext]  #: what the function expects as its context

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        owner: str,
        demands: Demands,
        description: str | None = None,
        ins: Mapping[str, In] | None = None,
        out: Out | Mapping[str, Out] | None = None,
        context_class: type[OpExecutionContext] = OpExecutionContext,
        config_schema: Any = None,
    ) -> None:
        """Raises ``DefinitionError`` where the function and what is declared do not fit. ``owner`` is for messages."""
        self.name, self.label = name, owner
        signature = read_signature(owner, fn, config_schema=config_schema)
        declared = declared_inputs(owner, ins, In)
        self.config = signature.config
        self.fn = fn
        self.description = description or first_paragraph(fn)
        self.context_name = signature.context_name
        self.takes_context = signature.context_name is not None
        self.ins = {name: declared.pop(name, None) or In() for name in signature.inputs}
        for input_name, item in declared.items():
            if not item.order_only and not signature.takes_any:
                known = ", ".join(signature.inputs) or "none"
                raise DefinitionError(
                    f"{owner}: ins declares {input_name!r}, which is no parameter of the function"
                    f"{did_you_mean(input_name, signature.inputs)} (its inputs: {known})"
                )
            self.ins[input_name] = item
        for input_name in signature.inputs:
            if self.ins[input_name].order_only:
                raise DefinitionError(
                    f"{owner}: input {input_name!r} is Nothing, so the function gets no value for it; "
                    f"remove the parameter, or declare In()"
                )
        self.in_defaults = {n: i.default_value for n, i in self.ins.items() if i.default_value is not MISSING}
        self.prepares = bool(self.in_defaults) or self.config is not None
        self.python_defaults = frozenset(signature.defaults)
        self.outs = declared_outputs(owner, out, signature.returns)
        only, *others = self.outs.items() or [("", Out())]
        self.only_output = only[0] if only[0] and not others and not only[1].order_only else None
        self.demands = demands
        self.context_class = context_class

    def has_default(self, input_name: str) -> bool:
        """Whether the op can run without that input being connected."""
        item = self.ins[input_name]
        return item.order_only or item.default_value is not MISSING or input_name in self.python_defaults

    @property
    def required_inputs(self) -> list[str]:
        """Names of the inputs that must be connected."""
        return [name for name in self.ins if not self.has_default(name)]

    @property
    def selection_names(self) -> tuple[str, ...]:
        """What a selection of this object selects."""
        return (self.name,)

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of every step made of this op."""
        return self.demands.tags

    @property
    def retry_policy(self) -> RetryPolicy | None:
        """The op's own retry policy; None: the job's, if it has one."""
        return self.demands.retry_policy

    def prepared(self, context: OpExecutionContext | None, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments that the function gets for these inputs: with the op's own defaults, and its config."""
        arguments = {**self.in_defaults, **inputs}
        if self.config is not None:
            self.config.give(context, arguments)
        return arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # what depends on where it is called
        """In a body a handle (handles where it has several outputs); elsewhere what the function returns."""
        if composition.is_composing():
            return composition.invoke(self, args, kwargs)
        return self.call_function(args, kwargs)

    def call_function(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns for these arguments, as in a unit test; a context is made where none is given."""
        names = [name for name, item in self.ins.items() if not item.order_only]
        config = self.config if self.config is not None and self.config.parameter is not None else None
        if config is not None:
            names.insert(config.position, str(config.parameter))
        if self.context_name is None:
            args = args[1:] if args and isinstance(args[0], OpExecutionContext) else args
        elif self.context_name not in kwargs:
            left = sum(name not in kwargs for name in names)
            given = args and (isinstance(args[0], OpExecutionContext) or len(args) > left)  # or a test's own double
            args = args if given else (self._test_context(), *args)
        by_position = names[: max(0, len(args) - (self.context_name is not None))]
        kwargs = {name: value for name, value in kwargs.items() if name in names or name not in self.ins}
        for name, value in self.in_defaults.items():
            if name not in by_position:
                kwargs.setdefault(name, value)
        if config is not None and config.parameter not in by_position:
            context = args[0] if self.context_name is not None and args else kwargs.get(self.context_name or "")
            given = isinstance(context, OpExecutionContext) and context.has_op_config
            if config.parameter in kwargs or given or not config.has_default:
                value = kwargs.get(str(config.parameter), context.op_config if given else {})  # type: ignore[union-attr]
                kwargs[str(config.parameter)] = config.for_call(value)
        return self.fn(*args, **kwargs)

    def _test_context(self) -> OpExecutionContext:
        if self.context_class is AssetExecutionContext:
            return build_asset_context(asset_key=self.name, tags=self.tags)
        return build_op_context(step_key=self.name, op_name=self.name, tags=self.tags)

    def __repr__(self) -> str:
        return f"<op {self.name!r}>"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        reference = reference_of(self, self.fn)
        if reference is not None:
            return resolve_reference, reference
        return rebuild, (type(self), {name: getattr(self, name) for name in OpDefinition.__slots__})


@overload
def op(compute_fn: Callable[..., Any], /) -> OpDefinition: ...
@overload
def op(
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, object] | None = None,
    priority: int | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout: float | str | None = None,
    pool: str | None = None,
    pool_slots: int | None = None,
    pools: Mapping[str, int] | None = None,
    concurrency_group: str | None = None,
    config_schema: Any = None,
) -> Callable[[Callable[..., Any]], OpDefinition]: ...
def op(
    compute_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    ins: Mapping[str, In] | None = None,
    out: Out | Mapping[str, Out] | None = None,
    tags: Mapping[str, object] | None = None,
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
    """An op made of the decorated function: a unit of work with named inputs and outputs, used in jobs and graphs.

    Args:
        compute_fn: the function, when the decorator stands without parentheses.
        name: of the op; the function's name without it.
        description: for people; the docstring's first paragraph without it.
        ins: ``In`` by name, for defaults and order-only inputs; other parameters need no mention.
        out: ``Out()``, or several by name; one output called ``result`` without it.
        tags: of the steps made of it; text, other values become JSON text.
        priority: whole number; of the steps that could start, the highest starts first. 0 without it.
        retry_policy: when a failed attempt is tried again.
        timeout: seconds an attempt may take, or text such as "90s", "5m", "1h30m".
        pool: name of the pool that a step takes slots of; ``concurrency_group`` is an older name for it.
        pool_slots: how many slots of ``pool`` it takes; 1 without it.
        pools: slots by pool name, for several pools at once.
        concurrency_group: the same as ``pool``.
        config_schema: what config it takes, for ``context.op_config`` or a parameter called ``config``: a dict of names
            and types, a type, or a class. A parameter annotated with a class of ``Config`` needs no mention.

    Raises:
        DefinitionError: the function and the arguments do not fit; the text says what to change.
    """
    refuse_misplaced(op, _misplaced, takes_executor=False)

    def decorate(fn: Callable[..., Any]) -> OpDefinition:
        called = own_name("an op", fn, name)
        owner = f"op {called!r}"
        demands = make_demands(
            owner,
            tags=normalized_tags(owner, tags),
            priority=priority,
            timeout=timeout,
            retry_policy=retry_policy,
            pool=pool,
            pool_slots=pool_slots,
            pools=pools,
            concurrency_group=concurrency_group,
        )
        return OpDefinition(
            fn,
            name=called,
            owner=owner,
            demands=demands,
            description=description,
            ins=ins,
            out=out,
            config_schema=config_schema,
        )

    return decorate if compute_fn is None else decorate(compute_fn)


def first_paragraph(fn: Callable[..., Any]) -> str | None:
    """The first paragraph of a function's docstring, on one line."""
    text = getattr(fn, "__doc__", None)
    return " ".join(text.strip().split("\n\n")[0].split()) if isinstance(text, str) and text.strip() else None
