"""The first minutes of somebody new, in a real terminal: what they type, and the screens that they see.

Each scene ends in a screen that is compared with the one in ``screens/``, which was read and found good. Times, sizes,
ids and numbers of processes are masked. After a change that is meant, write the screens anew and review the difference:

    EXECUTOR_WRITE_SCREENS=1 pytest tests/first_minutes && git diff tests/first_minutes/screens
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.window import CTRL_C, Window, gate

SCREENS = Path(__file__).parent / "screens"
ROOT = Path(__file__).parents[2]

PIPELINE = '''\
from executor import job, op


@op
def orders() -> list[int]:
    """All orders of today."""
    open("shop-is-open").read()
    return [3, 1, 2]


@op
def total(orders: list[int]) -> int:
    print("adding up", len(orders), "orders")
    return sum(orders)


@op
def report(total: int) -> str:
    return f"{total} sold"


@job
def shop():
    report(total(orders()))
'''

BROKEN = PIPELINE.replace("return sum(orders)", 'raise ValueError("no order of today is paid")')
MISWRITTEN = PIPELINE.replace("@op\ndef report", "@op(retry_polisy=3)\ndef report")

#: What differs from run to run and from machine to machine, and what stands in its place.
MASKS = [
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "RUN-ID"),
    (r"\b[0-9a-f]{8}\b", "RUN-ID"),
    (r"\d\d:\d\d:\d\d\.\d\d\d", "CLOCK"),
    (r" *\b(\d+ h \d\d min|\d+ min \d\d s|\d+(\.\d+)? (ms|s))\b", " TIME"),
    (r" *\b\d+(\.\d+)? [MG]iB( \(\w+\))?", " MEMORY"),
    (r"\b(pid|process) \d+\b", r"\1 PID"),
    (r"Python 3\.\d+\.\d+", "Python VERSION"),
    (r"\n +[~^]{3,}(?=\n)", ""),  # which Python shows them where differs
]


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Window]]:
    """Opens a window in an empty folder, with a home folder of its own."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    opened: list[Window] = []

    def run(*words: str, **options: Any) -> Window:
        opened.append(Window(folder, *words, **{"lines": 50, **options}))
        return opened[-1]

    yield run
    for window in opened:
        window.close()


def assert_screen(window: Window, name: str) -> None:
    """The screen is the one that was reviewed."""
    text = window.text.replace(str(Path.cwd()), "FOLDER")
    for pattern, mask in MASKS:
        text = re.sub(pattern, mask, text)
    path = SCREENS / f"{name}.txt"
    if os.environ.get("EXECUTOR_WRITE_SCREENS"):
        path.write_text(f"{text}\n", encoding="utf-8")
    assert f"{text}\n" == path.read_text(encoding="utf-8")


def test_asking_for_help(terminal) -> None:
    window = terminal("--help")
    assert window.end() == 0
    assert_screen(window, "help")


def test_typing_nothing_but_the_name_of_the_command(terminal) -> None:
    window = terminal()
    assert window.end() == 2
    assert "Usage: executor" in window.text
    assert "executor run pipeline.py" in window.text


def test_the_first_run(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    go_on = gate(Path.cwd(), "shop-is-open")
    window = terminal("run", "pipeline.py")
    window.wait_for("● orders", "MiB")
    assert_screen(window, "first_run_goes_on")
    go_on()
    assert window.end() == 0
    assert_screen(window, "first_run")


def test_looking_at_what_would_run(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    window = terminal("run", "pipeline.py", "--dry-run", "--max-concurrent", "2")
    assert window.end() == 0
    assert_screen(window, "dry_run")


def test_a_flag_that_is_mistyped(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    window = terminal("run", "pipeline.py", "--max-concurent", "4")
    assert window.end() == 2
    # click's own words, which are not ours to keep
    assert re.search(r"No such option:? '?--max-concurent'?\.?.*--max-concurrent\b", window.text)


def test_a_command_that_is_mistyped(terminal) -> None:
    window = terminal("rum", "pipeline.py")
    assert window.end() == 2
    assert_screen(window, "mistyped_command")


def test_a_file_whose_name_is_mistyped(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    window = terminal("run", "pipline.py")
    assert window.end() == 2
    assert_screen(window, "mistyped_file")


def test_a_mistake_in_a_file(terminal) -> None:
    Path("pipeline.py").write_text(MISWRITTEN)
    window = terminal("run", "pipeline.py")
    assert window.end() == 2
    assert_screen(window, "mistake_in_a_file")


def test_a_step_that_is_mistyped(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    window = terminal("run", "pipeline.py", "--select", "*totl")
    assert window.end() == 2
    assert_screen(window, "mistyped_step")


def test_a_step_that_fails(terminal) -> None:
    Path("pipeline.py").write_text(BROKEN)
    go_on = gate(Path.cwd(), "shop-is-open")
    window = terminal("run", "pipeline.py", columns=300)  # no line is broken, however long the folder's name is
    window.wait_for("● orders", "MiB")
    go_on()
    assert window.end() == 1
    assert_screen(window, "failing_step")


def test_reading_what_the_step_wrote_and_going_on_once_it_is_mended(terminal) -> None:
    Path("shop-is-open").touch()
    Path("pipeline.py").write_text(BROKEN)
    assert terminal("run", "pipeline.py").end() == 1
    window = terminal("logs", "last", "total")
    assert window.end() == 0
    assert_screen(window, "logs")
    Path("pipeline.py").write_text(PIPELINE)
    window = terminal("resume", "last")
    assert window.end() == 0
    assert_screen(window, "resume")


def test_stopping_a_run_from_another_terminal(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    gate(Path.cwd(), "shop-is-open")
    window = terminal("run", "pipeline.py")
    window.wait_for("● orders", "MiB")
    other = terminal("cancel", "last")
    assert other.end() == 0
    assert_screen(other, "cancel")
    assert window.end() == 3
    assert_screen(window, "cancelled")


def test_ctrl_c(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE)
    gate(Path.cwd(), "shop-is-open")
    window = terminal("run", "pipeline.py")
    window.wait_for("● orders", "MiB")
    window.press(CTRL_C)
    assert window.end() == 3
    assert_screen(window, "ctrl_c")


def test_looking_at_the_run_afterwards(terminal) -> None:
    Path("pipeline.py").write_text(PIPELINE.replace('    open("shop-is-open").read()\n', ""))
    assert terminal("run", "pipeline.py", "--max-concurrent", "2").end() == 0
    window = terminal("show", "last")
    assert window.end() == 0
    assert [row.split()[:2] for row in window.rows[-3:]] == [
        [key, "succeeded"] for key in ("orders", "total", "report")
    ]
    again = terminal("watch", "last")
    assert again.end() == 0
    assert_screen(again, "watch_afterwards")
