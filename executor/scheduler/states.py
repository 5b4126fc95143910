"""The states of a step, and every legal move between them."""

from __future__ import annotations

from enum import Enum


class StepState(Enum):
    """Where a step of a run stands."""

    WAITING = "waiting"  #: for steps that it reads from
    READY = "ready"  #: could start, were it not for a limit
    CLAIMING = "claiming"  #: could start, but for slots of pools that all runs share
    RUNNING = "running"  #: handed to a worker
    BACKOFF = "backoff"  #: failed, and will be tried again at a known time
    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: its last attempt failed
    SKIPPED = "skipped"  #: an optional output that it reads was left out on purpose
    NOT_RUN = "not_run"  #: something that it reads from failed, was cancelled or was not run
    CANCELLED = "cancelled"  #: stopped, or never started, because somebody asked

    # Each member is one object, so identity will do; Enum's own hash runs Python code at every look-up in a dict.
    __hash__ = object.__hash__


S = StepState

#: Every legal move. One that is missing here is a bug to raise, not a case to handle.
MOVES: dict[StepState, frozenset[StepState]] = {
    # SUCCEEDED: in an earlier run, which this one goes on from
    S.WAITING: frozenset({S.READY, S.SUCCEEDED, S.SKIPPED, S.NOT_RUN, S.CANCELLED}),
    S.READY: frozenset({S.CLAIMING, S.RUNNING, S.CANCELLED}),
    # READY: granted when the run had no room any more; the claim is parked. FAILED: nobody can grant it any more
    S.CLAIMING: frozenset({S.READY, S.RUNNING, S.FAILED, S.CANCELLED}),
    # READY: never begun, no attempt spent; or a retry without delay
    S.RUNNING: frozenset({S.READY, S.SUCCEEDED, S.FAILED, S.BACKOFF, S.CANCELLED}),
    S.BACKOFF: frozenset({S.READY, S.CANCELLED}),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset(),
    S.SKIPPED: frozenset(),
    S.NOT_RUN: frozenset(),
    S.CANCELLED: frozenset(),
}

#: States that a step never leaves.
FINAL: frozenset[StepState] = frozenset(state for state, after in MOVES.items() if not after)
