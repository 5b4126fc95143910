"""``executor runs``: the runs in the home folder, the newest first."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from executor.cli.options import OK, TagType
from executor.cli.text import run_text, table
from executor.config.instance_file import read_instance_settings
from executor.ledger.named import time_text
from executor.runs.home import home_folder
from executor.runs.index import find_runs
from executor.runs.prune import prune as prune_runs
from executor.runs.records import DagsterRunStatus, RunsFilter
from executor.runs.report import memory_text, seconds_text
from executor.runs.words import LISTED, colours_on

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from executor.runs.records import DagsterRun
    from executor.runs.words import Shown

INTERRUPTED = DagsterRunStatus.INTERRUPTED

EPILOG = """\b
Examples:
  executor runs
  executor runs --status failed --status interrupted --job nightly
  executor runs --tag team=core --limit 100
  executor runs prune --dry-run
  executor runs --json | jq -r '.[] | select(.status == "failed") | .run_id'
"""


@click.group(
    epilog=EPILOG, invoke_without_command=True, short_help="List the runs in the home folder, or remove old ones."
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Only runs that are running, succeeded, failed, cancelled, interrupted (their driver died), or not begun. "
    "May be repeated.",
)
@click.option("--job", "job_name", metavar="JOB", help="Only runs of that job.")
@click.option("--tag", "tags", multiple=True, type=TagType(), help="Only runs with that tag. May be repeated.")
@click.option(
    "-n",
    "--limit",
    "limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many; 0: all.",
    metavar="N",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def runs(
    context: click.Context,
    *,
    statuses: Sequence[str],
    job_name: str | None,
    tags: Sequence[tuple[str, str]],
    limit: int,
    as_json: bool,
) -> int:
    """List the runs in the home folder, the newest first: how each stands, its job, when it began, how long it took."""
    if context.invoked_subcommand is not None:
        return OK
    home = home_folder()
    filters = RunsFilter(job_name=job_name, statuses=statuses, tags=dict(tags))
    found = find_runs(home, filters)
    shown = found[:limit] if limit else found
    if as_json:
        click.echo(json.dumps([_record(home, run) for run in shown], indent=2))
    elif not found:
        click.echo(f"there is no {'such ' if statuses or job_name or tags else ''}run in {home}")
    else:
        head = ["run", "status", "job", "started", "took", "steps", "resumed from"]
        click.echo("\n".join(table(head, [_row(run) for run in shown], keep=6, shown=_shown(shown))))
        if len(found) > len(shown):
            click.echo(f"and {len(found) - len(shown)} older; to see all: executor runs -n 0")
    return OK


PRUNE_EPILOG = """\b
Examples:
  executor runs prune --dry-run
  executor runs prune
"""


@runs.command(epilog=PRUNE_EPILOG, short_help="Remove the runs that the settings do not keep.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def prune(dry_run: bool, as_json: bool) -> int:
    """Remove old runs: kept are the newest 200, for 30 days, and 10 GiB of them, or as executor.yaml says.

    It happens by itself at the end of each run. A run that is alive, or that a kept one goes on from, is not removed.
    """
    home = home_folder()
    removals = prune_runs(home, read_instance_settings(home).retention, dry_run=dry_run)
    if as_json:
        records = [_record(home, each.run) | {"reason": each.reason} for each in removals]
        click.echo(json.dumps(records, indent=2))
        return OK
    rows = [
        [*_row(each.run)[:4], memory_text(each.run.size_bytes) if each.run.size_bytes else "-", each.reason]
        for each in removals
    ]
    if rows:
        head = ["run", "status", "job", "started", "size", "why"]
        click.echo("\n".join(table(head, rows, shown=_shown([each.run for each in removals]))))
    size = memory_text(sum(each.run.size_bytes or 0 for each in removals))
    what = f"{len(removals)} run{'' if len(removals) == 1 else 's'} {'to be ' if dry_run else ''}removed"
    click.echo(f"{what}, {size}" if removals else "every run is kept")
    return OK


def _row(run: DagsterRun) -> list[str]:
    took = _took(run)
    return [
        run_text(run.run_id),
        run.status.value,
        run.job_name or "-",
        "-" if run.started_at is None else time_text(run.started_at),
        # When a driver died is not known, but that it was later than what it last wrote.
        "-" if took is None else f"{'at least ' if run.status is INTERRUPTED else ''}{seconds_text(took)}",
        "-" if run.steps is None else str(run.steps),
        "" if run.parent_run_id is None else run_text(run.parent_run_id),
    ]


def _shown(runs: Sequence[DagsterRun]) -> list[Shown]:
    """How their statuses are shown, where there are colours."""
    return [LISTED[run.status.value] for run in runs] if colours_on(1) else []


def _took(run: DagsterRun) -> float | None:
    """Seconds that it took, or has gone on for."""
    if run.duration_s is not None or run.started_at is None:
        return run.duration_s
    return max(0.0, time.time() - run.started_at)


def _record(home: Path, run: DagsterRun) -> dict[str, object]:
    """A run as plain data."""
    return {
        "run_id": run.run_id,
        "status": run.status.value,
        "job": run.job_name,
        "started_at": run.started_at,  # seconds since the epoch
        "duration_s": _took(run),
        "steps": run.steps,
        "tags": dict(run.tags),
        "parent_run_id": run.parent_run_id,
        "folder": str(home / "runs" / run.run_id),
    }
