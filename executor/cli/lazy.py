"""Groups of commands that are imported when they are asked for, so that none pays for the others."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

from executor.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


class LazyGroup(click.Group):
    """A group whose commands are elsewhere: ``where`` has ``module:name`` for each."""

    def __init__(self, *args: Any, where: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._where = where

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The names of all commands, in the order in which they are shown."""
        return list(self._where)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and for a name that is not there the nearest one."""
        name = args[0]
        if not ctx.resilient_parsing and name not in self._where and not name.startswith("-"):
            ctx.fail(f"there is no command {name!r}{did_you_mean(name, self._where)}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        """The command of that name, or None."""
        where = self._where.get(cmd_name)
        if where is None:
            return None
        module, _, name = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command
