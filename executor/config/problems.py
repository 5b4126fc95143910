"""The mistakes found in configs: each with its file, line and column, or with its path where there is no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.config.layers import path_text, raise_problems
from executor.config.secrets import MASK, has_secret, is_secret_path, masked
from executor.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.layers import Layer, Path, Place

# A longer value says no more in a sentence.
MOST_SHOWN = 80


class Found(NamedTuple):
    """One mistake."""

    rank: tuple[int, int, int]  #: file, line, column; -1 first: of no file
    text: str
    is_missing: bool = False  #: it says what is not there


class Problems:
    """The mistakes found so far, in the order of files and lines, else in which they were found."""

    def __init__(self) -> None:
        self._found: list[Found] = []
        self._files: dict[str, int] = {}
        # Where a value could not be read: what else is wrong with what stands in its place says nothing.
        self._unread: set[Path | tuple[int, int, int]] = set()
        self._layers: Sequence[Layer] = ()  # those that are being checked, the strongest last

    def of(self, *layers: Layer) -> Problems:
        """The same mistakes, to which those in these layers are added; where several have a path, the last counts."""
        view = Problems()
        view._found, view._files, view._unread, view._layers = self._found, self._files, self._unread, layers
        for layer in layers:
            if layer.file is not None:
                self._files.setdefault(layer.file, len(self._files))
        return view

    def trial(self) -> Problems:
        """An empty collection for the same layers, to see what would be a mistake."""
        view = Problems()
        view._files, view._unread, view._layers = self._files, self._unread, self._layers
        return view

    def take(self, trial: Problems) -> None:
        """Keep what a trial found."""
        self._found.extend(trial._found)

    def split(self) -> tuple[Problems, Problems]:
        """What is wrong, and what is not there."""
        wrong, missing = self.trial(), self.trial()
        for item in self._found:
            (missing if item.is_missing else wrong).keep(item)
        return wrong, missing

    def keep(self, item: Found) -> None:
        """Keep a mistake as another collection had it."""
        self._found.append(item)

    @property
    def count(self) -> int:
        """How many there are so far."""
        return len(self._found)

    @property
    def found(self) -> list[str]:
        """One text for each mistake."""
        return [item.text for item in sorted(self._found, key=lambda item: item.rank)]

    def raise_if_any(self, kind: type[ConfigError] = ConfigError) -> None:
        """Raises them all at once as one error of that kind, where there are any."""
        raise_problems(self.found, kind)

    # --- adding ------------------------------------------------------------------------------------------------------

    def add(self, path: Path, text: str) -> None:
        """Keep one mistake in the value at ``path``; an empty path is the top of what is checked."""
        place = self._place(path)
        if path not in self._unread and (place is None or self._rank(place) not in self._unread):
            self._keep(place, path, f"{path_text(path)}: {text}" if path else text)

    def add_unread(self, path: Path, text: str) -> None:
        """Keep that the value at ``path`` could not be read; nothing else is kept about it."""
        self.add(path, text)
        self._unread.add(path)

    def add_key(self, path: Path, text: str, end: str = "") -> None:
        """Keep one mistake in a key: ``path`` leads to it, and ``end`` follows the words on where it stands."""
        self._at_key(path, path[:-1], text, end)

    def add_at(self, path: Path, text: str) -> None:
        """Keep one mistake at the key that ``path`` leads to, in words that say all."""
        self._keep(self._place(path, key=True), path, text)

    def unknown(self, path: Path, known: Iterable[str], *, what: str = "key", end: str = "") -> None:
        """Keep that the last of ``path`` is none of the ``known`` keys, with the nearest of them."""
        key = str(path[-1])
        self.add_key(path, f"unknown {what} {quoted(key)}", f"{nearest(key, known)}{end}")

    def missing(self, path: Path, words: str) -> None:
        """Keep that nothing stands at ``path``, where ``words`` should."""
        around, name = path[:-1], str(path[-1])
        text = f"{path_text(around)}: has no {quoted(name)}; it takes {words}"
        self._keep(self._place(around, key=True), around, text, is_missing=True)

    def add_from_file(self, layer: Layer) -> None:
        """Keep the mistakes that were found while the file of ``layer`` was read."""
        self._files.setdefault(layer.file or "", len(self._files))
        for line, column, text in layer.mistakes:
            rank = (self._files[layer.file or ""], line + 1, column + 1)
            self._unread.add(rank)
            self._found.append(Found(rank, text))

    def _at_key(self, path: Path, around: Path, text: str, end: str = "") -> None:
        place = self._place(path, key=True)
        if place is not None:
            under = f" under {path_text(around)}" if around else ""
            self._keep(place, path, f"{text}{under}{end}")
        else:
            self._keep(None, path, f"{path_text(around)}: {text}{end}" if around else f"{text}{end}")

    def _keep(self, place: Place | None, path: Path, text: str, *, is_missing: bool = False) -> None:
        if place is not None:
            self._found.append(Found(self._rank(place), f"{place}: {text}", is_missing))
            return
        file = next((layer.file for layer in self._layers if layer.file is not None and not path), None)
        self._found.append(Found((-1, 0, 0), f"{file}: {text}" if file else text, is_missing))

    def _rank(self, place: Place) -> tuple[int, int, int]:
        return self._files.get(place.file, 0), place.line, place.column

    # --- looking -----------------------------------------------------------------------------------------------------

    def layer(self, path: Path) -> Layer | None:
        """The layer that what stands at ``path`` comes from: the strongest that has it, or that comes nearest."""
        for length in range(len(path), -1, -1):
            for layer in reversed(self._layers):
                if layer.has(path[:length]):
                    return layer
        return self._layers[-1] if self._layers else None

    def _place(self, path: Path, *, key: bool = False) -> Place | None:
        """The place of what stands at ``path``, or of what is nearest around it."""
        layer = self.layer(path)
        if layer is None or layer.file is None:
            return None
        if key and path in layer.keys:
            return layer.keys[path]
        for length in range(len(path), -1, -1):
            place = layer.values.get(path[:length]) if length == len(path) else layer.keys.get(path[:length])
            if place is not None:
                return place
        return layer.values.get(())

    def in_yaml(self, path: Path = ()) -> bool:
        """Whether what stands at ``path`` was written in a file, so that what to write instead is shown as YAML."""
        layer = self.layer(path)
        return layer is not None and layer.file is not None

    # --- how values are shown ----------------------------------------------------------------------------------------

    def shown(self, path: Path, value: object) -> str:
        """A value as its author wrote it, unless it is a secret."""
        layer = self.layer(path)
        from_variable = layer is not None and layer.is_from_variable(path)
        if from_variable or is_secret_path(path) or has_secret(value):
            if isinstance(value, Mapping | list | tuple):
                return f"a {kind_word(value)}"
            variable = layer.words.get(path, "").partition(" (")[0] if layer is not None else ""
            return f"{MASK} ({variable})" if variable else MASK
        place = layer.values.get(path) if layer is not None else None
        if place is None or place.text is None:
            text = self.literal(value, path)
            return text if len(text) <= MOST_SHOWN else f"a {kind_word(value)}"
        return quoted(place.text) if isinstance(value, str) else place.text

    def literal(self, value: object, path: Path = ()) -> str:
        """How to write ``value`` where ``path`` stands: as Python, or as YAML on one line. Secrets in it are masked."""
        value = masked(value)
        return flow(value) if self.in_yaml(path) else repr(value)


def kind_word(value: object) -> str:
    """``mapping``, ``list``, or ``value``, for what is too long to be shown."""
    return "mapping" if isinstance(value, Mapping) else "list" if isinstance(value, list | tuple) else "value"


def quoted(name: object) -> str:
    """A name between double quotes, as messages about configs have it."""
    return json_text(str(name))


def nearest(name: object, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` for the nearest of ``known``, or nothing."""
    return did_you_mean(str(name), known, quote='"')


def json_text(value: object) -> str:
    """A value as JSON; ``"…"`` for what has no such form."""
    import json  # needed for a mistake only

    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return '"…"'


def flow(value: object) -> str:
    """A value as YAML on one line: ``{key: database, limit: 1}``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and value.replace("_", "").replace("-", "").isalpha() and value.lower() not in YAML_WORDS:
        return value
    return json_text(value)


#: Words that YAML 1.1 reads as something else than text.
YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def yaml_lines(value: Mapping[str, Any], indent: int = 0) -> list[str]:
    """The lines of a mapping as YAML, nested mappings as blocks."""
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += [f"{'  ' * indent}{flow(key)}:", *yaml_lines(item, indent + 1)]
        else:
            lines.append(f"{'  ' * indent}{flow(key)}: {flow(item)}")
    return lines


def python_lines(value: Mapping[str, Any], indent: int = 0, end: str = "") -> list[str]:
    """The lines of a dict as Python, nested dicts as blocks."""
    lines = ["{"]
    for key, item in value.items():
        margin = "    " * (indent + 1)
        if isinstance(item, Mapping) and item:
            first, *rest = python_lines(item, indent + 1, ",")
            lines += [f"{margin}{json_text(key)}: {first}", *rest]
        else:
            lines.append(f"{margin}{json_text(key)}: {item!r},")
    return [*lines, f"{'    ' * indent}}}{end}"]
