"""Values from environment variables: ``{env: VAR}`` anywhere in a config, and ``${VAR}`` in a file.

What comes from a variable is text, and the setting or config class that it is for says whether it means a number. It is
taken for a secret: it works, and is not shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from executor.config.layers import VARIABLE_WORDS
from executor.config.secrets import SecretText
from executor.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.config.layers import Layer, Path
    from executor.config.problems import Problems

# Capitals, as the names of variables are: ``{env: prod}`` is a dict like any other.
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_IN_TEXT = re.compile(r"\$(\$?)\{([^}]*)\}")
_ONLY = re.compile(r"(\$\{[A-Za-z_][A-Za-z0-9_]*\})+")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def reference(value: object) -> str | None:
    """The variable that ``{env: VAR}`` names; None for anything else."""
    if isinstance(value, Mapping) and len(value) == 1:
        name = value.get("env")
        if isinstance(name, str) and _NAME.fullmatch(name):
            return name
    return None


def has_reference(value: object) -> bool:
    """Whether there is an ``{env: VAR}`` in it."""
    if isinstance(value, Mapping):
        return reference(value) is not None or any(map(has_reference, value.values()))
    return isinstance(value, list | tuple) and any(map(has_reference, value))


def is_reference(value: object) -> bool:
    """Whether it says nothing but which variables to read, as ``{env: VAR}`` or ``${VAR}``."""
    return reference(value) is not None or (isinstance(value, str) and _ONLY.fullmatch(value) is not None)


def expanded(layer: Layer, problems: Problems) -> Layer:
    """The layer with the values of variables in place of what names them; one that is not set is a mistake."""
    reader = _Expansion(layer, problems.of(layer))
    data = reader.read(layer.data, ())
    if not reader.words and not reader.refused:
        return layer
    return replace(layer, data=data, words={**layer.words, **reader.words})


# Of a whole number: a larger one may be neither written as text nor made a float.
MOST_BITS = 333


class _Expansion:
    """One pass over a layer."""

    def __init__(self, layer: Layer, problems: Problems) -> None:
        self._layer, self._problems = layer, problems
        self.refused = False  #: there is something that cannot be checked
        self.words: dict[Path, str] = {}  #: by the path of each value that was replaced: what set it

    def read(self, value: Any, path: Path) -> Any:
        # the config of an op is never a variable itself: a config class may have the one field `env`
        name = reference(value) if path and path[-1] != "config" else None
        if name is not None:
            return self._variable(name, path)
        if isinstance(value, Mapping):
            return {key: self.read(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.read(item, (*path, number)) for number, item in enumerate(value)]
        if isinstance(value, str) and self._layer.file is not None and "${" in value:
            return self._text(value, path)
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            self.refused = True
            self._problems.add_unread(path, "is a whole number of more than 100 digits; no setting is so large")
            return 0
        return value

    def _text(self, text: str, path: Path) -> str:
        """Text with the values of the variables in it."""
        names: list[str] = []
        found = filled(text, lambda said: self._problems.add_unread(path, said), names)
        if not names:
            return found
        self._say(", ".join(names), path)
        return SecretText(found)

    def _variable(self, name: str, path: Path) -> str:
        self._say(name, path)
        in_file = self._layer.file is not None
        return SecretText(variable(name, None, lambda said: self._problems.add_unread(path, said), in_file=in_file))

    def _say(self, names: str, path: Path) -> None:
        place = self._layer.origin(path)
        self.words[path] = f"{VARIABLE_WORDS}{names}" + (f" ({place})" if place else "")


def filled(text: str, fail: Callable[[str], None], names: list[str]) -> str:
    """Text with the values of variables in place of each ``${VAR}``; ``$${`` stands for ``${``.

    What is wrong goes to ``fail``, and the names of the variables that were read to ``names``.
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        inside = _INSIDE.fullmatch(match[2])
        if inside is None:
            fail(f"{match[0]} names no environment variable; write ${{NAME}} or ${{NAME:-default}}, or $${{")
            return ""
        names.append(inside[1])
        return variable(inside[1], inside[2], fail, in_file=True)

    return _IN_TEXT.sub(value, text)


def variable(name: str, default: str | None, fail: Callable[[str], None], *, in_file: bool) -> str:
    """The value of a variable; the default where it is empty or not set. One that is not set and has none fails."""
    value = os.environ.get(name) or default
    if value is None:
        value = os.environ.get(name)
    if value is None:
        hint = f", or write a default: ${{{name}:-...}}" if in_file else ""
        near = did_you_mean(name, os.environ, quote='"')
        fail(f"the environment variable {name} is not set; set it{hint}{near}")
        return ""
    return value
