"""A run among others: what a list of runs shows of each, and which of them are asked for. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from executor.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Tags of a run that was resumed from another, with Dagster's names.
PARENT_TAG, ROOT_TAG = "dagster/parent_run_id", "dagster/root_run_id"


class DagsterRunStatus(StrEnum):
    """How a run stands: Dagster's names for it, and as values the words that are used here."""

    QUEUED = "queued"  #: of the queue of runs, which is not there yet
    NOT_STARTED = "not begun"  #: its driver is about to begin, or died before it did
    STARTING = "starting"  #: of the queue of runs, which is not there yet
    STARTED = "running"
    SUCCESS = "succeeded"
    FAILURE = "failed"
    CANCELING = "cancelling"  #: of the queue of runs, which is not there yet
    CANCELED = "cancelled"
    INTERRUPTED = "interrupted"  #: its driver died; no name of Dagster's, where such a run may stay "started" for ever
    UNREADABLE = "unreadable"  #: its history is damaged, or was written by a later version

    @property
    def is_final(self) -> bool:
        """Whether the run goes on no more."""
        return self in _FINAL


_FINAL = frozenset({
    DagsterRunStatus.SUCCESS,
    DagsterRunStatus.FAILURE,
    DagsterRunStatus.CANCELED,
    DagsterRunStatus.INTERRUPTED,
})  # fmt: skip


def read_status(text: str) -> DagsterRunStatus:
    """The status that is meant by one of the words used here, or by Dagster's name for it.

    Raises:
        UsageError: it is neither.
    """
    known = {status.value: status for status in DagsterRunStatus}
    known |= {status.name.lower(): status for status in DagsterRunStatus}
    known |= {"canceled": DagsterRunStatus.CANCELED, "not_begun": DagsterRunStatus.NOT_STARTED}
    found = known.get(text.strip().lower())
    if found is None:
        words = ", ".join(status.value for status in DagsterRunStatus if status not in _LATER)
        raise UsageError(f"{text!r} is no status of a run{did_you_mean(text.lower(), known)} (there are: {words})")
    return found


_LATER = frozenset({DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING})


@dataclass(frozen=True, slots=True, kw_only=True)
class DagsterRun:
    """A run as a list of runs has it."""

    run_id: str
    status: DagsterRunStatus
    made_at: float  #: seconds since the epoch: when its folder was made, by which runs are in order
    job_name: str | None = None  #: None: its driver died before it began, or its history cannot be read
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_run_id: str | None = None  #: the run that it was resumed from
    started_at: float | None = None  #: seconds since the epoch; None: it never began
    duration_s: float | None = None  #: by its own clock, which stands still while it does; None: it goes on
    steps: int | None = None
    size_bytes: int | None = None  #: of its folder when it had ended; None: not known

    @property
    def root_run_id(self) -> str | None:
        """The first of the runs that this one goes back to by being resumed; None for one that was not."""
        return self.tags.get(ROOT_TAG)

    @property
    def is_finished(self) -> bool:
        """Whether it goes on no more."""
        return self.status.is_final

    @property
    def is_success(self) -> bool:
        """Whether it succeeded."""
        return self.status is DagsterRunStatus.SUCCESS

    @property
    def is_failure(self) -> bool:
        """Whether it failed, or its driver died."""
        return self.status in {DagsterRunStatus.FAILURE, DagsterRunStatus.INTERRUPTED}

    @property
    def ended_at(self) -> float | None:
        """Seconds since the epoch, had it never stood still; None while it goes on."""
        if self.started_at is None or self.duration_s is None:
            return None
        return self.started_at + self.duration_s

    def with_size(self, size_bytes: int | None) -> DagsterRun:
        """The same run with the size of its folder."""
        return dataclasses.replace(self, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run with the times that Dagster's records have, in seconds since the epoch."""

    dagster_run: DagsterRun

    @property
    def create_timestamp(self) -> float:
        """When its folder was made."""
        return self.dagster_run.made_at

    @property
    def start_time(self) -> float | None:
        """When it began; None if it has not."""
        return self.dagster_run.started_at

    @property
    def end_time(self) -> float | None:
        """When it ended; None if it has not."""
        return self.dagster_run.ended_at


@dataclass(frozen=True, slots=True)
class RunsFilter:
    """Which runs are asked for: those that fit everything that is given. ``RunsFilter()`` are all.

    Raises:
        UsageError: a status is none.
    """

    run_ids: Sequence[str] | None = None  #: whole ids
    job_name: str | None = None
    statuses: Sequence[DagsterRunStatus | str] = ()  #: one of these; also as text
    tags: Mapping[str, str | Sequence[str]] = field(default_factory=dict)  #: all of these; of several values, one

    def __post_init__(self) -> None:
        if isinstance(self.statuses, str):
            raise UsageError(f"statuses is a list: statuses=[{self.statuses!r}]")
        if isinstance(self.run_ids, str):
            raise UsageError(f"run_ids is a list: run_ids=[{self.run_ids!r}]")
        # An enum's member is text too, and its value is one of the words.
        object.__setattr__(self, "statuses", tuple(read_status(str(status)) for status in self.statuses))

    def matches(self, run: DagsterRun) -> bool:
        """Whether a run is one of them."""
        if self.run_ids is not None and run.run_id not in self.run_ids:
            return False
        if self.job_name is not None and run.job_name != self.job_name:
            return False
        if self.statuses and run.status not in self.statuses:
            return False
        for key, wanted in self.tags.items():
            value = run.tags.get(key)
            if value is None or value not in ((wanted,) if isinstance(wanted, str) else wanted):
                return False
        return True
