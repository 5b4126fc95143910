"""Imports point one way, and the parts that decide know no clock, process, file or thread."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "executor"

#: Lowest first. A module imports its own layer and those before it.
LAYERS = [
    "errors",
    "config",
    "authoring",
    "plan",
    "scheduler",
    "outputs",
    "database",
    "workers",
    "ledger",
    "runs",
    "instance",
    "api",
    "cli",
]

#: The only imports that point down, both inside functions: a job can run itself; names that load when first used.
DOWNWARD = {("executor.authoring.jobs", "executor.api"), ("executor.authoring.jobs", "executor.runs.result")}

#: Folders and files that decide and never act.
PURE = ["authoring", "plan", "scheduler"]
PURE_FILES = [
    "executor.ledger.claims",
    "executor.ledger.standing",
    "executor.ledger.requests",
    "executor.ledger.wishes",
]

#: What a pure part must not import: clocks, processes, files, threads, chance, logs. (Types for annotations are free.)
IMPURE = {
    "asyncio", "datetime", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time", "uuid", "yaml",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "executor" and len(parts) > 1 else None


class Imports(ast.NodeVisitor):
    """The modules that a file imports; those under ``if TYPE_CHECKING`` apart."""

    def __init__(self) -> None:
        self.real: list[str] = []
        self.for_types: list[str] = []
        self._typing = False

    def visit_If(self, node: ast.If) -> None:
        guarded = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        before, self._typing = self._typing, self._typing or guarded
        for child in node.body:
            self.visit(child)
        self._typing = before
        for child in node.orelse:
            self.visit(child)

    def _add(self, name: str) -> None:
        (self.for_types if self._typing else self.real).append(name)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are written out in full"
        assert node.module is not None
        self._add(node.module)
        if node.module in {"executor", "executor.workers", "executor.authoring"}:
            for alias in node.names:
                self._add(f"{node.module}.{alias.name}")


def imports_of(path: Path) -> Imports:
    found = Imports()
    found.visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_to_the_same_layer_or_an_earlier_one(path: Path) -> None:
    module = name_of(path)
    own = layer_of(module)
    found = imports_of(path)
    if own is None or module == "executor.__main__":  # the package itself and its entry point stand above all layers
        return
    assert own in LAYERS, f"{module} is in no layer: say where it belongs"
    for imported in found.real + found.for_types:
        below = layer_of(imported)
        if below is None or (module, imported) in DOWNWARD or below not in LAYERS:
            continue
        assert LAYERS.index(below) <= LAYERS.index(own), f"{module} imports {imported}, which stands later"


@pytest.mark.parametrize(
    "path", [p for p in modules() if layer_of(name_of(p)) in PURE or name_of(p) in PURE_FILES], ids=name_of
)
def test_what_decides_imports_nothing_that_acts(path: Path) -> None:
    acting = {name.split(".")[0] for name in imports_of(path).real} & IMPURE
    allowed = {"executor.authoring.context": {"logging"}}.get(name_of(path), set())  # for unit tests, when called
    assert acting <= allowed, f"{name_of(path)} imports {sorted(acting)}"


def test_no_file_holds_more_than_one_idea() -> None:
    long = {name_of(path): lines for path in modules() if (lines := len(path.read_text().splitlines())) > 500}
    assert not long, f"over 500 lines; which wall is missing? {long}"


def test_every_layer_is_there() -> None:
    there = {layer_of(name_of(path)) for path in modules()} - {None, "__main__"}
    assert there == set(LAYERS)
