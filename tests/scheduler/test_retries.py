"""Which failures are followed by another attempt."""

from __future__ import annotations

from typing import get_args

import pytest

from executor.authoring.retry import RetryPolicy
from executor.scheduler.outcomes import FailureKind, StepError
from executor.scheduler.retries import retry_delay_s

POLICY = RetryPolicy(2, delay=3.0)


@pytest.mark.parametrize(
    "kind", [kind for kind in get_args(FailureKind) if kind not in {"cancelled", "retry_requested"}]
)
def test_every_kind_of_failure_follows_the_policy(kind: FailureKind) -> None:
    error = StepError(kind, "it failed")
    assert [retry_delay_s(POLICY, error, attempt, 0.0) for attempt in (1, 2, 3)] == [3.0, 3.0, None]


def test_a_cancelled_attempt_is_the_last() -> None:
    assert retry_delay_s(POLICY, StepError("cancelled", "stopped"), 1, 0.0) is None


def test_without_a_policy_a_failure_is_final() -> None:
    assert retry_delay_s(None, StepError("exception", "boom"), 1, 0.0) is None


def test_a_failure_that_allows_no_retries_is_final() -> None:
    assert retry_delay_s(POLICY, StepError("failure", "on purpose", allow_retries=False), 1, 0.0) is None


@pytest.mark.parametrize("policy", [None, POLICY])
def test_what_the_step_asks_for_is_stronger_than_its_policy(policy: RetryPolicy | None) -> None:
    asked = StepError("retry_requested", "again", max_retries=1, retry_after_s=7.0)
    assert [retry_delay_s(policy, asked, attempt, 0.0) for attempt in (1, 2)] == [7.0, None]


def test_a_step_that_asks_without_a_number_gets_one_retry_at_once() -> None:
    asked = StepError("retry_requested", "again")
    assert [retry_delay_s(None, asked, attempt, 0.0) for attempt in (1, 2)] == [0.0, None]


def test_a_step_that_asks_to_wait_for_ever_waits_for_a_year() -> None:
    error = StepError("retry_requested", "again", max_retries=3, retry_after_s=1e300)
    assert retry_delay_s(None, error, 1, 0.5) == 365 * 86400.0
