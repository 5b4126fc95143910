"""Run configs from YAML files, as plain data that knows its lines.

What YAML 1.1 makes of some words surprises everybody (``on`` is true, ``010`` is 8, ``1:30`` is 90), and other readers
of the same file make something else of them. So these are refused, with what to write instead.
"""

from __future__ import annotations

import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from executor.config.layers import Layer, LayeredConfig, Place
from executor.config.problems import quoted
from executor.config.yaml_file import YamlFile, is_null
from executor.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from executor.config.layers import Path
    from executor.config.yaml_file import Node

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_HEX = re.compile(r"[+-]?0x[0-9a-fA-F]+")
_POWER = re.compile(r"[+-]?[0-9]+([.][0-9]*)?[eE][0-9]+|[+-]?[0-9]+[eE][+-][0-9]+|0o[0-7]+")

# Longer ones are no settings, and some of them no numbers that Python reads.
MOST_DIGITS = 100


def config_from_files(*paths: str | os.PathLike[str]) -> LayeredConfig:
    """The run config of these YAML files, merged in order: the later one wins, key by key.

    ``${VAR}`` and ``{env: VAR}`` are followed when a job is run with it; a mistake is told then with its line.

    Raises:
        ConfigError: a file cannot be read, is no YAML, or has what YAML reads in a surprising way.
    """
    layers = read_files(paths)
    mistakes = [text for layer in layers for _, _, text in sorted(layer.mistakes)]
    if mistakes:
        raise ConfigError(mistakes)
    return LayeredConfig(layers)


def read_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[Layer, ...]:
    """A layer for each file; what is wrong with a file is kept in its layer."""
    return tuple(_read(FilePath(path)) for path in paths)


def _read(path: FilePath) -> Layer:
    file = YamlFile(path)
    try:
        document = file.read()
    except ConfigError as error:
        mistakes = tuple((-1, 0, text) for text in error.problems)
        return Layer({}, str(path), str(path), mistakes=mistakes, is_read=False)
    reader = _Reader(file)
    data = {} if document is None else reader.data(document, ())
    return Layer(
        {} if data is None else data,
        str(path),
        str(path),
        keys=reader.keys,
        values=reader.values,
        mistakes=file.mistakes,
    )


class _Reader:
    """Makes data of the nodes of one file."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def data(self, node: Node, path: Path) -> Any:
        """What a node stands for."""
        self.values[path] = self._place(node, node.value if node.id == "scalar" else None)
        if node.id == "mapping":
            return self._mapping(node, path)
        if node.id == "sequence":
            if node.tag != f"{_TAG}seq":
                self._no_tag(node)
            return [self.data(item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _place(self, node: Node, text: str | None = None) -> Place:
        mark = node.start_mark
        return Place(str(self._file.path), mark.line + 1, mark.column + 1, text)

    def _mapping(self, node: Node, path: Path) -> dict[Any, Any]:
        if node.tag != f"{_TAG}map":
            self._no_tag(node)
        found: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                self._merge(value_node, path, found)
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if key_node.id != "scalar" or is_null(key_node):
                self._file.add(key_node, "a key must be one word")
                continue
            key = self._scalar(key_node)
            if isinstance(key, bool | float):
                key = key_node.value
            if key in lines:
                self._file.add(
                    key_node,
                    f"{quoted(key_node.value)} stands here a second time, after line {lines[key]}; keep one of the two",
                )
                continue
            lines[key] = key_node.start_mark.line + 1
            self.keys[*path, key] = self._place(key_node)
            found[key] = self.data(value_node, (*path, key))
        return found

    def _merge(self, node: Node, path: Path, found: dict[Any, Any]) -> None:
        """``<<: *base``: the keys of other mappings, where they are not written here."""
        for item in node.value if node.id == "sequence" else [node]:
            if item.id != "mapping":
                self._file.add(item, "<<: takes a mapping, or a list of them, such as <<: *base")
                continue
            for key, value in self._mapping(item, path).items():
                found.setdefault(key, value)

    def _scalar(self, node: Node) -> Any:
        text: str = node.value
        if node.style in {"'", '"', "|", ">"} and node.tag == f"{_TAG}str":
            return text
        match node.tag.removeprefix(_TAG):
            case "str":
                if _POWER.fullmatch(text):
                    self._surprise(node, f"{text} is text in YAML 1.1 and a number in YAML 1.2", _number(text))
                return text
            case "null":
                return None
            case "bool":
                if text.lower() in {"true", "false"}:
                    return text.lower() == "true"
                meant = "true" if text.lower() in {"yes", "on"} else "false"
                self._surprise(node, f"{text} means {meant} in YAML 1.1 and is text in YAML 1.2", meant)
                return meant == "true"
            case "int":
                return self._int(node, text)
            case "float":
                return self._float(node, text)
            case "timestamp" | "value":
                return text  # a date is for whoever takes it to read
        self._no_tag(node)
        return text

    def _float(self, node: Node, text: str) -> float | str:
        if ":" in text:
            self._surprise(node, f"{text} is a number to the base 60 in YAML 1.1", None)
            return text
        if "_" in text:
            return self._underscores(node, text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def _int(self, node: Node, text: str) -> int | str:
        if len(text) > MOST_DIGITS:
            self._file.add(node, f"is a number of {len(text)} characters; no setting is so large")
            return text
        if "_" in text and ":" not in text:
            return self._underscores(node, text)
        if _WHOLE.fullmatch(text):
            return int(text)
        if _HEX.fullmatch(text):
            return int(text, 16)
        if ":" in text:
            self._surprise(node, f"{text} is a number to the base 60 in YAML 1.1", None)
        else:
            plain = text.lstrip("+-").lstrip("0b") or "0"
            sign = "-" if text.startswith("-") else ""
            what = "to the base 2" if "b" in text else "to the base 8"
            self._surprise(node, f"{text} is a number {what} in YAML 1.1", sign + plain if plain.isdecimal() else None)
        return text

    def _underscores(self, node: Node, text: str) -> str:
        self._surprise(node, f"{text} is a number in YAML 1.1 and text in YAML 1.2", _number(text.replace("_", "")))
        return text

    def _surprise(self, node: Node, said: str, instead: str | None) -> None:
        plain = f"{instead}, or " if instead is not None else ""
        self._file.add(node, f"{said}; write {plain}{quoted(node.value)} in quotes")

    def _no_tag(self, node: Node) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self._file.add(node, f"the tag {tag} is not read; leave it out, and write plain values")


def _number(text: str) -> str | None:
    try:
        if text.startswith("0o"):
            return str(int(text, 0))
        return str(int(text)) if _WHOLE.fullmatch(text) else repr(float(text))
    except ValueError:
        return None
