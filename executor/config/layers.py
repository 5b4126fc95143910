"""A config as it was written, and where each part of it stands: a dict, or a file with its lines and columns.

Several are laid over each other, the later one winning key by key. Each stays whole, so that a mistake or a setting
can be traced to the place where somebody wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from executor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

#: Levels of a config; no setting stands nearly so deep. What is written in code may even hold itself.
MOST_DEPTH = 64

#: Where something stands in a config: the keys and positions that lead to it.
Path = tuple["str | int", ...]


def path_text(path: Path) -> str:
    """A path as people write it: ``execution.config.tag_concurrency_limits[0].limit``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


#: What the words on a value begin with where an environment variable has set it.
VARIABLE_WORDS = "environment variable "


class Place(NamedTuple):
    """Where a key or a value begins in a file, and a value as it is written there."""

    file: str
    line: int
    column: int
    text: str | None = None  #: None: it is not one word, but a list or a mapping

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One config: what it says, and where it says it."""

    data: Any  #: a dict, unless it is a mistake
    label: str = ""  #: words for where it came from: ``run config``, ``the config of job 'daily'``
    file: str | None = None  #: None: it is no file
    keys: Mapping[Path, Place] = field(default_factory=dict)  #: places of keys; of a file
    values: Mapping[Path, Place] = field(default_factory=dict)  #: places of values; of a file
    words: Mapping[Path, str] = field(default_factory=dict)  #: what set a value, where that is no key: ``--select``
    mistakes: tuple[tuple[int, int, str], ...] = ()  #: of a file that is read as far as possible: line, column, text
    is_read: bool = True  #: False: it is a file that says nothing, because it could not be read at all

    def has(self, path: Path) -> bool:
        """Whether something stands at ``path``."""
        found = self.data
        for part in path:
            if isinstance(found, Mapping):
                if part not in found:
                    return False
            elif not isinstance(found, list | tuple) or not isinstance(part, int) or part >= len(found):
                return False
            found = found[part]
        return True

    def is_from_variable(self, path: Path) -> bool:
        """Whether the value at ``path``, or anything in it, is that of an environment variable."""
        return any(
            where[: len(path)] == path and words.startswith(VARIABLE_WORDS) for where, words in self.words.items()
        )

    def origin(self, path: Path) -> str:
        """Where the value at ``path`` was set, in words: ``run.yaml:4:7``, ``--max-concurrent``, ``run config``."""
        if path in self.words:
            return self.words[path]
        place = self.keys.get(path) or self.values.get(path)
        return str(place) if place is not None else self.label


def moved(layer: Layer, data: Any, moves: Mapping[Path, Path]) -> Layer:
    """The same layer with other ``data``, in which what stood at the keys of ``moves`` stands at their values."""

    def move(places: Mapping[Path, T]) -> dict[Path, T]:
        found = dict(places)
        for path, place in places.items():
            for length in range(len(path) + 1):
                if path[:length] in moves:
                    found[*moves[path[:length]], *path[length:]] = place
        return found

    return replace(layer, data=data, keys=move(layer.keys), values=move(layer.values), words=move(layer.words))


class LayeredConfig(dict[str, Any]):
    """A run config made of several, merged; it keeps them, so that mistakes are told with their lines."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(merged([layer.data for layer in layers]))
        self.layers = tuple(layers)


def layers_of(run_config: object, label: str = "run config") -> tuple[Layer, ...]:
    """The layers of what was given as a run config, the strongest last.

    Raises:
        ConfigError: it is nested deeper than any config, or holds itself.
    """
    if run_config is None:
        return ()
    if isinstance(run_config, LayeredConfig):
        return run_config.layers
    to_dict = getattr(run_config, "to_config_dict", None)  # a RunConfig
    data = run_config if to_dict is None else to_dict()
    if text := nesting_problem(data):
        raise ConfigError([f"{label} {text}"])
    return (Layer(data, label),)


def nesting_problem(data: object) -> str:
    """What to say of a config that is nested deeper than any can be, or holds itself; empty for all others."""
    level = [data]
    for _ in range(MOST_DEPTH + 1):
        inner = [item for outer in level for item in _inside(outer)]
        level = list({id(item): item for item in inner}.values())  # what stands there many times is looked at once
    if not level:
        return ""
    return (
        f"is nested more than {MOST_DEPTH} levels deep, or holds itself; no setting stands there (an op in many graphs "
        "is named with dots: {'ops': {'outer.inner.load': ...}})"
    )


def _inside(data: object) -> Iterable[object]:
    if isinstance(data, Mapping):
        return data.values()
    return data if isinstance(data, list | tuple) else ()


def merged(configs: Iterable[Any]) -> dict[str, Any]:
    """These configs laid over each other: dicts key by key, anything else as a whole; the later one wins."""
    found: dict[str, Any] = {}
    for config in configs:
        if isinstance(config, Mapping):
            _lay_over(found, config)
    return found


def _lay_over(below: dict[str, Any], config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        there = below.get(key)
        if isinstance(value, Mapping):
            inner = below[key] = dict(there) if isinstance(there, Mapping) else {}
            _lay_over(inner, value)
        elif value is not None or not isinstance(there, Mapping):  # a section with nothing in it takes nothing away
            below[key] = value


def raise_problems(problems: Iterable[str], kind: type[ConfigError] = ConfigError) -> None:
    """Raises them all at once as one error of that kind, where there are any."""
    if found := list(problems):
        raise kind(found)
