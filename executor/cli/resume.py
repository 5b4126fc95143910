"""``executor resume``: goes on from an earlier run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from executor.cli.options import EXIT_CODES, run_options
from executor.cli.run import run_job
from executor.errors import UsageError
from executor.ledger.named import run_name
from executor.runs.configs import read_config
from executor.runs.history import read_history
from executor.runs.home import find_run, open_home
from executor.runs.reexecution import ReexecutionOptions
from executor.scheduler.events import RunStarted

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

EPILOG = f"""\b
Examples:
  executor resume last
  executor resume 7f3a12cd --from train
  executor resume 7f3a12cd --only report --max-concurrent 1
  executor resume 7f3a12cd -f pipeline.py -j nightly
{EXIT_CODES}"""


@click.command(epilog=EPILOG, short_help="Go on from an earlier run: run what did not succeed in it.")
@click.argument("run")
@click.option("--from", "from_steps", multiple=True, metavar="STEP", help="Run this step and all below it instead.")
@click.option("--only", "only_steps", multiple=True, metavar="STEP", help="Run this step alone instead.")
@click.option("-f", "--file", "file", help="The file with the job, where it is not the one of the earlier run.")
@click.option("-m", "--module", "module", help="The module with the job, as above.")
@click.option("-j", "--job", "job_name", help="The job's name, as above.")
@run_options
def resume(
    *,
    run: str,
    from_steps: tuple[str, ...],
    only_steps: tuple[str, ...],
    file: str | None,
    module: str | None,
    job_name: str | None,
    **options: Any,
) -> int:
    """Run what failed in RUN, was cut off or never ran, and what is below it; take the values of the rest from there.

    It is a new run, which names the earlier one. The job is imported anew, from where it was imported then, so what was
    corrected in its code counts, and has the run config that it had then; -c gives another. RUN may be shortened to
    what is unambiguous; `last` is the newest.
    """
    if options.get("selection"):
        raise UsageError("--select is for new runs; name steps with --only STEP, or with --from STEP and all below it")
    if from_steps and only_steps:
        raise UsageError("--from and --only exclude each other: the first also runs what is below")
    # What is named now is meant from here, and this process may be elsewhere in a moment.
    if options.get("events_file") not in {None, "-"}:
        options["events_file"] = os.path.abspath(options["events_file"])  # noqa: PTH100  (a path as text)
    options["config_files"] = [*map(os.path.abspath, options["config_files"])]
    folder = find_run(open_home(), run)
    wanted = [f"{step}*" for step in from_steps] or list(only_steps)
    earlier = None if options["config_files"] else read_config(folder.config)
    words, name = _origin(folder, file, module)
    return run_job(
        *words,
        job_name or name,
        resume=ReexecutionOptions(folder.run_id, wanted, everything=False),
        earlier=earlier,
        **options,
    )


def _origin(
    folder: RunFolder, file: str | None, module: str | None
) -> tuple[tuple[str | None, str | None], str | None]:
    """File and module, and the job, of the command that started a run; from then on this process is where it was.

    ``file`` and ``module`` were given now, and come before.

    Raises:
        UsageError: a program started it and none is given, or the folder where it was started is gone.
    """
    _, first = next(read_history(folder.events), (0.0, None)) if folder.events.exists() else (0.0, None)
    origin = first.origin if isinstance(first, RunStarted) else {}
    name: Any = origin.get("job")
    if file is not None or module is not None:
        return (file, module), name
    words: Any = origin.get("words")
    if words is None:
        run = run_name(folder.run_id)
        raise UsageError(
            f"run {folder.run_id} was not started by this command, so say where its job is: executor resume "
            f"{run} -f FILE, or -m MODULE; in a program: job.execute(resume_from={run!r})"
        )
    try:
        os.chdir(str(origin["cwd"]))
    except OSError as error:
        raise UsageError(
            f"run {folder.run_id} was started in {origin['cwd']}, which cannot be entered: {error.strerror}; say where "
            "its job is with -f FILE or -m MODULE"
        ) from error
    if words[:1] == ["-m"]:
        return (None, words[1]), name
    return (words[0] if words else None, None), name
