"""``validate_run_config``: whether a run config fits a job, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.authoring.executors import multiprocess_executor
from executor.config.check import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from executor.authoring.jobs import JobDefinition


class ValidRunConfig(dict[str, Any]):
    """A run config that fits; ``success`` is True, because one that does not fit is an error instead."""

    success = True


def validate_run_config(job: JobDefinition, run_config: Mapping[str, Any] | None = None) -> ValidRunConfig:
    """The run config, when it fits ``job``: a dict, with ``success`` True.

    Raises:
        ConfigError: it does not; every mistake is listed with its path.
    """
    settings = job.settings(run_config)
    kind = KINDS[1] if settings.in_process else KINDS[0]
    given = dict(run_config or {})
    if not given and job.executor_def in (None, multiprocess_executor):
        given = {"execution": {"config": {kind: {}}}}
    return ValidRunConfig(given)
