"""What happens while the body of a job or graph runs: calls of ops become nodes, and what they return are handles.

A body runs once, where it is defined. It computes nothing; it only says which output goes to which input. Each call
costs the same however large the graph is.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Protocol

from executor.authoring.demands import Demands
from executor.authoring.names import check_name
from executor.authoring.retry import RetryPolicy
from executor.authoring.tags import normalized_tags
from executor.errors import DefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from executor.authoring.ports import In, Out


class Definition(Protocol):
    """What can stand as a node in a graph: an op or another graph."""

    kind: ClassVar[str]  #: ``op`` or ``graph``, for messages
    name: str
    ins: dict[str, In]
    outs: dict[str, Out]

    def has_default(self, input_name: str) -> bool:
        """Whether that input may stay unconnected."""

    @property
    def required_inputs(self) -> list[str]:
        """Names of the inputs that must be connected."""


class Handle:
    """Stands for a value that will exist when the job runs. It can be passed to ops, and nothing else."""

    __slots__ = ("body",)

    body: Body  #: of the graph in which the handle has a meaning

    def __bool__(self) -> bool:
        raise DefinitionError(self._misuse("tested"))

    def __iter__(self) -> NoReturn:
        raise DefinitionError(self._misuse("looped over or unpacked"))

    def _misuse(self, what: str) -> str:
        return (
            f"{self!r} cannot be {what}: the body of {self.body.owner} only connects ops, and values exist when it runs"
            f"; do that inside an op"
        )


class OutputHandle(Handle):
    """One output of one node."""

    __slots__ = ("node", "order_only", "output")

    def __init__(self, body: Body, node: str, output: str, order_only: bool) -> None:
        self.body, self.node, self.output, self.order_only = body, node, output, order_only

    def __repr__(self) -> str:
        return f"output {self.output!r} of {self.node!r}"


class InputHandle(Handle):
    """One input of the graph whose body is running."""

    __slots__ = ("name",)

    def __init__(self, body: Body, name: str) -> None:
        self.body, self.name = body, name

    def __repr__(self) -> str:
        return f"input {self.name!r} of {self.body.owner}"


class OutputHandles:
    """The outputs of a node that has several: by attribute, by name or position in brackets, or unpacked in order."""

    __slots__ = ("_by_name", "_node")

    def __init__(self, node: str, by_name: dict[str, OutputHandle]) -> None:
        self._node, self._by_name = node, by_name

    def __getattr__(self, name: str) -> OutputHandle:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: str | int) -> OutputHandle:
        if isinstance(key, int):
            return tuple(self._by_name.values())[key]
        if key not in self._by_name:
            known = ", ".join(self._by_name)
            raise DefinitionError(
                f"{self._node!r} has no output {key!r}{did_you_mean(key, self._by_name)} (it has: {known})"
            )
        return self._by_name[key]

    def __iter__(self) -> Iterator[OutputHandle]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"outputs {', '.join(self._by_name)} of {self._node!r}"


Wire = OutputHandle | InputHandle | tuple[OutputHandle | InputHandle, ...]


class Node(NamedTuple):
    """One use of an op or graph: what it is, and where its inputs come from. A tuple of handles is a fan-in."""

    name: str
    definition: Any  #: a ``Definition``
    wires: Mapping[str, Wire]
    tags: Mapping[str, str]
    retry_policy: RetryPolicy | None


class Body:
    """The nodes of a graph while its body runs, in the order of the calls."""

    __slots__ = ("_counts", "_definitions", "nodes", "owner")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.nodes: dict[str, Node] = {}
        self._counts: dict[str, int] = {}
        self._definitions: dict[str, Definition] = {}

    def free_name(self, definition: Definition, alias: str | None) -> str:
        """The name of the next use of ``definition``: its alias, or its own name, then with ``_2``, ``_3`` added."""
        if alias is not None:
            if alias in self.nodes:
                raise DefinitionError(f"{self.owner}: two ops are called {alias!r}; give each alias once")
            return alias
        name = definition.name
        if self._definitions.setdefault(name, definition) is not definition:
            raise DefinitionError(
                f"{self.owner}: two different ops are called {name!r}; "
                f"give one of them another name=, or use it as .alias({name + '_other'!r})"
            )
        count = self._counts.get(name, 0) + 1
        while (free := name if count == 1 else f"{name}_{count}") in self.nodes:
            count += 1
        self._counts[name] = count
        return free


_running: ContextVar[Body | None] = ContextVar("executor_body", default=None)


def is_composing() -> bool:
    """Whether the body of a job or graph is running, so that a call of an op means a use of it."""
    return _running.get() is not None


def compose(owner: str, fn: Callable[..., object], inputs: tuple[str, ...]) -> tuple[Body, object]:
    """The nodes that the body ``fn`` makes, and what it returns; each input is passed as a handle."""
    body = Body(owner)
    token = _running.set(body)
    try:
        returned = fn(**{name: InputHandle(body, name) for name in inputs})
    finally:
        _running.reset(token)
    return body, returned


def invoke(
    definition: Definition, args: tuple[object, ...], kwargs: Mapping[str, object], use: Use | None = None
) -> OutputHandle | OutputHandles | None:
    """Add a use of ``definition`` to the body that is running, and give the handles of its outputs.

    Raises:
        DefinitionError: an argument fits no input, or an input that needs one has none.
    """
    body = _running.get()
    if body is None:
        raise DefinitionError(
            f"{definition.kind} {definition.name!r} can be used like this only in the body of a job or graph"
        )
    name = body.free_name(definition, use.name if use else None)
    who = f"{body.owner}: {definition.kind} {name!r}"
    wires = _wires(who, body, definition, args, kwargs)
    tags, retry_policy = (use.tags, use.retry_policy) if use else ({}, None)
    body.nodes[name] = Node(name, definition, wires, tags, retry_policy)
    handles = {output: OutputHandle(body, name, output, out.order_only) for output, out in definition.outs.items()}
    if len(handles) == 1:
        return next(iter(handles.values()))
    return OutputHandles(name, handles) if handles else None


def _wires(
    who: str, body: Body, definition: Definition, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> dict[str, Wire]:
    ins = definition.ins
    if len(args) > len(ins):
        raise DefinitionError(f"{who} takes {len(ins)} inputs ({', '.join(ins) or 'none'}), but was given {len(args)}")
    given = dict(zip(ins, args, strict=False))
    for name, value in kwargs.items():
        if name not in ins:
            known = ", ".join(ins) or "none"
            raise DefinitionError(f"{who} has no input {name!r}{did_you_mean(name, ins)} (its inputs: {known})")
        if name in given:
            raise DefinitionError(f"{who}: input {name!r} is given twice, by position and by name")
        given[name] = value
    if len(given) < len(ins):
        for name in ins:
            if name not in given and not definition.has_default(name):
                raise DefinitionError(
                    f"{who}: input {name!r} is not connected and has no default; "
                    f"pass the result of another op, or declare In(default_value=…)"
                )
    return {name: _wire(f"{who}: input {name!r}", body, ins[name], value) for name, value in given.items()}


def _wire(where: str, body: Body, declared: In, value: object) -> Wire:
    if isinstance(value, list | tuple):
        return tuple(_source(where, body, declared, item) for item in value)
    return _source(where, body, declared, value)


def _source(where: str, body: Body, declared: In, value: object) -> OutputHandle | InputHandle:
    if not isinstance(value, OutputHandle | InputHandle):
        if isinstance(value, OutputHandles):
            raise DefinitionError(
                f"{where} takes one output, but was given all {value!r}; pick one, such as .{next(iter(value)).output}"
            )
        raise DefinitionError(
            f"{where} was given {value!r}, which is not the result of an op; "
            f"for a constant declare In(default_value=…) or return it from an op"
        )
    if value.body is not body:
        raise DefinitionError(
            f"{where} was given {value!r}, which belongs to {value.body.owner}; pass it in as an input of the graph"
        )
    if isinstance(value, OutputHandle) and value.order_only and not declared.order_only:
        raise DefinitionError(
            f"{where} takes a value, but {value!r} is declared Nothing and has none; "
            f"declare the input as In(Nothing), or the output as Out()"
        )
    return value


@dataclass(frozen=True, slots=True)
class Use:
    """An op or graph with a name, tags or a retry policy of its own; call it in a body to use it there."""

    definition: Any  #: a ``Definition``
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    retry_policy: RetryPolicy | None = None

    def alias(self, name: str) -> Use:
        """The same use, called ``name``."""
        return Use(self.definition, check_name("an op", name), self.tags, self.retry_policy)

    def tag(self, tags: Mapping[str, object]) -> Use:
        """The same use with further tags on its steps; they win over those of the op."""
        owner = f"{self.definition.kind} {self.definition.name!r}"
        more = normalized_tags(owner, tags)
        demands: Demands = getattr(self.definition, "demands", None) or Demands()  # a graph has none of its own
        demands.used(owner, tags=more, outer_tags={}, retry_policy=None)  # raises for what would not fit later
        return Use(self.definition, self.name, {**self.tags, **more}, self.retry_policy)

    def with_retry_policy(self, retry_policy: RetryPolicy) -> Use:
        """The same use with a retry policy of its own; it wins over that of the op."""
        if not isinstance(retry_policy, RetryPolicy):
            raise DefinitionError(
                f"with_retry_policy was given {retry_policy!r}; give RetryPolicy(max_retries=2, delay=1.0)"
            )
        return Use(self.definition, self.name, self.tags, retry_policy)

    @property
    def selection_names(self) -> tuple[str, ...]:
        """What a selection of this object selects."""
        return (self.name or self.definition.name,)

    def __call__(self, *args: object, **kwargs: object) -> Any:  # what depends on the number of outputs
        """A handle of its output, handles where it has several, or None without outputs."""
        return invoke(self.definition, args, kwargs, self)


class Invocable:
    """The base of what can be used in a body: uses with another name, further tags, or a retry policy."""

    __slots__ = ()

    def alias(self, name: str) -> Use:
        """A use of it called ``name``: ``add.alias("add_twice")(x)``."""
        return Use(self).alias(name)

    def tag(self, tags: Mapping[str, object]) -> Use:
        """A use of it with further tags, which win over its own."""
        return Use(self).tag(tags)

    def with_retry_policy(self, retry_policy: RetryPolicy) -> Use:
        """A use of it with a retry policy, which wins over its own."""
        return Use(self).with_retry_policy(retry_policy)
