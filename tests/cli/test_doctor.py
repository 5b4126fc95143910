"""``executor instance doctor``: its lines, its JSON, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from executor.cli.root import run_command


def test_a_home_in_order_ends_with_0(capfd: pytest.CaptureFixture[str], own_home: Path) -> None:
    assert run_command(["instance", "doctor"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "all is in order"
    assert all(line.startswith("ok       ") for line in lines[:-1])
    assert run_command(["instance", "doctor", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["ok"] is True
    assert {finding["level"] for finding in told["findings"]} == {"ok"}


def test_a_problem_ends_with_1_and_says_how_to_fix_it(capfd: pytest.CaptureFixture[str], own_home: Path) -> None:
    own_home.mkdir(mode=0o700)
    own_home.joinpath("executor.yaml").write_text("concurrency: 3\n")
    assert run_command(["instance", "doctor"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert f"problem  settings: {own_home}/executor.yaml:1:14: 3 stands where a mapping" in "\n".join(lines)
    assert "         to fix: correct that line" in lines
    assert lines[-1] == "1 problem"
    assert run_command(["instance", "doctor", "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["ok"] is False


def test_lines_to_write_are_told_as_lines(capfd: pytest.CaptureFixture[str], own_home: Path) -> None:
    own_home.mkdir(mode=0o700)
    own_home.joinpath("executor.yaml").write_text("concurrency: {pools: {database: 3}}\n")
    assert run_command(["instance", "doctor"]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert [line.split() for line in lines[lines.index("           concurrency:") :][:5]] == [
        ["concurrency:"],
        ["pools:"],
        ["limits:"],
        ["database:", "3"],
        ["to", "fix:", "correct", "that", "line"],
    ]
