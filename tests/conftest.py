"""For the whole suite: what all folders share, a bug where a test of the tests asks for one, and time for everything.

No example of Hypothesis is judged by how long it took, since the machine may be busy. And where pytest-xdist runs the
tests in several processes, the thread of its own in each, which waits to be told of the next test, is none of the
program's: or else no run of a test would fork.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what is imported as tests.…

if planted := os.environ.get("EXECUTOR_PLANT"):  # before anything of the package is imported
    from tests.torture.suite_mutants import plant_by_name

    plant_by_name(planted)

if "PYTEST_XDIST_WORKER" in os.environ:
    from executor.workers import process

    of_the_runner = set(process.other_threads())
    all_others = process.other_threads
    process.other_threads = lambda: [tid for tid in all_others() if tid not in of_the_runner]

settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
