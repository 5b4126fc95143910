"""``executor instance``: what all runs of a user on this machine share."""

from __future__ import annotations

import click

from executor.cli.lazy import LazyGroup

#: Where each command is.
COMMANDS = {
    "concurrency": "executor.cli.concurrency:concurrency",
    "doctor": "executor.cli.doctor:doctor",
}

EPILOG = """\b
Examples:
  executor instance concurrency set database 2
  executor instance concurrency list
  executor instance doctor
"""


@click.group(cls=LazyGroup, where=COMMANDS, epilog=EPILOG, short_help="Limits that all runs share, and their health.")
def instance() -> None:
    """Show and change what all runs share: the home folder with its limits of pools."""
