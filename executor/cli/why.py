"""``executor why``: what each step of a run waits for, or had waited for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from executor.cli.options import OK
from executor.cli.text import run_text
from executor.runs.home import find_run, home_folder
from executor.runs.report import printable, seconds_text
from executor.runs.why import why as explain

if TYPE_CHECKING:
    from executor.runs.why import Blocker, RunWhy, StepWhy
    from executor.scheduler.events import SlotHolder

EPILOG = """\b
Examples:
  executor why last
  executor why 7f3a12cd train
  executor why 7f3a12cd --json | jq '.steps[] | select(.blockers != [])'
\b
Exit codes:
  0  done
  1  the run's history cannot be read
  2  there is no such run or step
"""

# What fits on a screen or two, and what a program may want to read; a STEP shows any other.
STEPS_SHOWN = 40
STEPS_IN_JSON = 1000


@click.command(epilog=EPILOG, short_help="Why steps are not running: what holds them back, and until when.")
@click.argument("run")
@click.argument("step", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with up to 1000 steps.")
def why(run: str, step: str | None, as_json: bool) -> int:
    """Say for each step of RUN that is not running, or for one STEP, what it waits for and what would end that.

    RUN may be shortened to what is unambiguous; `last` is the newest. When the run has ended: what each step had waited
    for, how long, and who was in its way.
    """
    told = explain(find_run(home_folder(), run), step, most=STEPS_IN_JSON if as_json else STEPS_SHOWN)
    if as_json:
        click.echo(json.dumps(_record(told), indent=2))
    else:
        click.echo("\n".join(_lines(told)))
    return OK


def _lines(told: RunWhy) -> list[str]:
    counts = ", ".join(f"{count} {state.value.replace('_', ' ')}" for state, count in told.counts.items() if count)
    # When a driver died is not known, but that it was later than what it last wrote.
    when = "last heard of after" if told.status == "interrupted" else "after"
    head = f"run {run_text(told.run_id)} of job {printable(told.job)}, {told.status} {when} {seconds_text(told.at_s)}"
    lines = [f"{head}: {counts}"]
    for step in told.steps.values():
        lines.append(printable(f"{step.key}  {step.text}"))
        if step.ends:
            lines.append(printable(f"    until {step.ends}"))
    if told.left_out:
        lines.append(f"and {told.left_out} more; to see one of them, name it")
    if not told.steps:
        lines.append("no step waits" if told.status == "running" else "no step had to wait, and all of them ran")
    return lines


def _record(told: RunWhy) -> dict[str, object]:
    return {
        "run_id": told.run_id,
        "job": told.job,
        "status": told.status,
        "at_s": round(told.at_s, 6),
        "counts": {state.value: count for state, count in told.counts.items() if count},
        "steps": [_step_record(step) for step in told.steps.values()],
        "left_out": told.left_out,
    }


def _step_record(step: StepWhy) -> dict[str, object]:
    return {
        "key": step.key,
        "state": step.state.value,
        "attempt": step.attempt,
        "text": step.text,
        "until": step.ends or None,
        "retry_in_s": step.retry_in_s,
        "upstream": [{"key": key, "state": state.value} for key, state in step.upstream],
        "blockers": [_blocker_record(blocker) for blocker in step.blockers],
        "waited": [
            {
                "cause": wait.cause,
                "seconds": wait.seconds,
                "held_by": [_holder_record(holder) for holder in wait.held_by],
                "others": wait.others,
                "reason": wait.reason or None,
            }
            for wait in step.waited
        ],
    }


def _blocker_record(blocker: Blocker) -> dict[str, object]:
    return {
        "name": blocker.name,
        "pool": blocker.pool,
        "cause": blocker.cause,
        "limit": blocker.limit,
        "used": blocker.used,
        "needed": blocker.needed,
        "place": blocker.place,
        "held_by": [_holder_record(holder) for holder in blocker.held_by],
        "kept_for": None if blocker.first is None else _holder_record(blocker.first),
        "until": blocker.ends,
    }


def _holder_record(holder: SlotHolder) -> dict[str, object]:
    return {
        "run": holder.run or None,
        "step": holder.step,
        "pid": holder.pid or None,
        "since": holder.since,
        "outlived": holder.outlived,
        "encloses": holder.encloses,
    }
