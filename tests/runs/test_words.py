"""Each state and each status has one word, one colour and one sign, and they are the same everywhere."""

from __future__ import annotations

import os
from typing import get_args

import pytest

from executor.runs.records import DagsterRunStatus
from executor.runs.report import EventLines
from executor.runs.result import RunStatus
from executor.runs.words import LISTED, RUNS, STATES, colours_on, live_terminal, paint
from executor.scheduler.events import (
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
)
from executor.scheduler.outcomes import StepError
from executor.scheduler.states import StepState

S = StepState

LATER = {DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING}


def test_every_state_and_every_status_is_in_the_table() -> None:
    assert set(STATES) == set(StepState)
    assert set(RUNS) == set(get_args(RunStatus))
    assert set(LISTED) >= {status.value for status in DagsterRunStatus if status not in LATER}


def test_no_two_states_have_the_same_word_or_sign() -> None:
    assert len({shown.word for shown in STATES.values()}) == len(STATES)
    assert len({shown.sign for shown in STATES.values()}) == len(STATES)
    assert len({shown.plain_sign for shown in STATES.values()}) == len(STATES)
    assert all(shown.plain_sign.isascii() for shown in STATES.values())


def test_every_colour_can_be_written() -> None:
    for shown in [*STATES.values(), *RUNS.values()]:
        assert paint("x", shown, colours=True) != "x" == paint("x", shown, colours=False)


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (StepStarted("a", 1), S.RUNNING),
        (StepSucceeded("a", 1), S.SUCCEEDED),
        (StepFailed("a", 1, StepError("exception", "boom")), S.FAILED),
        (StepFailed("a", 1, StepError("cancelled", "stopped")), S.CANCELLED),
        (StepWillRetry("a", 2, 1.0), S.BACKOFF),
        (StepSkipped("a", "b.result"), S.SKIPPED),
        (StepNotRun("a", "b"), S.NOT_RUN),
        (StepCancelled("a"), S.CANCELLED),
    ],
)
def test_the_line_of_an_event_has_the_colour_of_the_state_after_it(event: object, state: StepState) -> None:
    plain = EventLines().line(event, 1.0)  # type: ignore[arg-type]
    coloured = EventLines(colours=True).line(event, 1.0)  # type: ignore[arg-type]
    assert plain is not None
    assert coloured is not None
    start = paint("", STATES[state], colours=True).removesuffix("\x1b[0m")
    assert coloured.count(start) == 1
    assert coloured.replace(start, "").replace("\x1b[0m", "") == plain


def test_colours_need_a_terminal_and_nobody_who_is_against_them() -> None:
    keys, terminal = os.openpty()
    reads, pipe = os.pipe()
    try:
        assert colours_on(terminal, {"TERM": "xterm"})
        assert not colours_on(terminal, {"TERM": "xterm", "NO_COLOR": "1"})
        assert colours_on(terminal, {"TERM": "xterm", "NO_COLOR": ""})  # https://no-color.org: when not empty
        assert not colours_on(terminal, {"TERM": "dumb"})
        assert not colours_on(terminal, {})
        assert not colours_on(pipe, {"TERM": "xterm"})
        assert live_terminal(terminal, {"TERM": "xterm", "NO_COLOR": "1"})
    finally:
        for fd in (keys, terminal, reads, pipe):
            os.close(fd)
