"""A frame of the live view as lines that fit, and the screen that draws them."""

from __future__ import annotations

import os
import pty
import struct
import termios
from collections.abc import Iterator
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from executor.cli.frame import frame_lines
from executor.cli.screen import Screen, ScreenGone
from executor.runs.view import Frame, Held, Retrying, RunningStep
from executor.scheduler.states import StepState

COUNTS = dict.fromkeys(StepState, 0) | {StepState.SUCCEEDED: 5, StepState.FAILED: 1, StepState.RUNNING: 2}
FRAME = Frame(
    run_id="7f3a12cd-0000",
    job="nightly",
    status="running",
    stopping="",
    at_s=72.0,
    left_s=40.4,
    steps=12,
    over=6,
    counts=COUNTS,
    running=(
        RunningStep("train", 2, 11, 41.0, 3.1, True, False),
        RunningStep("clean", 1, 12, 2.0, None, False, True),
    ),
    held=(Held("max_concurrent", 12, "2 of 2"), Held("pool database", 1, "1 of 1, held by step 'load' of run 9b0c")),
    retrying=(Retrying("load", 3, 8.2),),
)


def shown(frame: Frame, *, width: int = 100, height: int = 20, **options: object) -> list[str]:
    return [
        line.plain
        for line in frame_lines(frame, width=width, height=height, memory={11: 3 * 2**29}, **options)  # type: ignore[arg-type]
    ]


def test_a_frame_says_how_far_the_run_is_what_runs_and_what_is_held_back() -> None:
    assert shown(FRAME) == [
        "nightly 7f3a12cd  ━━━━━━━━━━━━━━━━━━━━────────────────────  6/12  72.0 s, about 40 s left",
        "✓ 5 succeeded  ✗ 1 failed  ● 2 running",
        " ● train       41.0 s   1.5 GiB  attempt 2  slow: others took 3.1 s",
        " ● clean        2.0 s            is asked to stop",
        " ◌ 12 wait for max_concurrent: 2 of 2",
        " ◍ 1 waits for pool database: 1 of 1, held by step 'load' of run 9b0c",
        " ↻ load  is tried again in 8.2 s (attempt 3)",
    ]


def test_a_terminal_without_unicode_gets_ascii() -> None:
    lines = shown(FRAME, unicode=False)
    assert all(line.isascii() for line in lines)
    assert lines[1] == "+ 5 succeeded  x 1 failed  * 2 running"


def test_a_run_that_is_stopped_or_stands_still_says_so() -> None:
    assert "stopping: SIGINT" in shown(replace(FRAME, stopping="SIGINT"))[0]
    assert "stands still" in shown(FRAME, paused=True)[0]
    assert "  failed  " in shown(replace(FRAME, status="failed"))[0]


def test_what_does_not_fit_is_counted() -> None:
    running = tuple(FRAME.running[1]._replace(key=f"s{number}") for number in range(30))
    lines = shown(replace(FRAME, running=running, more_running=70), height=10)
    assert len(lines) == 10
    assert lines[2:7] == [*lines[2:6], "  and 96 more running"]
    assert [line.split()[1] for line in lines[2:6]] == ["s0", "s1", "s2", "s3"]
    assert "wait for max_concurrent" in lines[7]


def test_names_cannot_move_the_cursor() -> None:
    step = FRAME.running[0]._replace(key="evil\x1b[2J\n")
    assert "evil\\x1b[2J\\n" in shown(replace(FRAME, running=(step,)))[2]


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 40),
    keys=st.lists(st.text(min_size=1, max_size=150), max_size=30),
    more=st.integers(0, 10**6),
    unicode=st.booleans(),
)
def test_no_line_is_wider_and_no_frame_higher_than_the_screen(
    width: int, height: int, keys: list[str], more: int, unicode: bool
) -> None:
    running = tuple(FRAME.running[0]._replace(key=key) for key in keys)
    held = tuple(Held(f"pool {key}", 3, key) for key in keys[:8])
    retrying = tuple(Retrying(key, 2, 1.0) for key in keys)
    frame = replace(FRAME, running=running, more_running=more, held=held, retrying=retrying, more_held=more)
    lines = frame_lines(frame, width=width, height=height, memory={}, unicode=unicode)
    assert 1 <= len(lines) <= height
    assert all(cell_len(line.plain) <= width for line in lines)
    assert all("\n" not in line.plain for line in lines)


# --- the screen -------------------------------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal, and what is on it."""

    def __init__(self) -> None:
        self.keys, self.fd = pty.openpty()
        os.set_blocking(self.keys, False)
        self.emulator = pyte.Screen(30, 8)
        self.stream = pyte.ByteStream(self.emulator)
        self.resize(30, 8)

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.emulator.resize(lines, columns)

    @property
    def rows(self) -> list[str]:
        try:
            while data := os.read(self.keys, 1 << 16):
                self.stream.feed(data)
        except BlockingIOError:
            pass
        rows = [row.rstrip() for row in self.emulator.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    os.write(made.fd, b"$ executor run\r\n")
    yield made
    os.close(made.keys)
    os.close(made.fd)


def texts(*lines: str) -> list[Text]:
    return [Text(line) for line in lines]


def test_lines_are_drawn_over_and_what_stays_is_above_them(terminal: Terminal) -> None:
    screen = Screen(terminal.fd, colours=True)
    screen.draw(texts("one", "two", "three"))
    assert terminal.rows == ["$ executor run", "one", "two", "three"]
    screen.draw(texts("1"), texts("load failed"))
    assert terminal.rows == ["$ executor run", "load failed", "1"]
    screen.clear(texts("train failed"))
    assert terminal.rows == ["$ executor run", "load failed", "train failed"]
    assert not terminal.emulator.cursor.hidden


def test_a_frame_that_is_as_the_last_one_is_not_written_again(terminal: Terminal) -> None:
    screen = Screen(terminal.fd, colours=False)
    screen.draw(texts("one"))
    assert terminal.rows
    screen.draw(texts("one"))
    with pytest.raises(BlockingIOError):
        os.read(terminal.keys, 1)


def test_what_does_not_fit_a_smaller_window_is_drawn_anew(terminal: Terminal) -> None:
    screen = Screen(terminal.fd, colours=False)
    screen.draw(texts("a line of twenty-five cols", "two"))
    terminal.resize(20, 8)
    screen.measure()
    screen.draw(texts("a line", "two"))
    assert terminal.rows == ["a line", "two"]


def test_what_still_fits_stays_where_it_is(terminal: Terminal) -> None:
    screen = Screen(terminal.fd, colours=False)
    screen.draw(texts("one", "two"))
    terminal.resize(20, 6)
    screen.measure()
    screen.draw(texts("three"))
    assert terminal.rows == ["$ executor run", "three"]


def test_what_is_left_for_somebody_else_is_not_drawn_over(terminal: Terminal) -> None:
    screen = Screen(terminal.fd, colours=False)
    screen.draw(texts("one"))
    screen.leave()
    os.write(terminal.fd, b"[1]+ Stopped\r\n")
    screen.draw(texts("two"))
    assert terminal.rows == ["$ executor run", "one", "[1]+ Stopped", "two"]


def test_a_terminal_that_has_gone_is_told(tmp_path: Path) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(ScreenGone):
            Screen(fd, colours=False).draw(texts("one"))
    finally:
        os.close(fd)
