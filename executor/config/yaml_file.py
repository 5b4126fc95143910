"""A YAML file as nodes that know their line, and what is wrong in it, each mistake with its line and column.

Nodes instead of plain values: a plain dict has lost where things stood, has kept the last of two equal keys without a
word, and has made 8 of ``010``. PyYAML is imported when there is a file to read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    Node = Any  # of yaml: its ``id`` is mapping, sequence or scalar

# Larger than anybody writes by hand, and small enough to be read in a moment.
MOST_BYTES = 1 << 20
# Values that aliases may add. A few lines of aliases of aliases can stand for more values than any memory holds.
MOST_ALIASED = 10_000

NULLS = frozenset({"", "~", "null", "Null", "NULL"})

# More digits would be no number that Python reads.
_DIGITS = re.compile(r"[+-]?\d{1,100}")

_NULL_TAG = "tag:yaml.org,2002:null"
_TEXT_TAG = "tag:yaml.org,2002:str"


class Entry(NamedTuple):
    """One key of a mapping, and its value."""

    key: Node
    value: Node


class YamlFile:
    """One file: where it is, and the mistakes found in it so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[tuple[int, int, str]] = []  #: line, column, sentence

    def at(self, node: Node) -> str:
        """Where a node begins, as editors and compilers write it: ``file:line:column``."""
        return f"{self.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def add(self, node: Node, text: str) -> None:
        """Keep one mistake."""
        mark = node.start_mark
        self._problems.append((mark.line, mark.column, f"{self.at(node)}: {text}"))

    @property
    def mistakes(self) -> tuple[tuple[int, int, str], ...]:
        """Line and column, counted from 0, and the sentence of each mistake."""
        return tuple(self._problems)

    def raise_if_any(self) -> None:
        """Raise all mistakes at once as one ``ConfigError``, in the order of their lines, where there are any."""
        if self._problems:
            raise ConfigError([text for _, _, text in sorted(self._problems)])

    def read(self) -> Node | None:
        """The whole document; None for one that is empty.

        Raises:
            ConfigError: it cannot be read, or is no YAML.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise ConfigError([f"{self.path} cannot be read: {error.strerror}"]) from error
        if len(data) > MOST_BYTES:
            line = data.count(b"\n") + 1
            raise ConfigError([f"{self.path}:{line}: goes on after {MOST_BYTES} bytes, and no settings are so large"])
        import yaml

        from executor.config.yaml_composer import BoundedLoader, TooMuch

        try:
            return yaml.compose(data.decode("utf-8-sig"), Loader=BoundedLoader)
        except TooMuch as error:
            mark = error.mark
            raise ConfigError([f"{self.path}:{mark.line + 1}:{mark.column + 1}: {error}"]) from error
        except yaml.reader.ReaderError as error:
            text = data.decode("utf-8-sig")
            line = text.count("\n", 0, error.position) + 1
            character = f"the character U+{error.character:04X}" if isinstance(error.character, int) else "what"
            raise ConfigError([f"{self.path}:{line}: {character} cannot stand in YAML; remove it"]) from error
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ConfigError([f"{self.path}:{line}: is not UTF-8 text; save it as UTF-8"]) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self.path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(self.path)
            said = " ".join(filter(None, [error.problem, error.context]))
            if mark is not None and "${" in data.decode("utf-8-sig").splitlines()[mark.line]:
                said += '; between { } and [ ] write it in quotes: "${VAR}"'
            raise ConfigError([f"{where}: is not YAML: {said}"]) from error
        except yaml.YAMLError as error:
            raise ConfigError([f"{self.path}: is not YAML: {str(error).splitlines()[0]}"]) from error

    def mapping(self, node: Node, what: str) -> dict[str, Entry]:
        """The entries of a mapping by key, for a node that should be one; empty where it is null or something else.

        ``what`` says what should stand there.
        """
        if is_null(node):
            return {}
        if node.id != "mapping":
            self.add(node, f"{shown(node)} stands where {what} should")
            return {}
        found: dict[str, Entry] = {}
        for key, value in node.value:
            if key.id != "scalar":
                self.add(key, "a key must be one word")
            elif key.value in found:
                first = found[key.value].key.start_mark.line + 1
                self.add(key, f"{key.value!r} stands here a second time, after line {first}; keep one of the two")
            else:
                found[key.value] = Entry(key, value)
        return found

    def whole_number(self, node: Node, *, least: int, most: int | None = None, hint: str) -> int | None:
        """The number of a node that should be one; None, and a mistake, where it is something else.

        ``hint`` says what to write, and follows a semicolon.
        """
        variable = self._variable(node)
        if variable is not None:
            return self._number_of(node, *variable, least=least, most=most, hint=hint)
        text = node.value if node.id == "scalar" else ""
        digits = _DIGITS.fullmatch(text)
        if digits and node.tag == _TEXT_TAG:
            self.add(node, f"{shown(node)} is text; write it without quotes: {int(text)}")
        elif digits and len(text.lstrip("+-")) > 1 and text.lstrip("+-").startswith("0"):
            self.add(node, f"{text} begins with 0, which YAML takes for octal; write {int(text)}")
        elif digits and int(text) >= least and (most is None or int(text) <= most):
            return int(text)
        else:
            self.add(node, f"{shown(node)} is not {'allowed' if digits else 'a whole number'}; {hint}")
        return None

    def _variable(self, node: Node) -> tuple[str, str | None] | None:
        """For ``${VAR}`` or ``{env: VAR}``: what it names, and its value, None where that is a mistake; else None."""
        from executor.config.environment import filled, reference, variable

        before = len(self._problems)
        if node.id == "scalar" and "${" in node.value:
            names: list[str] = []
            value = filled(node.value, lambda said: self.add(node, said), names)
            said = ", ".join(names)
        elif node.id == "mapping" and all(key.id == value.id == "scalar" for key, value in node.value):
            name = reference({key.value: value.value for key, value in node.value})
            if name is None:
                return None
            value, said = variable(name, None, lambda text: self.add(node, text), in_file=True), name
        else:
            return None
        return said, value if len(self._problems) == before else None

    def _number_of(
        self, node: Node, names: str, text: str | None, *, least: int, most: int | None, hint: str
    ) -> int | None:
        """The number that the value of a variable is, else None and a mistake. The value itself is not shown."""
        if text is None:
            return None
        if _DIGITS.fullmatch(text) and int(text) >= least and (most is None or int(text) <= most):
            return int(text)
        self.add(node, f"the environment variable {names} is no number that can stand here; {hint}")
        return None


def is_null(node: Node) -> bool:
    """Whether nothing stands there."""
    return bool(node.id == "scalar" and node.tag == _NULL_TAG and node.value in NULLS)


def shown(node: Node) -> str:
    """A node as it is shown in a sentence."""
    if node.id != "scalar":
        return f"a {node.id}"
    return "nothing" if is_null(node) else repr(node.value) if node.tag == _TEXT_TAG else str(node.value)
