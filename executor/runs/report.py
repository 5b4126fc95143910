"""What people read while a run goes on: one plain line per event, and what a step wrote.

Text of the user's (names, messages, output) may hold anything; what could move the cursor or fake a line is shown
escaped. Pure, but for ``step_output``, which reads a lane's log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.runs.words import STATES, paint
from executor.scheduler.events import (
    CancelRequested,
    RunEnded,
    RunNotice,
    RunStarted,
    SlotFreed,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event, Facts

    #: Writes what happened to a step in the colour of its state; by itself in the state's word.
    Paint = Callable[..., str]

# A shorter wait is the time that the engine itself takes, and would be noise on every line.
WAIT_SHOWN_S = 0.05

# Of an error's line; what is longer is data, and would hide the errors around it.
LINE_CHARS = 500


def printable(text: str) -> str:
    """The text on one line, with everything that is not to be seen (control codes, line ends) spelled out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def first_line(text: str) -> str:
    """The first line of a text that has something on it, printable, and its beginning only where it is very long."""
    return clipped(printable(next((line for line in text.splitlines() if line.strip()), "")))


def clipped(line: str) -> str:
    """The line, or its beginning and how much more there is of it: an error may say a whole table in one line."""
    more = len(line) - LINE_CHARS
    return line if more <= 0 else f"{line[:LINE_CHARS]}... ({more} more characters)"


def seconds_text(seconds: float) -> str:
    """A duration as people say it: ``0.4 ms``, ``12 ms``, ``3.2 s``, ``5 min 12 s``, ``2 h 03 min``."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"


def memory_text(size_bytes: int) -> str:
    """An amount of memory: ``12 MiB``, ``1.5 GiB``."""
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes < 2**30 else f"{size_bytes / 2**30:.1f} GiB"


def waits_text(waited: dict[str, float] | tuple[tuple[str, float], ...], least_s: float = WAIT_SHOWN_S) -> str:
    """Waits by cause, the longest first: ``38.0 s max_concurrent, 3.2 s tag database=warehouse``; empty for none."""
    pairs = sorted(dict(waited).items(), key=lambda pair: -pair[1])
    return ", ".join(f"{seconds_text(seconds)} {printable(cause)}" for cause, seconds in pairs if seconds >= least_s)


class EventLines:
    """Turns each event of a run into a line with its time of day, as the run goes on or from its history."""

    def __init__(self, *, colours: bool = False) -> None:
        """``colours``: what happened is written in the colour of its state."""
        self._colours = colours
        self._began_at = 0.0
        self._second = -1
        self._second_text = ""
        self._started: dict[str, float] = {}  # when the attempt of each running step was handed to its worker

    def note(self, event: Event, t: float) -> None:
        """Take an event into account whose line nobody wants."""
        match event:
            case RunStarted():
                self._began_at = event.at
            case StepStarted():
                self._started[event.key] = t
            case StepSucceeded() | StepFailed() | StepReturned():
                self._started.pop(event.key, None)

    def line(self, event: Event, t: float) -> str | None:
        """The line for this event, ``t`` seconds after the run began; None for one that people need not see."""
        if isinstance(event, RunStarted):
            self._began_at = event.at
        text = self._text(event, t)
        return None if text is None else f"{self._time_of_day(t)}  {text}"

    def _time_of_day(self, t: float) -> str:
        now_ms = round((self._began_at + t) * 1000)
        second, ms = divmod(now_ms, 1000)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._second_text}.{ms:03}"

    def _text(self, event: Event, t: float) -> str | None:
        match event:
            case StepStarted():
                self._started[event.key] = t
                return f"{printable(event.key)}  {_started_text(event, self._paint)}"
            case StepSucceeded():
                memory = f" ({memory_text(event.facts.peak_rss_bytes)})" if event.facts.peak_rss_bytes else ""
                succeeded = self._paint(StepState.SUCCEEDED)
                return f"{printable(event.key)}  {succeeded} in {self._took(event.key, event.facts, t)}{memory}"
            case StepFailed():
                stopped = event.error.kind == "cancelled"
                what = self._paint(StepState.CANCELLED, "was stopped") if stopped else self._paint(StepState.FAILED)
                took = self._took(event.key, event.facts, t)
                return f"{printable(event.key)}  {what} after {took}: {first_line(event.error.message)}"
            case RunStarted() | RunNotice() | RunEnded() | CancelRequested():
                return _run_text(event, t)
        return _rare_text(event, self._paint)

    def _paint(self, state: StepState, text: str = "") -> str:
        """What happened to a step, in the word and the colour of the state that it is in now."""
        return paint(text or STATES[state].word, STATES[state], colours=self._colours)

    def _took(self, key: str, facts: Facts, t: float) -> str:
        began = self._started.pop(key, t)
        return seconds_text(facts.ended_at - facts.started_at if facts.ended_at else t - began)


def _started_text(event: StepStarted, paint: Paint) -> str:
    pid = f", pid {event.pid}" if event.pid else ""
    waited = waits_text(event.waited)
    return (
        f"{paint(StepState.RUNNING, 'started')} (attempt {event.attempt}{pid}{f'; waited {waited}' if waited else ''})"
    )


def _run_text(event: RunStarted | RunNotice | RunEnded | CancelRequested, t: float) -> str:
    match event:
        case RunStarted():
            steps = f"{event.steps} step{'' if event.steps == 1 else 's'}, at most {event.max_concurrent} at once"
            workers = f"; workers: {printable(event.workers)}" if event.workers else ""
            return f"run {event.run_id} of job {printable(event.job)} started: {steps}{workers}"
        case RunNotice():
            return f"notice: {printable(event.message)}"
        case RunEnded():
            return f"run {event.status} after {seconds_text(t)}"
        case CancelRequested():
            whom = ", ".join(map(printable, event.keys)) if event.keys else "run"
            how = "is killed" if event.kill else "is asked to stop"
            return f"{whom} {how}{f': {printable(event.reason)}' if event.reason else ''}"


def _rare_text(event: Event, paint: Paint) -> str | None:
    """The line of an event that most runs do not have."""
    match event:
        case StepWillRetry():
            when = f" in {seconds_text(event.delay_s)}" if event.delay_s else ""
            again = paint(StepState.BACKOFF, "will be tried again")
            return f"{printable(event.key)}  {again}{when} (attempt {event.attempt})"
        case SlotsWaiting():
            whom = ", ".join(map(printable, event.pools)) or "its pools"
            because = f": {printable(event.reason)}" if event.reason else ""
            waits = paint(StepState.CLAIMING, "waits for slots")
            return f"{printable(event.key)}  {waits} of {whom} ({event.cause}){because}"
        case StepSkipped():
            return f"{printable(event.key)}  {paint(StepState.SKIPPED)}: {printable(event.because)} was left out"
        case StepNotRun():
            return f"{printable(event.key)}  {paint(StepState.NOT_RUN)}: {printable(event.because)} did not succeed"
        case StepCancelled():
            return f"{printable(event.key)}  {paint(StepState.CANCELLED)} before it started"
        case StepReturned():
            back = paint(StepState.READY, "back in the queue")
            return f"{printable(event.key)}  {back}: its worker ended before it began"
        case SlotFreed(lingered=True):
            return f"{printable(event.key)}  had processes that outlived its end; they were killed"
    return None


def step_output(folder: RunFolder, facts: Facts, *, most_bytes: int) -> list[str]:
    """The last lines that an attempt wrote to stdout and stderr, printable; at most ``most_bytes`` of them.

    Empty where it wrote nothing, or to the terminal itself (``--in-process``).
    """
    if facts.lane < 0 or facts.log_to <= facts.log_from:
        return []
    start = max(facts.log_from, facts.log_to - most_bytes)
    try:
        with open(folder.lane_log(facts.lane), "rb") as file:
            file.seek(start)
            data = file.read(facts.log_to - start)
    except FileNotFoundError:
        return []
    lines = data.decode("utf-8", "replace").split("\n")
    if start > facts.log_from:
        lines[0] = "..."  # the line was cut, perhaps inside of a character
    if not lines[-1]:
        lines.pop()
    return [printable(line.rstrip("\r").expandtabs()) for line in lines]
