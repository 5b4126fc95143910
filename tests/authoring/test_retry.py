"""Retry policies: what may be written, and the delays that they give."""

import pickle
from typing import Any

import pytest

from executor import Backoff, DefinitionError, Failure, Jitter, RetryPolicy, RetryRequested


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [(None, [2.0, 2.0, 2.0]), (Backoff.LINEAR, [2.0, 4.0, 6.0]), (Backoff.EXPONENTIAL, [2.0, 6.0, 14.0])],
)
def test_the_delays_are_dagsters(backoff: Backoff | None, delays: list[float]) -> None:
    policy = RetryPolicy(max_retries=3, delay=2.0, backoff=backoff)
    assert [policy.delay_s(attempt, chance=0.9) for attempt in (1, 2, 3)] == delays


@pytest.mark.parametrize(("chance", "delay_s"), [(0.0, 0.0), (0.5, 2.0), (0.75, 3.0)])
def test_full_jitter_is_anything_up_to_the_delay(chance: float, delay_s: float) -> None:
    assert RetryPolicy(delay=4.0, jitter=Jitter.FULL).delay_s(1, chance) == delay_s


@pytest.mark.parametrize(("chance", "delay_s"), [(0.0, 8.0), (0.5, 12.0), (0.75, 14.0)])
def test_plus_minus_jitter_moves_by_one_base_delay(chance: float, delay_s: float) -> None:
    policy = RetryPolicy(delay=4.0, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)
    assert policy.delay_s(2, chance) == delay_s


@pytest.mark.parametrize("backoff", [None, *Backoff])
@pytest.mark.parametrize("jitter", [None, *Jitter])
@pytest.mark.parametrize("delay", [0.001, 1e300, 1.7e308, 10**400], ids=["small", "large", "largest", "no float"])
def test_no_delay_is_longer_than_a_year_however_it_grows(
    backoff: Backoff | None, jitter: Jitter | None, delay: float
) -> None:
    policy = RetryPolicy(max_retries=5000, delay=delay, backoff=backoff, jitter=jitter)
    for attempt in (1, 2, 5000):
        assert 0 <= policy.delay_s(attempt, chance=0.99) <= 365 * 86400.0


def test_without_a_delay_the_step_is_ready_at_once() -> None:
    assert RetryPolicy(max_retries=2).delay_s(1, 0.5) == 0.0


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2"])
def test_the_number_of_retries_is_a_whole_number_from_0(wrong: object) -> None:
    with pytest.raises(DefinitionError, match="whole number, 0 or more"):
        RetryPolicy(max_retries=wrong)  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.parametrize("wrong", [-0.1, True, "2", float("inf"), float("nan")])
def test_a_delay_is_seconds(wrong: object) -> None:
    with pytest.raises(DefinitionError, match="give seconds, 0 or more"):
        RetryPolicy(delay=wrong)  # type: ignore[arg-type]  # that is the mistake


@pytest.mark.parametrize("changes", [{"backoff": Backoff.LINEAR}, {"jitter": Jitter.FULL}])
def test_what_changes_a_delay_needs_one(changes: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="give delay= in seconds as well"):
        RetryPolicy(**changes)  # type: ignore[arg-type]  # one of two kinds


def test_the_exceptions_of_a_step_pickle_and_say_what_they_are() -> None:
    failure = pickle.loads(pickle.dumps(Failure("no rows", {"rows": 0})))
    assert str(failure) == "no rows"
    assert str(Failure()) == "the step failed on purpose"
    request = pickle.loads(pickle.dumps(RetryRequested(max_retries=3, seconds_to_wait=1.5)))
    assert (request.max_retries, request.seconds_to_wait) == (3, 1.5)
    assert "at most 3 times" in str(request)


@pytest.mark.parametrize("wrong", [{"backoff": "LINEAR"}, {"jitter": "FULL"}, {"backoff": Jitter.FULL}])
def test_a_backoff_or_jitter_that_is_none_is_refused_with_what_to_give(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(DefinitionError, match=rf"RetryPolicy\({name}=.*: give (Backoff|Jitter)\."):
        RetryPolicy(delay=1.0, **wrong)
