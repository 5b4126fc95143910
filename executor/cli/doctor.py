"""``executor instance doctor``: whether everything is in order that limits of pools rest on."""

from __future__ import annotations

import json

import click

from executor.cli.options import FAILED, OK
from executor.instance.doctor import examine
from executor.runs.report import printable

EPILOG = """\b
Examples:
  executor instance doctor
  executor instance doctor --repair
  executor instance doctor --json | jq '.findings[] | select(.level == "problem")'
\b
Exit codes:
  0  all is in order, or mends itself
  1  there is a problem; each says how to fix it
"""


@click.command(epilog=EPILOG, short_help="See whether limits of pools hold here, and how to fix what is wrong.")
@click.option("--repair", is_flag=True, help="Make the index of runs anew from the folders of the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(repair: bool, as_json: bool) -> int:
    """Look at the versions, the home folder and its file system, executor.yaml, the ledger of pools, the runs.

    The file system is tried: two processes share a ledger in a folder of their own, and one of them is killed. The
    ledger is proved: no lease without a living owner, no pool above its limit, locks and bells in order. Nothing in it
    is changed.
    """
    findings = []
    for finding in examine(repair=repair):
        findings.append(finding)
        if not as_json:
            text = f"{finding.name}: {finding.text}\n" + (f"to fix: {finding.fix}" if finding.fix else "")
            for number, line in enumerate(text.splitlines()):
                click.echo(f"{'' if number else finding.level:<8} {printable(line)}")
    problems = sum(finding.is_problem for finding in findings)
    if as_json:
        record = {
            "ok": not problems,
            "findings": [
                {"name": each.name, "level": each.level, "text": each.text, "fix": each.fix or None}
                for each in findings
            ],
        }
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo("all is in order" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
    return FAILED if problems else OK
