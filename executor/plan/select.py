"""A part of a plan: the steps that a selection means, as a smaller plan. Pure."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from executor.authoring.assets import AssetsDefinition
from executor.authoring.composition import Use
from executor.authoring.ops import OpDefinition
from executor.authoring.selection import Selection, selected
from executor.errors import UsageError
from executor.plan.plan import Plan, Source, Step, StepInput, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

# More names than these in a message help nobody; "*name" says the same.
SHOWN = 8


def select_steps(plan: Plan, selection: Selection) -> Plan:
    """The plan of the selected steps only. What they merely wait for may be left out; what they read may not.

    A selection is the key of a step, of an asset or of a graph (all its steps), ``"*"``, ``"+key"``, ``"key+"``,
    ``"*key"``, ``"key*"``, several with commas, an op or asset itself, or a list of these.

    Raises:
        UsageError: a name is unknown, or a selected step reads a step that is not; the text says which to add.
    """
    return part_of(plan, select_indexes(plan, selection))


def select_indexes(plan: Plan, selection: Selection) -> list[int]:
    """The indexes of the steps that a selection means, ascending.

    Raises:
        UsageError: a name is unknown.
    """
    return sorted(
        selected(
            selection,
            count=len(plan),
            names=_names(plan),
            upstream=plan.upstream,
            downstream=plan.downstream,
            what="step",
            find=lambda item: _steps_of(plan, item),
        )
    )


def part_of(plan: Plan, chosen: Sequence[int]) -> Plan:
    """The plan of these steps only, given by their indexes in ascending order.

    Raises:
        UsageError: one of them reads a step that is not among them; the text says which to add.
    """
    if len(chosen) == len(plan):
        return plan
    new_index = {old: new for new, old in enumerate(chosen)}
    steps = [_moved(plan, plan.steps[old], new, new_index) for old, new in new_index.items()]
    return make_plan(plan.job_name, tuple(steps))


def _names(plan: Plan) -> dict[str, list[int]]:
    """What can be named: steps by key, graphs by what stands before a dot, assets by their keys."""
    names: dict[str, list[int]] = {}
    for step in plan.steps:
        key = step.key
        own = {key, *(output.asset for output in step.outputs if output.asset)}
        while "." in key:
            key = key.rpartition(".")[0]
            own.add(key)
        for name in own:
            names.setdefault(name, []).append(step.index)
    return names


def _steps_of(plan: Plan, item: object) -> Sequence[int] | None:
    """The steps of an op, or of a whole asset; None for objects that are selected by name."""
    if isinstance(item, OpDefinition):
        return [step.index for step in plan.steps if step.compute is item] or None
    if isinstance(item, AssetsDefinition) and item.op is not None:
        return [step.index for step in plan.steps if step.compute is item.op] or None
    if isinstance(item, Use) and item.name is None:
        return _steps_of(plan, item.definition)
    return None


def _moved(plan: Plan, step: Step, index: int, new_index: dict[int, int]) -> Step:
    """``step`` at its new place, its inputs pointing to the new places of what it reads."""
    inputs: list[StepInput] = []
    for item in step.inputs:
        kept = tuple(Source(new_index[s.step], s.output) for s in item.sources if s.step in new_index)
        if len(kept) < len(item.sources) and not item.order_only:
            if not kept and isinstance(step.compute, OpDefinition) and step.compute.has_default(item.name):
                continue
            raise UsageError(_missing(plan, step, item, new_index))
        if kept or not item.order_only:
            inputs.append(dataclasses.replace(item, sources=kept))
    return dataclasses.replace(step, index=index, inputs=tuple(inputs))


def _missing(plan: Plan, step: Step, item: StepInput, new_index: dict[int, int]) -> str:
    """What to say of an input whose source is not selected: which steps to add so that nothing is missing."""
    first = next(source for source in item.sources if source.step not in new_index)
    needed: set[int] = set()
    queue = list(new_index)
    while queue:
        for read in plan.steps[queue.pop()].inputs:
            for source in () if read.order_only else read.sources:
                if source.step not in new_index and source.step not in needed:
                    needed.add(source.step)
                    queue.append(source.step)
    names = [plan.steps[index].key for index in sorted(needed)]
    add = ", ".join(map(repr, names)) if len(names) <= SHOWN else f"{len(names)} steps: '*{step.key}' selects them"
    return (
        f"step {step.key!r} reads its input {item.name!r} from step {plan.steps[first.step].key!r}, which is not "
        f"selected (executor resume RUN --only STEP reads values of an earlier run); select too: {add}"
    )
