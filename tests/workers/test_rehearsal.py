"""Workers are played through in the template before any is forked."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_ops as ops
from running import run

from executor.workers import rehearsal, template


def test_a_template_plays_workers_through_to_their_exit_before_it_forks_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails would be seen by nobody: its steps only cost more."""
    codes = tmp_path / "codes"

    def note(code: int) -> None:
        with codes.open("a") as file:
            file.write(f"{code}\n")

    monkeypatch.setattr(template, "go_on", note)
    assert run(ops.one, "one-shot-fork").success
    assert codes.read_text().split() == ["0"] * rehearsal.TIMES
