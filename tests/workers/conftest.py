"""After each test: every run replays, and nothing of it is left: no process, no zombie, no descriptor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here
sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from census import Census
from replaying import assert_home_replays
from running import PATIENCE_S, Mailbox

from executor.workers.child import LINGER_S


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the test's runs."""
    path = tmp_path / "home"
    monkeypatch.setenv("EXECUTOR_HOME", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)  # for scripts
    with Census(kills_drivers=getattr(request.module, "KILLS_DRIVERS", False)):
        yield path
    assert_home_replays(path)


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    """Where steps tell where they are."""
    with Mailbox(tmp_path) as box:
        yield box


@pytest.fixture(autouse=True)
def time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has reported gets all the time that it needs to end, or a busy machine decides how it ended."""
    for module in ("processes", "parent"):
        monkeypatch.setattr(f"executor.workers.{module}.LINGER_S", PATIENCE_S)


@pytest.fixture
def little_time_to_end(time_to_end: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have it: for tests of workers that would never end."""
    for module in ("processes", "parent"):
        monkeypatch.setattr(f"executor.workers.{module}.LINGER_S", LINGER_S)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms run only where they are asked for: ``-m torture``."""
    if "torture" not in config.option.markexpr:
        skip = pytest.mark.skip(reason="a long form; run it with -m torture")
        for item in items:
            if item.get_closest_marker("torture") and Path(__file__).parent in item.path.parents:
                item.add_marker(skip)
