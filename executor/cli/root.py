"""The command as a whole: its families, its version, and what each kind of error ends with."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from executor.cli.lazy import LazyGroup
from executor.cli.options import EXIT_CODES, FAILED, INTERRUPTED, OK, WRONG
from executor.errors import ConfigError, ExecutorError, UnmetRequirement, UsageError
from executor.errors import DefinitionError as BadDefinition

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where each command is; imported when it is asked for, so that none pays for the others.
COMMANDS = {
    "run": "executor.cli.run:run",
    "list": "executor.cli.listing:list_command",
    "job": "executor.cli.job:job",
    "config": "executor.cli.config:config",
    "runs": "executor.cli.runs:runs",
    "show": "executor.cli.show:show",
    "watch": "executor.cli.watch_run:watch",
    "why": "executor.cli.why:why",
    "logs": "executor.cli.logs:logs",
    "cancel": "executor.cli.cancel:cancel",
    "resume": "executor.cli.resume:resume",
    "stack": "executor.cli.stack:stack",
    "instance": "executor.cli.instance:instance",
}

EXAMPLES = """\b
Examples:
  executor run pipeline.py
  executor run pipeline.py --max-concurrent 4 --tag-limit database=warehouse:1
  executor list pipeline.py
  executor why last
  executor resume last
  executor instance concurrency set database 2
"""


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from executor import __version__

        click.echo(f"executor {__version__}, Python {sys.version.split()[0]}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    where=COMMANDS,
    epilog=f"{EXAMPLES}\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it and end."
)
def root() -> None:
    """Run DAGs of Python functions in worker processes, and hold every limit on what runs at once."""


def run_command(arguments: Sequence[str]) -> int:
    """What the command ends with: 0 done, 1 failed, 2 wrong, 3 interrupted. Errors are shown on stderr."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end a run
    try:
        code: Any = root.main(args=list(arguments), prog_name="executor", standalone_mode=False)
        return code if isinstance(code, int) else OK
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG
    except click.ClickException as error:
        error.show()
        return WRONG
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # of --help or --json into a pager that has gone
        from executor.cli.stream import read_by_nobody

        read_by_nobody(1)
        return OK
    except OSError as error:  # a disk that is full, a folder that is gone, no descriptors, no memory
        from executor.cli.stream import read_by_nobody

        read_by_nobody(1)  # what Python still holds back for it could not be written at the end either
        return _say(f"Error: {_trouble(error)}", FAILED)
    except ExecutorError as error:
        wrong = isinstance(error, UsageError | ConfigError | BadDefinition | UnmetRequirement)
        return _say(f"Error: {error}", WRONG if wrong else FAILED)


def _trouble(error: OSError) -> str:
    if error.filename is None and error.errno == errno.ENOENT:
        try:
            os.getcwd()  # noqa: PTH109  (whether it is there is the question)
        except OSError:
            return "the current folder has been removed; change to another one"
    what = error.strerror or str(error)
    return what if error.filename is None else f"{error.filename}: {what}"


def _say(text: str, code: int) -> int:
    click.echo(text, err=True)
    return code
