"""``executor list``: the jobs and assets in a file or module, and what limits their steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from executor.cli.find import Found, find, job_lines, one_line
from executor.cli.show import pairs_text, pools_text
from executor.cli.text import table
from executor.plan.compile import compile_job
from executor.runs.report import printable

if TYPE_CHECKING:
    from executor.authoring.jobs import JobDefinition

EPILOG = """\b
Examples:
  executor list pipeline.py
  executor list -m my_package.jobs --json
"""


@click.command("list", epilog=EPILOG, short_help="Show the jobs and assets in a file or module.")
@click.argument("file", required=False)
@click.option("-m", "--module", help="A module instead of a file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_command(file: str | None, module: str | None, as_json: bool) -> int:
    """Show the jobs and assets in FILE, with their descriptions, and the pools and tags of each step."""
    found = find(file, module)
    click.echo(json.dumps(_record(found), indent=2) if as_json else _text(found))
    return 0


def _text(found: Found) -> str:
    if not found.jobs:
        return f"{found.shown} has no job and no asset"
    lines = ["jobs:", job_lines(found)]
    if found.assets:
        keys = {key: asset.description for asset in found.assets for key in asset.keys}
        width = max(map(len, keys))
        lines += ["assets:", *(f"  {key:<{width}}  {one_line(text)}".rstrip() for key, text in keys.items())]
    for job in found.jobs.values():
        rows = [
            [step.key, pools_text(step.pools), pairs_text(step.tags)]
            for step in compile_job(job).steps
            if step.pools or step.tags
        ]
        if rows:
            lines.append(f"steps of {printable(job.name)} with pools or tags:")
            lines += [f"  {line}" for line in table(["step", "pools", "tags"], rows, keep=1)]
    return "\n".join(lines)


def _record(found: Found) -> dict[str, object]:
    return {
        "jobs": [
            {"name": job.name, "description": job.description, "steps": _step_records(job)}
            for job in found.jobs.values()
        ],
        "assets": [
            {"key": str(key), "description": asset.description, "group": asset.group_name, "tags": dict(asset.tags)}
            for asset in found.assets
            for key in asset.keys
        ],
    }


def _step_records(job: JobDefinition) -> list[dict[str, object]]:
    return [
        {"key": step.key, "pools": dict(step.pools), "tags": dict(step.tags), "priority": step.priority}
        for step in compile_job(job).steps
    ]
