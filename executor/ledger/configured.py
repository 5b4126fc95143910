"""The settings file of a home folder, put in force in its ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.config.instance_file import read_instance_settings

if TYPE_CHECKING:
    from executor.config.instance_file import InstanceSettings
    from executor.ledger.ledger import Ledger


def apply_settings(ledger: Ledger) -> InstanceSettings:
    """Put the limits of ``executor.yaml`` in force for everybody, and give all that the file says.

    To be called when a run starts and before a command shows or changes limits: nobody watches the file. Limits that a
    command has set still come first.

    Raises:
        ConfigError: the file has mistakes; nothing was changed.
    """
    settings = read_instance_settings(ledger.home)
    ledger.configure(settings.pools.limits, settings.pools.default_limit)
    return settings
