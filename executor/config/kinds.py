"""What a config may be: a number, a list, a dict of known keys; checked and built in plain Python.

No pydantic: a step with a dataclass as its config must not pay for it. What pydantic models say is in ``models.py``,
and how annotations are read in ``annotations.py``.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from executor.config.check import as_number
from executor.config.problems import Problems, json_text, nearest, quoted
from executor.config.secrets import MASK, SecretText

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Iterable

    from executor.config.layers import Path

#: Stands for a default that there is not, and for the result of a check that found a mistake.
ABSENT: Any = type("_Absent", (), {"__repr__": lambda _: "absent"})()


class Kind(Protocol):
    """What a config, or a part of one, may be."""

    @property
    def words(self) -> str:
        """For messages, as what follows "is not": ``a whole number``."""

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The value as plain data, with its defaults; mistakes go to the problems."""

    def build(self, plain: Any) -> Any:
        """What the function gets for checked data."""

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""


@dataclass(frozen=True)
class Field:
    """One key of a config schema: ``Field(int, default_value=3, description="rows at a time")``.

    Args:
        config: its type: ``int``, ``str``, ``list[str]``, a dict of further keys, or a config class.
        default_value: what it is where nobody says it; there need not be one.
        is_required: False: it may be left out, also without a default. Without it: whether there is no default.
        description: for people, in ``executor config schema``.
    """

    config: Any
    default_value: Any = ABSENT
    is_required: bool | None = None
    description: str | None = None

    @property
    def has_default(self) -> bool:
        """Whether there is a value for where nobody says it."""
        return self.default_value is not ABSENT

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return not self.has_default if self.is_required is None else self.is_required


@dataclass(frozen=True)
class Plain:
    """One of the types that configs are made of."""

    type: type
    words: str
    json_type: str

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The value, when it has the type; a whole number is also a number, and text of a variable whatever it says."""
        if isinstance(value, SecretText) and self.type is not str:
            value = _read_text(value, self.type)
        if self.type is float and type(value) is int:
            return float(value)
        if isinstance(value, self.type) and (self.type is bool or not isinstance(value, bool)):
            return value
        problems.add(path, f"{problems.shown(path, value)} is not {self.words}{self._hint(value, path, problems)}")
        return ABSENT

    def _hint(self, value: Any, path: Path, problems: Problems) -> str:
        if problems.shown(path, value).startswith(MASK):  # what to write would show it
            return ""
        if self.type is str and isinstance(value, int | float):
            text = problems.shown(path, value)
            return f"; write it with quotes: {quoted(text)}"
        if isinstance(value, str) and not isinstance(value, SecretText):
            read = _read_text(value, self.type)
            if not isinstance(read, str):
                return f"; write it without quotes: {problems.literal(read, path)}"
        return ""

    def build(self, plain: Any) -> Any:
        """The value itself."""
        return plain

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": self.json_type}


def _read_text(text: str, kind: type) -> Any:
    """What text stands for where ``kind`` is wanted; the text itself where it is none."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    number = as_number(text) if kind in {int, float} else text
    return text if kind is int and isinstance(number, float) else number


@dataclass(frozen=True)
class Anything:
    """Any data."""

    words: str = "anything"

    def check(self, value: Any, path: Path, problems: Problems) -> Any:  # noqa: ARG002  (there is nothing to check)
        """The value as it is."""
        return value

    def build(self, plain: Any) -> Any:
        """The value itself."""
        return plain

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {}


@dataclass(frozen=True)
class Choice:
    """One of several values: a ``Literal``, or the values of an ``Enum``."""

    values: tuple[Any, ...]
    enum: type[enum.Enum] | None = None

    @property
    def words(self) -> str:
        """For messages."""
        return "one of " + ", ".join(map(json_text, self.values))

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The value, when it is one of them."""
        if self.enum is not None and isinstance(value, self.enum):
            value = value.value
        for known in self.values:
            if type(known) is type(value) and known == value:
                return value
            if isinstance(value, SecretText) and value == str(known):
                return known
        hint = nearest(value, map(str, self.values)) if isinstance(value, str) else ""
        problems.add(path, f"{problems.shown(path, value)} is not {self.words}{hint}")
        return ABSENT

    def build(self, plain: Any) -> Any:
        """The value, or the member of the enumeration."""
        return plain if self.enum is None else self.enum(plain)

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class FromText:
    """A type that is made of text: a path, a date, a time, a decimal, a UUID."""

    type: type
    parse: Callable[[str], Any]
    words: str

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The text, when it can be read."""
        if isinstance(value, self.type):
            return str(value)
        if isinstance(value, str):
            try:
                self.parse(value)
            except (ValueError, ArithmeticError):
                pass
            else:
                return value
        problems.add(path, f"{problems.shown(path, value)} is not {self.words}")
        return ABSENT

    def build(self, plain: Any) -> Any:
        """The object."""
        return self.parse(plain)

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": "string"}


@dataclass(frozen=True)
class ListOf:
    """A list, tuple or set of one kind."""

    item: Kind
    make: Callable[[Iterable[Any]], Any]
    words: str = "a list"

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The items, each checked."""
        if not isinstance(value, list | tuple | set | frozenset):
            problems.add(path, f"{problems.shown(path, value)} is not a list of {self.item.words}")
            return ABSENT
        return [self.item.check(item, (*path, number), problems) for number, item in enumerate(value)]

    def build(self, plain: Any) -> Any:
        """The collection of that type."""
        return self.make(self.item.build(item) for item in plain)

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": "array", "items": self.item.json_schema()}


@dataclass(frozen=True)
class DictOf:
    """A dict with keys of one kind and values of one kind."""

    key: Kind
    value: Kind
    words: str = "a dict"

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The entries, each checked."""
        if not isinstance(value, Mapping):
            problems.add(path, f"{problems.shown(path, value)} is not a dict")
            return ABSENT
        return {
            self.key.check(key, (*path, key), problems): self.value.check(item, (*path, key), problems)
            for key, item in value.items()
        }

    def build(self, plain: Any) -> Any:
        """The dict."""
        return {self.key.build(key): self.value.build(item) for key, item in plain.items()}

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"type": "object", "additionalProperties": self.value.json_schema()}


@dataclass(frozen=True)
class Either:
    """One of several kinds; the first that fits."""

    kinds: tuple[Kind, ...]

    @property
    def words(self) -> str:
        """For messages."""
        return " or ".join(kind.words for kind in self.kinds)

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The value, checked by the first kind that it fits."""
        tried: list[Problems] = []
        for kind in self.kinds:
            trial = problems.trial()
            found = kind.check(value, path, trial)
            if not trial.count:
                return found
            tried.append(trial)
        structured = [
            trial
            for kind, trial in zip(self.kinds, tried, strict=True)
            if isinstance(kind, Shape) and isinstance(value, Mapping)
        ]
        if len(structured) == 1:  # it is meant to be that one
            problems.take(structured[0])
        else:
            problems.add(path, f"{problems.shown(path, value)} is not {self.words}")
        return ABSENT

    def build(self, plain: Any) -> Any:
        """What the first kind that fits makes of it."""
        for kind in self.kinds:
            trial = Problems()
            kind.check(plain, (), trial)
            if not trial.count:
                return kind.build(plain)
        return plain

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        return {"anyOf": [kind.json_schema() for kind in self.kinds]}


class Key(typing.NamedTuple):
    """One key of a shape."""

    kind: Kind
    required: bool
    default: Callable[[], Any] | None = None  #: None: it is left out
    description: str | None = None


@dataclass(frozen=True)
class Shape:
    """A dict of known keys, or a dataclass."""

    keys: Mapping[str, Key]
    make: Callable[..., Any] | None = None  #: None: it stays a dict
    name: str = "a dict"

    @property
    def words(self) -> str:
        """For messages."""
        return self.name

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """A dict of its keys, each checked, with the defaults of those that are not given."""
        if self.make is not None and isinstance(value, self.make):  # type: ignore[arg-type]  # a dataclass
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            problems.add(path, f"{problems.shown(path, value)} is not a dict of {', '.join(self.keys) or 'nothing'}")
            return ABSENT
        found: dict[str, Any] = {}
        for key, item in value.items():
            known = self.keys.get(key)
            if known is None:
                problems.unknown((*path, key), self.keys)
            else:
                found[key] = known.kind.check(item, (*path, key), problems)
        for key, known in self.keys.items():
            if key in value:
                continue
            if known.required:
                problems.missing((*path, key), known.kind.words)
            elif known.default is not None:
                found[key] = known.kind.check(known.default(), (*path, key), Problems())
        return found

    def build(self, plain: Any) -> Any:
        """The dict, or the object of the dataclass."""
        found = {key: self.keys[key].kind.build(value) for key, value in plain.items()}
        return found if self.make is None else self.make(**found)

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        properties: dict[str, Any] = {}
        for name, key in self.keys.items():
            found = dict(key.kind.json_schema())
            if key.default is not None:
                default = key.kind.check(key.default(), (name,), Problems())
                if json_text(default) != '"…"':
                    found["default"] = default
            if key.description:
                found["description"] = key.description
            properties[name] = found
        required = [name for name, key in self.keys.items() if key.required]
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        return schema | ({"required": required} if required else {})
