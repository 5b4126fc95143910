"""One suite for every kind of worker: what a job may expect of it, wherever its steps run."""

from __future__ import annotations

import os
import resource
import shutil
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import sample_ops as ops
from running import KINDS, PATIENCE_S, attempt, error_of, output_of, run

from executor import op
from executor.outputs.values import INLINE_BYTES
from executor.runs.home import open_home
from executor.scheduler.events import StepFailed, StepStarted, StepWillRetry
from executor.scheduler.states import StepState
from executor.workers.exec_template import THREAD_VARIABLES

IN_OWN_PROCESS = [kind for kind in KINDS if kind != "in-process"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of worker in turn."""
    return str(request.param)


@pytest.fixture(params=IN_OWN_PROCESS)
def process_kind(request: pytest.FixtureRequest) -> str:
    """Each kind that has a process of its own for steps."""
    return str(request.param)


# --- values ----------------------------------------------------------------------------------------------------------


def test_values_reach_the_steps_that_read_them(kind: str, tmp_path: Path) -> None:
    result = run(ops.values, kind, tags={"folder": tmp_path})
    assert result.success, result.failures
    assert result.output_for_node("several", "small") == {"a": (1, None)}
    assert result.output_for_node("kind_of_small") == "dict"
    assert result.output_for_node("length_of_big") == ops.LARGE_BYTES
    assert result.output_for_node("length_of_large") == ops.LARGE_BYTES
    assert result.output_for_node("add") == 3
    assert result.output_for_node("reads_order") == "first"
    assert result.step("never").state is StepState.SKIPPED
    assert result.step("never").because == "several.left_out"


def test_a_small_value_rides_in_the_message_and_a_large_one_is_one_file(kind: str, tmp_path: Path, home: Path) -> None:
    open_home(home)
    (home / "executor.yaml").write_text("storage: {values: disk, keep: all}")
    result = run(ops.values, kind, tags={"folder": tmp_path})
    stored = {value.output: value for value in result.step("several").outputs}
    assert stored["small"].path is None
    assert stored["small"].data is not None
    assert stored["big"].data is None
    assert stored["big"].size > INLINE_BYTES
    files = {path.name for path in result.folder.values.iterdir()}
    assert files == {stored["big"].path, result.step("large").outputs[0].path}
    assert result.step("order_only").outputs[0][1:] == (None, None, 0)


def test_a_function_made_in_a_function_runs_anywhere(kind: str) -> None:
    factor = 6

    @op
    def multiply() -> int:
        more = lambda x: x + 1  # noqa: E731  (a lambda is what it is about)
        return factor * more(6)

    assert run(multiply, kind).output_for_node("multiply") == 42


def test_a_result_of_a_gigabyte_reaches_its_reader() -> None:
    result = run(ops.gigabytes, "one-shot-fork")
    try:
        assert result.output_for_node("length") == 1 << 30
        assert result.step("gigabyte").outputs[0].size > 1 << 30
    finally:
        shutil.rmtree(result.folder.values)


def test_four_hundred_inputs_of_60_kb_reach_their_reader(process_kind: str) -> None:
    """More than a socket holds at once. What it costs: ``test_channel.py`` and ``test_messages.py``."""
    if "one-shot" in process_kind or "three" in process_kind:
        pytest.skip("hundreds of processes for what concerns the pipe of the last one")
    result = run(ops.wide_fan_in, process_kind)
    assert result.output_for_node("total") == 400 * 60_000


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_failure_has_the_traceback_of_the_users_frames_alone(kind: str) -> None:
    result = run([ops.divides, ops.one], kind)
    assert error_of(result, "divides") == ("exception", "ZeroDivisionError: division by zero")
    trace = result.step("divides").error.traceback  # type: ignore[union-attr]
    lines = [line for line in trace.splitlines() if line.startswith("  File ")]
    assert [line.rpartition(" in ")[2] for line in lines] == ["divides", "deep", "deep", "deep"]
    assert all("sample_ops.py" in line for line in lines)
    assert result.step("one").success
    assert result.status == "failed"


def test_a_failure_of_an_async_step_has_no_frames_of_its_event_loop(kind: str) -> None:
    result = run(ops.divides_async, kind)
    trace = result.step("divides_async").error.traceback  # type: ignore[union-attr]
    frames = [line.rpartition(" in ")[2] for line in trace.splitlines() if line.startswith("  File ")]
    assert frames == ["divides_async", "deeper"]


def test_what_cannot_be_pickled_is_named_to_the_attribute(kind: str) -> None:
    kind_of, message = error_of(run(ops.not_picklable, kind), "not_picklable")
    assert kind_of == "not_picklable"
    assert message.startswith("result.parts['lock'] cannot be pickled: ")
    assert message.endswith("return plain data, or a path to a file that the next step opens")


def test_an_input_that_cannot_be_loaded_is_the_failure_of_its_reader(kind: str) -> None:
    result = run(ops.trapped, kind)
    assert result.step("trap").success
    assert error_of(result, "kind_of")[0] == "bad_input"
    assert "could not be loaded: ValueError: invalid literal" in error_of(result, "kind_of")[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exits", ("exception", "the step called sys.exit('enough')")),
        ("interrupts", ("exception", "KeyboardInterrupt")),
        ("raises_awkward", ("exception", "sample_ops.Awkward: (its message cannot be shown)")),
        ("raises_quits", ("exception", "sample_ops.Quits: (its message cannot be shown)")),
        ("fails_with_odd_text", ("failure", "odd")),
        ("exits_with_odd_code", ("exception", "the step called sys.exit((its message cannot be shown))")),
        (
            "retry_with_nonsense",
            (
                "exception",
                "the step raised RetryRequested(max_retries=1, seconds_to_wait='soon'); give numbers, 0 or more",
            ),
        ),
    ],
)
def test_whatever_a_step_raises_is_its_failure(kind: str, name: str, expected: tuple[str, str]) -> None:
    result = run([getattr(ops, name), ops.one], kind)
    assert error_of(result, name) == expected
    assert result.step("one").success


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # in-process: pytest would tell it
def test_sys_exit_in_a_thread_of_a_step_is_the_end_of_that_thread_alone(kind: str) -> None:
    """As it is in any Python program: nothing is printed, and the exit code goes nowhere."""
    result = run([ops.thread_that_exits, ops.one], kind, max_concurrent=1)
    assert result.success, result.failures
    assert result.output_for_node("thread_that_exits") == 1
    if kind != "in-process":
        assert output_of(result, "thread_that_exits") == ""
        assert attempt(result, "thread_that_exits").exit_code in {None, 0}


def test_a_message_without_end_is_cut(kind: str) -> None:
    result = run(ops.raises_a_long_text, kind)
    error = result.step("raises_a_long_text").error
    assert error is not None
    assert "characters …]" in error.message
    assert result.folder.events.stat().st_size < 500_000


def test_an_output_that_does_not_fit_is_said_in_words(kind: str) -> None:
    of_kind, message = error_of(run(ops.bad_output, kind), "bad_output")
    assert of_kind == "bad_output"
    assert "declares 2 outputs (a, b)" in message


# --- retries, timeouts, cancel ---------------------------------------------------------------------------------------


def test_a_step_is_tried_again_as_its_policy_says(kind: str) -> None:
    result = run(ops.succeeds_at_last, kind)
    assert result.output_for_node("succeeds_at_last") == 3
    step = result.step("succeeds_at_last")
    assert [attempt.outcome for attempt in step.attempts] == ["failed", "failed", "succeeded"]
    assert [event.delay_s for event in result.events if isinstance(event, StepWillRetry)] == [0.01, 0.01]
    if kind != "in-process":
        told = [output_of(result, "succeeds_at_last", number) for number in (1, 2, 3)]
        assert told == ["attempt 1\n", "attempt 2\n", "attempt 3\n"]


def test_a_step_may_ask_for_a_retry_with_numbers_that_only_convert(kind: str) -> None:
    assert run(ops.retry_with_numbers_of_an_array, kind).output_for_node("retry_with_numbers_of_an_array") == 3


@pytest.mark.parametrize("name", ["takes_too_long", "computes_too_long"])
def test_a_step_that_takes_too_long_is_stopped(kind: str, name: str) -> None:
    result = run([getattr(ops, name), ops.one], kind)
    of_kind, message = error_of(result, name)
    assert of_kind == "timed_out"
    before = kind == "in-process" and message == "it was stopped before it began"  # this process had to wait for a CPU
    assert before or message.startswith("it took longer than its timeout of 0.2 s")
    ended = [t for t, event in result.timeline if isinstance(event, StepFailed)]
    assert ended[0] >= 0.2, "its time runs from the moment when a worker is asked for"
    assert result.step("one").success


@pytest.mark.parametrize("name", ["cleans_up", "cleans_up_async"])
def test_a_cancelled_step_may_clean_up(kind: str, name: str, tmp_path: Path) -> None:
    result = run(getattr(ops, name), kind, tags={"folder": tmp_path}, stop_grace_s=PATIENCE_S)
    assert (tmp_path / "cleaned").exists()
    assert result.step(name).state is StepState.CANCELLED
    assert error_of(result, name)[0] == "cancelled"
    assert (result.status, result.interrupted) == ("cancelled", True)


def test_a_signal_that_did_not_interrupt_a_wait_is_looked_at_all_the_same(process_kind: str) -> None:
    result = run(ops.waits_through_signals, process_kind, stop_grace_s=ops.LONG_S)
    assert result.step("waits_through_signals").state is StepState.CANCELLED


def test_a_step_that_looks_whether_it_is_cancelled_ends_in_good_order(kind: str) -> None:
    several = [ops.asks_whether_cancelled, ops.one, ops.silent]
    result = run(several, kind, max_concurrent=1, stop_grace_s=PATIENCE_S)
    assert result.output_for_node("asks_whether_cancelled") == "in good order"
    assert result.interrupted
    assert result.step("one").state is StepState.CANCELLED
    assert result.status == "cancelled"


# --- output and facts ------------------------------------------------------------------------------------------------


def test_all_that_a_step_writes_is_in_the_log_of_its_lane(process_kind: str) -> None:
    result = run([ops.silent, ops.speaks, ops.divides], process_kind, max_concurrent=1)
    assert result.output_for_node("speaks") == "", "its input reads as empty"
    said = output_of(result, "speaks").splitlines()
    said[4:6] = [line.partition(" ")[2] for line in said[4:6]]  # without the time of day
    assert said == [
        "to stdout ünïcode \\ud800",
        "to stderr",
        "past Python",
        "from a child",
        "INFO through the log speaks",
        "DEBUG and below",
        "no newline",
    ]
    assert output_of(result, "silent") == ""
    assert output_of(result, "divides") == "about to divide\n"
    facts = [attempt(result, key).facts for key in ("silent", "speaks", "divides")]
    ends: dict[int, int] = {}
    for fact in facts:
        assert fact.log_from == ends.get(fact.lane, 0), "each part begins where the one before it ends"
        ends[fact.lane] = fact.log_to
    assert ends == {lane: result.folder.lane_log(lane).stat().st_size for lane in ends}


def test_a_step_in_this_process_writes_where_this_process_writes(capfd: pytest.CaptureFixture[str]) -> None:
    result = run(ops.divides, "in-process")
    assert capfd.readouterr().out == "about to divide\n"
    assert attempt(result, "divides").facts.lane == -1


def cpu_s() -> float:
    """Seconds of CPU that this process has used, with all below it that was waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))


def test_the_cpu_time_of_an_attempt_is_its_own(kind: str) -> None:
    """Each has at least what its function used, and together they have no more than was used at all."""
    before = cpu_s()
    result = run([ops.burns_cpu, ops.silent.alias("second"), ops.silent.alias("third")], kind, max_concurrent=1)
    spent = cpu_s() - before
    burnt = result.output_for_node("burns_cpu")
    assert isinstance(burnt, float)
    rounding = 0.0001
    assert attempt(result, "burns_cpu").cpu_s >= burnt - rounding
    assert attempt(result, "burns_cpu").wall_s >= burnt - rounding
    assert sum(attempt(result, key).cpu_s for key in result.steps) <= spent + rounding


def test_the_peak_of_memory_of_an_attempt_is_its_own(kind: str) -> None:
    result = run([ops.fifty_megabytes, ops.silent], kind, max_concurrent=1)
    big, small = attempt(result, "fifty_megabytes"), attempt(result, "silent")
    assert big.facts.ended_at <= small.facts.started_at
    assert big.peak_rss_bytes > 50 << 20
    assert big.peak_rss_bytes - small.peak_rss_bytes > 30 << 20


def test_the_times_of_attempts_do_not_overlap_on_one_lane(kind: str) -> None:
    result = run([ops.silent.alias(f"step_{number}") for number in range(8)], kind, max_concurrent=1)
    facts = sorted(attempt(result, key).facts for key in result.steps)
    assert all(before.ended_at <= after.started_at for before, after in pairwise(facts))
    assert all(0 <= fact.started_at <= fact.ended_at <= result.duration_s for fact in facts)


def test_every_attempt_has_one_beginning_and_one_end(kind: str) -> None:
    result = run([ops.succeeds_at_last, ops.divides, ops.one], kind)
    began = [(event.key, event.attempt) for event in result.events if isinstance(event, StepStarted)]
    assert sorted(began) == [
        ("divides", 1),
        ("one", 1),
        ("succeeds_at_last", 1),
        ("succeeds_at_last", 2),
        ("succeeds_at_last", 3),
    ]
    ended = [(event.key, event.attempt) for event in result.events if isinstance(event, StepFailed)]
    assert sorted(ended) == [("divides", 1), ("succeeds_at_last", 1), ("succeeds_at_last", 2)]


# --- processes -------------------------------------------------------------------------------------------------------


def test_how_many_processes_there_are_is_as_asked(process_kind: str) -> None:
    result = run([ops.ids.alias(f"step_{number}") for number in range(7)], process_kind, max_concurrent=1)
    pids = [result.output_for_node(key)[0] for key in result.steps]  # type: ignore[index]
    expected = {"one": 7, "three": 3, "unlimited": 1}[process_kind.partition("-")[0]]
    assert len(set(pids)) == expected
    assert os.getpid() not in pids
    exits = [attempt(result, key).exit_code for key in result.steps]
    assert exits == {7: [0] * 7, 3: [None, None, 0] * 2 + [None], 1: [None] * 7}[expected]


def test_random_numbers_differ_between_processes(kind: str) -> None:
    result = run([ops.numbers.alias(f"step_{number}") for number in range(6)], kind)
    drawn = [number for key in result.steps for number in result.output_for_node(key)]  # type: ignore[attr-defined]
    assert len(set(drawn)) == 12


def test_numpys_random_numbers_differ_where_the_template_has_loaded_it() -> None:
    if find_spec("numpy") is None:  # not imported: it would bring a thread into this process
        pytest.skip("numpy is not installed")
    several = [ops.numbers.alias(f"step_{number}") for number in range(6)]
    how = {"forkserver": {"preload_modules": ["numpy.random"]}}
    result = run(several, "one-shot-forkserver", start_method=how)
    assert result.success, result.failures
    assert len({result.output_for_node(key)[1] for key in result.steps}) == 6  # type: ignore[index]


def test_variables_that_limit_threads_are_the_users_own_inside_a_step(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = run(ops.thread_variables, kind).output_for_node("thread_variables")
    assert seen == dict.fromkeys(THREAD_VARIABLES) | {"OMP_NUM_THREADS": "7"}


def test_steps_see_the_environment_and_folder_of_the_moment_when_the_run_began(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEN_BY_STEPS", "yes")
    monkeypatch.chdir(tmp_path)
    result = run([ops.sees_variable, ops.where_am_i], kind)
    assert result.output_for_node("sees_variable") == "yes"
    assert result.output_for_node("where_am_i") == str(tmp_path)


def test_a_step_that_changes_its_folder_changes_it_for_no_other(process_kind: str, tmp_path: Path) -> None:
    several = [ops.goes_elsewhere, *[ops.where_am_i.alias(f"step_{number}") for number in range(3)]]
    result = run(several, process_kind, max_concurrent=1)
    assert {result.output_for_node(f"step_{number}") for number in range(3)} == {os.getcwd()}


def test_a_step_that_changes_the_environment_changes_it_at_most_for_later_steps_of_its_own_worker(
    process_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reused worker keeps: modules, globals, variables. Who needs them fresh has one process per step."""
    monkeypatch.setenv("SEEN_BY_STEPS", "as the run began")
    several = [ops.sets_variable, *[ops.sees_variable.alias(f"step_{number}") for number in range(3)]]
    result = run(several, process_kind, max_concurrent=1)
    seen = [result.output_for_node(f"step_{number}") for number in range(3)]
    reused = {"one": 0, "three": 2, "unlimited": 3}[process_kind.partition("-")[0]]
    assert seen == ["set by a step"] * reused + ["as the run began"] * (3 - reused)
    assert os.environ["SEEN_BY_STEPS"] == "as the run began"
