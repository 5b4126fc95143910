"""The instance: one home folder, and what programs do with it beside running jobs."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from executor.config.instance_file import read_instance_settings
from executor.instance.event_log_storage import EventLogStorage
from executor.instance.pool_ledger import PoolLedger
from executor.runs.home import open_home

if TYPE_CHECKING:
    from executor.config.instance_file import InstanceSettings
    from executor.runs.records import DagsterRun, RunRecord, RunsFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How pools are limited, in Dagster's words."""

    pool_granularity: Literal["op"] = "op"  #: steps are counted, not runs
    default_pool_limit: int | None = None  #: None: unlimited
    op_granularity_run_buffer: int | None = None  #: of the queue of runs, which is not there yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyConfig:
    """What ``executor.yaml`` says of limits, in Dagster's words."""

    pool_config: PoolConfig
    run_queue_config: None = None  #: the queue of runs is not there yet


class Instance:
    """What all runs in one home folder share: its settings, the ledger of pools, and the runs themselves.

    ``Instance.get()`` is the one that runs find by themselves; ``Instance.ephemeral()`` is a new one in a temporary
    folder. To run a job in it, give its ``home``: ``job.execute(home=instance.home)``. It holds nothing open, so it may
    be used by several threads and after a fork.
    """

    def __init__(self, home: str | os.PathLike[str]) -> None:
        self.home = open_home(Path(home))  #: the home folder
        self.ledger = PoolLedger(self.home)  #: limits of pools, who holds their slots, who waits for them
        self.event_log_storage = EventLogStorage(self)  #: the same under the names that Dagster has for it
        self._removal: weakref.finalize[[Path, int], Instance] | None = None

    @classmethod
    def get(cls, home: str | os.PathLike[str] | None = None) -> Self:
        """The instance of a home folder: that of ``EXECUTOR_HOME``, or of the user, where none is given.

        Raises:
            UnmetRequirement: the folder cannot be made, belongs to somebody else, or others may write into it.
        """
        return cls(open_home(None if home is None else Path(home)))

    @classmethod
    def ephemeral(cls) -> Self:
        """A new instance in a temporary folder, with pools like any other.

        The folder is removed when the ``with`` block ends, on ``close``, or at the latest with this process.
        """
        import tempfile

        instance = cls(tempfile.mkdtemp(prefix="executor-"))
        instance._removal = weakref.finalize(instance, _remove, instance.home, os.getpid())
        return instance

    def close(self) -> None:
        """Remove the folder of an ephemeral instance; nothing for any other. Safe to call twice."""
        if self._removal is not None:
            self._removal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Instance {self.home}{' (ephemeral)' if self.is_ephemeral else ''}>"

    @property
    def is_ephemeral(self) -> bool:
        """Whether its folder is removed at the end."""
        return self._removal is not None

    @property
    def root_directory(self) -> str:
        """The home folder, as text."""
        return str(self.home)

    @property
    def settings(self) -> InstanceSettings:
        """What ``executor.yaml`` in the home folder says, read now. Raises ``ConfigError`` where it has mistakes."""
        return read_instance_settings(self.home)

    def get_runs(self, filters: RunsFilter | None = None, limit: int | None = None) -> list[DagsterRun]:
        """The runs that fit ``filters``, the newest first: at most ``limit`` of them, or all.

        A run whose driver was killed has the status ``INTERRUPTED``.
        """
        from executor.runs.index import find_runs

        return find_runs(self.home, filters, limit=limit)

    def get_run_by_id(self, run_id: str) -> DagsterRun | None:
        """The run of that whole id; None where there is none."""
        from executor.runs.records import RunsFilter

        return next(iter(self.get_runs(RunsFilter(run_ids=[run_id]))), None)

    def get_run_records(self, filters: RunsFilter | None = None, limit: int | None = None) -> list[RunRecord]:
        """What ``get_runs`` gives, with the times of each run under Dagster's names."""
        from executor.runs.records import RunRecord

        return [RunRecord(dagster_run=run) for run in self.get_runs(filters, limit)]

    def prune_runs(self, *, dry_run: bool = False) -> list[DagsterRun]:
        """Remove the runs that the settings of the home folder do not keep; those, the newest first.

        A run that is alive, or that a kept one goes on from, is never removed. ``dry_run``: remove nothing.

        Raises:
            ConfigError: ``executor.yaml`` has mistakes.
        """
        from executor.runs.prune import prune

        return [removal.run for removal in prune(self.home, self.settings.retention, dry_run=dry_run)]

    def cancel_run(self, run_id: str, *steps: str, kill: bool = False, wait: bool = True) -> None:
        """Ask a run to stop, or only these steps of it; whichever process drives it.

        Args:
            run_id: may be shortened to what is unambiguous; ``last`` is the newest.
            steps: their keys; the whole run without any.
            kill: at once, instead of after the time that a step has to end by itself.
            wait: until they have ended; without it until the driver has heard it.

        Raises:
            UsageError: the run has ended, or no step of that name is left to stop.
            NotHeard: the driver has not heard it yet, and does when it can; the text says why.
        """
        from executor.runs.cancel import cancel
        from executor.runs.home import find_run

        cancel(find_run(self.home, run_id), steps, kill=kill, wait=wait)

    @property
    def global_op_concurrency_default_limit(self) -> int | None:
        """The limit of pools that have none of their own; None: unlimited."""
        return self.settings.pools.default_limit

    def get_concurrency_config(self) -> ConcurrencyConfig:
        """What ``executor.yaml`` says of limits, in Dagster's words. Raises ``ConfigError`` where it has mistakes."""
        settings = self.settings
        return ConcurrencyConfig(
            pool_config=PoolConfig(
                default_pool_limit=settings.pools.default_limit,
                op_granularity_run_buffer=settings.op_granularity_run_buffer,
            )
        )


def _remove(home: Path, pid: int) -> None:
    """Remove a temporary home; but not at the end of a child that was forked by the process that made it."""
    if os.getpid() == pid:
        import shutil

        shutil.rmtree(home, ignore_errors=True)
