"""The live view of a run on a terminal, in a process that reads the run's history and nothing else.

The run neither knows of it nor waits for it: a terminal that is paused, or a view that is killed, costs it nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from executor.ledger.named import run_name
from executor.runs.home import RunFolder
from executor.runs.words import NOTICE, STATES, colours_on
from executor.scheduler.events import (
    CancelRequested,
    RunEnded,
    RunNotice,
    RunStarted,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from executor.runs.view import Frame, RunView
    from executor.scheduler.events import Event

# A run that is over sooner is told in its summary alone, and pays for no view.
SHOW_AFTER_S = 0.15

# Between two frames at least; more, where a frame takes long to draw. Times are counted on once a second.
FRAME_S = 0.1
TICK_S = 1.0
# The share of the time that drawing may take.
DRAWING_SHARE = 10

# What stays above the frame, of each frame: a run in which everything fails must not spend its time on saying so.
LINES_ABOVE = 20

# The view gives way to the steps.
NICENESS = 10


class LiveView:
    """Shows one run on one terminal until it ends, or until this process is asked to stop."""

    def __init__(
        self, folder: RunFolder, fd: int, *, own: bool, on_event: Callable[[Event, float], None] | None = None
    ) -> None:
        """``own``: the run belongs to the command on this terminal, which tells itself how it went.

        ``on_event`` is called with each event too, before it is shown.
        """
        from executor.cli.screen import Screen
        from executor.runs.follow import Follower
        from executor.runs.report import EventLines

        self._folder, self._own, self._on_event = folder, own, on_event
        self._encoding = sys.stdout.encoding or "ascii"
        self._screen = Screen(fd, colours=colours_on(fd), encoding=self._encoding)
        self._follower = Follower(folder)
        self._lines = EventLines()
        self._view: RunView | None = None
        self._above: list[tuple[str, str]] = []  #: what is to stay above the next frame, and its colour
        self._unsaid = 0  #: lines above that were left out
        self._stood_still_s, self._looked_at = 0.0, time.monotonic()
        self._wake_fd, self._woken_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._resized = self._pause = False
        self.asked: str | None = None  #: the signal by which this process was asked to stop
        self.status = "running"  #: how the run ended, as far as it was seen; ``interrupted``: its driver died

    def show(self) -> str:
        """Show the run until it ends; how it ended.

        Raises:
            HistoryUnreadable: its history is damaged.
            ScreenGone: the terminal is not there any more.
        """
        before = self._take_signals()
        try:
            self._follow()
        finally:
            self._screen.leave()
            for signum, handler in before.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(-1)
            self._follower.close()
            os.close(self._wake_fd)
            os.close(self._woken_fd)
        return self.status

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        frame_at, stale = 0.0, True
        while True:
            self._obey()
            events = self._follower.read()
            if not events and self.status == "running" and not self._follower.alive:
                events = self._follower.read()  # what it wrote just before it died
                if not events:
                    self._driver_died()
            for t, event in events:
                self._tell(event, t)
            if self.asked or self.status != "running":
                self._screen.clear(self._said())
                return
            now = time.monotonic()
            stale = stale or bool(events)
            if now >= frame_at:
                self._draw(now)
                stale, drawn = False, time.monotonic()
                frame_at = drawn + max(FRAME_S, DRAWING_SHARE * (drawn - now))
            if self._follower.behind:
                continue
            if stale:
                self._follower.wait(frame_at - now, self._wake_fd, news=False)
            else:
                self._follower.wait(TICK_S, self._wake_fd)

    def _tell(self, event: Event, t: float) -> None:
        if self._on_event is not None:
            self._on_event(event, t)
        if self._view is not None:
            self._view.tell(event, t)
        match event:
            case RunStarted():
                from executor.runs.earlier import earlier_seconds
                from executor.runs.replay import read_plan
                from executor.runs.view import RunView

                self._view = RunView(read_plan(self._folder), event, t, earlier_seconds(self._folder, event.job))
                self._lines.note(event, t)
            case StepStarted() | StepSucceeded():
                self._lines.note(event, t)
            case StepFailed():
                self._say(event, t, STATES[StepState.FAILED].colour)
            case RunNotice():
                self._say(event, t, NOTICE.colour)
            case CancelRequested():
                self._say(event, t, STATES[StepState.CANCELLED].colour)
            case RunEnded():
                self.status = event.status

    def _driver_died(self) -> None:
        self.status = "interrupted"
        pid = f" (pid {self._view.started.pid})" if self._view is not None else ""
        self._above.append(
            (f"the driver of this run{pid} died; its steps end with it", STATES[StepState.FAILED].colour)
        )

    # --- what is drawn -----------------------------------------------------------------------------------------------

    def _say(self, event: Event, t: float, colour: str) -> None:
        """Let the line of an event stay above the frame."""
        line = self._lines.line(event, t)
        if line is None:
            return
        if len(self._above) < LINES_ABOVE:
            self._above.append((line, colour))
        else:
            self._unsaid += 1

    def _said(self) -> list[Any]:
        from rich.text import Text

        lines = [Text(text, style=colour) for text, colour in self._above]
        if self._unsaid:
            lines.append(Text(f"... and {self._unsaid} more such lines, left out", style=NOTICE.colour))
        self._above, self._unsaid = [], 0
        return lines

    def _draw(self, now: float) -> None:
        view, screen = self._view, self._screen
        if view is None:
            return
        from executor.cli.frame import frame_lines

        paused = _stands_still(view.started.pid)
        if paused:
            self._stood_still_s += now - self._looked_at
        self._looked_at = now
        if paused and self._own:
            return  # the terminal is the shell's now
        frame = view.frame(time.time() - view.started.at - self._stood_still_s, rows=screen.lines)
        lines = frame_lines(
            frame,
            width=screen.columns - 1,
            height=screen.lines - 1,
            memory=_memory(frame),
            unicode=self._encoding.lower().startswith("utf"),
            paused=paused,
        )
        screen.draw(lines, self._said())

    # --- signals -----------------------------------------------------------------------------------------------------

    def _take_signals(self) -> dict[int, Any]:
        """Hear of the terminal's signals; give what stood there before."""
        signal.set_wakeup_fd(self._woken_fd, warn_on_full_buffer=False)
        wanted: dict[int, Any] = {signal.SIGWINCH: self._on_resize, signal.SIGTSTP: self._on_pause}
        wanted[signal.SIGTERM] = self._on_stop
        # Ctrl-C is for the run, whose command is on this terminal too, or else it ends the watching. A hang-up is the
        # run's as well: it comes when the terminal is gone, which the next frame finds out, and when a driver dies that
        # led the session, a moment before it can be seen to have died.
        wanted |= dict.fromkeys((signal.SIGINT, signal.SIGHUP), signal.SIG_IGN if self._own else self._on_stop)
        return {signum: signal.signal(signum, handler) for signum, handler in wanted.items()}

    def _on_stop(self, signum: int, _frame: FrameType | None) -> None:
        self.asked = signal.Signals(signum).name

    def _on_resize(self, _signum: int, _frame: FrameType | None) -> None:
        self._resized = True

    def _on_pause(self, _signum: int, _frame: FrameType | None) -> None:
        self._pause = True

    def _obey(self) -> None:
        """Do what signals have asked for since the last look."""
        with suppress(BlockingIOError):
            while os.read(self._wake_fd, 512):
                pass
        if self._pause:
            self._pause = False
            self._screen.leave()
            began = time.monotonic()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, self._on_pause)  # continued
            self._looked_at = time.monotonic()
            self._stood_still_s += self._looked_at - began
            self._resized = True
        if self._resized:
            self._resized = False
            self._screen.measure()


def _stands_still(pid: int) -> bool:
    """Whether a process is stopped (Ctrl-Z)."""
    import psutil  # by those who look alone: neither a driver nor a worker pays for it

    with suppress(psutil.Error, OSError):
        return psutil.Process(pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    return False


def _memory(frame: Frame) -> dict[int, int]:
    """Resident bytes of the running steps that are shown, by pid; those that are gone already are left out."""
    import psutil  # as above

    found = {}
    for step in frame.running:
        if step.pid:
            with suppress(psutil.Error, OSError):
                found[step.pid] = psutil.Process(step.pid).memory_info().rss
    return found


def main() -> None:
    """The process that ``executor.runs.viewer`` starts: its arguments are the run's folder and a descriptor."""
    from pathlib import Path

    with suppress(OSError):
        os.nice(NICENESS)
    time.sleep(SHOW_AFTER_S)
    folder, fd = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
    try:
        LiveView(folder, fd, own=True).show()
    except Exception as error:  # noqa: BLE001  (the run goes on, and nobody is helped by a traceback over its lines)
        from executor.cli.screen import ScreenGone

        if not isinstance(error, ScreenGone):
            what = f"{type(error).__name__}: {error}"
            run = run_name(folder.run_id)
            print(f"the live view has ended ({what}); the run goes on: executor watch {run}", file=sys.stderr)
