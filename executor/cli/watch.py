"""What the command shows while a run goes on, and when it has ended."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from executor.cli.stream import LineStream, read_by_nobody
from executor.errors import UsageError
from executor.runs.history import encode
from executor.runs.home import RunFolder
from executor.runs.report import EventLines, step_output
from executor.runs.summary import Summary
from executor.runs.viewer import Viewer
from executor.runs.words import colours_on, live_terminal
from executor.scheduler.events import RunEnded, RunStarted, SlotsWaiting, StepFailed, StepStarted, StepSucceeded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO
    from pathlib import Path

    from executor.plan.plan import Plan
    from executor.runs.result import RunResult
    from executor.runs.steps import StepResult
    from executor.scheduler.events import Event

Progress = Literal["live", "plain", "none"]

OUTPUT_BYTES = 1024 * 1024  # of one attempt that are shown with --output all; the rest is in its lane's log


def choose_progress(asked: Progress | None, *, as_json: bool, events: bool, output: str, in_process: bool) -> Progress:
    """How to show a run while it goes on: as it was asked for, or live where there is a terminal that can.

    ``events``: the events go to stdout; ``in_process``: the steps run in this process, and write to its terminal.

    Raises:
        UsageError: a live view was asked for where there can be none.
    """
    fd = 2 if as_json or events else 1
    where = "stderr" if fd == 2 else "stdout"
    against = [
        (in_process, "steps that run in this process write to the same terminal"),
        (output == "all", "--output all prints what the steps write as lines"),
        (not live_terminal(fd), f"{where} is no terminal that can show it"),
    ]
    reason = next((why for holds, why in against if holds), None)
    if asked == "live" and reason is not None:
        raise UsageError(f"--progress live: {reason}; leave it out, or use --progress plain")
    return asked or ("live" if reason is None else "plain")


class Watch:
    """Is called with every event of a run; shows it as it was asked to, and the summary at the end.

    What is for people goes to stdout; where that carries data (``--json``, ``--events -``) it goes to stderr. What
    failed always goes to stderr.
    """

    def __init__(
        self,
        home: Path,
        *,
        output: str,
        quiet: bool,
        as_json: bool,
        events: FileIO | Literal["-"] | None,
        progress: Progress = "plain",
    ) -> None:
        """``events`` is a file for the events as JSON, ``-`` for stdout, or None."""
        data_on_stdout = as_json or events == "-"
        self.summary = Summary()
        self.data_lost = False  #: what was asked for as data, with --json or --events, could not all be written
        self.home, self._output, self._as_json, self._events = home, output, as_json, events
        self._folder: RunFolder | None = None
        self._out, self._err = LineStream(1, keep_all=data_on_stdout), LineStream(2)
        self._people = None if quiet else self._err if data_on_stdout else self._out
        self._progress: Progress = "none" if quiet else progress
        self._fd = 2 if data_on_stdout else 1
        self._viewer: Viewer | None = None
        self._lines = EventLines(colours=colours_on(self._fd))

    def meet(self, plan: Plan) -> None:
        """Make room for what will be known of its steps."""
        self.summary.meet(plan)

    def __call__(self, event: Event, t: float) -> None:
        """Show an event that happened ``t`` seconds after the run began."""
        self.summary.add(event, t)
        if isinstance(event, RunStarted):
            self._folder = RunFolder(self.home / "runs" / event.run_id)
            self._empty_events()
        if self._events is not None:
            self._write_event(encode(event, t))
        if self._progress == "plain":
            self._show_line(event, t)
        elif self._progress == "live" and self._viewer is None and isinstance(event, StepStarted | SlotsWaiting):
            self._start_viewer()

    def _start_viewer(self) -> None:
        """Start the live view, now that the first step has started, or nothing is left to do but to wait."""
        if self._folder is not None:
            try:
                self._viewer = Viewer(self._folder, self._fd)
            except OSError:  # no process can be started, so there is no view; the run and its summary are not touched
                self._progress = "none"

    def _show_line(self, event: Event, t: float) -> None:
        if self._people is None:
            return
        try:
            if sys.stdout is not None:  # it was closed when this process began
                sys.stdout.flush()  # what a step in this process printed comes before the line that says that it ended
        except OSError:  # whoever read it has gone
            read_by_nobody(1)
        # The summary begins with how the run ended.
        line = None if isinstance(event, RunEnded) else self._lines.line(event, t)
        if self._output == "all" and self._folder is not None and isinstance(event, StepSucceeded | StepFailed):
            for written in step_output(self._folder, event.facts, most_bytes=OUTPUT_BYTES):
                self._people.write(f"  | {written}")
        if line is not None:
            self._people.write(line)

    def _empty_events(self) -> None:
        """Remove what an earlier run has left in the file for events, now that another one has begun."""
        if self._events is not None and self._events != "-":
            with suppress(OSError):  # it is no file but a pipe, or a terminal
                self._events.truncate(0)

    def _write_event(self, line: str) -> None:
        if self._events == "-":
            self._out.write(line)
        elif self._events is not None:
            try:
                self._events.write(line.encode("ascii") + b"\n")
            except OSError as error:  # no reason to stop the run: its own history is elsewhere
                self._err.write(f"--events: no more events are written to {self._events.name}: {error.strerror}")
                self._events = None
                self.data_lost = True

    def finish(self, result: RunResult, command: Sequence[str], *, to_resume: Sequence[str] = ()) -> None:
        """Show how the run went. ``command`` is how it was asked for, less its selection.

        ``to_resume`` are words that `executor resume` needs to go on from it.
        """
        from executor.cli.root import COMMANDS

        self._end_viewer()
        if self._people is not None:
            self._people.write(self.summary.text(result.plan, colours=colours_on(self._fd)))
        if self._as_json:
            import json

            self._out.write(json.dumps(result_record(result), indent=2))
        self._out.finish()
        if self._out.trouble is not None:
            self.data_lost = self.data_lost or self._as_json or self._events == "-"
            self._err.write(f"stdout could not be written: {self._out.trouble}")
        failures = self.summary.failures_text(
            result.plan,
            result.folder,
            command,
            output=self._output != "none",
            commands=COMMANDS,
            to_resume=to_resume,
            colours=colours_on(2),
        )
        if failures:
            self._err.write(failures if self._people is None else f"\n{failures}")
        self._err.finish()

    def close(self) -> None:
        """Write what still waits to be written, however the run ended."""
        self._end_viewer()
        self._out.finish()
        self._err.finish()

    def _end_viewer(self) -> None:
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.close()


def result_record(result: RunResult) -> dict[str, object]:
    """A run's result as plain data, for JSON. Times in seconds, memory in bytes."""
    return {
        "run_id": result.run_id,
        "job": result.plan.job_name,
        "status": result.status,
        "success": result.success,
        "interrupted": result.interrupted,
        "duration_s": result.duration_s,
        "folder": str(result.folder.path),
        "steps": {key: _step_record(step) for key, step in result.steps.items()},
    }


def _step_record(step: StepResult) -> dict[str, object]:
    record: dict[str, object] = {
        "state": step.state.value,
        "attempts": len(step.attempts),
        "wall_s": round(step.wall_s, 6),
        "cpu_s": round(step.cpu_s, 6),
        "peak_rss_bytes": step.peak_rss_bytes,
        "waited_s": step.waited,
    }
    if step.error is not None:
        record["error"] = {"kind": step.error.kind, "message": step.error.message, "traceback": step.error.traceback}
    if step.because is not None:
        record["because"] = step.because
    return record
