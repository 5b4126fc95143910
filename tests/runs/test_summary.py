"""What people read after a run."""

from __future__ import annotations

from pathlib import Path

from executor.plan.plan import Plan, Source, Step, StepInput, make_plan
from executor.runs.home import RunFolder
from executor.runs.summary import Summary, telling_lines
from executor.scheduler.events import (
    CancelRequested,
    Event,
    Facts,
    RunEnded,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.outcomes import StepError

COMMAND = ("executor", "run", "my job.py")


def chain(*keys: str) -> Plan:
    """Steps of which each reads from the one before."""
    steps = [
        Step(
            index=index,
            key=key,
            compute=None,
            inputs=(StepInput(name="x", sources=(Source(index - 1, "result"),)),) if index else (),
        )
        for index, key in enumerate(keys)
    ]
    return make_plan("nightly", tuple(steps))


def summary_of(*events: tuple[float, Event]) -> Summary:
    summary = Summary()
    for t, event in events:
        summary.add(event, t)
    return summary


def test_a_run_that_succeeded_says_how_long_its_steps_ran_and_what_the_longest_path_was() -> None:
    summary = summary_of(
        (0.0, StepStarted("load", 1, waited=(("max_concurrent", 36.0),))),
        (2.0, StepSucceeded("load", 1, facts=Facts(0.0, 2.0, 1.5, 2**20))),
        (2.0, StepStarted("train", 1, waited=(("max_concurrent", 2.0), ("tag size=large", 3.2)))),
        (12.0, StepSucceeded("train", 1, facts=Facts(2.0, 12.0, 9.0, 300 * 2**20))),
        (12.0, StepSkipped("report", "train.model")),
        (12.3, RunEnded("succeeded")),
    )
    assert summary.text(chain("load", "train", "report")).splitlines() == [
        "run succeeded after 12.3 s: 2 succeeded, 1 skipped",
        "  steps ran for 12.0 s in all, with 10.5 s of CPU; largest 300 MiB (train)",
        "  critical path 12.0 s: load > train",
        "  waits of all steps: 38.0 s max_concurrent, 3.2 s tag size=large",
    ]
    assert summary.failures_text(chain("load", "train", "report"), RunFolder(Path("7f3a12cd")), COMMAND) == ""


def test_a_long_path_is_shown_by_its_ends() -> None:
    keys = [f"s{number}" for number in range(20)]
    events: list[tuple[float, Event]] = [(1.0, StepSucceeded(key, 1, facts=Facts(0.0, 1.0))) for key in keys]
    text = summary_of(*events).text(chain(*keys))
    assert "critical path 20.0 s: s0 > s1 > s2 > s3 > (12 more) > s16 > s17 > s18 > s19" in text


def test_a_run_without_steps_has_a_summary_too() -> None:
    assert summary_of((0.1, RunEnded("succeeded"))).text(chain()) == "run succeeded after 100 ms: no step"


def test_a_failed_step_is_shown_with_what_it_said_wrote_and_how_to_run_it_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.lane_log(0).write_text("".join(f"row {number}\n" for number in range(100)))
    trace = "\n".join(
        ["Traceback (most recent call last):", *(f"  line {n}" for n in range(30)), "ValueError: no rows"]
    )
    facts = Facts(1.0, 2.0, lane=0, log_to=folder.lane_log(0).stat().st_size)
    summary = summary_of(
        (1.0, StepFailed("train", 1, StepError("exception", "ValueError: first"), facts=facts)),
        (1.0, StepWillRetry("train", 2, 1.0)),
        (3.0, StepFailed("train", 2, StepError("exception", "ValueError: no rows", trace), facts=facts)),
        (3.0, StepNotRun("report", "train")),
        (3.0, RunEnded("failed")),
    )
    plan = chain("load", "train", "report")
    lines = summary.failures_text(plan, folder, COMMAND).splitlines()
    assert lines[:2] == ["train failed (attempt 2): ValueError: no rows", "    ..."]
    assert lines[12:15] == ["      line 29", "    ValueError: no rows", "  the last lines that it wrote:"]
    assert lines[15:25] == [f"    | row {number}" for number in range(90, 100)]
    assert lines[25:] == ["  to run it alone here: executor run 'my job.py' --in-process --select '*train'"]
    assert "wrote" not in summary.failures_text(plan, folder, COMMAND, output=False)
    assert summary.text(plan).startswith("run failed after 3.0 s: 1 failed, 1 not run\n")


def test_a_step_that_reads_from_nothing_is_run_alone_without_others(tmp_path: Path) -> None:
    summary = summary_of((1.0, StepFailed("load", 1, StepError("worker_died", "killed by SIGKILL"))))
    text = summary.failures_text(chain("load"), RunFolder(tmp_path), COMMAND)
    assert text.endswith("executor run 'my job.py' --in-process --select load")


def test_a_step_whose_retry_succeeded_is_no_failure() -> None:
    summary = summary_of(
        (1.0, StepFailed("load", 1, StepError("exception", "boom"), facts=Facts(0.0, 1.0))),
        (1.0, StepWillRetry("load", 2, 0.0)),
        (3.0, StepSucceeded("load", 2, facts=Facts(1.0, 3.0))),
    )
    assert summary.failed == {}
    assert summary.counts == {"succeeded": 1}
    assert summary.wall_s["load"] == 3.0


def test_what_fails_because_it_was_asked_to_stop_counts_as_cancelled() -> None:
    summary = summary_of(
        (0.0, StepStarted("a", 1)),
        (0.0, StepStarted("b", 1)),
        (1.0, CancelRequested(reason="Ctrl-C")),
        (1.1, StepFailed("a", 1, StepError("cancelled", "stopped"))),
        (1.2, StepFailed("b", 1, StepError("exception", "KeyboardInterrupt"))),
        (1.2, StepCancelled("c")),
        (1.2, RunEnded("cancelled")),
    )
    assert summary.counts == {"cancelled": 3}
    assert summary.failed == {}


def test_of_many_failures_the_first_are_told_and_some_more_are_named(tmp_path: Path) -> None:
    keys = [f"s{number}" for number in range(30)]
    events: list[tuple[float, Event]] = [(1.0, StepFailed(key, 1, StepError("exception", "boom"))) for key in keys]
    text = summary_of(*events).failures_text(chain(*keys), RunFolder(tmp_path), COMMAND)
    assert text.count("failed: boom") == 10
    assert text.endswith("20 more failed: s10, s11, s12, s13, s14, s15, s16, s17, s18, s19, ...")


def test_of_a_crash_of_the_interpreter_the_frames_where_it_happened_are_shown() -> None:
    frames = [f'  File "frame_{number}.py", line 1 in f' for number in range(40)]
    written = ["rows: 3", "Fatal Python error: Segmentation fault", "", "Current thread 0x1 (first):", *frames]
    shown = telling_lines(written)
    assert shown[0] == "rows: 3"
    assert frames[0] in shown
    assert frames[-1] not in shown
    assert telling_lines(frames) == frames[-10:]


def test_what_to_go_on_with_is_told_as_far_as_the_commands_are_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "7f3a12cd-0000")
    failed = StepFailed("load", 1, StepError("exception", "boom"), facts=Facts(0.0, 1.0, log_from=0, log_to=12, lane=0))
    events: list[tuple[float, Event]] = [(0.0, StepStarted("load", 1)), (1.0, failed), (1.0, RunEnded("failed"))]
    summary = summary_of(*events)
    alone = "  to run it alone here: executor run 'my job.py' --in-process --select load"
    assert summary.failures_text(chain("load"), folder, COMMAND).splitlines() == ["load failed: boom", alone]
    assert summary.failures_text(chain("load"), folder, COMMAND, commands=("logs", "resume")).splitlines() == [
        "load failed: boom",
        "  to read all that it wrote: executor logs 7f3a12cd load",
        alone,
        "",
        "to go on from here, keeping what succeeded: executor resume 7f3a12cd",
    ]


def test_a_run_that_was_cancelled_can_be_gone_on_with_and_one_that_succeeded_cannot(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "7f3a12cd-0000")
    for status, ends in (("cancelled", "executor resume 7f3a12cd"), ("succeeded", "")):
        summary = summary_of((1.0, RunEnded(status)))  # type: ignore[arg-type]
        text = summary.failures_text(chain("load"), folder, COMMAND, commands=("resume",))
        assert text.endswith(ends)
        assert bool(text) == bool(ends)


def test_the_summary_is_written_in_the_colours_of_the_states() -> None:
    summary = summary_of((0.0, StepSucceeded("load", 1)), (1.0, RunEnded("succeeded")))
    first = summary.text(chain("load"), colours=True).splitlines()[0]
    assert first == "run \x1b[32msucceeded\x1b[0m after 1.0 s: \x1b[32m1 succeeded\x1b[0m"
