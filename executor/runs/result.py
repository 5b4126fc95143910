"""How a run went: everything in a ``RunResult`` is read from the run's folder, when it is first asked for.

Unaware of how steps are run; values are loaded into the caller's process on demand.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Literal

from executor.errors import UsageError, did_you_mean
from executor.runs.report import seconds_text
from executor.runs.steps import StepResult, collect_steps
from executor.runs.words import STATES
from executor.scheduler.events import RunEnded
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event

# A longer history is not read only because somebody prints the result: some tens of thousands of steps.
SHOWN_BYTES = 16 << 20

RunStatus = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]


class RunResult:
    """How a run went. ``success``, ``status`` and ``run_id`` are known at once; all else is read on first need.

    What is read raises ``UsageError`` where the run's folder was removed meanwhile.
    """

    def __init__(
        self, folder: RunFolder, status: RunStatus, *, interrupted: bool = False, plan: Plan | None = None
    ) -> None:
        self.folder = folder  #: where the run is kept
        self.status: RunStatus = status
        self.interrupted = interrupted  #: whether a signal (Ctrl-C, SIGTERM, SIGHUP) stopped it
        self._timeline: list[tuple[float, Event]] | None = None
        self._steps: dict[str, StepResult] | None = None
        self._plan = plan  # None: it is read from the run's folder when it is needed

    def __getstate__(self) -> dict[str, object]:
        """Without what can be read again: a plan at hand may hold functions that do not pickle."""
        return self.__dict__ | {"_timeline": None, "_steps": None, "_plan": None}

    def __repr__(self) -> str:
        short = f"<RunResult {self.run_id} {self.status}"
        if not self._can_be_shown():
            return f"{short}>"
        counts: dict[str, int] = {}
        for step in self.steps.values():
            word = STATES[step.state].word
            counts[word] = counts.get(word, 0) + 1
        steps = ", ".join(f"{count} {word}" for word, count in counts.items()) or "no step"
        return f"{short}, job {self.plan.job_name!r}, {seconds_text(self.duration_s)}: {steps}>"

    def _repr_html_(self) -> str:
        """The run and its steps as a table, for a notebook."""
        from executor.runs.html import result_html

        if not self._can_be_shown():
            return f"<code>{escape(repr(self))}</code>"
        steps = list(self.steps.values())
        return result_html(self.run_id, self.plan.job_name, self.status, self.duration_s, steps)

    def _can_be_shown(self) -> bool:
        """Whether its history is there, and so small that looking at the result does not take a while."""
        if self._steps is not None and self._plan is not None:
            return True
        try:
            return self.folder.plan.exists() and self.folder.events.stat().st_size <= SHOWN_BYTES
        except OSError:
            return False

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.folder.run_id

    @property
    def success(self) -> bool:
        """Whether every step succeeded, or was skipped because an optional output was left out."""
        return self.status == "succeeded"

    @property
    def timeline(self) -> list[tuple[float, Event]]:
        """Every event of the run with its time, in seconds since the run began."""
        if self._timeline is None:
            from executor.runs.history import read_history

            try:
                self._timeline = list(read_history(self.folder.events))
            except FileNotFoundError:
                self.folder.refuse_gone()
                raise UsageError(f"run {self.run_id} has no events: there is no file {self.folder.events}") from None
        return self._timeline

    @property
    def events(self) -> list[Event]:
        """Every event of the run, in order."""
        return [event for _, event in self.timeline]

    @property
    def all_events(self) -> list[Event]:
        """The same as ``events``."""
        return self.events

    def events_for_node(self, name: str) -> list[Event]:
        """The events of one op or asset, or of all ops in a graph of that name.

        Raises:
            UsageError: the run has no step of that name.
        """
        keys = {key for key in self.steps if key == name or key.startswith(f"{name}.")}
        if not keys:
            raise self._no_step(name)
        return [event for event in self.events if getattr(event, "key", None) in keys]

    @property
    def plan(self) -> Plan:
        """What the run was to execute. Read from the run's folder, its steps carry no functions."""
        if self._plan is None:
            from executor.runs.replay import read_plan

            self._plan = read_plan(self.folder)
        return self._plan

    @property
    def steps(self) -> dict[str, StepResult]:
        """Every step of the run by its key, in the order of the plan."""
        if self._steps is None:
            self._steps = collect_steps(self.timeline, [step.key for step in self.plan.steps])
        return self._steps

    def step(self, key: str) -> StepResult:
        """The step of that key. Raises ``UsageError`` where there is none."""
        found = self.steps.get(key)
        if found is None:
            raise self._no_step(key)
        return found

    @property
    def failures(self) -> dict[str, str]:
        """The key of each step that failed, and what happened, in one line."""
        return {
            key: step.error.message
            for key, step in self.steps.items()
            if step.state is StepState.FAILED and step.error is not None
        }

    @property
    def duration_s(self) -> float:
        """Seconds from the run's first event to its last."""
        return self.timeline[-1][0] if self.timeline else 0.0

    def output_for_node(self, name: str, output_name: str = "result") -> Any:
        """The value of an output of an op or asset, loaded into this process; ``graph.op`` for one inside a graph.

        Raises:
            UsageError: there is no such step or output, the step did not succeed, or the run was removed; the text
                says which.
            ValueLost: the file of the value is not there any more.
        """
        from executor.outputs.values import ValueLost, load_value

        step = self.steps.get(name)
        if step is None:
            inside = [key for key in self.steps if key.startswith(f"{name}.")]
            if inside:
                raise UsageError(
                    f"{name!r} is a graph; ask for the output of one of its steps: {', '.join(inside[:8])}"
                )
            raise self._no_step(name)
        if not step.success:
            raise UsageError(f"step {name!r} has no output {output_name!r}: it {step.explain()}")
        stored = {value.output: value for value in step.outputs}
        if output_name not in stored:
            declared = [output.name for output in self.plan.step(name).outputs]
            if output_name in declared:
                raise UsageError(f"step {name!r} left its optional output {output_name!r} out")
            raise UsageError(
                f"step {name!r} has no output {output_name!r}{did_you_mean(output_name, declared)} "
                f"(it has: {', '.join(declared) or 'none'})"
            )
        try:
            return load_value(stored[output_name], self.folder.values)
        except ValueLost:
            self.folder.refuse_gone()
            raise

    def asset_value(self, key: object) -> Any:
        """The value of an asset that this run made: by its key (``"a/b"`` or ``["a", "b"]``) or the asset itself.

        Raises:
            UsageError: the run has no such asset, or it was not made; the text says why.
            ValueLost: the file of the value is not there any more.
        """
        name = asset_name(key)
        where = {
            output.asset: (step.key, output.name)
            for step in self.plan.steps
            for output in step.outputs
            if output.asset is not None
        }
        if name not in where:
            raise UsageError(f"run {self.run_id} has no asset {name!r}{did_you_mean(name, where)}")
        return self.output_for_node(*where[name])

    def _no_step(self, name: str) -> UsageError:
        return UsageError(f"run {self.run_id} has no step {name!r}{did_you_mean(name, self.steps)}")


def asset_name(key: object) -> str:
    """The text of an asset key that is given as text, as a list of its parts, or as the asset."""
    if isinstance(key, str):
        return key
    if isinstance(key, list | tuple):
        return "/".join(map(str, key))
    return asset_name(getattr(key, "key", None) or getattr(key, "name", None) or str(key))


def read_result(folder: RunFolder) -> RunResult:
    """The result of a run that this or another process made; ``running`` where it has no end yet.

    Raises:
        UsageError: it has no history: its driver was killed before it began, or it was removed.
    """
    from executor.runs.history import read_last

    try:
        last = read_last(folder.events)
    except FileNotFoundError:
        folder.refuse_gone()
        last = None
    if last is None:
        raise UsageError(f"run {folder.run_id} has no events: its driver died before it began")
    ended = last[1]
    if isinstance(ended, RunEnded):
        return RunResult(folder, ended.status)
    return RunResult(folder, "running" if folder.is_alive() else "interrupted")
