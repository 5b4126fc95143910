"""``validate_run_config``: whether a run config fits a job, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.config.check import KINDS, settings_config
from executor.config.secrets import masked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.authoring.jobs import JobDefinition
    from executor.authoring.run_config import RunConfig


class ValidRunConfig(dict[str, Any]):
    """A run config that fits; ``success`` is True, because one that does not fit is an error instead.

    Secrets in it are masked when it is shown.
    """

    success = True

    def __repr__(self) -> str:
        return repr(masked(self))


def validate_run_config(job: JobDefinition, run_config: Mapping[str, Any] | RunConfig | None = None) -> ValidRunConfig:
    """What a run of ``job`` with this config is configured with: a dict, with ``success`` True.

    It has every setting of the executor, whatever set it, under ``execution.config`` and the name of the executor; the
    config of ops under ``ops``, with their defaults; and the ``tags`` of the config.

    Raises:
        ConfigError: the run config does not fit; every mistake is listed with its line or path.
    """
    resolved = job.resolve(run_config)
    kind = KINDS[1] if resolved.settings.in_process else KINDS[0]
    found = ValidRunConfig({"execution": {"config": {kind: settings_config(resolved.settings)}}})
    ops = {key: {"config": data} for key, data in resolved.whole().items()}
    if ops:
        found["ops"] = ops  # texts of variables as they are: they work as text, and are not shown
    if resolved.tags:
        found["tags"] = dict(resolved.tags)
    return found
