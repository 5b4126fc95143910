"""Configs that are pydantic models: checked by pydantic, told in the words of every other mistake.

Loaded when a model is met, which has loaded pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from executor.config.check import as_number
from executor.config.problems import nearest, quoted
from executor.config.secrets import MASK, SecretText, as_plain, without_secrets
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from executor.config.layers import Path
    from executor.config.problems import Problems

#: What pydantic writes in the place of a ``SecretStr``.
PYDANTIC_MASK = "*" * 10

#: What is wrong, in the words of the other checks; others keep pydantic's.
WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a dict",
    "model_type": "a dict",
    "model_attributes_type": "a dict",
    "none_required": "null",
}

JSON_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a dict",
}


class ModelKind:
    """A pydantic model as a kind of config. What it takes is read strictly: ``"4"`` is no number."""

    def __init__(self, model: type[BaseModel], owner: str) -> None:
        self._model, self._owner = model, owner
        self.words = f"a {model.__name__}"

    def check(self, value: Any, path: Path, problems: Problems) -> Any:
        """The data as it was given, when the model takes it. Texts of variables become what the model wants of them."""
        if isinstance(value, BaseModel):
            value = model_data(value)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            problems.add(path, f"{problems.shown(path, value)} is not a dict of {', '.join(self._model.model_fields)}")
            return value
        errors = self._errors(value)
        given = value
        if errors and (read := _read_texts(value, errors)) is not value:
            value, errors = read, self._errors(read)
        wrong: dict[Path, list[str]] = {}  # what a value is not, by its place: of the members of a union several
        for error in errors:
            if error["type"] in WORDS:
                wrong.setdefault(_within(value, error["loc"]), []).append(error["type"])
            else:
                self._tell(error, value, path, problems, given)
        for inner, kinds in wrong.items():
            shown, item = problems.shown((*path, *inner), _at(value, inner)), _at(value, inner)
            hint = "" if shown.startswith(MASK) or len(kinds) > 1 else _hint(kinds[0], item, shown)
            words = " or ".join(dict.fromkeys(WORDS[kind] for kind in kinds))
            problems.add((*path, *inner), f"{shown} is not {words}{hint}")
        return value

    def _errors(self, value: Any) -> list[Any]:
        import json

        plain = as_plain(value)
        try:
            text = json.dumps(plain)
        except (TypeError, ValueError):
            text = None  # a dict of the user's with objects that only Python has
        try:
            if text is None:
                self._model.model_validate(plain)
            else:
                self._model.model_validate_json(text, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=True, include_input=False)
            return [one for one in found if not _is_seconds(one, value)]
        return []

    def _tell(self, error: Any, value: Any, path: Path, problems: Problems, given: Any) -> None:
        """Keep one of pydantic's errors."""
        kind, inner = error["type"], _within(value, error["loc"])
        where = (*path, *inner)
        if kind == "extra_forbidden":
            problems.unknown(where, self._properties_at(inner[:-1]))
            return
        if kind == "missing":
            name = str(error["loc"][-1])
            json_type = self._properties_at(inner).get(name, {}).get("type", "")
            problems.missing((*path, *inner, name), JSON_WORDS.get(json_type, "a value"))
            return
        item = _at(value, inner)
        shown = problems.shown(where, item)
        if kind in {"literal_error", "enum"}:
            expected = error.get("ctx", {}).get("expected", "")
            names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",")]
            hint = nearest(item, names) if isinstance(item, str) else ""
            text = f"{shown} is not one of {expected}{hint}"
        else:
            message = (
                without_secrets(str(error["msg"]), given)
                .removeprefix("Value error, ")
                .removeprefix("Assertion failed, ")
            )
            message = message.replace("Input should", "it should").replace("Value should", "it should")
            text = f"{shown} is not allowed: {message[:1].lower()}{message[1:]}" if inner else message
        problems.add(where, text)

    def _properties_at(self, inner: Path) -> dict[str, Any]:
        """The fields of the model that stands at that path inside, by name, as JSON Schema has them."""
        try:
            schema = self.json_schema()
        except DefinitionError:
            return {}
        definitions, found = schema.get("$defs", {}), schema
        for part in inner:
            more = found.get("additionalProperties")
            inside = found.get("properties", {}).get(part, more if isinstance(more, dict) else {})
            found = found.get("items", {}) if isinstance(part, int) else inside
            reference = found.get("$ref") or next((i["$ref"] for i in found.get("anyOf", []) if "$ref" in i), None)
            if reference:
                found = definitions.get(reference.rpartition("/")[2], {})
        return dict(found.get("properties", {}))

    def build(self, plain: Any) -> Any:
        """The model's object."""
        return self._model.model_validate(plain)

    def effective(self, plain: Any) -> Any:
        """The data with the model's defaults; what is a ``SecretStr`` is masked by pydantic."""
        return self._model.model_validate(as_plain(plain)).model_dump(mode="json")

    def whole(self, plain: Any) -> Any:
        """The data with the model's defaults, to be given again: what stands in it is left as it is.

        A default that is a ``SecretStr`` is left out: pydantic would have put a mask in its place.
        """
        dumped = self._model.model_validate(as_plain(plain)).model_dump(mode="json", by_alias=True)
        return _filled(plain, dumped)

    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema.

        Raises:
            DefinitionError: a field has a type that JSON Schema cannot say.
        """
        try:
            return self._model.model_json_schema()
        except Exception as error:  # pydantic has several classes for that
            raise DefinitionError(f"{self._owner}: {self._model.__name__} has no JSON Schema: {error}") from error


def model_data(model: BaseModel) -> Any:
    """What a model's object was made of, as plain data; its secrets are not shown."""
    return _without_secrets(model.model_dump(exclude_unset=True))


def _without_secrets(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _without_secrets(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_secrets(value) for value in data]
    reveal = getattr(data, "get_secret_value", None)
    if reveal is not None:
        return SecretText(reveal())
    import datetime as dt
    import enum
    import pathlib

    if isinstance(data, enum.Enum):
        return data.value
    return str(data) if isinstance(data, pathlib.PurePath | dt.date | dt.time) else data


def _read_texts(value: Any, errors: list[Any]) -> Any:
    """The data with those texts of variables read as numbers or truth values that the model did not take as text."""
    read: dict[Path, Any] = {}
    for error in errors:
        inner = _within(value, error["loc"])
        text = _at(value, inner)
        if isinstance(text, SecretText):
            truth = {"true": True, "false": False}.get(text.lower())
            found = truth if error["type"].startswith("bool") and truth is not None else as_number(text)
            if found is not text:
                read[inner] = found
    return _with(value, (), read) if read else value


def _with(value: Any, path: Path, read: Mapping[Path, Any]) -> Any:
    if path in read:
        return read[path]
    if isinstance(value, Mapping):
        return {key: _with(item, (*path, key), read) for key, item in value.items()}
    if isinstance(value, list):
        return [_with(item, (*path, number), read) for number, item in enumerate(value)]
    return value


def _within(value: Any, location: tuple[Any, ...]) -> Path:
    """The part of pydantic's location that leads through the data: it also names the members of unions."""
    path: list[str | int] = []
    for part in location:
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _is_seconds(error: Any, value: Any) -> bool:
    """Whether it is only that a duration was given as a number, which is seconds to pydantic where it is not strict."""
    given = _at(value, _within(value, error["loc"]))
    return error["type"] == "time_delta_type" and isinstance(given, int | float) and not isinstance(given, bool)


def _hint(kind: str, value: Any, shown: str) -> str:
    """How to write a value of the wrong type so that it has the right one."""
    if kind == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"; write it with quotes: {quoted(shown)}"
    if isinstance(value, str) and WORDS[kind].endswith("number") and not isinstance(as_number(value), str):
        return f"; write it without quotes: {value}"
    return ""


def _filled(plain: Any, dumped: Any) -> Any:
    """Data with what only the dump of the model built of it has; as it is where their keys do not agree."""
    if not isinstance(plain, Mapping) or not isinstance(dumped, Mapping) or not plain.keys() <= dumped.keys():
        return plain
    return {
        key: _filled(plain[key], value) if key in plain else value
        for key, value in dumped.items()
        if key in plain or not _has_mask(value)
    }


def _has_mask(dumped: Any) -> bool:
    """Whether pydantic has masked something in there."""
    if isinstance(dumped, Mapping):
        return any(map(_has_mask, dumped.values()))
    if isinstance(dumped, list):
        return any(map(_has_mask, dumped))
    return bool(dumped == PYDANTIC_MASK)
