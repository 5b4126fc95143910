"""A history that is told to a new scheduler leads to the states that the run had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from replaying import assert_replays

from executor import In, Nothing, Out, Output, RetryPolicy, job, op
from executor.api import execute_job
from executor.errors import UsageError
from executor.runs.home import make_run, open_home
from executor.runs.replay import read_limits, read_plan, replay
from executor.scheduler.events import RunStarted
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IN_PROCESS = {"execution": {"config": {"in_process": {}}}}
LIMITED = {
    "execution": {
        "config": {
            "max_concurrent": 2,
            "tag_concurrency_limits": [
                {"key": "db", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
                {"key": "db", "value": "x", "limit": 3},
            ],
        }
    }
}


@op(out={"rows": Out(), "rest": Out(is_required=False)}, tags={"db": "x"})
def load():
    yield Output([1, 2, 3], "rows")


@op(tags={"db": "x"})
def total(rows):
    return sum(rows)


@op
def reads_rest(rest):
    return rest


@op(retry_policy=RetryPolicy(max_retries=2, delay=0.02), tags={"db": "y"})
def flaky(context, rows):
    if context.attempt < 3:
        raise ValueError("not yet")
    return len(rows)


@op(timeout=0.05, retry_policy=RetryPolicy(max_retries=1))
def slow():
    import time

    time.sleep(30)


@op(ins={"after": In(Nothing)})
def late():
    pass


@job
def everything():
    rows, rest = load()
    total(rows)
    reads_rest(rest)
    late(after=flaky(rows))


@job
def too_slow():
    late(after=slow())
    total(load().rows)


@pytest.mark.parametrize("config", [IN_PROCESS, LIMITED], ids=["in_process", "processes"])
def test_a_run_with_retries_and_skips_replays(config: Mapping[str, object]) -> None:
    result = execute_job(everything, config)
    assert result.success, result.failures
    assert_replays(result.folder)
    assert result.step("flaky").state is StepState.SUCCEEDED
    assert [attempt.outcome for attempt in result.step("flaky").attempts] == ["failed", "failed", "succeeded"]
    assert result.step("reads_rest").state is StepState.SKIPPED


def test_a_run_with_timeouts_and_steps_that_were_not_run_replays() -> None:
    result = execute_job(too_slow, LIMITED)
    assert_replays(result.folder)
    states = {key: step.state for key, step in result.steps.items()}
    assert states == {
        "slow": StepState.FAILED,
        "late": StepState.NOT_RUN,
        "load": StepState.SUCCEEDED,
        "total": StepState.SUCCEEDED,
    }
    assert [attempt.error.kind for attempt in result.step("slow").attempts if attempt.error] == ["timed_out"] * 2


def test_a_replay_can_stop_at_any_moment_and_say_why_a_step_waits() -> None:
    result = execute_job(everything, LIMITED)
    failed_at = next(t for t, event in result.timeline if event.kind == "step_failed")
    scheduler = replay(result.folder, until_s=failed_at)
    assert scheduler.state("flaky") is StepState.BACKOFF
    assert "failed in attempt 1" in str(scheduler.why("flaky", failed_at))


def test_limits_come_back_as_they_were() -> None:
    result = execute_job(everything, LIMITED)
    started = result.events[0]
    assert isinstance(started, RunStarted)
    limits = read_limits(started)
    assert limits.max_concurrent == 2
    assert limits.tags == everything.settings(LIMITED).tag_concurrency_limits


def test_a_run_that_never_began_cannot_be_replayed(tmp_path: Path) -> None:
    lock = make_run(open_home(tmp_path / "home"))
    for read in (read_plan, replay):
        with pytest.raises(UsageError, match="has no plan: its driver died before it began"):
            read(lock.folder)
    lock.release()
