"""What will run: a frozen graph of steps, indexed both ways. Pure data; knows no process, clock or file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.authoring.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Source:
    """One output of one step, as something that another step reads or waits for."""

    step: int  #: index of the step in the plan
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInput:
    """An input of a step that other steps fill. Inputs left to their default are not listed."""

    name: str
    sources: tuple[Source, ...]
    fan_in: bool = False  #: the step gets a list, one value per source that was produced
    order_only: bool = False  #: nothing is passed; the step just runs later


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """An output that a step declares."""

    name: str
    required: bool = True  #: not required: a step may leave it out, and what reads it is skipped
    order_only: bool = False  #: declared as ``Nothing``: no value is kept
    asset: str | None = None  #: key of the asset that this output is the value of; None for plain ops


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node of the plan: one op of the job, with everything that decides when and how it runs."""

    index: int  #: position in ``Plan.steps``, which is a topological order
    key: str  #: unique name in the plan; ``graph.op`` for an op inside a graph
    compute: object  #: what a worker runs; opaque here (see ``authoring/compute.py``)
    inputs: tuple[StepInput, ...] = ()
    outputs: tuple[StepOutput, ...] = (StepOutput(name="result"),)
    tags: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0  #: higher first
    retry: RetryPolicy | None = None  #: None: a failure is final
    timeout_s: float | None = None  #: seconds an attempt may take; None: no bound
    pools: Mapping[str, int] = field(default_factory=dict)  #: slots wanted of each pool that runs share
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one run, in topological order, with the edges both ways.

    ``upstream[i]`` and ``downstream[i]`` are the distinct indexes of the steps that step i waits for, and that
    wait for it, ascending.
    """

    job_name: str
    steps: tuple[Step, ...]
    upstream: tuple[tuple[int, ...], ...]
    downstream: tuple[tuple[int, ...], ...]
    index_of: Mapping[str, int]  #: step key -> index

    def __len__(self) -> int:
        return len(self.steps)

    def step(self, key: str) -> Step:
        """The step of that key. Raises ``KeyError`` where there is none."""
        return self.steps[self.index_of[key]]


def make_plan(job_name: str, steps: tuple[Step, ...]) -> Plan:
    """A plan of these steps, which must come in topological order with ``index`` as their position. O(steps + edges).

    Raises:
        ValueError: a key stands twice, an index is not the position, or a step reads from itself or a later one.
    """
    index_of: dict[str, int] = {}
    upstream: list[tuple[int, ...]] = []
    downstream: list[list[int]] = [[] for _ in steps]
    for position, step in enumerate(steps):
        if step.index != position:
            raise ValueError(f"step {step.key!r} has index {step.index} at position {position}")
        if index_of.setdefault(step.key, position) != position:
            raise ValueError(f"two steps have the key {step.key!r}")
        above = sorted({source.step for item in step.inputs for source in item.sources})
        if above and (above[-1] >= position or above[0] < 0):
            raise ValueError(f"step {step.key!r} reads from a step that is not before it")
        for index in above:
            downstream[index].append(position)
        upstream.append(tuple(above))
    return Plan(
        job_name=job_name,
        steps=steps,
        upstream=tuple(upstream),
        downstream=tuple(map(tuple, downstream)),
        index_of=index_of,
    )
