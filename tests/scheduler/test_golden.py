"""Every trace in ``golden/`` comes out as it is written there.

After a change that is meant, write them anew and read the difference before it is kept:

    EXECUTOR_REWRITE_GOLDEN=1 python -m pytest tests/scheduler/test_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from traces import replay

TRACES = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def test_there_are_traces() -> None:
    assert len(TRACES) >= 11


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_the_trace_is_as_written(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    replayed = replay(written)
    if os.environ.get("EXECUTOR_REWRITE_GOLDEN"):
        path.write_text(replayed, encoding="utf-8")
    assert replayed == written
