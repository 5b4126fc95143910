"""An executor's config as the settings that it stands for, or all of its mistakes at once."""

from typing import Any

from executor.config.check import ExecutorKind, check_executor_config
from executor.config.problems import Problems
from executor.config.settings import ExecutorSettings


def executor_settings(config: Any, kind: ExecutorKind = "multiprocess") -> ExecutorSettings:
    problems = Problems()
    fields = check_executor_config(config, (), kind, problems)
    problems.raise_if_any()
    return ExecutorSettings(**{"in_process": kind == "in_process", **fields})
