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


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the test's runs."""
    path = tmp_path / "home"
    monkeypatch.setenv("EXECUTOR_HOME", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)  # for scripts
    with Census(kills_drivers=getattr(request.module, "KILLS_DRIVERS", False)):
        yield path
    assert_home_replays(path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms run only where they are asked for: ``-m torture``."""
    if "torture" not in config.option.markexpr:
        skip = pytest.mark.skip(reason="a long form; run it with -m torture")
        for item in items:
            if item.get_closest_marker("torture") and Path(__file__).parent in item.path.parents:
                item.add_marker(skip)
