"""``executor run``: runs a job in the foreground and shows how it goes."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import click

from executor.cli.find import Found, find, pick_job
from executor.cli.options import EXIT_CODES, FAILED, INTERRUPTED, OK, run_config, run_options
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

    from executor.authoring.jobs import JobDefinition
    from executor.cli.watch import Watch

EPILOG = f"""\b
Examples:
  executor run pipeline.py
  executor run -m my_package.jobs -j nightly --max-concurrent 4
  executor run pipeline.py --tag-limit database=warehouse:1 --per-value-limit customer:2
  executor run pipeline.py --select '*train' --in-process
  executor run pipeline.py --dry-run
  executor run pipeline.py --json | jq .steps
{EXIT_CODES}"""


@click.command(epilog=EPILOG, short_help="Run the job in a file or module.")
@click.argument("file", required=False)
@click.option("-m", "--module", help="A module instead of a file.")
@click.option(
    "-j", "--job", "job_name", help="The job's name; needed where there are several and none has the file's name."
)
@run_options
def run(file: str | None, module: str | None, job_name: str | None, **options: Any) -> int:
    """Run the job in FILE, its steps in worker processes, and show how it goes.

    A file with assets and no job is run as a job of all its assets. Ctrl-C stops the run and its steps; a second one
    kills them.
    """
    return run_job(file, module, job_name, **options)


def run_job(
    file: str | None,
    module: str | None,
    job_name: str | None,
    *,
    tags: Sequence[tuple[str, str]],
    selection: Sequence[str],
    dry_run: bool,
    as_json: bool,
    events_file: str | None,
    output: str,
    quiet: bool,
    **limits: Any,
) -> int:
    """The exit code of running (or, with ``dry_run``, of explaining) one job; the options are those of the command."""
    if as_json and events_file == "-":
        raise UsageError("--json and --events - both want stdout; give --events a file")
    if limits["pdb"] and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--pdb needs a terminal for the debugger; leave it out, or run this on one")
    config = run_config(**limits)
    found = find(file, module)
    job = pick_job(found, job_name)
    chosen = list(selection) or None
    if dry_run:
        from executor.cli.dry_run import dry_run_text

        click.echo(dry_run_text(job, config, chosen, as_json=as_json))
        return OK
    from executor.cli.watch import Watch
    from executor.runs.home import open_home

    with ExitStack() as stack:
        events: FileIO | Literal["-"] | None = None
        if events_file is not None:
            events = "-" if events_file == "-" else stack.enter_context(_open_events(events_file))
        watch = Watch(open_home(), output=output, quiet=quiet, as_json=as_json, events=events)
        stack.callback(watch.close)
        return _run(job, watch, _command(found, job, job_name), config=config, tags=dict(tags), selection=chosen)


def _run(
    job: JobDefinition,
    watch: Watch,
    command: list[str],
    *,
    config: dict[str, object],
    tags: dict[str, str],
    selection: list[str] | None,
) -> int:
    """Run the job and show it; the exit code. ``command`` is how to ask for it again."""
    from executor.api import execute_job

    result = execute_job(
        job, run_config=config, tags=tags, selection=selection, raise_on_error=False, home=watch.home, on_event=watch
    )
    watch.finish(result, command)
    if result.success:
        return OK
    return INTERRUPTED if result.interrupted or result.status == "cancelled" else FAILED


def _open_events(name: str) -> FileIO:
    try:
        return open(name, "wb", buffering=0)  # each event is there as soon as it has happened
    except OSError as error:
        raise UsageError(f"--events {name}: {error.strerror}") from error


def _command(found: Found, job: JobDefinition, job_name: str | None) -> list[str]:
    """How to ask for this job again, without the rest of the options."""
    named = ["-j", job.name] if job_name is not None or len(found.jobs) > 1 else []
    return ["executor", "run", *found.words, *named]
