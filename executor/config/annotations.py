"""From annotations and config schemas to the kinds of config that they stand for."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, Union

from executor.config.kinds import (
    Anything,
    Choice,
    DictOf,
    Either,
    Field,
    FromText,
    Key,
    Kind,
    ListOf,
    Plain,
    Shape,
)
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PLAIN: dict[Any, Kind] = {
    int: Plain(int, "a whole number", "integer"),
    float: Plain(float, "a number", "number"),
    str: Plain(str, "text", "string"),
    bool: Plain(bool, "true or false", "boolean"),
    type(None): Plain(type(None), "null", "null"),
    None: Plain(type(None), "null", "null"),
    dict: DictOf(Anything(), Anything()),
    list: ListOf(Anything(), list),
    tuple: ListOf(Anything(), tuple),
    set: ListOf(Anything(), set),
    Any: Anything(),
    object: Anything(),
}

_COLLECTIONS: dict[Any, Callable[[Iterable[Any]], Any]] = {list: list, tuple: tuple, set: set, frozenset: frozenset}


def kind_of(annotation: Any, owner: str) -> Kind:
    """The kind of config that an annotation or a config schema stands for.

    Raises:
        DefinitionError: it is nothing that a config can be; ``owner`` says whose it is.
    """
    if isinstance(annotation, typing.Hashable) and annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, dict):
        return Shape({str(name): _schema_key(item, f"{owner}, key {name!r}") for name, item in annotation.items()})
    if isinstance(annotation, Field):
        return kind_of(annotation.config, owner)
    if isinstance(annotation, list) and len(annotation) == 1:
        return ListOf(kind_of(annotation[0], owner), list)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(arguments[0], owner)
    if origin is Literal:
        return Choice(arguments)
    if origin in {Union, types.UnionType}:
        return Either(tuple(kind_of(item, owner) for item in arguments))
    if origin in _COLLECTIONS or origin in _ABSTRACT:
        kept = [item for item in arguments if item is not Ellipsis]
        if len(kept) == 1:
            return ListOf(kind_of(kept[0], owner), _COLLECTIONS.get(origin, list))
    if (origin is dict or origin in _MAPPINGS) and len(arguments) == 2:
        return DictOf(kind_of(arguments[0], owner), kind_of(arguments[1], owner))
    if isinstance(annotation, type):
        return _kind_of_class(annotation, owner)
    raise _no_kind(annotation, owner)


_ABSTRACT = {typing.get_origin(item) for item in (typing.Sequence[int], typing.Iterable[int], typing.Collection[int])}
_MAPPINGS = {typing.get_origin(item) for item in (typing.Mapping[str, int], typing.MutableMapping[str, int])}


def _kind_of_class(cls: type, owner: str) -> Kind:
    if dataclasses.is_dataclass(cls):
        return _dataclass_shape(cls, owner)
    if issubclass(cls, enum.Enum):
        return Choice(tuple(member.value for member in cls), cls)
    if hasattr(cls, "model_fields"):
        from executor.config.models import ModelKind

        return ModelKind(typing.cast("Any", cls), owner)
    import datetime as dt
    import decimal
    import pathlib
    import uuid

    texts: dict[type, tuple[Callable[[str], Any], str]] = {
        pathlib.Path: (pathlib.Path, "a path"),
        pathlib.PurePath: (pathlib.PurePath, "a path"),
        dt.datetime: (dt.datetime.fromisoformat, "a date and time, such as 2026-01-31 12:00:00"),
        dt.date: (dt.date.fromisoformat, "a date, such as 2026-01-31"),
        dt.time: (dt.time.fromisoformat, "a time, such as 12:00:00"),
        decimal.Decimal: (decimal.Decimal, "a decimal number"),
        uuid.UUID: (uuid.UUID, "a UUID"),
    }
    if cls in texts:
        return FromText(cls, *texts[cls])
    raise _no_kind(cls, owner)


def _no_kind(annotation: object, owner: str) -> DefinitionError:
    return DefinitionError(
        f"{owner}: nothing in a config can be a {getattr(annotation, '__name__', annotation)!r}; use int, float, str, "
        f"bool, None, list, dict, tuple, set, Literal, an Enum, a path, a date, a dataclass, or a class of Config"
    )


def _schema_key(item: Any, owner: str) -> Key:
    """One key of a schema that is a dict: a type, or a ``Field``."""
    if isinstance(item, Field):
        default = _constant(item.default_value) if item.has_default else None
        return Key(kind_of(item.config, owner), item.required, default, item.description)
    return Key(kind_of(item, owner), required=True)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _dataclass_shape(cls: type, owner: str) -> Shape:
    try:
        hints = typing.get_type_hints(cls)
    except Exception as error:  # an annotation of the user's may raise anything
        raise DefinitionError(f"{owner}: the annotations of {cls.__name__} cannot be read ({error})") from error
    keys: dict[str, Key] = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        default: Callable[[], Any] | None = None
        if field.default is not dataclasses.MISSING:
            default = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory
        kind = kind_of(hints[field.name], f"{owner}, field {field.name!r} of {cls.__name__}")
        keys[field.name] = Key(kind, default is None, default)
    return Shape(keys, cls, f"a {cls.__name__}")
