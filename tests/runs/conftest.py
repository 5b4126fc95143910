"""Every run that a test here makes in its default home is replayed after the test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here

if planted := os.environ.get("EXECUTOR_PLANT"):  # before anything of the package is imported
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.torture.suite_mutants import plant_by_name

    plant_by_name(planted)

from replaying import assert_home_replays


@pytest.fixture(autouse=True)
def default_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the runs that the test makes without naming one."""
    home = tmp_path / "default-home"
    monkeypatch.setenv("EXECUTOR_HOME", str(home))
    yield home
    assert_home_replays(home)
