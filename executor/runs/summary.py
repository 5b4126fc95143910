"""What people read after a run: how it went, where the time went, and what is known of each failure.

Fed with the events, as they happen or from the history; keeps one number per step.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from executor.ledger.named import run_name
from executor.plan.paths import critical_path
from executor.runs.report import clipped, first_line, memory_text, printable, seconds_text, step_output, waits_text
from executor.runs.words import RUNS, STATES, paint, word
from executor.scheduler.events import (
    CancelRequested,
    RunEnded,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event

FAILURES_SHOWN = 10  # of which all is told; the others are only named
TRACEBACK_LINES = 12
OUTPUT_LINES = 10
OUTPUT_BYTES = 16 * 1024  # read of a failed step's output, to find its last lines
PATH_STEPS_SHOWN = 8


class _Seconds:
    """Seconds by key. Of the steps of a plan that was met before: in one block of memory, which does not grow."""

    __slots__ = ("_block", "_index_of", "_others", "any", "total")

    def __init__(self, plan: Plan | None = None) -> None:
        self._index_of: Mapping[str, int] = {} if plan is None else plan.index_of
        self._block = array("d", bytes(8 * len(self._index_of)))
        self._others: dict[str, float] = {}
        self.any, self.total = False, 0.0

    def add(self, key: str, seconds: float) -> None:
        self.any = True
        self.total += seconds
        index = self._index_of.get(key)
        if index is None:
            self._others[key] = self._others.get(key, 0.0) + seconds
        else:
            self._block[index] += seconds

    def __getitem__(self, key: str) -> float:
        index = self._index_of.get(key)
        return self._others.get(key, 0.0) if index is None else self._block[index]


class Summary:
    """Adds up a run. ``add`` every event; then ask for the text."""

    def __init__(self) -> None:
        self.status = "running"
        self.duration_s = 0.0
        self.cpu_s = 0.0
        self.peak_rss_bytes = 0
        self.peak_key = ""
        self.waited: dict[str, float] = {}  #: seconds by cause, of all steps
        self.wall_s = _Seconds()  #: that the attempts of each step ran
        self.counts: dict[str, int] = {}  #: steps by how they ended; failed ones stand in ``failed``
        self.failed: dict[str, StepFailed] = {}  #: the last failure of each step that failed for good
        self._started: dict[str, float] = {}
        self._stopping: set[str] = set()  # steps that somebody asked to stop while they ran

    def meet(self, plan: Plan) -> None:
        """Make room for the steps of the run, before its first event: from then on nothing grows with their number."""
        self.wall_s = _Seconds(plan)

    def add(self, event: Event, t: float) -> None:
        """Take an event into account that happened ``t`` seconds after the run began."""
        self.duration_s = t
        match event:
            case StepStarted():
                self._started[event.key] = t
                for cause, seconds in event.waited:
                    self.waited[cause] = self.waited.get(cause, 0.0) + seconds
            case StepSucceeded():
                self._end(event, t)
                self._count("succeeded")
            case StepFailed():
                self._end(event, t)
                if event.error.kind == "cancelled" or event.key in self._stopping:
                    self._count("cancelled")
                else:
                    self.failed[event.key] = event
            case StepWillRetry():
                self.failed.pop(event.key, None)
            case StepReused():
                self._count("reused")
            case StepSkipped():
                self._count("skipped")
            case StepNotRun():
                self._count("not run")
            case StepCancelled():
                self.failed.pop(event.key, None)
                self._count("cancelled")
            case CancelRequested():
                self._stopping.update(event.keys or self._started)
            case RunEnded():
                self.status = event.status

    def _count(self, how: str) -> None:
        self.counts[how] = self.counts.get(how, 0) + 1

    def _end(self, event: StepSucceeded | StepFailed, t: float) -> None:
        facts = event.facts
        began = self._started.pop(event.key, t)
        took = facts.ended_at - facts.started_at if facts.ended_at else t - began
        self.wall_s.add(event.key, took)
        self.cpu_s += facts.cpu_s
        if facts.peak_rss_bytes > self.peak_rss_bytes:
            self.peak_rss_bytes, self.peak_key = facts.peak_rss_bytes, event.key

    def text(self, plan: Plan, *, colours: bool = False) -> str:
        """The run in a few lines: how many steps ended how, the longest path, and where the time went."""
        counts = ({"failed": len(self.failed)} if self.failed else {}) | self.counts
        words = [paint(f"{count} {how}", word(how), colours=colours) for how, count in counts.items()]
        status = paint(RUNS[self.status].word, RUNS[self.status], colours=colours)
        lines = [f"run {status} after {seconds_text(self.duration_s)}: {', '.join(words) or 'no step'}"]
        if self.wall_s.any:
            memory = (
                f"; largest {memory_text(self.peak_rss_bytes)} ({printable(self.peak_key)})" if self.peak_key else ""
            )
            ran = seconds_text(self.wall_s.total)
            lines.append(f"  steps ran for {ran} in all, with {seconds_text(self.cpu_s)} of CPU{memory}")
            path, seconds = critical_path(plan, {step.key: self.wall_s[step.key] for step in plan.steps})
            lines.append(
                f"  critical path {seconds_text(seconds)}: {_path_text(tuple(key for key in path if self.wall_s[key]))}"
            )  # what never ran took none of it
        if waits := waits_text(self.waited):
            lines.append(f"  waits of all steps: {waits}")
        return "\n".join(lines)

    def failures_text(
        self,
        plan: Plan,
        folder: RunFolder,
        command: Sequence[str] | None,
        *,
        output: bool = True,
        commands: Collection[str] = (),
        to_resume: Sequence[str] = (),
        colours: bool = False,
    ) -> str:
        """What is known of each failed step, and what to do next; empty where there is nothing to say.

        ``command`` is how the run was asked for, less its selection, where that is known; it is shown so that a step
        can be run alone. Where it is ``executor resume``, the step is run alone on what this run has left.
        ``output`` shows the last lines that the step wrote. ``commands`` are those that there are to go on with;
        ``to_resume`` are words that `executor resume` needs after the run.
        """
        run = run_name(folder.run_id)
        blocks = []
        for event in list(self.failed.values())[:FAILURES_SHOWN]:
            lines = _failure_lines(event, folder, output=output, colours=colours)
            if "logs" in commands and event.facts.log_to > event.facts.log_from:
                lines.append(f"  to read all that it wrote: {_words('executor', 'logs', run, event.key)}")
            if command is not None:
                lines.append(f"  to run it alone here: {_alone_text(event.key, plan, command, [run, *to_resume])}")
            blocks.append("\n".join(lines))
        if rest := list(self.failed)[FAILURES_SHOWN:]:
            blocks.append(
                f"{len(rest)} more failed: {', '.join(map(printable, rest[:FAILURES_SHOWN]))}"
                + (", ..." if len(rest) > FAILURES_SHOWN else "")
            )
        if "resume" in commands and self.status not in {"running", "succeeded"}:
            blocks.append(
                f"to go on from here, keeping what succeeded: {_words('executor', 'resume', run, *to_resume)}"
            )
        return "\n\n".join(blocks)


def _failure_lines(event: StepFailed, folder: RunFolder, *, output: bool, colours: bool) -> list[str]:
    error = event.error
    attempt = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    failed = paint(STATES[StepState.FAILED].word, STATES[StepState.FAILED], colours=colours)
    lines = [f"{printable(event.key)} {failed}{attempt}: {first_line(error.message)}"]
    trace = [clipped(printable(line.expandtabs())) for line in error.traceback.splitlines()]
    if len(trace) > TRACEBACK_LINES:
        trace = ["...", *trace[-TRACEBACK_LINES:]]
    lines += [f"    {line}" for line in trace]
    if output and (written := step_output(folder, event.facts, most_bytes=OUTPUT_BYTES)):
        lines.append("  the last lines that it wrote:")
        lines += [f"    | {line}" for line in telling_lines(written)]
    return lines


def telling_lines(written: list[str]) -> list[str]:
    """The last lines; of a crash of the interpreter, whose frames stand innermost first, those around its begin."""
    for number, line in enumerate(written):
        if line.startswith("Fatal Python error:"):
            begin = max(0, number - OUTPUT_LINES // 2)
            return written[begin : number + OUTPUT_LINES // 2]
    return written[-OUTPUT_LINES:]


def _path_text(path: tuple[str, ...]) -> str:
    if len(path) <= PATH_STEPS_SHOWN:
        return " > ".join(map(printable, path))
    half = PATH_STEPS_SHOWN // 2
    between = f"({len(path) - 2 * half} more)"
    return " > ".join([*map(printable, path[:half]), between, *map(printable, path[-half:])])


def _alone_text(key: str, plan: Plan, command: Sequence[str], run: Sequence[str]) -> str:
    if command[1] == "resume":
        return _words(*command, *run, "--only", key, "--in-process")
    # A step that reads from others needs them to run as well; * is all that is above it.
    above = plan.upstream[plan.index_of[key]]
    return _words(*command, "--in-process", "--select", f"*{key}" if above else key)


def _words(*words: str) -> str:
    """A command as it is typed."""
    import shlex

    return printable(shlex.join(words))
