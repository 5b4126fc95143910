"""Processes and threads that do not want to end: a step's result is not delayed, and nothing outlives its step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import sample_ops as ops
from census import is_gone
from running import PROCESSES, Mailbox, attempt, error_of, output_of, run
from sample_ops import LONG_S

from executor.runs.result import RunResult
from executor.scheduler.events import Event, SlotFreed, StepStarted
from executor.scheduler.states import StepState
from executor.workers.child import LINGER_S

GRACE_S = 0.2


@pytest.fixture(params=PROCESSES)
def kind(request: pytest.FixtureRequest) -> str:
    """One process per step, and one for many."""
    return str(request.param)


def time_of(result: RunResult, kind: type[Event], key: str) -> float:
    """When the run heard of it."""
    return next(t for t, event in result.timeline if isinstance(event, kind) and event.key == key)  # type: ignore[union-attr]


def seconds_to_free(result: RunResult, key: str) -> float:
    """From a step's success, as its worker has it, to the end of its last process, as the run heard of it."""
    return time_of(result, SlotFreed, key) - attempt(result, key).ended_at


# --- after the result ------------------------------------------------------------------------------------------------


def test_children_of_every_kind_are_killed_soon_after_the_result(kind: str, tmp_path: Path, mailbox: Mailbox) -> None:
    """One that ignores every signal, one in a session of its own, one in a group of its own; all hold stdout open."""
    told = tmp_path / "told"
    os.mkfifo(told)
    strays: list[int] = []

    def go_on(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.key == "leaves_stubborn_children":
            strays.extend(map(int, mailbox.wait(3)))
            told.write_text("all are there")
        if isinstance(event, SlotFreed) and event.key == "leaves_stubborn_children":
            assert all(is_gone(pid) for pid in strays), "its slot is free only when they are gone"
            strays.append(0)

    tags = {"mailbox": mailbox.path, "folder": tmp_path}
    result = run([ops.leaves_stubborn_children, ops.one], kind, tags=tags, on_event=go_on, max_concurrent=1)
    assert result.output_for_node("leaves_stubborn_children") == "all are there"
    assert len(strays) == 4
    assert attempt(result, "leaves_stubborn_children").lingered
    assert seconds_to_free(result, "leaves_stubborn_children") >= LINGER_S
    assert result.step("one").success


def test_a_process_that_forks_itself_away_is_caught(kind: str) -> None:
    result = run([ops.storm, ops.one], kind)
    assert result.success
    assert attempt(result, "storm").lingered


def test_the_storm_of_a_process_that_takes_long_to_end_is_not_taken_for_that_of_another(tmp_path: Path) -> None:
    """While a process exits, the kernel gives its orphans past it to the template, although it is not dead yet."""
    several = [ops.storm_of_a_process_that_takes_long_to_end, ops.ends_while_the_other_takes_long_to_end]
    result = run(several, "one-shot-fork", tags={"folder": tmp_path})
    assert result.success, result.failures
    assert attempt(result, "storm_of_a_process_that_takes_long_to_end").lingered


@pytest.mark.usefixtures("little_time_to_end")
def test_a_thread_that_never_ends_delays_no_result() -> None:
    result = run([ops.thread_without_end, ops.one], "one-shot-fork", max_concurrent=1)
    assert result.success
    step = attempt(result, "thread_without_end")
    assert (step.lingered, step.exit_code) == (True, -signal.SIGKILL)
    assert seconds_to_free(result, "thread_without_end") >= LINGER_S
    assert time_of(result, StepStarted, "one") >= time_of(result, SlotFreed, "thread_without_end")


def test_a_thread_that_ends_in_time_is_waited_for() -> None:
    result = run(ops.thread_that_ends, "one-shot-fork")
    step = attempt(result, "thread_that_ends")
    assert (step.lingered, step.exit_code) == (False, 0)
    assert result.folder.lane_log(0).read_text() == "thread done\n"


def test_a_thread_that_calls_sys_exit_after_the_result_changes_nothing() -> None:
    result = run(ops.thread_that_exits_after_the_result, "one-shot-fork")
    step = attempt(result, "thread_that_exits_after_the_result")
    assert (result.success, step.lingered, step.exit_code) == (True, False, 0)
    assert result.folder.lane_log(0).read_text() == ""


def test_an_exit_handler_runs_in_its_own_process() -> None:
    result = run(ops.exit_handler, "one-shot-fork")
    assert attempt(result, "exit_handler").exit_code == 0
    assert result.folder.lane_log(0).read_text() == "handler ran\n"


def test_exit_handlers_of_a_reused_worker_run_when_the_run_ends() -> None:
    result = run([ops.exit_handler, ops.one], "unlimited-fork", max_concurrent=1)
    assert result.folder.lane_log(0).read_text() == "handler ran\n"


@pytest.mark.usefixtures("little_time_to_end")
def test_an_exit_handler_that_hangs_is_killed() -> None:
    result = run(ops.exit_handler_that_hangs, "one-shot-fork")
    assert result.success
    assert attempt(result, "exit_handler_that_hangs").lingered


@pytest.mark.usefixtures("little_time_to_end")
@pytest.mark.parametrize("name", ["exit_handler_that_hangs", "thread_without_end"])
def test_a_reused_worker_that_cannot_end_does_not_hold_up_the_end_of_the_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.workers.parent.END_WITHIN_S", LONG_S)  # nor must its template be killed for it
    result = run([getattr(ops, name), ops.one], "unlimited-fork", max_concurrent=1)
    assert result.success


# --- while being stopped ---------------------------------------------------------------------------------------------


def test_a_step_that_ignores_sigterm_is_killed_after_the_grace(kind: str, mailbox: Mailbox) -> None:
    def stop(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            mailbox.wait()
            os.kill(os.getpid(), signal.SIGTERM)

    result = run(ops.ignores_term, kind, tags={"mailbox": mailbox.path}, on_event=stop, stop_grace_s=GRACE_S)
    assert result.step("ignores_term").state is StepState.CANCELLED
    assert error_of(result, "ignores_term") == ("cancelled", "it was stopped because a cancel was asked for")
    assert attempt(result, "ignores_term").exit_code == -signal.SIGKILL
    assert result.duration_s >= GRACE_S


@pytest.mark.parametrize("how_often", [1, 2])
def test_stubborn_children_are_gone_when_the_stopped_run_ends(kind: str, how_often: int, mailbox: Mailbox) -> None:
    """The census finds whoever is left, wherever it went."""
    strays: list[int] = []

    def stop(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            strays.extend(map(int, mailbox.wait(3)))
            for _number in range(how_often):
                os.kill(os.getpid(), signal.SIGINT)

    grace_s = GRACE_S if how_often == 1 else LONG_S  # the second signal waits for no grace
    what = ops.waits_with_stubborn_children
    result = run(what, kind, tags={"mailbox": mailbox.path}, on_event=stop, stop_grace_s=grace_s)
    assert len(strays) == 3
    assert [pid for pid in strays if not is_gone(pid)] == []
    assert result.step("waits_with_stubborn_children").state is StepState.CANCELLED


def test_two_workers_that_end_at_once_each_answer_for_their_own_children() -> None:
    """What one leaves behind must not be counted against the other."""
    leaving = [ops.leaves_a_child.alias(f"leaves_{number}") for number in range(4)]
    quiet = [ops.one.alias(f"quiet_{number}") for number in range(12)]
    result = run([one for pair in zip(leaving, quiet, strict=False) for one in pair] + quiet[4:], "one-shot-fork")
    lingered = {key for key in result.steps if attempt(result, key).lingered}
    assert lingered == {f"leaves_{number}" for number in range(4)}


def test_the_output_of_a_step_ends_with_the_step_although_a_child_holds_the_log_open(kind: str) -> None:
    result = run([ops.leaves_a_child, ops.divides], kind, max_concurrent=1)
    assert output_of(result, "leaves_a_child") == ""
    assert output_of(result, "divides") == "about to divide\n"
