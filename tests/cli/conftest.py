"""Files of users, and the command run on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.cli.load import PACKAGE

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))  # test folders are no packages here

from replaying import assert_home_replays

Write = Callable[[str, str], Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder for each test, whose runs are replayed after it; the command finds the package in any folder."""
    home = tmp_path / "home"
    monkeypatch.setenv("EXECUTOR_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent), prepend=os.pathsep)
    yield home
    assert_home_replays(home)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with nothing in it; modules imported from it are forgotten after the test."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield work
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a file into the current folder."""

    def write_file(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def executor(folder: Path) -> Run:
    """Runs the command in the current folder, as a shell does."""

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        settings = {"capture_output": True, "text": True, "timeout": 100, "cwd": folder} | options
        return subprocess.run([sys.executable, "-m", "executor.cli", *words], check=False, **settings)

    return run
