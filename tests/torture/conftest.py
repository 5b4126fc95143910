"""Leaves out what takes minutes unless it is asked for."""

from __future__ import annotations

import os

import pytest

#: Set to anything, the long forms run as well.
LONG = "EXECUTOR_LONG_TESTS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(LONG):
        return
    skip = pytest.mark.skip(reason=f"takes minutes; set {LONG}=1")
    for item in items:
        if item.get_closest_marker("torture"):
            item.add_marker(skip)
