"""Steps that do what a library might do to the process that it is in: descriptors, forks, signals, processes."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sample_ops as ops
from census import descriptors
from running import KINDS, PROCESSES, Mailbox, attempt, error_of, output_of, run

from executor import op
from executor.scheduler.events import Event, StepStarted, StepSucceeded
from executor.workers import hygiene
from executor.workers.parent import TemplateLink
from executor.workers.processes import FORK_AGAIN_S, ProcessWorkers

CLOSED = "its worker process could not report: the step, or something that it uses, closed file descriptors"
GARBAGE = "its worker process was killed, because the step, or something that it uses, wrote to a file descriptor"


@pytest.fixture(params=PROCESSES)
def kind(request: pytest.FixtureRequest) -> str:
    """One process per step, and one for many."""
    return str(request.param)


# --- descriptors -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("little_time_to_end")
@pytest.mark.parametrize("name", ["closes_all", "closes_all_and_goes_on", "puts_pipes_in_their_place"])
def test_a_step_that_closes_what_it_did_not_open_fails_and_is_told_so(kind: str, name: str) -> None:
    result = run([getattr(ops, name), ops.one, ops.silent], kind, max_concurrent=1)
    of_kind, message = error_of(result, name)
    assert of_kind == "worker_died"
    assert message.startswith(CLOSED)
    assert result.step("one").success
    assert result.step("silent").success


def test_a_step_that_writes_over_our_socket_fails_and_is_told_so() -> None:
    result = run([ops.writes_garbage, ops.one], "unlimited-fork", max_concurrent=1)
    of_kind, message = error_of(result, "writes_garbage")
    assert of_kind == "worker_died"
    assert message.startswith(GARBAGE)
    assert result.step("one").success


def test_garbage_before_the_end_of_a_process_is_no_result() -> None:
    result = run([ops.writes_garbage, ops.one], "one-shot-fork")
    assert error_of(result, "writes_garbage")[0] == "worker_died"
    assert result.step("one").success


def test_a_step_that_closes_its_standard_streams_takes_them_from_no_other(kind: str) -> None:
    result = run([ops.closes_its_streams, ops.divides], kind, max_concurrent=1)
    assert result.step("closes_its_streams").success
    assert output_of(result, "divides") == "about to divide\n"


def test_steps_inherit_no_descriptor_of_the_engine(kind: str) -> None:
    @op
    def open_files() -> dict[int, str]:
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
        return found

    of_the_tests = [path for path in descriptors().values() if path.startswith("socket")]
    result = run([open_files, ops.one], kind)
    found = {fd: path for fd, path in result.output_for_node("open_files").items() if path not in of_the_tests}  # type: ignore[attr-defined]
    home = str(result.folder.home)
    assert [path for path in found.values() if path.startswith(home) and "/lane-" not in path] == []
    # its socket to the driver alone
    assert [path.partition(":")[0] for path in found.values()].count("socket") == 1
    assert not any("eventpoll" in path for path in found.values())


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_that_comes_back_from_the_step_is_not_a_second_result(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run([ops.forks_and_returns_twice, ops.one], kind, max_concurrent=1)
    assert result.output_for_node("forks_and_returns_twice") == attempt(result, "forks_and_returns_twice").pid
    assert result.step("one").success
    said = capfd.readouterr().out if kind == "in-process" else output_of(result, "forks_and_returns_twice")
    assert sorted(said.split()) == ["child", "parent"]


@pytest.mark.parametrize("kind", ["in-process", *PROCESSES])
def test_a_fork_that_raises_out_of_the_step_is_not_the_steps_failure(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run([ops.forks_and_the_child_raises, ops.one], kind, max_concurrent=1)
    assert result.output_for_node("forks_and_the_child_raises") == 1, "the exit code of the child"
    captured = capfd.readouterr().err
    said = captured if kind == "in-process" else output_of(result, "forks_and_the_child_raises")
    assert "ValueError: in the child" in said


@pytest.mark.parametrize("kind", ["in-process", *PROCESSES])
def test_a_fork_that_exits_in_the_step_has_the_exit_code_that_it_gives(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run([ops.forks_and_the_children_exit, ops.one], kind, max_concurrent=1)
    assert result.output_for_node("forks_and_the_children_exit") == [0, 3, 0, 1]
    captured = capfd.readouterr().err
    said = captured if kind == "in-process" else output_of(result, "forks_and_the_children_exit")
    assert said == "a last word\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_of_processes_works_in_a_step(kind: str) -> None:
    result = run([ops.uses_a_pool_of_processes.alias(f"pool_{number}") for number in range(3)], kind)
    assert result.success, result.failures
    assert result.output_for_node("pool_0") == [1, 2]
    assert not any(attempt(result, key).lingered for key in result.steps)


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_of_a_step_ends_by_sigterm_however_new_it_is(kind: str) -> None:
    """It would inherit the handlers that the engine has for its own process."""
    several = [ops.ends_a_child_at_once.alias(f"child_{number}") for number in range(10)]
    result = run(several, kind)
    assert result.success, result.failures
    assert {result.output_for_node(key) for key in result.steps} == {-signal.SIGTERM}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_may_capture_the_output_of_a_child(kind: str) -> None:
    if kind == "in-process":
        pytest.skip("its input is the caller's there")
    assert run(ops.captures_output, kind).output_for_node("captures_output") == b"heard\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_may_run_a_job(kind: str, home: Path) -> None:
    result = run([ops.runs_a_job, ops.one], kind)
    assert result.success, result.failures
    assert result.output_for_node("runs_a_job") == 2
    assert len(list(home.glob("runs/*"))) == 2
    assert not attempt(result, "runs_a_job").lingered


# --- the caller ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_that_ignores_sigchld_and_blocks_signals_runs_jobs_all_the_same(kind: str) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD})
    try:
        result = run([ops.exits_3 if kind != "in-process" else ops.divides, ops.one, ops.takes_too_long], kind)
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert result.step("one").success
    assert error_of(result, "takes_too_long")[0] == "timed_out"
    if kind != "in-process":
        assert "exited with code 3" in error_of(result, "exits_3")[1]


@pytest.mark.parametrize("kind", ["one-shot-fork", "three-per-worker-fork"])
def test_a_template_that_cannot_fork_for_a_while_is_asked_again_without_haste(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when a user has too many processes: what is there goes on, and the rest waits."""
    told = tmp_path / "told"
    os.mkfifo(told)
    refused: list[float] = []  #: when the template said that it could not fork
    early: list[float] = []  #: seconds from such a word to a question that came too soon
    limits: list[tuple[int, tuple[int, int]]] = []
    on_no_worker, order = ProcessWorkers._on_no_worker, TemplateLink.order
    clocks: list[Callable[[], float]] = []

    def refuse(self: ProcessWorkers, lane: int, why: str) -> None:
        clocks[:] = [self._clock]
        refused.append(self._clock())
        on_no_worker(self, lane, why)
        if len(refused) == 5:
            told.write_text("go on")

    def ask(self: TemplateLink, what: str, number: int) -> None:
        if what == "fork" and refused and (waited := clocks[0]() - refused[-1]) < FORK_AGAIN_S:
            early.append(waited)
        order(self, what, number)

    def starve(event: Event, _: float) -> None:
        if isinstance(event, StepStarted) and event.key == "waits_for_word":
            template = os.getsid(event.pid)
            limits.append((template, resource.prlimit(template, resource.RLIMIT_NOFILE)))
            resource.prlimit(template, resource.RLIMIT_NOFILE, (3, limits[0][1][1]))
        if isinstance(event, StepSucceeded) and event.key == "waits_for_word":
            resource.prlimit(limits[0][0], resource.RLIMIT_NOFILE, limits[0][1])

    monkeypatch.setattr(ProcessWorkers, "_on_no_worker", refuse)
    monkeypatch.setattr(TemplateLink, "order", ask)
    several = [ops.waits_for_word, *[ops.one.alias(f"step_{number}") for number in range(12)]]
    with Mailbox(tmp_path) as mailbox:
        result = run(several, kind, tags={"mailbox": mailbox.path, "folder": tmp_path}, on_event=starve)
    assert result.success, result.failures
    assert len(refused) >= 5
    assert early == []
    order_of = [(type(event), event.key) for event in result.events if isinstance(event, StepStarted | StepSucceeded)]
    late = order_of[order_of.index((StepSucceeded, "waits_for_word")) :]
    assert any(kind_of is StepStarted for kind_of, _ in late), "some had to wait"


def test_a_run_that_can_have_no_worker_at_all_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("executor.workers.lanes.stream_pair", no_room)
    result = run([ops.one, ops.silent], "unlimited-fork")
    why = "no worker process could be started: [Errno 24] Too many open files"
    assert {error_of(result, key) for key in ("one", "silent")} == {("worker_died", why)}


def test_a_caller_that_runs_out_of_descriptors_goes_on_with_the_lanes_that_it_has() -> None:
    limits: list[tuple[int, int]] = []

    def starve(event: object, _: float) -> None:
        if not limits:
            limits.append(resource.getrlimit(resource.RLIMIT_NOFILE))
            top = max(map(int, os.listdir("/proc/self/fd")))
            used = os.dup(0)
            os.close(used)
            spare = [os.dup(0) for _ in range(top)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, limits[0][1]))
            starve.spare = spare  # type: ignore[attr-defined]

    try:
        result = run([ops.one, ops.silent, ops.large], "one-shot-fork", max_concurrent=1, on_event=starve)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits[0])
        for fd in starve.spare:  # type: ignore[attr-defined]
            os.close(fd)
    assert result.success, result.failures


def test_a_caller_with_thousands_of_descriptors_runs_jobs(tmp_path: Path) -> None:
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(3000)]
    try:
        assert run([ops.one, ops.large], "one-shot-fork").success
    finally:
        for fd in many:
            os.close(fd)


def test_a_child_that_another_thread_forks_has_the_callers_own_handlers() -> None:
    """Python loses a signal that comes to a child before its handlers are its own; here it waits instead."""
    ours = lambda *_: None  # noqa: E731  (any callable)
    before = signal.signal(signal.SIGUSR2, ours)
    hygiene.register_handler(signal.SIGUSR2, ours, signal.SIG_DFL)
    try:
        codes = []
        for _ in range(50):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            os.kill(pid, signal.SIGUSR2)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    finally:
        hygiene.forget_handler(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, before)
    assert set(codes) == {-signal.SIGUSR2}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    assert threading.active_count() == 1
