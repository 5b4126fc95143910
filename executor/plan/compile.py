"""From a job to its plan: graphs in graphs become one flat graph of steps, each with all that decides how it runs.

Pure. The cost is proportional to steps and edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.authoring.asset_graph import AssetGraph
from executor.authoring.composition import InputHandle, Node, OutputHandle, Wire
from executor.authoring.ops import OpDefinition
from executor.errors import DefinitionError
from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan
from executor.plan.select import select_steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.authoring.graphs import GraphDefinition
    from executor.authoring.jobs import JobDefinition
    from executor.authoring.names import AssetKey
    from executor.authoring.retry import RetryPolicy
    from executor.authoring.selection import Selection

#: Where the value of an input or output inside a graph comes from, and whether as a list.
Found = tuple[tuple[Source, ...], bool]

NO_TAGS: Mapping[str, str] = {}


def compile_job(job: JobDefinition, *, selection: Selection = None) -> Plan:
    """The plan of ``job``, or of the selected steps of it: topological, in the order of definition otherwise.

    Raises:
        DefinitionError: the job cannot be run as it is defined.
        UsageError: the selection names what is not there, or leaves out what a selected step reads.
    """
    body = job.body
    steps = _Steps(job.op_retry_policy)
    if isinstance(body, AssetGraph):
        steps.add_assets(body)
    else:
        steps.add_graph(body, Around())
    plan = make_plan(job.name, tuple(steps.made))
    return plan if selection is None else select_steps(plan, selection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What surrounds a graph where it is used, and so holds for everything in it."""

    prefix: str = ""  #: goes before the keys of its steps
    inputs: Mapping[str, Found] = field(default_factory=dict)  #: sources of its connected inputs
    tags: Mapping[str, str] = field(default_factory=dict)  #: of all its steps; their own win
    retry: RetryPolicy | None = None  #: of its ops that have none
    assets: Mapping[str, AssetKey] = field(default_factory=dict)  #: its outputs that are the value of an asset


class _Level:
    """A graph whose steps are being made, inside those around it."""

    __slots__ = ("around", "graph", "name", "nodes", "scope")

    def __init__(self, graph: GraphDefinition, around: Around, name: str = "") -> None:
        self.graph, self.around = graph, around
        self.name = name  #: of the node that it is in the graph around it
        self.nodes = iter(graph.nodes.values())  #: that have no steps yet
        self.scope: dict[tuple[str, str], Found] = {}  #: sources of the outputs of those that have, by node and output

    def inputs_of(self, node: Node) -> dict[str, Found]:
        """The sources of the inputs of a node, as far as they are connected."""
        inputs: dict[str, Found] = {}
        for name, wire in node.wires.items():
            found = _found(f"{self.around.prefix}{node.name}", name, wire, self.scope, self.around.inputs)
            if found is not None:
                inputs[name] = found
        return inputs

    def assets_of(self, node: Node) -> dict[str, AssetKey]:
        """The outputs of a node that are the value of an asset."""
        handles = self.graph.outputs
        return {
            handles[output].output: key
            for output, key in self.around.assets.items()
            if handles[output].node == node.name
        }

    def outputs(self) -> dict[str, Found]:
        """The sources of the outputs of the graph, once all of its nodes have steps."""
        return {output: self.scope[handle.node, handle.output] for output, handle in self.graph.outputs.items()}


class _Steps:
    """The steps made so far. Nodes come after what they read, so each finds its sources already there."""

    def __init__(self, job_retry: RetryPolicy | None) -> None:
        self.made: list[Step] = []
        self._job_retry = job_retry
        self._outputs: dict[int, tuple[StepOutput, ...]] = {}

    def add_graph(self, graph: GraphDefinition, around: Around) -> dict[str, Found]:
        """Add the steps of ``graph``, and of the graphs in it however deep; gives the sources of its outputs."""
        levels = [_Level(graph, around)]
        while True:
            level = levels[-1]
            inner = self._add_nodes(level)
            if inner is not None:
                levels.append(inner)
                continue
            levels.pop()
            if not levels:
                return level.outputs()
            for output, found in level.outputs().items():
                levels[-1].scope[level.name, output] = found

    def _add_nodes(self, level: _Level) -> _Level | None:
        """Add the steps of the nodes that have none, up to the first that is a graph; that one, None at the end."""
        around = level.around
        for node in level.nodes:
            inputs, assets = level.inputs_of(node), level.assets_of(node)
            key = f"{around.prefix}{node.name}"
            if not isinstance(node.definition, OpDefinition):
                inside = Around(
                    prefix=f"{key}.",
                    inputs=inputs,
                    tags={**around.tags, **node.tags},
                    retry=node.retry_policy or around.retry,
                    assets=assets,
                )
                return _Level(node.definition, inside, node.name)
            index = self.add_op(
                node.definition, key, _step_inputs(node.definition, inputs), around=around, node=node, assets=assets
            )
            for output in node.definition.outs:
                level.scope[node.name, output] = ((Source(index, output),), False)
        return None

    def add_assets(self, graph: AssetGraph) -> None:
        """Add the steps that make these assets."""
        source_of: dict[AssetKey, Source] = {}
        for asset, reads, waits in zip(graph.assets, graph.reads, graph.waits, strict=True):
            inputs: dict[str, Found] = {name: ((source_of[key],), False) for name, key in reads.items()}
            if isinstance(asset.node, OpDefinition):
                read = set(reads.values())
                waiting = tuple(
                    StepInput(name=str(key), sources=(source_of[key],), order_only=True)
                    for key in waits
                    if key not in read
                )
                step_inputs = (*_step_inputs(asset.node, inputs), *waiting)
                index = self.add_op(
                    asset.node, asset.step_key, step_inputs, around=Around(), node=None, assets=asset.key_of
                )
                for output, key in asset.key_of.items():
                    source_of[key] = Source(index, output)
            else:
                around = Around(prefix=f"{asset.step_key}.", inputs=inputs, tags=asset.tags, assets=asset.key_of)
                for output, ((source,), _) in self.add_graph(asset.node, around).items():
                    source_of[asset.key_of[output]] = source

    def add_op(
        self,
        op: OpDefinition,
        key: str,
        inputs: tuple[StepInput, ...],
        *,
        around: Around,
        node: Node | None,
        assets: Mapping[str, AssetKey],
    ) -> int:
        """Add the step of one use of ``op``; gives its index. ``node`` is that use, None for an asset.

        ``assets`` are its outputs that are the value of an asset.
        """
        demands = op.demands.used(
            f"step {key!r}",
            tags=node.tags if node else NO_TAGS,
            outer_tags=around.tags,
            retry_policy=node.retry_policy if node else None,
        )
        index = len(self.made)
        self.made.append(
            Step(
                index=index,
                key=str(key),  # plain text, not an AssetKey: it crosses pipes and stands in files
                compute=op,
                inputs=inputs,
                outputs=_step_outputs(op, assets) if assets else self._plain_outputs(op),
                tags=demands.tags,
                priority=demands.priority or 0,
                retry=demands.retry_policy or around.retry or self._job_retry,
                timeout_s=demands.timeout_s,
                pools=demands.pools,
                description=op.description,
            )
        )
        return index

    def _plain_outputs(self, op: OpDefinition) -> tuple[StepOutput, ...]:
        """The outputs of an op that makes no asset; one tuple for all of its steps."""
        made = self._outputs.get(id(op))
        if made is None:
            made = self._outputs[id(op)] = _step_outputs(op, {})
        return made


def _found(
    key: str, input_name: str, wire: Wire, scope: Mapping[tuple[str, str], Found], inputs: Mapping[str, Found]
) -> Found | None:
    """Where an input's value comes from; None for an input of the graph around it that is not connected."""
    if isinstance(wire, OutputHandle):
        return scope[wire.node, wire.output]
    if isinstance(wire, InputHandle):
        return inputs.get(wire.name)
    sources: list[Source] = []
    for item in wire:
        found = _found(key, input_name, item, scope, inputs)
        if found is None:
            continue
        if found[1]:
            raise DefinitionError(
                f"step {key!r}: its input {input_name!r} is a list that holds {item!r}, which is a list itself; "
                f"pass that list alone, or join the two in an op"
            )
        sources += found[0]
    return tuple(sources), True


def _step_inputs(op: OpDefinition, inputs: Mapping[str, Found]) -> tuple[StepInput, ...]:
    ins = op.ins
    return tuple(
        StepInput(name=str(name), sources=sources, fan_in=fan_in, order_only=ins[name].order_only)
        for name, (sources, fan_in) in inputs.items()
        if sources or not ins[name].order_only
    )


def _step_outputs(op: OpDefinition, assets: Mapping[str, AssetKey]) -> tuple[StepOutput, ...]:
    return tuple(
        StepOutput(
            name=str(name),
            required=out.is_required,
            order_only=out.order_only,
            asset=str(assets[name]) if name in assets else None,
        )
        for name, out in op.outs.items()
    )
