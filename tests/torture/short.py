"""The torture as a program of its own, for tests that run it for some seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def torture(*options: str) -> dict[str, Any]:
    """The figures; in a session of its own, whose processes it may kill."""
    command = [sys.executable, "-m", "tests.torture", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
