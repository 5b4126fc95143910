"""``storage`` in ``executor.yaml``: where large values of a run wait, and which of them stay when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from executor.config.sizes import parse_size
from executor.config.yaml_file import is_null, shown
from executor.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.config.yaml_file import Entry, Node, YamlFile

#: Where values go that are too large for the history: the run's folder; memory; or memory while there is room.
ValuePlace = Literal["auto", "disk", "memory"]

#: Which of them stay when the run has ended: those that no step has read to the end, and those of assets; or all.
KeptValues = Literal["results", "all"]

#: Settings that Dagster has in this section; they are left alone.
DAGSTERS = frozenset({"sqlite", "postgres", "mysql", "custom"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """How values are stored that are too large for the history."""

    values: ValuePlace = "auto"
    memory_folder: str = "/dev/shm"  # noqa: S108  #: a folder of a file system that is kept in memory
    memory_limit: int | None = None  #: bytes up to which ``auto`` fills that file system; None: see ``runs/memory.py``
    keep: KeptValues | None = None  #: None: results; all where the steps run in the caller's own process


def read_storage(file: YamlFile, node: Node) -> StorageSettings:
    """The settings of this section; its mistakes go to ``file``."""
    found: dict[str, Any] = {}
    for name, entry in file.mapping(node, "a mapping, such as values: disk,").items():
        if name in DAGSTERS or is_null(entry.value):
            continue
        if name in {"values", "keep"}:
            choices = get_args(ValuePlace if name == "values" else KeptValues)
            if (said := _one_of(file, entry, choices)) is not None:
                found[name] = said
        elif name == "memory_limit":
            try:
                size = entry.value.value if entry.value.id == "scalar" else None
                found[name] = parse_size(size)
            except ValueError:
                hint = "write bytes as a number, or text such as 500 MB or 2 GiB"
                file.add(entry.value, f"{shown(entry.value)} is not a size; {hint}")
        elif name == "memory_folder":
            if entry.value.id == "scalar" and entry.value.value.startswith("/"):
                found[name] = entry.value.value
            else:
                file.add(entry.value, f"{shown(entry.value)} is not a whole path; write one such as /dev/shm")
        else:
            known = [*StorageSettings.__dataclass_fields__, *DAGSTERS]
            file.add(entry.key, f"unknown key {name!r} under storage{did_you_mean(name, known)}")
    return StorageSettings(**found)


def _one_of(file: YamlFile, entry: Entry, choices: Sequence[str]) -> str | None:
    said = entry.value.value if entry.value.id == "scalar" else ""
    if said in choices:
        return str(said)
    file.add(entry.value, f"{shown(entry.value)} is not one of {', '.join(choices)}{did_you_mean(str(said), choices)}")
    return None
