"""A frame of the live view as lines for a terminal of any size. Pure; what a process takes is given by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from executor.ledger.named import run_name
from executor.runs.report import memory_text, printable, seconds_text
from executor.runs.words import NOTICE, RUNS, STATES
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.runs.view import Frame, RunningStep
    from executor.runs.words import Shown

# Below so many columns the words of the counts are left out, and the bar.
NARROW = 72
BAR_LEAST, BAR_MOST = 8, 40

# Steps that are named of those that are held back, and of those that are tried again: the rest is for what runs.
HELD_MOST = 4
RETRYING_MOST = 2

#: In which order counts are shown: what is over, what goes on, what is to come.
COUNTED = (
    StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED, StepState.NOT_RUN,
    StepState.RUNNING, StepState.BACKOFF, StepState.CLAIMING, StepState.READY, StepState.WAITING,
)  # fmt: skip


def frame_lines(
    frame: Frame, *, width: int, height: int, memory: Mapping[int, int], unicode: bool = True, paused: bool = False
) -> list[Text]:
    """The lines of a frame, none longer than ``width`` and no more than ``height``.

    Args:
        frame: what is shown.
        width: columns.
        height: lines.
        memory: bytes of memory by pid, of those that are known.
        unicode: whether the terminal can show more than ASCII.
        paused: the driver of the run stands still.
    """
    writer = _Writer(frame, width, memory, unicode=unicode)
    lines = [writer.title(paused=paused), writer.counts()]
    lines += writer.rows(height - len(lines))
    for line in lines:
        line.truncate(width, overflow="ellipsis" if unicode else "crop")
        line.rstrip()
    return lines[: max(1, height)]


class _Writer:
    def __init__(self, frame: Frame, width: int, memory: Mapping[int, int], *, unicode: bool) -> None:
        self._frame, self._width, self._memory, self._unicode = frame, width, memory, unicode

    def _sign(self, shown: Shown) -> Text:
        return Text(shown.sign if self._unicode else shown.plain_sign, style=shown.colour)

    def title(self, *, paused: bool) -> Text:
        """Which run it is, how much of it is done, how long it has gone on, and how long it is likely to."""
        frame = self._frame
        line = Text.assemble((printable(frame.job), "bold"), " ", (run_name(frame.run_id), "bright_black"))
        if frame.status != "running":
            line.append(f"  {RUNS[frame.status].word}", style=RUNS[frame.status].colour)
        elif frame.stopping:
            line.append(f"  stopping: {printable(frame.stopping)}", style=STATES[StepState.CANCELLED].colour)
        elif paused:
            line.append("  stands still: its driver is stopped", style=NOTICE.colour)
        times = f"  {frame.over}/{frame.steps}  {seconds_text(frame.at_s)}"
        if frame.left_s is not None and frame.over < frame.steps:
            times += f", about {_rounded(frame.left_s)} left"
        room = self._width - cell_len(line.plain) - cell_len(times) - 2
        if room >= BAR_LEAST and self._width >= NARROW:
            line.append("  ")
            line.append_text(self._bar(min(room, BAR_MOST)))
        line.append(times)
        return line

    def _bar(self, width: int) -> Text:
        frame = self._frame
        full, rest = ("━", "─") if self._unicode else ("#", "-")
        over = 0 if not frame.steps else frame.over * width // frame.steps
        bad = frame.counts[StepState.FAILED] + frame.counts[StepState.NOT_RUN] + frame.counts[StepState.CANCELLED]
        red = min(over, -(-bad * width // frame.steps)) if frame.steps else 0
        bar = Text(full * (over - red), style=STATES[StepState.SUCCEEDED].colour)
        bar.append(full * red, style=STATES[StepState.FAILED].colour)
        return bar.append(rest * (width - over), style=STATES[StepState.WAITING].colour)

    def counts(self) -> Text:
        """How many steps are in each state, with its sign, and its word where there is room."""
        parts = []
        for state in COUNTED:
            count = self._frame.counts[state]
            if count:
                part = self._sign(STATES[state])
                word = f" {STATES[state].word}" if self._width >= NARROW else ""
                parts.append(part.append(f" {count}{word}", style=STATES[state].colour))
        return Text("  ").join(parts)

    def rows(self, room: int) -> list[Text]:
        """The steps that run, then what is held back and what is tried again, as far as there is room."""
        frame = self._frame
        held = self._held_lines()
        retrying = self._retrying_lines()
        wanted = len(frame.running) + (frame.more_running > 0)
        # What runs may have half of the room at least, and all that the others do not need.
        below = (held + retrying)[: max(room // 2, room - wanted)] if room > 0 else []
        running = self._running_lines(room - len(below))
        return running + below

    def _running_lines(self, room: int) -> list[Text]:
        frame = self._frame
        steps: Sequence[RunningStep] = frame.running
        more = frame.more_running
        if room <= 0 or not steps:
            return []
        if len(steps) + (more > 0) > room:
            more += len(steps) - (room - 1)
            steps = steps[: room - 1]
        keys = [printable(step.key) for step in steps]
        column = min(max(map(cell_len, keys), default=0), max(8, self._width - 34))
        lines = [self._running_line(step, key, column) for step, key in zip(steps, keys, strict=True)]
        if more:
            lines.append(Text(f"  and {more} more running", style="bright_black"))
        return lines

    def _running_line(self, step: RunningStep, key: str, column: int) -> Text:
        state = STATES[StepState.RUNNING]
        name = Text(key)
        name.truncate(column, overflow="ellipsis" if self._unicode else "crop", pad=True)
        line = Text.assemble(" ", self._sign(state), " ", name, f"  {seconds_text(step.took_s):>11}")
        size = self._memory.get(step.pid)
        line.append(f"  {memory_text(size) if size else '':>8}", style="bright_black")
        if step.attempt > 1:
            line.append(f"  attempt {step.attempt}", style=STATES[StepState.BACKOFF].colour)
        if step.stopping:
            line.append("  is asked to stop", style=STATES[StepState.CANCELLED].colour)
        elif step.slow:
            usual = "" if step.usual_s is None else f": others took {seconds_text(step.usual_s)}"
            line.append(f"  slow{usual}", style=NOTICE.colour)
        return line

    def _held_lines(self) -> list[Text]:
        lines = []
        for held in self._frame.held[:HELD_MOST]:
            pool = held.name.startswith("pool ")
            state = STATES[StepState.CLAIMING if pool else StepState.READY]
            line = Text.assemble(" ", self._sign(state), f" {held.steps} {'wait' if held.steps > 1 else 'waits'} for ")
            line.append(printable(held.name), style=state.colour)
            if held.because:
                line.append(f": {printable(held.because)}")
            lines.append(line)
        more = len(self._frame.held) - HELD_MOST + self._frame.more_held
        if more > 0:
            lines.append(Text(f"   and {more} more limits", style="bright_black"))
        return lines

    def _retrying_lines(self) -> list[Text]:
        state, frame = STATES[StepState.BACKOFF], self._frame
        lines = []
        for step in frame.retrying[:RETRYING_MOST]:
            when = f"in {seconds_text(step.in_s)}" if step.in_s > 0 else "now"
            line = Text.assemble(" ", self._sign(state), f" {printable(step.key)}  is tried again {when} ")
            lines.append(line.append(f"(attempt {step.attempt})", style="bright_black"))
        more = len(frame.retrying) - RETRYING_MOST + frame.more_retrying
        if more > 0:
            lines.append(Text(f"   and {more} more to be tried again", style="bright_black"))
        return lines


def _rounded(seconds: float) -> str:
    """An estimate, without digits that it does not have."""
    return "1 s" if seconds < 1.5 else f"{seconds:.0f} s" if seconds < 99.5 else seconds_text(seconds)
