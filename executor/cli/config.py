"""``executor config``: whether run configs fit a job, what each setting is and what set it, what there is to set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from executor.cli.find import find, pick_job
from executor.cli.options import OK, WRONG, layered_config, settings_options
from executor.cli.text import table
from executor.errors import ConfigError, UsageError
from executor.runs.report import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.authoring.jobs import JobDefinition
    from executor.authoring.resolve import ResolvedConfig

EXIT_CODES = """\b
Exit codes:
  0  it is right
  2  it has mistakes, or the command is wrong
"""


@click.group(short_help="Check run configs, see what is in force and why, and get a schema for editors.")
def config() -> None:
    """Check run configs, show what is in force and what set it, and print a JSON Schema for editors."""


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a job."""
    options = [
        click.option("-f", "--python-file", "file", help="The file with the job."),
        click.option("-m", "--module-name", "module", help="A module instead of a file."),
        click.option("-j", "--job", "job_name", help="The job's name, where there are several."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _job(file: str | None, module: str | None, job_name: str | None) -> JobDefinition | None:
    if file is None and module is None:
        if job_name is not None:
            raise UsageError(f"-j {job_name} needs the file or module that it is in: -f FILE, or -m MODULE")
        return None
    return pick_job(find(file, module), job_name)


# --- check ------------------------------------------------------------------------------------------------------------


@config.command(
    short_help="See whether run configs fit a job.",
    epilog=f"""\b
Examples:
  executor config check run.yaml -f pipeline.py
  executor config check base.yaml production.yaml -f pipeline.py -j nightly
{EXIT_CODES}""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@job_options
@json_option
def check(files: Sequence[str], file: str | None, module: str | None, job_name: str | None, as_json: bool) -> int:
    """See whether these run configs, laid over each other in this order, fit a job; every mistake is told.

    Without a job, all is checked but the config of ops. Nothing is run.
    """
    job = _job(file, module, job_name)
    given = layered_config(files, **NO_OPTIONS)
    problems: tuple[str, ...] = ()
    notices: list[str] = []
    try:
        if job is None:
            from executor.authoring.jobs import define_asset_job

            define_asset_job("any", "*").resolve(given)  # a job without its assets: any name of an op may be right
        else:
            notices = _limits_of_nothing(job, job.resolve(given))
    except ConfigError as error:
        problems = error.problems
    if as_json:
        record = {"ok": not problems, "problems": list(problems), "notices": notices}
        click.echo(json.dumps(record, indent=2))
        return WRONG if problems else OK
    if problems:
        raise ConfigError(problems)
    for notice in notices:
        click.echo(f"notice: {printable(notice)}", err=True)
    whose = "config of ops was not checked, because no job was named: -f FILE" if job is None else f"job {job.name}"
    click.echo(f"{', '.join(map(printable, files))}: right ({printable(whose)})")
    return OK


#: What the options are where none is given.
NO_OPTIONS: Mapping[str, Any] = {
    "max_concurrent": None,
    "tag_limits": (),
    "per_value_limits": (),
    "in_process": False,
    "pdb": False,
    "steps_per_worker": None,
    "start_method": None,
}


def _limits_of_nothing(job: JobDefinition, resolved: ResolvedConfig) -> list[str]:
    """A sentence for each tag limit that no step counts against."""
    from executor.plan.compile import compile_job
    from executor.runs.notices import limit_notices
    from executor.scheduler.limits import Limits

    limits = resolved.settings.tag_concurrency_limits
    return limit_notices(compile_job(job), Limits(max_concurrent=1, tags=limits)) if limits else []


# --- show -------------------------------------------------------------------------------------------------------------


@config.command(
    short_help="Show every setting of a job and what set it.",
    epilog=f"""\b
Examples:
  executor config show -f pipeline.py
  executor config show -f pipeline.py -c run.yaml --max-concurrent 4
  executor config show -f pipeline.py -c run.yaml --json
{EXIT_CODES}""",
)
@job_options
@settings_options
@json_option
def show(file: str | None, module: str | None, job_name: str | None, as_json: bool, **options: Any) -> int:
    """Show the value of every setting of a job, and what set it: a line of a file, an option, a variable, the default.

    Values from environment variables, and of keys that are named like secrets, are masked.
    """
    job = _job(file, module, job_name)
    if job is None:
        raise UsageError("say where the job is: -f FILE, or -m MODULE")
    rows = setting_rows(job, layered_config(**options))
    if as_json:
        settings = [{"setting": name, "value": value, "from": source} for name, value, source in rows]
        click.echo(json.dumps({"job": job.name, "settings": settings}, indent=2, default=str))
        return OK
    lines = [[name, "-" if value is None else value_text(value), source] for name, value, source in rows]
    click.echo(f"job {printable(job.name)}")
    click.echo("\n".join(table(["setting", "value", "from"], lines)))
    return OK


def value_text(value: Any) -> str:
    """A value on one line, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def setting_rows(job: JobDefinition, run_config: object) -> list[tuple[str, Any, str]]:
    """Each setting of a job under this run config: its name, its value, and what set it.

    Raises:
        ConfigError: the config has mistakes.
    """
    from executor.config.check import KINDS, settings_config
    from executor.config.machine import MAX_CONCURRENT_VARIABLE, default_max_concurrent, environment_max_concurrent

    resolved = job.resolve(run_config)
    settings, sources = resolved.settings, resolved.sources
    kind = KINDS[1] if settings.in_process else KINDS[0]
    default = "default" if job.executor_def is None else f"executor of {job.owner}"
    rows: list[tuple[str, Any, str]] = [("executor", kind, sources.get("in_process", default))]
    for name, value in settings_config(settings).items():
        source = sources.get(name, "default")
        shown = value
        if name == "max_concurrent" and value is None:
            shown = default_max_concurrent()
            if environment_max_concurrent() is not None:
                source = f"environment variable {MAX_CONCURRENT_VARIABLE}"
            else:
                source = "default: the CPUs that this process may use"
        rows.append((f"execution.config.{kind}.{name}", shown, source))
    rows += [
        (f"ops.{step}.config{f'.{path}' if path else ''}", value, source)
        for step, path, value, source in resolved.ops()
    ]
    rows += [(f"tags.{name}", value, resolved.tag_source(name)) for name, value in resolved.tags.items()]
    rows += [
        (f"tags.{name}", value, f"tags of {job.owner}")
        for name, value in job.run_tags.items()
        if name not in resolved.tags
    ]
    return rows


# --- schema -----------------------------------------------------------------------------------------------------------


@config.command(
    short_help="Print the JSON Schema of a run config.",
    epilog=f"""\b
Examples:
  executor config schema > run.schema.json
  executor config schema -f pipeline.py -j nightly > nightly.schema.json
Then, as the first line of a run config:
  # yaml-language-server: $schema=nightly.schema.json
{EXIT_CODES}""",
)
@job_options
def schema(file: str | None, module: str | None, job_name: str | None) -> int:
    """Print the JSON Schema of a run config; with a job, that of its own, with the config of each of its ops."""
    from executor.config.schema import run_config_schema

    job = _job(file, module, job_name)
    if job is None:
        found = run_config_schema()
    else:
        found = run_config_schema(op_schemas(job), foreign=job.takes_foreign_keys, title=f"run config of {job.owner}")
    click.echo(json.dumps(found, indent=2))
    return OK


def op_schemas(job: JobDefinition) -> dict[str, Mapping[str, Any] | None]:
    """Of each step of a job, by its key, the JSON Schema of its config; None for one that takes none."""
    from executor.authoring.walk import configurable_ops, step_keys

    schemas: dict[str, Mapping[str, Any] | None] = dict.fromkeys(step_keys(job.body))
    for key, op in configurable_ops(job.body):
        if op.config is not None:
            schemas[key] = op.config.kind.json_schema()
    return schemas
