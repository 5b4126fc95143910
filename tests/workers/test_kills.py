"""Workers and templates that are killed at any point of an attempt: the run ends and names the step and the cause."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import sample_ops as ops
from census import children, is_gone, state
from running import PROCESSES, HeldClock, Mailbox, attempt, await_end, error_of, run, wait_until

from executor import RetryPolicy, RunResult, job
from executor.scheduler.events import (
    Event,
    RunNotice,
    SlotFreed,
    StepFailed,
    StepReturned,
    StepStarted,
    StepSucceeded,
)
from executor.workers.child import Worker


@pytest.fixture(params=PROCESSES)
def kind(request: pytest.FixtureRequest) -> str:
    """One process per step, and one for many."""
    return str(request.param)


def template_of(worker: int) -> int:
    """The parent of a worker."""
    status = Path(f"/proc/{worker}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))


def ends_of(result: RunResult, key: str) -> list[type[Event]]:
    """The kinds of the events that end an attempt of that step, in order."""
    return [type(event) for event in result.events_for_node(key) if isinstance(event, StepFailed | StepSucceeded)]


def assert_died(result: RunResult, key: str, how: str) -> None:
    """The step failed because its worker ended in that way."""
    kind, message = error_of(result, key)
    assert kind == "worker_died"
    assert message == f"its worker process {how}"


# --- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how", "code"),
    [
        ("exits_0", "exited with code 0 before it had reported a result", 0),
        ("exits_3", "exited with code 3", 3),
        ("segfaults", "was killed by SIGSEGV", -signal.SIGSEGV),
        ("kills_itself", "was killed by SIGKILL (the kernel does so when memory runs out)", -signal.SIGKILL),
        ("kills_its_group", "was killed by SIGKILL (the kernel does so when memory runs out)", -signal.SIGKILL),
        ("dies_while_writing_its_result", "was killed by SIGKILL (the kernel does so when memory runs out)", -9),
    ],
)
def test_a_worker_that_dies_in_a_step_is_the_failure_of_that_step_alone(
    kind: str, name: str, how: str, code: int
) -> None:
    result = run([getattr(ops, name), *[ops.one.alias(f"one_{number}") for number in range(4)]], kind)
    assert_died(result, name, how)
    assert ends_of(result, name) == [StepFailed]
    assert attempt(result, name).exit_code == code
    assert [key for key, step in result.steps.items() if step.success] == [f"one_{number}" for number in range(4)]
    assert result.status == "failed"


def test_a_value_whose_writer_died_leaves_no_file_under_its_name() -> None:
    result = run(ops.dies_while_writing_its_result)
    assert [path.suffix for path in result.folder.values.iterdir()] in ([], [".tmp"])


def test_a_worker_killed_from_outside_in_a_step_is_replaced_and_its_step_tried_again(
    kind: str, mailbox: Mailbox
) -> None:
    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.attempt == 1:
            assert mailbox.wait()[0].split()[0] == str(event.pid)
            os.kill(event.pid, signal.SIGKILL)

    result = run(ops.waits_once, kind, tags={"mailbox": mailbox.path}, on_event=kill)
    assert result.output_for_node("waits_once") == 2
    first, second = result.step("waits_once").attempts
    assert first.error is not None
    assert (first.error.kind, first.exit_code) == ("worker_died", -signal.SIGKILL)
    assert first.pid != second.pid
    assert first.facts.cpu_s > 0, "its parent told what it had used"
    assert first.peak_rss_bytes > 1 << 20


def test_a_spare_worker_that_is_killed_costs_no_attempt() -> None:
    """Killed where it waits for its first step: what it was handed goes back, with no attempt spent."""
    killed: list[int] = []

    def kill_spares(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):  # the only step that runs now
            (template,) = children()
            for pid in children(template):
                if pid != event.pid and not is_gone(pid) and len(killed) < 3:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    several = [ops.silent.alias(f"step_{number}") for number in range(20)]
    result = run(several, "one-shot-fork", on_event=kill_spares, max_concurrent=1)
    assert result.success, result.failures
    assert killed
    assert {len(step.attempts) for step in result.steps.values()} == {1}
    assert {attempt(result, key).number for key in result.steps} == {1}


def replace_main(monkeypatch: pytest.MonkeyPatch, instead: Callable[[Worker, int], object]) -> None:
    """Let workers do something else; but not the one that a template, which leads a session, rehearses."""
    main = Worker.main

    def new_main(self: Worker, lane: int) -> None:
        if os.getsid(0) == os.getpid() or not instead(self, lane):
            main(self, lane)

    monkeypatch.setattr(Worker, "main", new_main)


def test_an_attempt_that_no_worker_begins_fails_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_main(monkeypatch, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    result = run(ops.one, "one-shot-fork")
    killed = "the last one was killed by SIGKILL (the kernel does so when memory runs out)"
    never = f"5 worker processes in a row ended before they began it; {killed}"
    assert error_of(result, "one") == ("worker_died", never)
    assert [type(event) for event in result.events_for_node("one")].count(StepReturned) == 4
    assert len(result.step("one").attempts) == 1


def test_an_attempt_goes_back_unspent_when_its_worker_dies_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "died"

    def die_the_first_time(self: Worker, _: int) -> None:
        with suppress(FileExistsError):
            marker.touch(exist_ok=False)
            select.select([self._channel], [], [])  # until the attempt is there
            os.kill(os.getpid(), signal.SIGKILL)

    replace_main(monkeypatch, die_the_first_time)
    result = run(ops.one, "one-shot-fork")
    assert result.success
    assert [type(event) for event in result.events_for_node("one")][:3] == [StepStarted, StepReturned, StepStarted]
    assert [attempt.number for attempt in result.step("one").attempts] == [1]


def test_a_worker_killed_while_it_sends_its_result_has_failed(kind: str, mailbox: Mailbox) -> None:
    """Six megabytes do not fit into a socket: the worker stands in the middle of sending while nobody reads."""

    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            mailbox.wait()
            wait_until(lambda: "sock" in Path(f"/proc/{event.pid}/wchan").read_text(), "the worker waits for room")
            os.kill(event.pid, signal.SIGKILL)
            await_end(event.pid)

    result = run(ops.six_megabytes_in_messages, kind, tags={"mailbox": mailbox.path}, on_event=kill)
    assert error_of(result, "six_megabytes_in_messages")[0] == "worker_died"
    assert ends_of(result, "six_megabytes_in_messages") == [StepFailed]


def test_a_worker_killed_after_its_result_has_succeeded(mailbox: Mailbox) -> None:
    """Killed while a thread keeps its process alive: the result was safe, and only the slot was still taken."""

    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepSucceeded):
            assert not event.freed
            os.kill(event.facts.pid, signal.SIGKILL)

    result = run(ops.thread_without_end, "one-shot-fork", on_event=kill)
    assert result.output_for_node("thread_without_end") == 1
    assert ends_of(result, "thread_without_end") == [StepSucceeded]
    freed = [event for event in result.events if isinstance(event, SlotFreed)]
    assert [event.exit_code for event in freed] == [-signal.SIGKILL]


def test_a_worker_killed_between_two_steps_is_replaced(tmp_path: Path) -> None:
    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepFailed):
            os.kill(event.facts.pid, signal.SIGKILL)

    # the retry comes long after the failure, and finds that its worker is dead
    again = ops.divides.with_retry_policy(RetryPolicy(max_retries=1, delay=0.3))
    result = run(again, "unlimited-fork", on_event=kill)
    first, second = result.step("divides").attempts
    assert first.pid != second.pid
    assert ends_of(result, "divides") == [StepFailed, StepFailed]


def test_how_a_worker_died_is_told_although_its_template_is_late(
    kind: str, mailbox: Mailbox, little_time_to_end: None
) -> None:
    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            worker, template = map(int, mailbox.wait()[0].split())
            os.kill(template, signal.SIGSTOP)
            wait_until(lambda: state(template) == "T", "the template has stopped")
            os.kill(worker, signal.SIGSEGV)
            wait_until(lambda: state(worker) == "Z", "the worker is dead, and nobody waits for it")
            os.kill(template, signal.SIGCONT)

    result = run(ops.waits, kind, tags={"mailbox": mailbox.path}, on_event=kill)
    assert_died(result, "waits", "was killed by SIGSEGV")


# --- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PROCESSES, "one-shot-forkserver", "unlimited-forkserver", "unlimited-spawn"])
def test_a_template_that_is_killed_takes_its_steps_along_and_is_replaced(kind: str, mailbox: Mailbox) -> None:
    templates: list[int] = []

    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.key in {"waits", "waits_once"} and event.attempt == 1:
            _, template = map(int, mailbox.wait()[0].split())
            templates.append(template)
            if len(templates) == 2:
                os.kill(template, signal.SIGKILL)

    later = [ops.one.alias(f"later_{number}") for number in range(4)]
    result = run([ops.waits, ops.waits_once, *later], kind, tags={"mailbox": mailbox.path}, on_event=kill)
    assert_died(result, "waits", "died with its template")
    assert ends_of(result, "waits") == [StepFailed]
    assert ends_of(result, "waits_once") == [StepFailed, StepSucceeded], "its retry policy applies"
    assert all(result.step(f"later_{number}").success for number in range(4)), "the run goes on"
    notices = [event.message for event in result.events if isinstance(event, RunNotice)]
    assert notices == ["the workers' template process was killed by SIGKILL; another one is started"]


@pytest.mark.usefixtures("little_time_to_end")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_template_that_a_step_stops_is_continued_and_the_run_says_so(method: str) -> None:
    @job
    def stopped() -> None:
        ops.plus_one(ops.stops_its_parent())

    result = run(stopped, f"one-shot-{method}")
    assert result.status == "succeeded"
    (notice,) = [event.message for event in result.events if isinstance(event, RunNotice)]
    assert notice == "the workers' template process was stopped (SIGSTOP), and the run stood still; it was continued"


def test_a_template_that_every_step_kills_is_given_up_in_the_end(kind: str) -> None:
    several = [ops.kills_its_parent.alias(f"step_{number}") for number in range(6)]
    result = run(several, kind, max_concurrent=1)
    assert {error_of(result, f"step_{number}")[0] for number in range(6)} == {"worker_died"}
    assert error_of(result, "step_5")[1] == "the workers' template process died 4 times in a row"
    assert result.status == "failed"


def test_a_process_that_got_away_from_a_killed_template_is_named(tmp_path: Path, mailbox: Mailbox) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    strays: list[int] = []

    def kill(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            strays.extend(map(int, mailbox.wait(3)))
            os.kill(template_of(event.pid), signal.SIGKILL)

    tags = {"mailbox": mailbox.path, "folder": tmp_path}
    result = run(ops.leaves_stubborn_children, "one-shot-fork", tags=tags, on_event=kill)
    left = [pid for pid in strays if not is_gone(pid)]
    assert 1 <= len(left) <= 2, "the one in the step's own group is killed"
    notices = [event.message for event in result.events if isinstance(event, RunNotice)][1:]
    assert len(notices) == len(left)
    for pid in left:
        assert any(f"pid {pid} " in notice and notice.endswith(f"to end it: kill {pid}") for notice in notices)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# --- stopped and continued -------------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_and_continued_goes_on(kind: str) -> None:
    def go_on(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            wait_until(lambda: state(event.pid) == "T", "the step has stopped itself")
            os.kill(event.pid, signal.SIGCONT)

    assert run(ops.stops_itself, kind, on_event=go_on).output_for_node("stops_itself") == 1


def test_a_stopped_worker_is_continued_when_its_time_is_over_to_stop_as_any_other(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_time_pass(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.key == "stops_itself_under_a_timeout":
            wait_until(lambda: state(event.pid) == "T", "the step has stopped itself")
            HeldClock.present.go_on()

    monkeypatch.setattr("executor.runs.start.RunClock", HeldClock)
    result = run([ops.stops_itself_under_a_timeout, ops.one], kind, stop_grace_s=ops.LONG_S, on_event=let_time_pass)
    assert error_of(result, "stops_itself_under_a_timeout")[0] == "timed_out"
    assert result.step("one").success


def test_a_template_that_is_stopped_for_a_while_loses_nothing(kind: str, mailbox: Mailbox) -> None:
    def stop_and_go_on(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.key == "waits_once" and event.attempt == 1:
            worker, template = map(int, mailbox.wait()[0].split())
            os.kill(template, signal.SIGSTOP)
            wait_until(lambda: state(template) == "T", "the template has stopped")
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: state(worker) == "Z", "the worker is dead, and nobody waits for it")
            os.kill(template, signal.SIGCONT)

    result = run([ops.waits_once, ops.one], kind, tags={"mailbox": mailbox.path}, on_event=stop_and_go_on)
    assert result.success, result.failures
    assert ends_of(result, "waits_once") == [StepFailed, StepSucceeded]


def test_a_template_that_never_goes_on_does_not_outlive_two_interrupts(mailbox: Mailbox) -> None:
    def stop(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            _, template = map(int, mailbox.wait()[0].split())
            os.kill(template, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    result = run(ops.waits, "one-shot-fork", tags={"mailbox": mailbox.path}, on_event=stop)
    assert (result.status, result.interrupted) == ("cancelled", True)
    assert error_of(result, "waits")[0] == "cancelled"
    assert ends_of(result, "waits") == [StepFailed]
