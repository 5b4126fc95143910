"""Each example prints what it says that it prints."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from executor.plan.record import plan_from_record

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, folder: Path, *words: str) -> list[str]:
    """The lines that the example prints, without their times of day."""
    command = [sys.executable, "-m", "executor.cli", "run", str(EXAMPLES / name), *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}  ", "", line) for line in ended.stdout.splitlines()]


def promised(name: str) -> list[str]:
    """Patterns for the lines that stand in the comment at the end of the example; ``...`` is anything."""
    text = (EXAMPLES / name).read_text()
    lines = [line[4:] for line in text.rpartition("\n\n\n")[2].splitlines() if line.startswith("#   ")]
    assert lines, f"{name} does not say what it prints"
    return [re.escape(line).replace(r"\.\.\.", ".*") for line in lines]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder for each test; the package under test is found by the command in any folder."""
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent), prepend=os.pathsep)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_example_says_at_its_top_what_it_shows_and_how_to_run_it(name: str) -> None:
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""
    assert "hows" in text
    assert f"executor run examples/{name}" in text
    assert promised(name)


def test_hello_prints_what_it_says(tmp_path: Path) -> None:
    lines = run("hello.py", tmp_path)
    for pattern in promised("hello.py"):
        assert any(re.fullmatch(pattern, line) for line in lines), pattern


def test_tag_limits_are_held_and_the_waits_are_told(tmp_path: Path) -> None:
    lines = run("tag_limits.py", tmp_path, "--output", "all")
    assert "  | at most at once: {'warehouse': 1, 'events': 1}" in lines
    for pattern in promised("tag_limits.py"):
        assert any(re.fullmatch(pattern, line) for line in lines), pattern


@pytest.mark.parametrize("by_command", [True, False], ids=["executor run", "python"])
def test_two_jobs_are_refused_by_a_database_and_an_api_until_their_pools_have_limits(
    by_command: bool, tmp_path: Path
) -> None:
    if by_command:
        lines = [line.removeprefix("  | ") for line in run("shared_database.py", tmp_path, "--output", "all")]
    else:
        script = [sys.executable, str(EXAMPLES / "shared_database.py")]
        ended = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
        assert (ended.returncode, ended.stderr) == (0, "")
        lines = ended.stdout.splitlines()
    patterns = promised("shared_database.py")
    (without,) = [line for line in lines if re.fullmatch(patterns[0], line)]
    refused = re.findall(r"(\d+) times", without)
    assert len(refused) == 2
    assert all(int(times) > 0 for times in refused), without
    assert any(re.fullmatch(patterns[1], line) for line in lines)


def test_the_census_counts_this_python_draws_it_and_holds_its_limit(tmp_path: Path) -> None:
    lines = run("stdlib_census.py", tmp_path, "--max-concurrent", "3", "--output", "all", "--events", "events")
    census = json.loads((tmp_path / "census.json").read_text())
    packages, total = census["packages"], census["total"]
    assert census["python"] == sys.version.split()[0]
    assert {"asyncio", "json", "email", "modules_a_to_h"} <= set(packages)
    assert total["lines"] == sum(count["lines"] for count in packages.values()) > 100_000
    assert packages["json"]["files"] >= 5
    svg = (tmp_path / "census.svg").read_text()
    ET.fromstring(svg)
    assert f"{total['lines']:,} lines in" in svg
    assert f"  | {total['lines']:,} lines in {total['files']:,} files" in "\n".join(lines)
    assert any(re.fullmatch(r"run succeeded after .*: \d+ succeeded", line) for line in lines)
    assert most_large_at_once(tmp_path) == 1


def most_large_at_once(folder: Path) -> int:
    """How many large groups ran at the same time, at most, as the run's events have it."""
    (plan,) = (folder / "home" / "runs").glob("*/plan.json")
    steps = plan_from_record(json.loads(plan.read_text())).steps
    large = {step.key for step in steps if step.tags.get("size") == "large"}
    running = most = 0
    for line in (folder / "events").read_text().splitlines():
        event = json.loads(line)
        if event.get("key") in large:
            running += {"step_started": 1, "step_succeeded": -1}.get(event["e"], 0)
            most = max(most, running)
    return most


def test_the_census_draws_by_hand_without_a_plotting_library() -> None:
    tree = ast.parse((EXAMPLES / "stdlib_census.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert imported == {"ast", "json", "sys", "sysconfig", "warnings", "html", "pathlib", "executor"}
