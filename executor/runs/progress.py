"""``progress=True``: shows a run that a program started, in the way that suits where the program runs.

In a notebook a display that is updated; on a terminal the live view, from its own process; elsewhere a line for each
event. All but the first go to stderr: stdout is the program's.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.runs.display import MeetsPlan
from executor.runs.home import RunFolder, home_folder
from executor.runs.report import EventLines
from executor.runs.summary import Summary
from executor.runs.viewer import Viewer
from executor.runs.words import colours_on, live_terminal
from executor.scheduler.events import RunEnded, RunStarted, SlotsWaiting, StepStarted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from executor.plan.plan import Plan
    from executor.runs.result import RunResult
    from executor.runs.view import RunView
    from executor.scheduler.events import Event

# Between two updates of a display at least; a browser draws each of them.
UPDATE_S = 0.2
TICK_S = 1.0


class Progress:
    """Shows one run; ``also`` is called with each event as well."""

    wake_at: float | None = None

    def __init__(self, home: Path, also: Callable[[Event, float], None] | None) -> None:
        self._home, self._also = home, also
        self._folder: RunFolder | None = None
        self._plan: Plan | None = None

    def __call__(self, event: Event, t: float) -> None:
        """Show an event that happened ``t`` seconds after the run began."""
        if self._also is not None:
            self._also(event, t)
        if isinstance(event, RunStarted):
            self._folder = RunFolder(self._home / "runs" / event.run_id)
        self._show(event, t)

    def meet(self, plan: Plan) -> None:
        """This is what will run. Hands it on, as ``__call__`` does the events."""
        self._plan = plan
        if isinstance(self._also, MeetsPlan):
            self._also.meet(plan)

    def _show(self, event: Event, t: float) -> None:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Nothing is shown between events, unless a kind of display wants it."""

    def finish(self, result: RunResult | None) -> None:
        """Show how the run went; None: it did not come to a result."""


class LinesProgress(Progress):
    """A line for each event, and the summary."""

    def __init__(self, home: Path, also: Callable[[Event, float], None] | None) -> None:
        super().__init__(home, also)
        self._summary = Summary()
        self._colours = _colours()
        self._lines = EventLines(colours=self._colours)

    def meet(self, plan: Plan) -> None:
        """This is what will run."""
        super().meet(plan)
        self._summary.meet(plan)

    def _show(self, event: Event, t: float) -> None:
        self._summary.add(event, t)
        # The summary begins with how the run ended.
        line = None if isinstance(event, RunEnded) else self._lines.line(event, t)
        if line is not None:
            _print(line)

    def finish(self, result: RunResult | None) -> None:
        """Print the summary; what failed is in the result, or is raised."""
        if result is not None:
            _print(self._summary.text(result.plan, colours=self._colours))


class LiveProgress(LinesProgress):
    """The live view, and the summary."""

    _viewer: Viewer | None = None

    def _show(self, event: Event, t: float) -> None:
        self._summary.add(event, t)
        if self._viewer is None and self._folder is not None and isinstance(event, StepStarted | SlotsWaiting):
            self._viewer = Viewer(self._folder, sys.stderr.fileno())

    def finish(self, result: RunResult | None) -> None:
        """End the view, then print the summary."""
        if self._viewer is not None:
            self._viewer.close()
        super().finish(result)


class NotebookProgress(Progress):
    """One display of a notebook that is drawn over and over."""

    def __init__(self, home: Path, also: Callable[[Event, float], None] | None) -> None:
        super().__init__(home, also)
        self._view: RunView | None = None
        self._handle: Any = None
        self._next = 0.0

    def _show(self, event: Event, t: float) -> None:
        if isinstance(event, RunStarted) and self._plan is not None:
            from executor.runs.view import RunView

            self._view = RunView(self._plan, event, t)
        elif self._view is not None:
            self._view.tell(event, t)
        if t >= self._next:
            self.tick(t)
        else:
            self.wake_at = self._next

    def tick(self, now: float) -> None:
        """Draw the run as it is now; once a second also where nothing happens, since it shows for how long."""
        if self._view is not None:
            self._draw(self._view, now)
        self._next, self.wake_at = now + UPDATE_S, now + TICK_S

    def _draw(self, view: RunView, now: float | None) -> None:
        from executor.runs.html import frame_html

        ipython: Any = import_module("IPython.display")  # it is there, or this would be no notebook
        shown = ipython.HTML(frame_html(view.frame(now)))
        if self._handle is None:
            self._handle = ipython.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def finish(self, result: RunResult | None) -> None:  # noqa: ARG002  (the view knows how it ended)
        """Draw the run as it ended."""
        if self._view is not None:
            self._draw(self._view, None)


def progress_of(
    home: str | os.PathLike[str] | None, also: Callable[[Event, float], None] | None, *, in_process: bool
) -> Progress:
    """What shows a run from here: see the top of this file. ``in_process``: its steps write to this terminal."""
    folder = home_folder() if home is None else Path(home).absolute()
    if _in_notebook():
        return NotebookProgress(folder, also)
    if not in_process and _stderr_is(live_terminal):
        return LiveProgress(folder, also)
    return LinesProgress(folder, also)


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and getattr(running, "kernel", None) is not None


def _colours() -> bool:
    return _stderr_is(colours_on)


def _stderr_is(true: Callable[[int], bool]) -> bool:
    try:
        return true(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or no file
        return False


def _print(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # nobody reads it, which is no reason to stop a run
        return
