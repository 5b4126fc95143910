"""What a worker makes of one attempt: the values that it stored, or why it failed. Plain data, and little of it.

Apart from the events that carry it, because a worker needs nothing else of this folder, and every worker that is
forked copies what its template has loaded.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FailureKind = Literal[
    "exception",  #: the step raised
    "failure",  #: the step raised Failure: on purpose
    "retry_requested",  #: the step raised RetryRequested
    "bad_output",  #: what it returned does not fit the outputs that it declares
    "not_picklable",  #: what it returned cannot be sent to the steps that read it
    "bad_input",  #: a value that it reads could not be loaded
    "worker_died",  #: its process ended before it reported
    "slots_lost",  #: the slots of its pools were taken from it, or cannot be had any more
    "timed_out",  #: it was stopped because it took longer than its timeout
    "cancelled",  #: it was stopped because somebody asked
]


class StoredValue(NamedTuple):
    """Where the value of one output waits for the steps that read it."""

    output: str
    data: bytes | None  #: the pickle itself, where it is small; None for a file, and for an order-only output
    path: str | None = None  #: of the file in the run's ``values`` folder; None when inline or order-only
    size: int = 0  #: bytes of the pickle, or of the file


class StepError(NamedTuple):
    """Why an attempt failed, as text that can be shown."""

    kind: FailureKind
    message: str  #: one line: what happened, and what to do where that is known
    traceback: str = ""  #: text of the traceback; empty where there is none
    allow_retries: bool = True
    max_retries: int | None = None  #: of RetryRequested
    retry_after_s: float | None = None  #: of RetryRequested
