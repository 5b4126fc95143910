"""``Config``: the base of a class that says which config an op or asset takes.

Loaded, and pydantic with it, when a program asks for the name; see docs/adr/0021-config-classes-load-pydantic-late.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from executor.config.secrets import MASK, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable


class Config(BaseModel):
    """Which config an op or asset takes: a pydantic model, given to the function's parameter that is annotated with it.

    A key that is no field is an error, and an object cannot be changed. Fields that are named like secrets, and those
    of pydantic's ``SecretStr``, are masked when an object is shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What pydantic shows of an object, with a mask in place of secrets."""
        for name, value in super().__repr_args__():
            yield name, MASK if is_secret_name(name) and value is not None else value


class PermissiveConfig(Config):
    """A ``Config`` that also takes keys that are no fields; they are attributes of the object."""

    model_config = ConfigDict(extra="allow")
