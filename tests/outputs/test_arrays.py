"""The tests of ``arrays.py``, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def test_arrays_frames_and_tables_are_mapped_and_not_copied() -> None:
    if any(find_spec(name) is None for name in ("numpy", "pandas", "pyarrow")):
        pytest.skip("numpy, pandas or pyarrow is not installed")
    here = Path(__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here.with_name("arrays.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here.parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
