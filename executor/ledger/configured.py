"""The settings file of a home folder, put in force in its ledger."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.config.instance_file import read_instance_settings, settings_file

if TYPE_CHECKING:
    from pathlib import Path

    from executor.config.instance_file import InstanceSettings
    from executor.ledger.ledger import Ledger


def apply_settings(ledger: Ledger) -> InstanceSettings:
    """Put the limits of ``executor.yaml`` in force for everybody, and give all that the file says.

    To be called when a run starts and before a command shows or changes limits: nobody watches the file. Limits that a
    command has set still come first.

    Raises:
        ConfigError: the file has mistakes; nothing was changed.
    """
    while True:
        stamp = settings_stamp(ledger.home)
        settings = read_instance_settings(ledger.home)
        pools = settings.pools
        # Whoever had to wait for the lock may have read what is older than what is in force by now.
        if ledger.configure(pools.limits, pools.default_limit, if_still=lambda: settings_stamp(ledger.home) == stamp):  # noqa: B023  (called at once)
            return settings


def settings_stamp(home: Path) -> tuple[object, ...]:
    """Something that changes with the settings file of a home folder."""
    path = settings_file(home)
    if path is None:
        return ()
    try:
        found = os.stat(path)  # noqa: PTH116  (one call, and nothing else of it)
    except FileNotFoundError:
        return ()
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
