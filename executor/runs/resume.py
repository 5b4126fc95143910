"""A run that goes on from an earlier one: which steps run again, and which are taken over with the values they made.

What is taken over stays below nothing that runs again, so that no value was made from an older one. A step whose value
is gone, and read by one that runs, runs as well. Pure, but for the looks at the earlier run's folder.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.ledger.named import run_name
from executor.outputs.values import is_intact
from executor.plan.select import part_of, select_indexes
from executor.runs.home import find_run, held_run
from executor.runs.leftovers import look
from executor.runs.records import PARENT_TAG, ROOT_TAG
from executor.runs.result import read_result
from executor.scheduler.events import RunStarted, StepReused
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from executor.plan.plan import Plan, Step
    from executor.runs.home import RunFolder
    from executor.runs.reexecution import ReexecutionOptions
    from executor.runs.result import RunResult
    from executor.runs.steps import StepResult

NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a run does that goes on from an earlier one."""

    parent: str  #: id of the earlier run
    plan: Plan
    reused: tuple[StepReused, ...]  #: the steps of the plan that are taken over
    runs: tuple[str, ...]  #: the keys of those that run; what is in neither was skipped, and will be again
    notices: tuple[str, ...]  #: what a person should know before it begins
    tags: dict[str, str]  #: of the new run: those of the earlier one, and its name
    partial: bool  #: the new run has only some of the steps of its job


def plan_resume(plan: Plan, home: Path, options: ReexecutionOptions) -> Resumed:
    """What to run of the job whose whole plan this is.

    Raises:
        UsageError: there is no such run, it goes on, never began, or nothing of it is left to run; or the steps that
            are asked for are not there.
    """
    folder = find_run(home, options.parent_run_id)
    old = _read_ended(folder)
    started = old.events[0]
    if not isinstance(started, RunStarted):
        raise UsageError(f"run {folder.run_id} has no first event: its driver died before it began; run it anew")
    chooser = _Chooser(plan, old, partial=started.partial)
    notices = chooser.differences()
    if options.step_selection:
        run = chooser.only(select_indexes(plan, list(options.step_selection)))
        chosen = chooser.around(run)
    elif options.everything:
        run = set(chooser.kept)
        chosen = chooser.kept
    else:
        run = chooser.unfinished()
        chosen = chooser.kept
        if not run:
            raise UsageError(
                f"every step of run {folder.run_id} succeeded, so nothing is left to run; to run a step again and what "
                f"is below it: executor resume {run_name(folder.run_id)} --from STEP"
            )
    notices += chooser.lost_notices(run)
    reused = tuple(chooser.reused(plan.steps[index]) for index in chosen if chooser.is_reused(index, run))
    runs = tuple(plan.steps[index].key for index in chosen if index in run)
    notices.insert(
        0, f"goes on from run {folder.run_id}: {_count(reused)} reused, {_count(runs)} to run: {_some(runs)}"
    )
    tags = dict(started.tags)
    return Resumed(
        parent=folder.run_id,
        plan=part_of(plan, chosen),
        reused=reused,
        runs=runs,
        notices=tuple(notices),
        tags=tags | {PARENT_TAG: folder.run_id, ROOT_TAG: tags.get(ROOT_TAG, folder.run_id)},
        partial=len(chosen) < len(plan),
    )


@contextmanager
def going_on(plan: Plan, home: Path, options: ReexecutionOptions) -> Iterator[Resumed]:
    """What to run, as ``plan_resume`` gives it; until the end of the block nobody removes the earlier run."""
    cut_off = tuple(map(str, look(home)))  # first, or else a run that was cut off would have no last event yet
    folder = find_run(home, options.parent_run_id)
    with held_run(folder):
        resumed = plan_resume(plan, home, replace(options, parent_run_id=folder.run_id))
        yield replace(resumed, notices=(*resumed.notices, *cut_off))


def _read_ended(folder: RunFolder) -> RunResult:
    result = read_result(folder)
    if result.status == "running":
        raise UsageError(
            f"run {folder.run_id} goes on; wait for its end, or end it: executor cancel {run_name(folder.run_id)}"
        )
    return result


class _Chooser:
    """Which steps of a plan run again, judged by what became of them in an earlier run."""

    def __init__(self, plan: Plan, old: RunResult, *, partial: bool) -> None:
        """``partial``: of the earlier run, which then says what belongs to the job."""
        self._plan, self._old_plan, self._folder = plan, old.plan, old.folder
        self._old = old.steps
        #: the steps that the new run may have
        self.kept = [step.index for step in plan.steps if not partial or step.key in self._old_plan.index_of]
        self._kept = set(self.kept)
        if not any(plan.steps[index].key in self._old for index in self.kept):
            raise UsageError(
                f"job {plan.job_name!r} has no step in common with run {old.run_id}, which was of job "
                f"{self._old_plan.job_name!r}; name that job with -j, or its file with -f"
            )
        self._changed = {
            index
            for index in self.kept
            if (key := plan.steps[index].key) in self._old
            and _shape(plan, plan.steps[index]) != _shape(self._old_plan, self._old_plan.step(key))
        }
        self._lost: dict[tuple[int, str], bool] = {}  #: step and output -> whether its value is gone

    def differences(self) -> list[str]:
        """A sentence for each way in which the job differs from what it was."""
        keys = self._plan.index_of
        new = [key for index in self.kept if (key := self._plan.steps[index].key) not in self._old]
        gone = [key for key in self._old if key not in keys]
        changed = [self._plan.steps[index].key for index in sorted(self._changed)]
        found = []
        if new:
            found.append(f"new in the job since then, so to run: {_some(new)}")
        if gone:
            found.append(f"in the job no more, so left out: {_some(gone)}")
        if changed:
            found.append(f"reads or gives something else than then, so to run with what is below: {_some(changed)}")
        return found

    # --- which run ----------------------------------------------------------------------------------------------------

    def unfinished(self) -> set[int]:
        """The steps that failed, were cut off or never ran, those whose values are gone, and what is below them."""
        run: set[int] = set()
        new = self._with_below((index for index in self.kept if not self._is_done(index)), run)
        while new:  # each step is looked at once, however long a chain of values is gone
            run |= new
            new = self._with_below(self._unreadable(new, run), run)
        return run

    def only(self, indexes: Iterable[int]) -> set[int]:
        """These steps, and those whose values they read and that have none."""
        run: set[int] = set()
        new = set(indexes)
        while new:
            run |= new
            new = self._unreadable(new, run)
        return run

    def around(self, run: set[int]) -> list[int]:
        """These steps, and all that can be taken over beside them: what succeeded, and is not below them."""
        stale = self._with_below(run, set())
        chosen: set[int] = set()
        for index in range(len(self._plan)):
            if index in run:
                chosen.add(index)
            elif index not in stale and index in self._kept and self._is_done(index):
                step = self._plan.steps[index]
                if all(s.step in chosen for item in step.inputs if not item.order_only for s in item.sources):
                    chosen.add(index)
        return sorted(chosen)

    def is_reused(self, index: int, run: set[int]) -> bool:
        """Whether a step is taken over: it succeeded, and does not run again."""
        step = self._old.get(self._plan.steps[index].key)
        return index not in run and step is not None and step.success

    def reused(self, step: Step) -> StepReused:
        """The event that says so."""
        old = self._old[step.key]
        outputs = tuple(
            value if value.path is None else value._replace(path=str(self._folder.values / value.path))
            for value in old.outputs
        )
        return StepReused(step.key, old.reused_from or self._folder.run_id, outputs, old.missing)

    def lost_notices(self, run: set[int]) -> list[str]:
        """A sentence where a step that had succeeded runs again because its value is gone."""
        names = [self._plan.steps[index].key for index, output in self._lost if self._lost[index, output]]
        lost = [key for key in dict.fromkeys(names) if self._plan.index_of[key] in run]
        return [f"values that are gone or damaged are made again by {_some(lost)}"] if lost else []

    # --- inside -------------------------------------------------------------------------------------------------------

    def _is_done(self, index: int) -> bool:
        """Whether a step had come to a good end, as far as its own state says."""
        step = self._old.get(self._plan.steps[index].key)
        if step is None or index in self._changed:
            return False
        return step.state in {StepState.SUCCEEDED, StepState.SKIPPED}

    def _with_below(self, indexes: Iterable[int], known: set[int]) -> set[int]:
        """These and all below them, less ``known``, which has all that is below its own."""
        kept = self._kept
        found = {index for index in indexes if index in kept and index not in known}
        queue = list(found)
        while queue:
            for below in self._plan.downstream[queue.pop()]:
                if below not in found and below not in known and below in kept:
                    found.add(below)
                    queue.append(below)
        return found

    def _unreadable(self, new: set[int], run: set[int]) -> set[int]:
        """Steps that are not in ``run``, and whose values are read by ``new`` ones in it, and cannot be had."""
        plan, found = self._plan, set()
        for index in new:
            for item in plan.steps[index].inputs:
                if item.order_only:
                    continue
                for source in item.sources:
                    above = source.step
                    if above not in run and above in self._kept and self._is_lost(above, source.output):
                        found.add(above)
        return found

    def _is_lost(self, index: int, output: str) -> bool:
        if not self._is_done(index):
            return True
        lost = self._lost.get((index, output))
        if lost is None:
            step = self._old[self._plan.steps[index].key]
            lost = self._lost[index, output] = step.success and not self._can_be_read(step, output)
        return lost

    def _can_be_read(self, step: StepResult, output: str) -> bool:
        stored = next((value for value in step.outputs if value.output == output), None)
        return output in step.missing if stored is None else is_intact(stored, self._folder.values)


def _shape(plan: Plan, step: Step) -> object:
    """What a step reads and gives, without its place in the plan."""
    inputs = [
        (item.name, item.fan_in, item.order_only, [(plan.steps[s.step].key, s.output) for s in item.sources])
        for item in step.inputs
    ]
    return inputs, [(output.name, output.required, output.order_only) for output in step.outputs]


def _count(items: Sequence[object]) -> str:
    return f"{len(items)} step{'' if len(items) == 1 else 's'}"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:NAMES_SHOWN]) + (", ..." if len(keys) > NAMES_SHOWN else "") if keys else "none"
