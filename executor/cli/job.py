"""``executor job``: what Dagster users type, ``job execute -f FILE -j JOB``."""

from __future__ import annotations

from typing import Any

import click

from executor.cli.options import EXIT_CODES, run_options
from executor.cli.run import run_job
from executor.errors import UsageError

EPILOG = f"""\b
Examples:
  executor job execute -f pipeline.py -j nightly
  executor job execute -m my_package.jobs nightly
  executor job execute nightly
{EXIT_CODES}"""


@click.group()
def job() -> None:
    """Run jobs, as Dagster users type it."""


@job.command(epilog=EPILOG)
@click.argument("name", required=False, metavar="[JOB]")
@click.option("-f", "--python-file", "file", help="The file with the job.")
@click.option("-m", "--module-name", "module", help="A module instead of a file.")
@click.option(
    "-j", "--job", "job_name", help="The job's name; needed where there are several and none has the file's name."
)
@run_options
def execute(name: str | None, file: str | None, module: str | None, job_name: str | None, **options: Any) -> int:
    """Run the job of that name in a file or module; the same as `executor run`.

    Without either, they are looked for as `executor run` does.
    """
    if name is not None and job_name is not None and name != job_name:
        raise UsageError(f"two jobs are named, {name!r} and {job_name!r}; name one")
    return run_job(file, module, job_name or name, **options)
