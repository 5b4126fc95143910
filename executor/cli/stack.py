"""``executor stack``: where a running step is now."""

from __future__ import annotations

from pathlib import Path

import click

from executor.cli.options import OK
from executor.errors import UsageError, did_you_mean
from executor.runs.home import find_run, home_folder
from executor.runs.report import printable
from executor.runs.result import read_result
from executor.scheduler.events import StepStarted
from executor.scheduler.states import StepState
from executor.workers.stacks import NoStack, read_stack, users_part

EPILOG = """\b
Examples:
  executor stack last train
  executor stack 7f3a12cd train
\b
Exit codes:
  0  done
  1  the step's process does not tell its stack
  2  there is no such run or step, or it does not run now
"""


@click.command(epilog=EPILOG, short_help="Print the Python stack of a running step.")
@click.argument("run")
@click.argument("step")
def stack(run: str, step: str) -> int:
    """Print where STEP of RUN is now: the Python stack of each of its threads, the most recent call first.

    RUN may be shortened to what is unambiguous; `last` is the newest. The step goes on as if nobody had asked.
    """
    folder = find_run(home_folder(), run)
    result = read_result(folder)
    if step not in result.steps:
        raise UsageError(f"run {result.run_id} has no step {step!r}{did_you_mean(step, result.steps)}")
    state = result.step(step).state
    if state is not StepState.RUNNING or not folder.is_alive():
        said = state.value.replace("_", " ") if folder.is_alive() else f"the run has ended, {result.status}"
        raise UsageError(f"step {step!r} does not run now ({said}), so it has no stack; see: executor show {run}")
    began = [event for event in result.events if isinstance(event, StepStarted) and event.key == step][-1]
    try:
        found = read_stack(began.pid)
    except NoStack as error:
        raise NoStack(f"the stack of step {step!r} cannot be had: {error}") from None
    click.echo(f"step {printable(step)}, attempt {began.attempt}, pid {began.pid}")
    for line in users_part(found, Path(__file__).parents[1]).splitlines():
        click.echo(printable(line))
    return OK
