"""Every error that this package raises on purpose, each saying what to do next.

They pickle, and their fields stay usable. What crosses from a worker to the driver is plain data,
never one of these objects.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExecutorError(Exception):
    """The base of every error that this package raises on purpose."""


class DefinitionError(ExecutorError):
    """An op, asset, graph or job is written in a way that cannot be run; raised where it is defined."""


class ConfigError(ExecutorError):
    """A setting is wrong. ``problems`` has one sentence for each, with its path; all are reported at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class UnmetRequirement(ExecutorError):
    """Something that the run needs is not there: a platform, a start method, a later version of this package."""


class UsageError(ExecutorError):
    """A call or a command line that asks for what is not there, such as a job of another name."""


class RunFailed(ExecutorError):
    """A run ended without success. ``run_id`` names it; ``failures`` maps each failed step's key to what happened."""

    def __init__(self, run_id: str, failures: dict[str, str]) -> None:
        super().__init__(run_id, failures)
        self.run_id, self.failures = run_id, failures

    def __str__(self) -> str:
        if not self.failures:
            return f"run {self.run_id} did not succeed"
        count = len(self.failures)
        steps = f"{count} step{'s' if count > 1 else ''}"
        texts = [f"{key}: {text}" for key, text in self.failures.items()]
        return "\n".join([f"run {self.run_id} failed in {steps}:", *texts])


class RunInterrupted(ExecutorError, KeyboardInterrupt):
    """A run was stopped by Ctrl-C, SIGTERM or SIGHUP before it ended; ``run_id`` names it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return f"run {self.run_id} was interrupted; its steps were stopped"


class WorkersUnavailable(ExecutorError):
    """No worker process could be started, or not any more; the text says why and what to do."""


def describe_exit(exit_code: int) -> str:
    """How a process ended, in words: ``was killed by SIGKILL`` for -9, ``exited with code 3`` for 3."""
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"was killed by {name}"
    return f"exited with code {exit_code}"


def near_name(name: str, known: Iterable[str]) -> str | None:
    """The name among ``known`` that was most likely meant, or None where none is near."""
    import difflib  # needed for a mistake only

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(name: str, known: Iterable[str], *, quote: str = "'") -> str:
    """``; did you mean 'x'?`` for the nearest of ``known``, or nothing where none is near."""
    near = near_name(name, known)
    if near is None:
        return ""
    return f"; did you mean {near!r}?" if quote == "'" else f"; did you mean {quote}{near}{quote}?"
