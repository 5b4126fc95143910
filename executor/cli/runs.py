"""``executor runs``: the runs in the home folder, the newest first."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from executor.cli.options import OK
from executor.cli.text import run_text, table, time_text
from executor.errors import UsageError
from executor.runs.history import HistoryUnreadable, read_history, read_last
from executor.runs.home import home_folder, runs_in
from executor.runs.report import seconds_text
from executor.runs.result import read_result
from executor.scheduler.events import RunStarted

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

EPILOG = """\b
Examples:
  executor runs
  executor runs -n 100
  executor runs --json | jq -r '.[] | select(.status == "failed") | .run_id'
"""


@click.command(epilog=EPILOG, short_help="List the runs in the home folder, the newest first.")
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0: all.", metavar="N"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def runs(count: int, as_json: bool) -> int:
    """List the runs in the home folder, the newest first: how each stands, its job, when it began, how long it took."""
    home = home_folder()
    folders = runs_in(home)
    records = [_record(folder) for folder in (folders[:count] if count else folders)]
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif not records:
        click.echo(f"there is no run in {home}")
    else:
        rows = [
            [
                run_text(str(record["run_id"])),
                str(record["status"]),
                str(record["job"] or "-"),
                "-" if record["started_at"] is None else time_text(float(str(record["started_at"]))),
                "-" if record["duration_s"] is None else seconds_text(float(str(record["duration_s"]))),
                "-" if record["steps"] is None else str(record["steps"]),
            ]
            for record in records
        ]
        click.echo("\n".join(table(["run", "status", "job", "started", "took", "steps"], rows)))
        if count and len(folders) > count:
            click.echo(f"and {len(folders) - count} older; to see all: executor runs -n 0")
    return OK


def _record(folder: RunFolder) -> dict[str, object]:
    """A run as plain data, from the first and the last line of its history."""
    record: dict[str, object] = {
        "run_id": folder.run_id,
        "status": "not begun",  # its driver is about to begin, or died before it did
        "job": None,
        "started_at": None,  # seconds since the epoch
        "duration_s": None,
        "steps": None,
        "tags": {},
        "folder": str(folder.path),
    }
    try:
        record["status"] = read_result(folder).status
        first = next(read_history(folder.events), None)
        last = read_last(folder.events)
    except UsageError:
        return record
    except HistoryUnreadable:
        return record | {"status": "unreadable"}
    if first is not None and isinstance(first[1], RunStarted):
        started = first[1]
        record |= {"job": started.job, "started_at": started.at, "steps": started.steps, "tags": started.tags}
    if last is not None:
        record["duration_s"] = last[0]
        if record["status"] == "running" and first is not None and isinstance(first[1], RunStarted):
            record["duration_s"] = max(last[0], time.time() - first[1].at)
    return record
