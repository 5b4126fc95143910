"""``executor show``: one run with its steps, from its folder."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from executor.cli.options import OK
from executor.cli.text import table
from executor.cli.watch import result_record
from executor.ledger.named import time_text
from executor.runs.home import find_run, home_folder
from executor.runs.report import first_line, memory_text, printable, seconds_text, waits_text
from executor.runs.result import read_result
from executor.runs.words import RUNS, STATES, colours_on, paint
from executor.scheduler.events import RunNotice, RunStarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.plan.plan import Step
    from executor.runs.result import RunResult
    from executor.runs.steps import StepResult

EPILOG = """\b
Examples:
  executor show last
  executor show 7f3a12cd
  executor show 7f3a12cd --json | jq .steps.train
"""


@click.command(epilog=EPILOG, short_help="Show a run and its steps.")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(run: str, as_json: bool) -> int:
    """Show RUN: its steps with their state, attempts, times, waits by cause, peak memory, pools and tags.

    RUN may be shortened to what is unambiguous; `last` is the newest. A run that goes on is shown as it is now.
    """
    result = read_result(find_run(home_folder(), run))
    click.echo(json.dumps(_record(result), indent=2) if as_json else "\n".join(_lines(result)))
    return OK


# What is known of how long a run took. When a driver died is not known, but that it was later than what it last wrote.
_TOOK = {"running": "has gone on for", "interrupted": "was last heard of after"}


def _lines(result: RunResult) -> list[str]:
    started = _started(result)
    status = paint(RUNS[result.status].word, RUNS[result.status], colours=colours_on(1))
    lines = [f"run {result.run_id} of job {printable(result.plan.job_name)}: {status}"]
    if started is not None:
        running = result.status == "running"
        seconds = max(result.duration_s, time.time() - started.at) if running else result.duration_s
        lines.append(
            f"  started {time_text(started.at)}, {_TOOK.get(result.status, 'took')} {seconds_text(seconds)}; "
            f"at most {started.max_concurrent} at once; driver pid {started.pid}"
        )
        lines += [f"  {name}: {text}" for name, text in _settings(started) if text]
        if started.parent:
            lines.append(f"  goes on from: run {started.parent}")
    lines += [f"  notice: {printable(event.message)}" for event in result.events if isinstance(event, RunNotice)]
    lines.append(f"  folder: {printable(str(result.folder.path))}")
    rows = [_row(step, result.plan.step(step.key)) for step in result.steps.values()]
    head = ["step", "state", "attempts", "took", "memory", "pools", "tags", "waited for"]
    shown = [STATES[step.state] for step in result.steps.values()] if colours_on(1) else []
    lines += table(head, rows, keep=4, shown=shown)
    for key, message in result.failures.items():
        lines.append(f"{printable(key)} failed: {first_line(message)}")
    return lines


def _started(result: RunResult) -> RunStarted | None:
    first = result.events[0] if result.events else None
    return first if isinstance(first, RunStarted) else None


def _settings(started: RunStarted) -> list[tuple[str, str]]:
    return [("workers", printable(started.workers)), ("tags", printable(pairs_text(started.tags)))]


def _row(step: StepResult, planned: Step) -> list[str]:
    return [
        step.key,
        "reused" if step.reused_from else STATES[step.state].word,
        str(len(step.attempts)),
        seconds_text(step.wall_s) if step.wall_s else "",
        memory_text(step.peak_rss_bytes) if step.peak_rss_bytes else "",
        pools_text(planned.pools),
        pairs_text(planned.tags),
        waits_text(step.waited),
    ]


def pools_text(pools: Mapping[str, int]) -> str:
    """Pools with the slots that are taken of them: ``api, database (2)``."""
    return ", ".join(name if slots == 1 else f"{name} ({slots})" for name, slots in sorted(pools.items()))


def pairs_text(tags: Mapping[str, str]) -> str:
    """Tags: ``database=warehouse, team=core``."""
    return ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))


def _record(result: RunResult) -> dict[str, object]:
    """A run as plain data: as ``executor run --json`` has it, and what its plan says of each step."""
    record = result_record(result)
    started = _started(result)
    if started is not None:
        record |= {
            "started_at": started.at,
            "driver_pid": started.pid,
            "max_concurrent": started.max_concurrent,
            "tag_limits": list(started.limits),
            "tags": started.tags,
            "workers": started.workers,
            "parent_run_id": started.parent or None,
        }
    steps = record["steps"]
    assert isinstance(steps, dict)  # noqa: S101  (for mypy)
    for key, step in result.steps.items():
        planned = result.plan.step(key)
        steps[key] |= {
            "pools": dict(planned.pools),
            "tags": dict(planned.tags),
            "priority": planned.priority,
            "reused_from": step.reused_from,
            "started_at_s": step.attempts[0].started_at if step.attempts else None,
            "ended_at_s": step.attempts[-1].ended_at if step.attempts else None,
            "pid": step.attempts[-1].pid or None if step.attempts else None,
        }
    return record
