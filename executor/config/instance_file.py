"""What ``executor.yaml`` in the home folder says for all runs; every mistake with its line.

Of this file ``concurrency``, ``retention`` and ``storage`` are read so far. The spellings of Dagster's older documents
are understood, and each comes with a notice that shows the new one. What belongs to the queue of runs is checked and
has no effect yet, which a notice says.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.config.machine import largest_pool_limit
from executor.config.storage import StorageSettings, read_storage
from executor.config.yaml_file import YamlFile, is_null, shown
from executor.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from executor.config.yaml_file import Entry, Node

#: The first of these that is there is read.
FILE_NAMES = ("executor.yaml", "dagster.yaml")

#: At the top of the file: settings of the queue of runs.
QUEUE_SECTIONS = ("run_queue", "run_coordinator")

#: At the top of the file: what is read.
READ = ("concurrency", "retention", "storage")

#: Under ``retention`` in Dagster's file, of what is not there yet.
DAGSTERS = ("schedule", "sensor")

# So near to it that nothing else can be meant.
MISSPELT = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The limits of pools that stand in the file."""

    limits: Mapping[str, int] = field(default_factory=dict)  #: slots of each pool that is named; 0: paused
    default_limit: int | None = None  #: slots of every pool that has no limit of its own; None: unlimited


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """Which runs are kept: those that fit all of these. None is no bound."""

    max_count: int | None = 200  #: so many of the newest
    max_days: int | None = 30  #: since they were made
    max_gib: int | None = 10  #: on disk, of the newest together


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """What the file says, as far as it is read."""

    file: Path | None = None  #: None: there is none
    pools: PoolSettings = PoolSettings()
    retention: RetentionSettings = RetentionSettings()
    storage: StorageSettings = field(default_factory=StorageSettings)
    op_granularity_run_buffer: int | None = None  #: of the queue of runs, which is not there yet
    notices: tuple[str, ...] = ()  #: what has no effect yet, and older spellings; each with its line
    ignored: tuple[str, ...] = ()  #: other sections at the top of the file


def settings_file(home: Path) -> Path | None:
    """The file that is read for this home folder; None where there is none."""
    return next((path for name in FILE_NAMES if (path := home / name).exists()), None)


def read_instance_settings(home: Path) -> InstanceSettings:
    """The settings of a home folder; those that mean nothing where there is no file.

    Raises:
        ConfigError: the file cannot be read or has mistakes; all of them at once, each with its line and column.
    """
    path = settings_file(home)
    return InstanceSettings() if path is None else _Reader(YamlFile(path)).read()


def _misspelt(name: str, known: str) -> bool:
    return difflib.SequenceMatcher(None, name, known).ratio() >= MISSPELT


def _nothing(_: Entry) -> None:
    """What has no meaning yet."""


class _Said(NamedTuple):
    """A setting, and where and in which words it was written."""

    node: Node
    words: str
    value: Any


class _Reader:
    """Reads one file."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file
        self._limits: dict[str, int] = {}
        self._defaults: list[_Said] = []
        self._most_runs: list[_Said] = []
        self._notices: list[str] = []
        self._retention: dict[str, int | None] = {}
        self._buffer: int | None = None
        self._largest = largest_pool_limit()
        self._number_hint = (
            f"write a whole number of slots from 0, which pauses the pool, to {self._largest}, or leave it out"
        )

    def read(self) -> InstanceSettings:
        """What the file says.

        Raises:
            ConfigError: it has mistakes.
        """
        document = self._file.read()
        ignored = []
        storage = StorageSettings()
        for name, entry in self._file.mapping(document, "a mapping of settings").items() if document else ():
            if name == "concurrency":
                self._concurrency(entry.value)
            elif name == "retention":
                self._section(entry.value, "retention", {"runs": self._runs_kept} | dict.fromkeys(DAGSTERS, _nothing))
            elif name == "storage":
                storage = read_storage(self._file, entry.value)
            elif name in QUEUE_SECTIONS:
                self._queue(entry, name)
            elif near := next((known for known in READ if _misspelt(name, known)), None):
                self._file.add(entry.key, f"unknown key {name!r}; did you mean {near!r}?")
            else:
                ignored.append(name)
        default = self._one_of(self._defaults)
        self._one_of(self._most_runs)
        self._file.raise_if_any()
        return InstanceSettings(
            file=self._file.path,
            pools=PoolSettings(limits=self._limits, default_limit=default),
            retention=RetentionSettings(**self._retention),
            storage=storage,
            op_granularity_run_buffer=self._buffer,
            notices=tuple(self._notices),
            ignored=tuple(ignored),
        )

    # --- concurrency and what is in it --------------------------------------------------------------------------------

    def _concurrency(self, node: Node) -> None:
        self._section(
            node,
            "concurrency",
            {
                "pools": self._pools,
                "runs": self._runs,
                "default_op_concurrency_limit": lambda entry: self._default(
                    entry, "concurrency.default_op_concurrency_limit", older=True
                ),
                "concurrency_group": self._group,
                "max_runs": lambda entry: self._max_runs(entry, "concurrency.max_runs", older=True),
                "run_tag_limits": lambda entry: self._tag_limits(entry, "concurrency.run_tag_limits", older=True),
            },
        )

    def _pools(self, entry: Entry) -> None:
        self._section(
            entry.value,
            "concurrency.pools",
            {
                "default_limit": lambda item: self._default(item, "concurrency.pools.default_limit"),
                "limits": self._named_limits,
                "granularity": lambda item: self._granularity(item, "concurrency.pools.granularity"),
                "op_granularity_run_buffer": self._run_buffer,
            },
            unknown=self._pool_beside_limits,
        )

    def _group(self, entry: Entry) -> None:
        self._older(entry.key, "concurrency.concurrency_group", "concurrency.pools")
        self._section(
            entry.value,
            "concurrency.concurrency_group",
            {
                "default_limit": lambda item: self._default(item, "concurrency.concurrency_group.default_limit"),
                "enforcement_level": lambda item: self._granularity(
                    item, "concurrency.concurrency_group.enforcement_level"
                ),
            },
        )

    def _runs(self, entry: Entry) -> None:
        self._section(
            entry.value,
            "concurrency.runs",
            {
                "max_concurrent_runs": lambda item: self._max_runs(item, "concurrency.runs.max_concurrent_runs"),
                "tag_concurrency_limits": lambda item: self._tag_limits(
                    item, "concurrency.runs.tag_concurrency_limits"
                ),
            },
        )

    def _section(
        self,
        node: Node,
        path: str,
        known: Mapping[str, Callable[[Entry], None]],
        unknown: Callable[[str, Entry], bool] | None = None,
    ) -> None:
        """Read each key of a section; one that is not known is a mistake, unless ``unknown`` has reported it."""
        for name, entry in self._file.mapping(node, f"a mapping, such as {next(iter(known))}: ...,").items():
            if name in known:
                known[name](entry)
            elif unknown is None or not unknown(name, entry):
                self._file.add(entry.key, f"unknown key {name!r} under {path}{did_you_mean(name, known)}")

    # --- pools --------------------------------------------------------------------------------------------------------

    def _default(self, entry: Entry, words: str, *, older: bool = False) -> None:
        if older:
            self._older(entry.key, words, "concurrency.pools.default_limit")
        if not is_null(entry.value) and (limit := self._slots(entry.value)) is not None:
            self._defaults.append(_Said(entry.key, words, limit))

    def _named_limits(self, entry: Entry) -> None:
        for name, item in self._file.mapping(entry.value, "a mapping such as {database: 2, api: 1}").items():
            if not name or any(char.isspace() for char in name):
                self._file.add(item.key, f"a pool cannot be named {name!r}: a name is one word, without blanks")
            elif (limit := self._slots(item.value)) is not None:
                self._limits[name] = limit

    def _pool_beside_limits(self, name: str, entry: Entry) -> bool:
        """A pool that was named where only settings stand, as people try: show where it goes."""
        if entry.value.id != "scalar" or not entry.value.value.isdecimal():
            return False
        if did_you_mean(name, ("default_limit", "op_granularity_run_buffer")):
            return False
        self._file.add(
            entry.key,
            f"unknown key {name!r} under concurrency.pools; the limit of a pool stands under limits:\n"
            f"  concurrency:\n    pools:\n      limits:\n        {name}: {entry.value.value}",
        )
        return True

    def _slots(self, node: Node) -> int | None:
        return self._file.whole_number(node, least=0, most=self._largest, hint=self._number_hint)

    def _granularity(self, entry: Entry, words: str) -> None:
        said = None if is_null(entry.value) else entry.value.value if entry.value.id == "scalar" else ""
        if said == "run":
            self._file.add(
                entry.value,
                f"{words}: run, which makes a pool count whole runs, comes with the queue of runs and is not in this "
                "version; without it steps would be counted instead, so it is refused. Write op, or leave it out",
            )
        elif said not in {None, "op"}:
            choices = ("op", "run")
            self._file.add(entry.value, f"{shown(entry.value)} is neither op nor run{did_you_mean(str(said), choices)}")

    def _one_of(self, said: list[_Said]) -> int | None:
        """The one value that was given in these spellings; two that differ are a mistake."""
        for other in said[1:]:
            if other.value != said[0].value:
                self._file.add(
                    other.node,
                    f"{other.words} is {other.value}, while {said[0].words} in line "
                    f"{said[0].node.start_mark.line + 1} is {said[0].value}; keep one of the two",
                )
        return int(said[0].value) if said else None

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _runs_kept(self, entry: Entry) -> None:
        names = ("max_count", "max_days", "max_gib")
        self._section(entry.value, "retention.runs", {name: partial(self._bound, name) for name in names})

    def _bound(self, name: str, entry: Entry) -> None:
        if is_null(entry.value):
            self._retention[name] = None
            return
        hint = "write a whole number from 1, or null for no bound"
        if (number := self._file.whole_number(entry.value, least=1, hint=hint)) is not None:
            self._retention[name] = number

    # --- what comes with the queue of runs ----------------------------------------------------------------------------

    def _run_buffer(self, entry: Entry) -> None:
        words = "concurrency.pools.op_granularity_run_buffer"
        if not is_null(entry.value):
            hint = "write how many more runs may start, 0 or more"
            self._buffer = self._file.whole_number(entry.value, least=0, hint=hint)
        self._no_effect_yet(entry.key, words)

    def _max_runs(self, entry: Entry, words: str, *, older: bool = False) -> None:
        if older:
            self._older(entry.key, words, "concurrency.runs.max_concurrent_runs")
        self._run_limit(entry, words)
        self._no_effect_yet(entry.key, words)

    def _run_limit(self, entry: Entry, words: str) -> None:
        if is_null(entry.value):
            return
        hint = "write how many runs may go on at once, 0 or more, or -1 for no limit"
        number = self._file.whole_number(entry.value, least=-1, hint=hint)
        if number is not None:
            self._most_runs.append(_Said(entry.key, words, number))

    def _queue(self, entry: Entry, name: str) -> None:
        """``run_queue`` and, older, ``run_coordinator``, whose settings stand under ``config``."""
        words, section = name, entry.value
        if name == "run_coordinator" and section.id == "mapping":
            inner = self._file.mapping(section, "a mapping").get("config")
            words, section = f"{name}.config", section if inner is None else inner.value
        if section.id == "mapping":
            for key, item in self._file.mapping(section, "a mapping").items():
                if key == "max_concurrent_runs":
                    self._run_limit(item, f"{words}.{key}")
        self._no_effect_yet(entry.key, name)

    def _tag_limits(self, entry: Entry, words: str, *, older: bool = False) -> None:
        if older:
            self._older(entry.key, words, "concurrency.runs.tag_concurrency_limits")
        if not is_null(entry.value) and entry.value.id != "sequence":
            self._file.add(entry.value, f"{shown(entry.value)} stands where a list of limits should")
        self._no_effect_yet(entry.key, words)

    def _no_effect_yet(self, node: Node, words: str) -> None:
        self._notices.append(
            f"{self._file.at(node)}: {words} has no effect in this version: it belongs to the queue of runs, which "
            "is not there yet; runs start at once"
        )

    def _older(self, node: Node, words: str, new: str) -> None:
        self._notices.append(f"{self._file.at(node)}: {words} is an older spelling; write {new}")
