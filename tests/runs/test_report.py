"""The line that people read for each event, and what a step wrote."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.runs.home import RunFolder
from executor.runs.report import (
    EventLines,
    first_line,
    memory_text,
    printable,
    seconds_text,
    step_output,
    waits_text,
)
from executor.scheduler.events import (
    CancelRequested,
    Event,
    Facts,
    RunEnded,
    RunNotice,
    RunStarted,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
    Woke,
)
from executor.scheduler.outcomes import StepError

if TYPE_CHECKING:
    from pathlib import Path

STARTED = RunStarted(
    run_id="3f2a", job="nightly", at=1_700_000_000.25, pid=1, steps=3, max_concurrent=2, workers="one process each"
)
EXAMPLES: list[tuple[Event, str | None]] = [
    (STARTED, "run 3f2a of job nightly started: 3 steps, at most 2 at once; workers: one process each"),
    (StepStarted("load", 1, 812), "load  started (attempt 1, pid 812)"),
    (StepStarted("load", 2), "load  started (attempt 2)"),
    (
        StepStarted("load", 1, 812, 0, (("max_concurrent", 0.01), ("tag database=warehouse", 3.21))),
        "load  started (attempt 1, pid 812; waited 3.2 s tag database=warehouse)",
    ),
    (
        StepSucceeded("load", 1, facts=Facts(1.0, 2.5, 0.1, 300 * 2**20)),
        "load  succeeded in 1.5 s (300 MiB)",
    ),
    (
        StepFailed("load", 1, StepError("exception", "ValueError: no rows\nin table"), facts=Facts(1.0, 1.012)),
        "load  failed after 12 ms: ValueError: no rows",
    ),
    (
        StepFailed("load", 1, StepError("cancelled", "it was asked to stop"), facts=Facts(1.0, 4.0)),
        "load  was stopped after 3.0 s: it was asked to stop",
    ),
    (StepWillRetry("load", 2, 2.0), "load  will be tried again in 2.0 s (attempt 2)"),
    (StepWillRetry("load", 2, 0.0), "load  will be tried again (attempt 2)"),
    (StepReturned("load", 1), "load  back in the queue: its worker ended before it began"),
    (SlotFreed("load", 1), None),
    (SlotFreed("load", 1, lingered=True), "load  had processes that outlived its end; they were killed"),
    (
        SlotsWaiting("load", 1, ("database",), "full", "held by run 7f3a, step query"),
        "load  waits for slots of database (full): held by run 7f3a, step query",
    ),
    (SlotsWaiting("load", 1), "load  waits for slots of its pools (full)"),
    (SlotsGranted("load", 1, 7), None),
    (StepReused("load", "7f3a"), None),
    (StepSkipped("train", "load.rows"), "train  skipped: load.rows was left out"),
    (StepNotRun("train", "load"), "train  not run: load did not succeed"),
    (StepCancelled("train"), "train  cancelled before it started"),
    (CancelRequested(reason="Ctrl-C"), "run is asked to stop: Ctrl-C"),
    (CancelRequested(("load", "train"), kill=True), "load, train is killed"),
    (Woke(), None),
    (RunNotice("a worker was restarted"), "notice: a worker was restarted"),
    (RunEnded("failed"), "run failed after 5.0 s"),
]


@pytest.mark.parametrize(("event", "text"), EXAMPLES, ids=[event.kind for event, _ in EXAMPLES])
def test_each_event_is_one_line_that_says_what_happened_to_what(event: Event, text: str | None) -> None:
    line = EventLines().line(event, 5.0)
    assert (line is None) == (text is None)
    if line is not None:
        assert line[14:] == text


def test_every_kind_of_event_has_its_line() -> None:
    assert {type(event) for event, _ in EXAMPLES} == set(get_args(Event))


def test_a_line_begins_with_the_time_of_day_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        lines = EventLines()
        assert (lines.line(STARTED, 0.0) or "").startswith("22:13:20.250  run 3f2a")
        assert (lines.line(RunNotice("x"), 0.7496) or "") == "22:13:21.000  notice: x"
        assert (lines.line(RunNotice("x"), 61.0) or "") == "22:14:21.250  notice: x"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_step_whose_times_nobody_measured_took_as_long_as_its_driver_saw() -> None:
    lines = EventLines()
    lines.line(StepStarted("load", 1), 1.0)
    assert (lines.line(StepSucceeded("load", 1), 3.0) or "").endswith("load  succeeded in 2.0 s")


@given(st.text(st.characters(), max_size=40))
def test_text_of_users_cannot_move_the_cursor_or_make_lines_of_its_own(text: str) -> None:
    for line in (
        EventLines().line(StepFailed(text, 1, StepError("exception", text)), 1.0),
        EventLines().line(RunNotice(text), 1.0),
        EventLines().line(StepSkipped(text, text), 1.0),
    ):
        assert line is not None
        assert line.isprintable()
        line.encode("utf-8")


def test_control_codes_are_spelled_out_and_ordinary_text_stays() -> None:
    assert printable("größe 🚀") == "größe 🚀"
    assert printable("\x1b[2Jgone\r\n") == r"\x1b[2Jgone\r\n"
    assert printable("a\u202eb\ud800") == r"a\u202eb\ud800"
    assert first_line("\n  \nValueError: x\ny") == "ValueError: x"
    assert first_line("") == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 ms"),
        (0.00042, "0.4 ms"),
        (0.0099, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.0124, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7380.0, "2 h 03 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_memory_reads_as_people_say_it() -> None:
    assert [memory_text(n * 2**20) for n in (0, 12, 1023, 1536)] == ["0 MiB", "12 MiB", "1023 MiB", "1.5 GiB"]


def test_waits_are_named_the_longest_first_and_short_ones_left_out() -> None:
    assert waits_text({"tag a": 0.04, "max_concurrent": 3.2, "tag b=c": 38.0}) == "38.0 s tag b=c, 3.2 s max_concurrent"
    assert waits_text(()) == ""


def test_the_output_of_an_attempt_is_its_part_of_the_lane_log(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before, mine, after = b"other\n", "é first\r\n\x1b[31mred\n\ttab\n".encode(), b"later\n"
    folder.lane_log(2).write_bytes(before + mine + after)
    facts = Facts(lane=2, log_from=len(before), log_to=len(before) + len(mine))
    assert step_output(folder, facts, most_bytes=1000) == ["é first", r"\x1b[31mred", "        tab"]
    assert step_output(folder, facts, most_bytes=6) == ["...", "        tab"]


def test_an_attempt_that_wrote_nothing_or_has_no_log_has_no_output(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for facts in (Facts(), Facts(lane=0), Facts(lane=1, log_to=10)):
        assert step_output(folder, facts, most_bytes=1000) == []
    folder.lane_log(1).write_bytes(os.urandom(100))
    assert step_output(folder, Facts(lane=1, log_from=200, log_to=300), most_bytes=1000) == []


def test_of_an_error_that_is_longer_than_a_page_the_beginning_is_told() -> None:
    text = first_line("ValueError: " + "x" * 10_000_000)
    assert len(text) < 600
    assert text.startswith("ValueError: xxx")
    assert text.endswith("... (9999512 more characters)")
    assert first_line("\n\nboom\nmore") == "boom"
