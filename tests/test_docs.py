"""What the documents say is true, as far as a program can tell."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import click
import pytest

import executor
from executor.cli.root import root
from executor.config.check import SETTINGS
from executor.scheduler.outcomes import FailureKind

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

#: Options of other programs that the documents show.
FOREIGN_OPTIONS = {
    "--check",  # ruff
    "--help",  # every command has it; click adds it
}


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_name)


def fences(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: the language of each, and what is in it."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def code(text: str) -> str:
    """All code of a page: its shell blocks, and what stands in backticks."""
    return "\n".join(
        [body for language, body in fences(text) if language in ("sh", "")] + re.findall(r"`([^`\n]+)`", prose(text))
    )


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- links and names --------------------------------------------------------------------------------------------------


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page_name(page)} links to {target}, which is not there"
        assert ROOT in [there, *there.parents], f"{page_name(page)} links to {target}, which is outside"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{page_name(page)} links to {target}: no such heading"


@every_page
def test_every_named_file_is_there(page: Path) -> None:
    """A path in backticks, from the project, the package or the page's own folder."""
    for name in re.findall(r"`((?:\w+/)*\w+/(?:[\w-]+\.(?:py|md|svg))?)(?:::\w+)?`", page.read_text()):
        if name.split("/")[0] in {"runs", "values", "live", "own", "bell"} and not name.endswith(
            ".py"
        ):  # folders of a run's home
            continue
        if name == "ledger/":  # of what comes later, in docs/architecture.md
            continue
        places = [ROOT, ROOT / "executor", page.parent]
        assert any((place / name).exists() for place in places), f"{page_name(page)} names {name}"


def test_every_test_that_a_page_names_exists() -> None:
    named = [
        found for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?`", page.read_text())
    ]
    assert len(named) > 40
    known: dict[str, set[str]] = {}
    for path, *names in named:
        if path not in known:
            tree = ast.parse((ROOT / path).read_text())
            known[path] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            known[path] |= {
                target.id
                for node in tree.body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
        for name in filter(None, names):
            assert name in known[path], f"{path} has no {name}"


@every_page
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    found = re.findall(r"(?<![\w.~$}/-])/(?:home|root|work|tmp|Users|opt|mnt)/[\w./-]*", page.read_text())
    assert not found


# --- the command ------------------------------------------------------------------------------------------------------


def commands() -> dict[str, click.Command]:
    """Every command and group, by its words: ``job execute``."""
    found: dict[str, click.Command] = {"": root}
    queue: list[tuple[str, click.Command]] = [("", root)]
    while queue:
        words, command = queue.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                found[f"{words} {name}".strip()] = below
                queue.append((f"{words} {name}".strip(), below))
    return found


def options() -> set[str]:
    return {word for command in commands().values() for option in command.params for word in option.opts}


@every_page
def test_every_option_that_is_shown_exists(page: Path) -> None:
    if page.parent.name == "benchmarks":  # whose scripts have options of their own
        return
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code(page.read_text())))
    of_pytest = {"--import-mode"}
    assert shown <= options() | FOREIGN_OPTIONS | of_pytest


@every_page
def test_every_command_that_is_shown_exists(page: Path) -> None:
    known = {words.split()[0] for words in commands() if words}
    for word in re.findall(r"(?:^|[ /])executor ([a-z]+)\b", code(page.read_text()), re.MULTILINE):
        assert word in known, f"{page_name(page)} shows `executor {word}`"


@pytest.mark.parametrize("words", [words for words, found in commands().items() if not isinstance(found, click.Group)])
def test_every_command_is_in_the_page_about_the_command(words: str) -> None:
    assert f"executor {words}" in (ROOT / "docs/command.md").read_text()


# --- the README -------------------------------------------------------------------------------------------------------


def test_the_two_commands_of_the_readme_are_one_line_each() -> None:
    lines = [line for _, body in fences((ROOT / "README.md").read_text()) for line in body.splitlines()]
    setups = [line for line in lines if "-m venv" in line]
    assert len(setups) == 2
    main, tests = setups
    assert main.startswith("python3.11 -m venv .venv && ")
    assert main.endswith(" && .venv/bin/executor run examples/stdlib_census.py")
    assert tests.startswith("python3.11 -m venv .venv && ")
    assert tests.endswith(" && .venv/bin/pytest -n 2")
    assert all("\\" not in line for line in setups)


def test_ci_finds_the_test_command_in_the_readme() -> None:
    (pattern,) = re.findall(r"sed -n '(s/.*/p)' README\.md", (ROOT / ".ci/run").read_text())
    found = subprocess.run(["sed", "-n", pattern, "README.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.count("\n") == 1
    assert found.stdout.rstrip().endswith("pytest -n 2")


def test_the_example_of_the_readme_is_the_file() -> None:
    (shown,) = [body for language, body in fences((ROOT / "README.md").read_text()) if language == "python"]
    text = (ROOT / "examples/hello.py").read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    code_of_it = text.removeprefix(f'"""{docstring}"""').rpartition("\n\n\n# It prints")[0]
    assert shown.strip() == code_of_it.strip()


# --- blocks that run, and parts that are generated --------------------------------------------------------------------


def scripts() -> list[object]:
    """The pages with Python blocks; those of ``docs/scheduler.md`` are an outline."""
    pages = [page for page in PAGES if page.parent.name == "docs" and page.stem != "scheduler"]
    return [pytest.param(page, id=page_name(page)) for page in pages if "\n```python\n" in page.read_text()]


@pytest.mark.parametrize("page", scripts())
def test_the_python_blocks_of_a_page_run_as_one_script(page: Path, tmp_path: Path) -> None:
    blocks = [body for language, body in fences(page.read_text()) if language == "python"]
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text("\n\n".join(blocks))
    environ = {**os.environ, "EXECUTOR_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def docs_script(name: str) -> ModuleType:
    """A script of ``docs/`` as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return docs_script("generate")


@every_page
def test_generated_parts_are_as_the_code_has_them(page: Path, generate: ModuleType) -> None:
    text = page.read_text()
    assert generate.generated(text) == text, f"{page_name(page)} is stale: run python docs/generate.py"


def test_every_part_that_can_be_generated_is_used(generate: ModuleType) -> None:
    used = {match[2] for page in PAGES for match in generate.PART.finditer(page.read_text())}
    assert used == set(generate.PARTS)


def test_the_diagram_of_the_states_has_every_move(generate: ModuleType) -> None:
    from executor.scheduler.states import MOVES

    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", generate.states(), re.MULTILINE))
    assert drawn == {(state.name, after.name) for state, reached in MOVES.items() for after in reached}


# --- nothing is left out ----------------------------------------------------------------------------------------------


def documents() -> str:
    return "\n".join(page.read_text() for page in PAGES if page.parent.name == "docs")


@pytest.mark.parametrize("name", sorted(executor.__all__))
def test_every_public_name_is_in_a_document(name: str) -> None:
    assert re.search(rf"\b{name}\b", documents())


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_in_a_document(name: str) -> None:
    assert f"`{name}`" in documents()


def test_every_kind_of_failure_is_in_the_page_about_failures() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \|", (ROOT / "docs/failures.md").read_text(), re.MULTILINE)
    assert set(rows) == set(get_args(FailureKind))


# --- decisions and changes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("*.md")), ids=page_name)
def test_a_decision_has_its_parts_and_its_number(page: Path) -> None:
    text = page.read_text()
    number = int(page.name[:4])
    assert text.startswith(f"# {number}. ")
    assert re.search(r"^20\d\d-\d\d-\d\d$", text, re.MULTILINE)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "What it costs", "Rejected"]


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_dependency_has_its_reason_in_the_first_decision() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs/adr/0001-dependencies.md").read_text()
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=!~ ]", requirement)[0]
        assert f"| {name} |" in text, f"{name} has no line of reason"


def test_changes_begin_with_what_is_not_released() -> None:
    assert re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == "[Unreleased]"
