"""The settings of an executor as plain dataclasses; how a dict becomes one is in ``check.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StartMethod = Literal["auto", "fork", "forkserver", "spawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagLimit:
    """At most ``limit`` steps of a run with the tag ``key`` at once.

    With ``value`` only the steps whose tag has that value count. With ``per_unique_value`` each value of the tag
    counts by itself. With neither, all steps with the key count together.
    """

    key: str
    limit: int
    value: str | None = None
    per_unique_value: bool = False

    def __str__(self) -> str:
        if self.value is not None:
            return f"tag {self.key}={self.value}"
        return f"tag {self.key} (each value)" if self.per_unique_value else f"tag {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """How the steps of one run are executed."""

    in_process: bool = False  #: run steps one after another in the caller's own process
    max_concurrent: int | None = None  #: steps at once; None: the CPUs that this process may use
    tag_concurrency_limits: tuple[TagLimit, ...] = ()
    start_method: StartMethod = "auto"
    preload_modules: tuple[str, ...] = ()  #: imported once by the template before the first worker is forked from it
    steps_per_worker: int | None = 1  #: attempts before a worker is replaced; None: unlimited
    stop_grace_s: float = 5.0  #: seconds from asking a step to stop (SIGTERM) to killing it (SIGKILL)
    pdb: bool = False  #: where a step in this process fails, enter the debugger at the line that raised
    stack_signal: bool = True  #: processes with steps answer a signal with their Python stack, for `executor stack`
    retries: bool = True  #: False: retry policies and RetryRequested are not followed; each failure is final
