"""A run, or one moment of it, as HTML for a notebook. Pure; whatever comes from the user is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from executor.ledger.named import run_name
from executor.runs.report import first_line, memory_text, seconds_text, waits_text
from executor.runs.words import RUNS, STATES
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.runs.steps import StepResult
    from executor.runs.view import Frame
    from executor.runs.words import Shown

# Of a run's steps; failed ones come first, and the rest is counted.
STEPS_SHOWN = 50
FAILED_SHOWN = 8

#: The colours of the table of words, dark enough for a white page and light enough for a black one.
_CSS = {
    "red": "#d0312d", "green": "#2e9e44", "yellow": "#b58900", "magenta": "#a347ba", "cyan": "#1c8fa8",
    "bright_black": "#808080",
}  # fmt: skip

_ROW_ORDER = (StepState.FAILED, StepState.CANCELLED, StepState.RUNNING)


def frame_html(frame: Frame) -> str:
    """The run at one moment: how far it is, what runs, and what is held back."""
    parts = [_head(frame.job, frame.run_id, frame.status)]
    times = f"{frame.over} of {frame.steps} steps, {seconds_text(frame.at_s)}"
    if frame.left_s is not None and frame.over < frame.steps:
        times += f", about {seconds_text(frame.left_s)} left"
    if frame.stopping and frame.status == "running":
        times += f"; stopping: {escape(frame.stopping)}"
    share = 0 if not frame.steps else 100 * frame.over / frame.steps
    bar = f'<div style="background:{_css(STATES[StepState.SUCCEEDED])};width:{share:.1f}%;height:6px"></div>'
    parts.append(f'<div style="background:#80808040;width:24em;height:6px">{bar}</div><div>{times}</div>')
    parts.append(_counts(frame.counts))
    rows = [
        (
            _painted(STATES[StepState.RUNNING], step.key),
            seconds_text(step.took_s),
            "slow" if step.slow else "",
        )
        for step in frame.running
    ]
    if frame.more_running:
        rows.append((f"and {frame.more_running} more", "", ""))
    if rows:
        parts.append(_table(("running", "for", ""), rows))
    for held in frame.held:
        because = f": {escape(held.because)}" if held.because else ""
        parts.append(f"<div>{held.steps} wait for {escape(held.name)}{because}</div>")
    parts += [
        f"<div>{_painted(STATES[StepState.FAILED], step.key)}: {escape(first_line(step.message))}</div>"
        for step in frame.failed[:FAILED_SHOWN]
    ]
    return "".join(parts)


def result_html(run_id: str, job: str, status: str, duration_s: float, steps: Sequence[StepResult]) -> str:
    """A run and its steps as a table: state, attempts, time, memory, and what each waited for."""
    counts: dict[StepState, int] = {}
    for step in steps:
        counts[step.state] = counts.get(step.state, 0) + 1
    first = sorted(steps, key=lambda step: step.state not in _ROW_ORDER)[:STEPS_SHOWN]
    rows = [
        (
            escape(step.key),
            _painted(STATES[step.state], STATES[step.state].word),
            str(len(step.attempts)) if len(step.attempts) > 1 else "",
            seconds_text(step.wall_s) if step.attempts else "",
            memory_text(step.peak_rss_bytes) if step.peak_rss_bytes else "",
            escape(waits_text(step.waited)),
            escape(first_line(step.error.message)) if step.error is not None else "",
        )
        for step in first
    ]
    if len(steps) > len(first):
        rows.append((f"and {len(steps) - len(first)} more", "", "", "", "", "", ""))
    head = ("step", "state", "attempts", "took", "memory", "waited for", "error")
    kept = [column for column in range(len(head)) if column < 2 or any(row[column] for row in rows)]
    table = _table([head[column] for column in kept], [[row[column] for column in kept] for row in rows])
    return f"{_head(job, run_id, status)}<div>{seconds_text(duration_s)}</div>{_counts(counts)}{table}"


def _head(job: str, run_id: str, status: str) -> str:
    shown = RUNS[status]
    return f"<div><b>{escape(job)}</b> <code>{escape(run_name(run_id))}</code> {_painted(shown, shown.word)}</div>"


def _counts(counts: Mapping[StepState, int]) -> str:
    words = [
        _painted(STATES[state], f"{STATES[state].sign} {n} {STATES[state].word}") for state, n in counts.items() if n
    ]
    return f"<div>{' &nbsp; '.join(words)}</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    left = 'style="text-align:left"'
    top = "".join(f"<th {left}>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td {left}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _css(shown: Shown) -> str:
    return _CSS[shown.colour]


def _painted(shown: Shown, text: str) -> str:
    return f'<span style="color:{_css(shown)}">{escape(text)}</span>'
