"""Whether a failed attempt is followed by another, and when. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from executor.authoring.retry import LONGEST_DELAY_S

if TYPE_CHECKING:
    from executor.authoring.retry import RetryPolicy
    from executor.scheduler.outcomes import StepError

# RetryRequested() without an argument, as Dagster has it.
DEFAULT_REQUESTED_RETRIES = 1

# A success carries no number for the jitter of the retry that a passed deadline makes of it: take the middle.
NO_CHANCE = 0.5


class Backoff(NamedTuple):
    """Between two attempts of a step."""

    since: float
    due_at: float


def retry_delay_s(policy: RetryPolicy | None, error: StepError, attempt: int, chance: float) -> float | None:
    """Seconds from the failure of attempt number ``attempt`` to the next; None: that attempt was the last.

    What the step asked for with ``RetryRequested`` is stronger than its policy, in both directions: beyond the number
    that it named the step fails, although the policy would go on. Every other kind of failure follows the policy, a
    timeout, a dead worker, and a value that could not be sent or loaded among them: the next attempt may be quicker,
    live longer, or return something else. A cancelled attempt was the last.
    """
    if not error.allow_retries or error.kind == "cancelled":
        return None
    if error.kind == "retry_requested":
        most = DEFAULT_REQUESTED_RETRIES if error.max_retries is None else error.max_retries
        return None if attempt > most else min(max(0.0, error.retry_after_s or 0.0), LONGEST_DELAY_S)
    if policy is None or attempt > policy.max_retries:
        return None
    return policy.delay_s(attempt, chance)
