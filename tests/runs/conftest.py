"""Every run that a test here makes in its default home is replayed after the test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here

from replaying import assert_home_replays


@pytest.fixture(autouse=True)
def default_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the runs that the test makes without naming one."""
    home = tmp_path / "default-home"
    monkeypatch.setenv("EXECUTOR_HOME", str(home))
    yield home
    assert_home_replays(home)
