"""``executor run``: runs a job in the foreground and shows how it goes."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import click

from executor.cli.find import Found, find, pick_job
from executor.cli.options import EXIT_CODES, FAILED, INTERRUPTED, OK, layered_config, run_options
from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

    from executor.authoring.jobs import JobDefinition
    from executor.authoring.resolve import ResolvedConfig
    from executor.cli.watch import Progress, Watch
    from executor.config.layers import LayeredConfig
    from executor.runs.reexecution import ReexecutionOptions

EPILOG = f"""\b
Examples:
  executor run pipeline.py
  executor run -m my_package.jobs -j nightly --max-concurrent 4
  executor run pipeline.py --tag-limit database=warehouse:1 --per-value-limit customer:2
  executor run pipeline.py -c run.yaml -c more.yaml
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
    """Run the job in FILE, its steps in worker processes, and show how it goes: live on a terminal, else as lines.

    Without FILE and -m it is the file or module that [tool.executor] in pyproject.toml names, or definitions.py. A file
    with assets and no job is run as a job of all its assets. Ctrl-C stops the run and its steps; a second one
    kills them.
    """
    return run_job(file, module, job_name, **options)


def run_job(
    file: str | None,
    module: str | None,
    job_name: str | None,
    *,
    config_files: Sequence[str],
    tags: Sequence[tuple[str, str]],
    selection: Sequence[str],
    dry_run: bool,
    as_json: bool,
    events_file: str | None,
    output: str,
    quiet: bool,
    resume: ReexecutionOptions | None = None,
    earlier: LayeredConfig | None = None,
    progress: Progress | None,
    **limits: Any,
) -> int:
    """The exit code of running (or, with ``dry_run``, of explaining) one job; the options are those of the command.

    ``resume`` names an earlier run to go on from, ``earlier`` is its run config.
    """
    if as_json and events_file == "-":
        raise UsageError("--json and --events - both want stdout; give --events a file")
    config = layered_config(config_files, tags, earlier=earlier, **limits)
    if limits["pdb"] and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--pdb needs a terminal for the debugger; leave it out, or run this on one")
    found = find(file, module)
    job = pick_job(found, job_name)
    chosen = list(selection) or None
    if dry_run:
        from executor.cli.dry_run import dry_run_text

        click.echo(
            dry_run_text(job, config, chosen, as_json=as_json)
            if resume is None
            else _resumed_text(job, resume, as_json=as_json)
        )
        return OK
    from executor.cli.watch import Watch, choose_progress
    from executor.runs.home import open_home

    resolved = job.resolve(config, part_of_job=chosen is not None)
    progress = choose_progress(
        progress,
        as_json=as_json,
        events=events_file == "-",
        output=output,
        in_process=resolved.settings.in_process,
    )
    with ExitStack() as stack:
        events: FileIO | Literal["-"] | None = None
        if events_file is not None:
            events = "-" if events_file == "-" else stack.enter_context(_open_events(events_file))
        watch = Watch(open_home(), output=output, quiet=quiet, as_json=as_json, events=events, progress=progress)
        stack.callback(watch.close)
        return _run(
            job,
            watch,
            _command(found, job, job_name, config_files, resumed=resume is not None),
            config_files,
            config=resolved,
            selection=chosen,
            resume=resume,
            origin=_origin(found, job),
        )


def _run(
    job: JobDefinition,
    watch: Watch,
    command: list[str],
    config_files: Sequence[str],
    *,
    config: ResolvedConfig,
    selection: list[str] | None,
    resume: ReexecutionOptions | None,
    origin: dict[str, object],
) -> int:
    """Run the job and show it; the exit code. ``command`` is how to ask for it again."""
    from executor.api import execute_job
    from executor.runs.configs import lacks_secrets

    result = execute_job(
        job,
        run_config=config,
        selection=selection,
        raise_on_error=False,
        home=watch.home,
        on_event=watch,
        reexecution_options=resume,
        origin=origin,
    )
    watch.finish(result, command, to_resume=_files(config_files) if lacks_secrets(result.folder.config) else [])
    if result.success:
        return FAILED if watch.data_lost else OK
    return INTERRUPTED if result.interrupted or result.status == "cancelled" else FAILED


def _origin(found: Found, job: JobDefinition) -> dict[str, object]:
    """What `executor resume` needs to ask for this job again."""
    return {
        "cwd": os.getcwd(),  # noqa: PTH109  (a path as text)
        "words": list(found.words),
        "job": job.name,
    }


def _resumed_text(job: JobDefinition, resume: ReexecutionOptions, *, as_json: bool) -> str:
    """What a run would do that goes on from an earlier one."""
    import json

    from executor.plan.compile import compile_job
    from executor.runs.home import home_folder
    from executor.runs.resume import plan_resume

    resumed = plan_resume(compile_job(job), home_folder(), resume)
    if as_json:
        reused = [event.key for event in resumed.reused]
        return json.dumps({"parent_run_id": resumed.parent, "runs": list(resumed.runs), "reused": reused}, indent=2)
    return "\n".join([*resumed.notices, *(f"  {key}" for key in resumed.runs)])


def _open_events(name: str) -> FileIO:
    try:
        # each event is there as soon as it has happened; what stands in it stays until there is a run
        return open(name, "ab", buffering=0)
    except OSError as error:
        raise UsageError(f"--events {name}: {error.strerror}") from error


def _command(
    found: Found, job: JobDefinition, job_name: str | None, config_files: Sequence[str], *, resumed: bool
) -> list[str]:
    """How to ask for this job with this config again, without the rest of the options.

    ``resumed``: its config may be that of an earlier run, and its file is named from another folder; so it is that run
    which is to be gone on from.
    """
    if resumed:
        return ["executor", "resume"]
    named = ["-j", job.name] if job_name is not None or len(found.jobs) > 1 else []
    return ["executor", "run", *found.words, *named, *_files(config_files)]


def _files(config_files: Sequence[str]) -> list[str]:
    return [word for file in config_files for word in ("-c", file)]
