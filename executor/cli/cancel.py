"""``executor cancel``: stops a run, or steps of it, that another terminal or program has started."""

from __future__ import annotations

import click

from executor.cli.options import OK
from executor.cli.text import run_text
from executor.runs.cancel import cancel as cancel_run
from executor.runs.home import find_run, home_folder
from executor.runs.report import printable
from executor.runs.result import read_result

EPILOG = """\b
Examples:
  executor cancel last
  executor cancel 7f3a12cd train
  executor cancel 7f3a12cd --kill
\b
Exit codes:
  0  it has stopped (with --no-wait: its driver has heard it)
  1  its driver has not heard it yet, because it is stopped or busy
  2  there is no such run or step, or it has ended
"""


@click.command(epilog=EPILOG, short_help="Stop a run, or steps of it, from another terminal.")
@click.argument("run")
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@click.option("--kill", is_flag=True, help="At once, without the time that steps have to end by themselves.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it has stopped.")
def cancel(run: str, steps: tuple[str, ...], kill: bool, no_wait: bool) -> int:
    """Stop RUN: no further step starts, running steps are asked to stop, and killed after their grace.

    With STEP only that step stops, and what is below it is not run; STEP* is a step with all below. The rest of the run
    goes on. RUN may be shortened to what is unambiguous; `last` is the newest.
    """
    folder = find_run(home_folder(), run)
    keys = cancel_run(folder, steps, kill=kill, wait=not no_wait)
    what = ", ".join(map(printable, keys)) if keys else f"run {run_text(folder.run_id)}"
    if no_wait:
        click.echo(f"{what} {'are' if keys[1:] else 'is'} asked to stop")
        return OK
    result = read_result(folder)
    if not keys:
        click.echo(f"{what} has ended: {result.status}; to go on from there: executor resume {run_text(folder.run_id)}")
        return OK
    for key in keys:
        click.echo(f"{printable(key)} {printable(result.step(key).explain())}")
    return OK
