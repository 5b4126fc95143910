"""Plants a bug in a module while it is imported: for processes in which nothing has loaded it yet."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

#: Module, what stands in its source exactly once, and what is to stand there instead.
Edit = tuple[str, str, str]


class Planted(SourceFileLoader):
    """Loads the source with the bug in it, past every cache."""

    edits: Sequence[Edit] = ()

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        for module, old, new in self.edits:
            if module == fullname:
                if source.count(old) != 1:
                    raise ValueError(f"{old!r} stands {source.count(old)} times in {fullname}, not once")
                source = source.replace(old, new)
        return compile(source, self.path, "exec")


class Finder(MetaPathFinder):
    """Stands before all others, for the modules that have edits."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits = edits

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in {module for module, *_ in self._edits}:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        loader = Planted(fullname, spec.origin)
        loader.edits = self._edits
        return importlib.machinery.ModuleSpec(fullname, loader, origin=spec.origin)


def plant(edits: Sequence[Edit]) -> None:
    """From now on these modules have the bug, in this process and in those that are forked from it."""
    early = {module for module, *_ in edits} & sys.modules.keys()
    assert not early, f"already imported: {early}"
    sys.meta_path.insert(0, Finder(edits))
