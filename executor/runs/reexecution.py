"""Which earlier run a run goes on from, and what of it runs again. Plain data, under Dagster's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from executor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class _Instance(Protocol):
    """What has a home folder: an ``Instance``."""

    home: Path


@dataclass(frozen=True, slots=True)
class ReexecutionOptions:
    """Run a job again, as a new run that names an earlier one as its parent.

    ``ReexecutionOptions(run_id)`` runs every step again. With ``step_selection`` only these steps run, and what they
    read of others is taken from the earlier run. ``from_failure`` runs what did not succeed, and what is below it.
    """

    parent_run_id: str  #: may be shortened to what is unambiguous; ``last`` is the newest
    step_selection: Sequence[str] = ()  #: names as in a selection: ``train``, or ``train*`` with all that is below
    everything: bool = True  #: without a selection: whether all steps run, and not only what did not succeed

    def __post_init__(self) -> None:
        if isinstance(self.step_selection, str):
            raise UsageError(f"step_selection is a list: step_selection=[{self.step_selection!r}]")

    @classmethod
    def unfinished(cls, run_id: str) -> Self:
        """What failed, was cut off or never ran in that run, and what is below it."""
        return cls(run_id, everything=False)

    @classmethod
    def from_failure(cls, run_id: str, instance: _Instance) -> Self:
        """The same, for a run of this instance that failed or was cut short.

        Raises:
            UsageError: there is no such run, it goes on, or it succeeded.
        """
        from executor.runs.home import find_run
        from executor.runs.index import read_run

        run = read_run(find_run(instance.home, run_id))
        if not run.is_finished or run.is_success:
            raise UsageError(f"run {run.run_id} neither failed nor was cut short: it is {run.status.value}")
        return cls(run.run_id, everything=False)
