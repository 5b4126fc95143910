"""``executor watch``: shows a run that was started elsewhere, live or as lines, until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from executor.cli.options import FAILED, INTERRUPTED, OK
from executor.cli.stream import LineStream
from executor.cli.text import run_text
from executor.runs.home import find_run, home_folder
from executor.runs.result import read_result
from executor.runs.summary import Summary
from executor.runs.words import colours_on, live_terminal
from executor.scheduler.events import RunEnded

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

EPILOG = """\b
Examples:
  executor watch last
  executor watch 7f3a12cd --progress plain | tee run.log
\b
Exit codes:
  0  the run succeeded
  1  it failed, or its history cannot be read
  2  there is no such run
  3  it was cancelled or cut off, or Ctrl-C ended the watching
"""


@click.command(epilog=EPILOG, short_help="Show a run that was started elsewhere, until it ends.")
@click.argument("run")
@click.option(
    "--progress", type=click.Choice(["live", "plain", "none"]), help="As for `executor run`; none: only wait for it."
)
def watch(run: str, progress: str | None) -> int:
    """Show RUN while it goes on, and its summary when it has ended; of a run that has ended, the summary.

    RUN may be shortened to what is unambiguous; `last` is the newest. Ctrl-C ends the watching and leaves the run
    alone.
    """
    folder = find_run(home_folder(), run)
    if not folder.is_alive():
        read_result(folder)  # one that never began is an error that says so
    live = live_terminal(1)
    if progress == "live" and not live:
        raise click.UsageError("--progress live: stdout is no terminal that can show it; leave it out")
    summary = Summary()
    if progress == "plain" or (progress is None and not live):
        status = _follow(folder, summary, lines=True)
    elif progress == "none" or not folder.is_alive():
        status = _follow(folder, summary, lines=False)
    else:
        from executor.cli.live import LiveView

        view = LiveView(folder, 1, own=False, on_event=summary.add)
        status = view.show()
        if view.asked:
            raise KeyboardInterrupt
    return _tell(folder, summary, status)


def _follow(folder: RunFolder, summary: Summary, *, lines: bool) -> str:
    """Read the run to its end; how it ended."""
    from executor.runs.follow import Follower
    from executor.runs.report import EventLines

    follower, stream, text = Follower(folder), LineStream(1, keep_all=True), EventLines(colours=colours_on(1))
    status = "running"
    try:
        while status == "running":
            alive = follower.alive  # asked first: what it wrote before it died is read below
            events = follower.read()
            for t, event in events:
                summary.add(event, t)
                status = event.status if isinstance(event, RunEnded) else status
                # The summary begins with how the run ended.
                line = text.line(event, t) if lines and status == "running" else None
                if line is not None:
                    stream.write(line)
            if not events and not alive:
                return "interrupted"
            if not events:
                stream.finish()
                follower.wait(None)
    finally:
        follower.close()
        stream.finish()
    return status


def _tell(folder: RunFolder, summary: Summary, status: str) -> int:
    """Print how the run went; the exit code that says so."""
    from executor.cli.root import COMMANDS
    from executor.runs.replay import read_plan

    plan = read_plan(folder)
    click.echo(f"run {run_text(folder.run_id)} of job {plan.job_name}")
    summary.status = status  # its driver may have died without a word
    click.echo(summary.text(plan, colours=colours_on(1)))
    failures = summary.failures_text(plan, folder, None, commands=COMMANDS, colours=colours_on(2))
    if failures:
        click.echo(f"\n{failures}", err=True)
    if status == "succeeded":
        return OK
    return FAILED if status == "failed" else INTERRUPTED
