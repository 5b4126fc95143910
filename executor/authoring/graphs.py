"""``@graph``: ops connected to each other, usable as one node in jobs and other graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Never, overload

from executor.authoring import composition
from executor.authoring.composition import InputHandle, Node, OutputHandle, OutputHandles
from executor.authoring.misplaced import refuse_misplaced
from executor.authoring.names import check_name
from executor.authoring.ops import first_paragraph
from executor.authoring.ports import DEFAULT_OUTPUT, GraphOut, In, Nothing, Out
from executor.authoring.signature import own_name, read_signature
from executor.errors import DefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from executor.authoring.executors import ExecutorDefinition
    from executor.authoring.jobs import JobDefinition
    from executor.authoring.retry import RetryPolicy
    from executor.authoring.run_config import RunConfig


class GraphDefinition(composition.Invocable):
    """What ``@graph`` makes of a body: its nodes in the order of the calls, its inputs, and its outputs."""

    kind: ClassVar[str] = "graph"
    name: str
    description: str | None
    nodes: Mapping[str, Node]
    ins: dict[str, In]  #: order-only where all that reads the input is
    outs: dict[str, Out]  #: as the ops inside declare them
    outputs: Mapping[str, OutputHandle]  #: which output inside each output of the graph is

    def __init__(
        self,
        fn: Callable[..., object],
        *,
        name: str,
        owner: str,
        description: str | None = None,
        out: GraphOut | Mapping[str, GraphOut] | None = None,
        is_job: bool = False,
    ) -> None:
        """Runs the body. ``is_job``: what it returns is of no use. ``owner`` is for messages.

        Raises:
            DefinitionError: the body does not fit.
        """
        self.name = name
        signature = read_signature(owner, fn, contexts=False)
        if signature.defaults or signature.takes_any:
            what = next(iter(signature.defaults), "**kwargs")
            raise DefinitionError(
                f"{owner}: {what!r} in its body has a default or no name; set defaults on the ops inside"
            )
        self.fn, self.owner = fn, owner
        self.description = description or first_paragraph(fn)
        body, returned = composition.compose(owner, fn, signature.inputs)
        self.nodes = body.nodes
        self.outputs = {} if is_job else _outputs(owner, body, returned, out)
        self.outs = {name: self._out(handle) for name, handle in self.outputs.items()}
        uses = self._input_uses(signature.inputs)
        self.ins = {name: In(Nothing) if all(u[2] for u in found) else In() for name, found in uses.items()}
        self._optional = {name for name, found in uses.items() if all(u[0].has_default(u[1]) for u in found)}

    def _out(self, handle: OutputHandle) -> Out:
        out: Out = self.nodes[handle.node].definition.outs[handle.output]
        return out

    def _input_uses(self, names: tuple[str, ...]) -> dict[str, list[tuple[Any, str, bool]]]:
        """Of each input of the graph: who inside reads it (definition, input name, order-only)."""
        uses: dict[str, list[tuple[Any, str, bool]]] = {name: [] for name in names}
        if not names:
            return uses
        for node in self.nodes.values():
            for input_name, wire in node.wires.items():
                for handle in wire if isinstance(wire, tuple) else (wire,):
                    if isinstance(handle, InputHandle):
                        order_only = node.definition.ins[input_name].order_only
                        uses[handle.name].append((node.definition, input_name, order_only))
        return uses

    def has_default(self, input_name: str) -> bool:
        """Whether the graph can run without that input being connected: all that reads it inside can."""
        return input_name in self._optional

    @property
    def required_inputs(self) -> list[str]:
        """Names of the inputs that must be connected."""
        return [name for name in self.ins if name not in self._optional]

    @property
    def selection_names(self) -> tuple[str, ...]:
        """What a selection of this object selects: all ops inside it."""
        return (self.name,)

    def __call__(self, *args: object, **kwargs: object) -> Any:  # what depends on the number of outputs
        """A handle of its output, handles where it has several, or None without outputs; in a body only."""
        return composition.invoke(self, args, kwargs)

    def to_job(
        self,
        name: str | None = None,
        *,
        description: str | None = None,
        config: Mapping[str, Any] | RunConfig | None = None,
        tags: Mapping[str, object] | None = None,
        run_tags: Mapping[str, object] | None = None,
        executor_def: ExecutorDefinition | None = None,
        op_retry_policy: RetryPolicy | None = None,
        **_misplaced: Never,
    ) -> JobDefinition:
        """A job that runs this graph; the arguments are those of ``@job``.

        Raises:
            DefinitionError: an input of the graph would have no value, or an argument does not fit.
        """
        refuse_misplaced(self.to_job, _misplaced, takes_executor=True)
        from executor.authoring.jobs import JobDefinition  # which builds on graphs

        return JobDefinition(
            name=name or self.name,
            body=self,
            description=description or self.description,
            config=config,
            tags=tags,
            run_tags=run_tags,
            executor_def=executor_def,
            op_retry_policy=op_retry_policy,
        )

    def execute_in_process(self, run_config: Mapping[str, Any] | RunConfig | None = None, **options: Any) -> Any:
        """The result of running the graph as a job in this process; the arguments are those of the job's method."""
        return self.to_job().execute_in_process(run_config, **options)

    def __repr__(self) -> str:
        return f"<graph {self.name!r}>"


def _outputs(owner: str, body: composition.Body, returned: object, out: object) -> dict[str, OutputHandle]:
    """What the body returned, by output name."""
    names = _declared(owner, out)
    if returned is None:
        found: dict[str, object] = {}
    elif isinstance(returned, OutputHandle):
        found = {(names or [DEFAULT_OUTPUT])[0]: returned}
    elif isinstance(returned, dict):
        found = {check_name(f"an output of {owner}", name): handle for name, handle in returned.items()}
    elif isinstance(returned, tuple | OutputHandles) and names is not None and len(returned) == len(names):
        found = dict(zip(names, returned, strict=True))
    elif isinstance(returned, OutputHandles) and names is None:
        found = {handle.output: handle for handle in returned}
    else:
        raise DefinitionError(
            f"{owner}: its body returned {returned!r}; return the result of an op, or several by name: "
            f"return {{'rows': rows, 'count': count}}"
        )
    for name in names or ():
        if name not in found:
            raise DefinitionError(
                f"{owner}: its body does not return the output {name!r} that out= declares; return it by name"
            )
    outputs: dict[str, OutputHandle] = {}
    for name, handle in found.items():
        if names is not None and name not in names:
            raise DefinitionError(
                f"{owner}: its body returns {name!r}, which out= does not declare{did_you_mean(name, names)}"
            )
        if not isinstance(handle, OutputHandle) or handle.body is not body:
            raise DefinitionError(
                f"{owner}: output {name!r} is {handle!r}, not the output of an op used in its body; return one"
            )
        outputs[name] = handle
    return outputs


def _declared(owner: str, out: object) -> list[str] | None:
    if out is None:
        return None
    if isinstance(out, GraphOut | Out):
        return [DEFAULT_OUTPUT]
    if isinstance(out, dict) and all(isinstance(item, GraphOut | Out) for item in out.values()):
        return [check_name(f"an output of {owner}", name) for name in out]
    raise DefinitionError(f"{owner}: out is {out!r}; give GraphOut(), or several by name: out={{'rows': GraphOut()}}")


@overload
def graph(compose_fn: Callable[..., Any], /) -> GraphDefinition: ...
@overload
def graph(
    *, name: str | None = None, description: str | None = None, out: GraphOut | Mapping[str, GraphOut] | None = None
) -> Callable[[Callable[..., Any]], GraphDefinition]: ...
def graph(
    compose_fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    out: GraphOut | Mapping[str, GraphOut] | None = None,
    **_misplaced: Any,
) -> Any:  # the overloads say what
    """A graph made of the decorated body, which calls ops and other graphs and returns their results.

    The body runs once, here. Its parameters are the inputs of the graph; what it returns (one result, or several in a
    dict) are the outputs. Inside a job its ops have keys such as ``graph.op``.

    Args:
        compose_fn: the body, when the decorator stands without parentheses.
        name: of the graph; the function's name without it.
        description: for people; the docstring's first paragraph without it.
        out: ``GraphOut()``, or several by name; needed only to name the parts of a returned tuple.

    Raises:
        DefinitionError: an input is unknown or not connected, two ops have one name, or the result fits no output.
    """
    if "tags" in _misplaced:
        raise DefinitionError(
            "graph: there is no argument 'tags'; tag its ops, or one use of the graph in a body: my_graph.tag({...})()"
        )
    refuse_misplaced(graph, _misplaced)

    def decorate(fn: Callable[..., Any]) -> GraphDefinition:
        called = own_name("a graph", fn, name)
        return GraphDefinition(fn, name=called, owner=f"graph {called!r}", description=description, out=out)

    return decorate if compose_fn is None else decorate(compose_fn)
