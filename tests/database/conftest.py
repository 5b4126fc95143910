"""Makes this folder's helpers importable from its tests, and plants a bug where a test of the tests asks for one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

if planted := os.environ.get("EXECUTOR_PLANT"):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.torture.suite_mutants import plant_by_name

    plant_by_name(planted)
