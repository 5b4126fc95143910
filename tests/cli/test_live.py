"""The live view, on a real pseudo-terminal: what a person sees, and what their keys do."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.runs.history import read_history
from executor.runs.home import find_run
from executor.scheduler.events import CancelRequested, RunEnded
from tests.window import CTRL_C, CTRL_Z, Window, gate

JOBS = """
import signal, time
from executor import RetryPolicy, job, multiprocess_executor, op

@op
def load():
    open("load-gate").read()
    return 1

@op(tags={"database": "warehouse"})
def query(load):
    open("query-gate").read()
    return load

@op
def train(rows):
    open("train-gate").read()

@op
def bad(load):
    print("reading rows")
    raise ValueError("no rows")

limits = {"max_concurrent": 2, "tag_concurrency_limits": [{"key": "database", "limit": 1}]}

@job(executor_def=multiprocess_executor.configured(limits))
def nightly():
    rows = load()
    train([query(rows), query(rows), query(rows)])

@job
def failing():
    rows = load()
    bad(rows)
    train([rows])

@op
def fails():
    raise ValueError("no rows")

@job
def many():
    for _ in range(300):
        fails()

@op
def forever():
    while True:
        time.sleep(1)

@job
def endless():
    forever()

@op
def empty():
    pass

@job
def quick():
    empty()
"""

FRAME_SIGNS = "●◌◍·↻"


@pytest.fixture
def window(write, folder: Path) -> Iterator[Any]:
    """Opens windows in which ``executor run`` runs a job of the file above."""
    write("jobs.py", JOBS)
    opened: list[Window] = []

    def run(*words: str, **options: Any) -> Window:
        opened.append(Window(folder, *words, **options))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def run_words(job: str, *words: str) -> list[str]:
    return ["run", "jobs.py", "-j", job, *words]


def test_a_run_shows_what_runs_what_is_held_back_and_leaves_a_summary(window, folder: Path, own_home: Path) -> None:
    gates = {name: gate(folder, f"{name}-gate") for name in ("load", "query", "train")}
    shown = window(*run_words("nightly"))
    shown.wait_for("nightly ", "0/5", "● 1 running", "· 4 waiting", "● load", "MiB")
    run = find_run(own_home, "last").run_id
    assert run[:8] in shown.rows[0]
    assert not shown.cursor_is_shown
    gates["load"]()
    shown.wait_for("1/5", "✓ 1 succeeded", "◌ 2 wait for tag database: 1 of 1, held by query", "● query")
    for over in ("2/5", "3/5", "4/5"):
        gates["query"]()
        shown.wait_for(over)
    shown.wait_for("● train")
    assert "wait" not in shown.text
    gates["train"]()
    assert shown.end() == 0
    assert shown.cursor_is_shown
    assert shown.rows[0].startswith("run succeeded after ")
    assert shown.rows[0].endswith(": 5 succeeded")
    assert not any(sign in shown.text for sign in FRAME_SIGNS)
    assert "critical path" in shown.text
    assert "tag database" in shown.rows[-1]


def test_what_fails_stays_above_the_view_and_is_explained_at_the_end(window, folder: Path) -> None:
    load, train = gate(folder, "load-gate"), gate(folder, "train-gate")
    shown = window(*run_words("failing"))
    shown.wait_for("● load")
    load()
    shown.wait_for("bad  failed after", "ValueError: no rows", "✗ 1 failed", "● train")
    assert "bad" in shown.rows[0]
    assert "failing " in shown.rows[1]
    train()
    assert shown.end() == 1
    text = shown.text
    assert "run failed after" in text
    assert "  the last lines that it wrote:\n    | reading rows" in text
    assert "to run it alone here: executor run jobs.py -j failing --in-process --select '*bad'" in text
    assert not any(sign in text for sign in FRAME_SIGNS)


def test_a_window_that_becomes_smaller_or_larger_shows_a_frame_that_fits(window, folder: Path) -> None:
    load = gate(folder, "load-gate")
    gate(folder, "query-gate")
    shown = window(*run_words("nightly"), columns=110, lines=30)
    shown.wait_for("● load")
    load()
    shown.wait_for("held by query")
    for columns, lines in ((40, 12), (20, 5), (120, 40)):
        shown.resize(columns, lines)
        wide = columns > 72  # in a narrow window the counts have no words
        # of the last frame: one of the old size may have been on its way, and its rest stands above
        shown.wait_until(
            lambda now, wide=wide: (
                "nightly" in now.text and ("✓ 1 succeeded" in now.text[now.text.rfind("nightly") :]) == wide
            )
        )
        assert len(shown.rows) <= lines
        assert max(map(len, shown.rows)) <= columns
    shown.press(CTRL_C)
    assert shown.end() == 3


def test_ctrl_c_goes_to_the_run_and_the_view_ends_cleanly(window, own_home: Path) -> None:
    shown = window(*run_words("endless"))
    shown.wait_for("● forever")
    shown.press(CTRL_C)
    assert shown.end() == 3
    assert "run is asked to stop: SIGINT" in shown.text
    assert "run cancelled after" in shown.text
    assert "Traceback" not in shown.text
    assert not any(sign in shown.text for sign in FRAME_SIGNS)
    assert shown.cursor_is_shown
    events = [event for _, event in read_history(find_run(own_home, "last").events)]
    assert sum(isinstance(event, CancelRequested) for event in events) == 1


def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on_with_the_view(window) -> None:
    shown = window(*run_words("endless"), shell=True)
    shown.wait_for("● forever")
    shown.press(CTRL_Z)
    shown.wait_for("shell: stopped")
    shown.wait_until(lambda now: now.cursor_is_shown)  # the run does not wait for its view
    shown.press(b"fg\n")
    # The view writes again: it hides the cursor, and draws below what the shell had written.
    shown.wait_until(lambda now: not now.cursor_is_shown and now.rows[-1].startswith(" ● forever"))
    shown.press(CTRL_C)
    shown.wait_for("shell: ended with 3")
    assert shown.cursor_is_shown


def test_a_terminal_that_nobody_reads_does_not_slow_the_run(window, own_home: Path) -> None:
    """What is said of 300 failures is far more than a terminal takes before somebody reads it."""
    shown = window(*run_words("many"), NO_COLOR="1")
    while not (runs := list(own_home.glob("runs/*/events.jsonl"))) or list(own_home.glob("live/*")):
        os.sched_yield()
    assert list(read_history(runs[0]))[-1][1] == RunEnded("failed")
    # The run is over, for everybody. Only now somebody reads.
    assert shown.end() == 1
    assert "run failed after" in shown.said.decode()


def test_a_view_that_is_killed_costs_the_run_nothing_but_the_view(window, folder: Path, own_home: Path) -> None:
    load, train = gate(folder, "load-gate"), gate(folder, "train-gate")
    shown = window(*run_words("failing"))
    shown.wait_for("● load")
    (view,) = children_named(shown.pid, "executor.cli.live")
    os.kill(view, signal.SIGKILL)
    load()
    train()
    assert shown.end() == 1
    assert "run failed after" in shown.text


def test_the_view_of_a_driver_that_was_killed_says_so_and_ends(window) -> None:
    shown = window(*run_words("endless"))
    shown.wait_for("● forever")
    os.kill(shown.pid, signal.SIGKILL)
    while shown.look():
        pass
    shown.wait()
    assert "the driver of this run" in shown.text
    assert "died" in shown.text
    assert shown.cursor_is_shown


def test_a_module_of_the_users_with_the_name_of_one_of_ours_is_not_in_the_way(window, folder: Path, write) -> None:
    write("rich.py", "raise SystemExit('the wrong rich')")
    load = gate(folder, "load-gate")
    shown = window(*run_words("failing"))
    shown.wait_for("● load")
    gate(folder, "train-gate")
    load()
    shown.press(CTRL_C)
    assert shown.end() == 3


# --- how it is asked for ----------------------------------------------------------------------------------------------


def test_a_run_that_is_over_at_once_is_told_in_its_summary_alone(window) -> None:
    shown = window(*run_words("quick"))
    assert shown.end() == 0
    assert shown.rows[0].startswith("run succeeded after")


def test_no_color_takes_the_colours_away_and_keeps_the_view(window) -> None:
    shown = window(*run_words("endless"), NO_COLOR="1")
    shown.wait_for("● forever")
    shown.press(CTRL_C)
    assert shown.end() == 3
    assert not re.search(rb"\x1b\[[0-9;]*[3490][0-7]m", shown.said)


def test_colours_are_those_of_the_table(window) -> None:
    shown = window(*run_words("quick"))
    assert shown.end() == 0
    assert b"\x1b[32msucceeded\x1b[0m" in shown.said


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_that_can_do_nothing_gets_plain_lines(window, environ: dict[str, str]) -> None:
    shown = window(*run_words("quick"), **environ)
    assert shown.end() == 0
    assert "empty  started (attempt 1" in shown.text
    assert b"\x1b" not in shown.said


def test_lines_can_be_asked_for_on_a_terminal(window) -> None:
    shown = window(*run_words("quick", "--progress", "plain"))
    assert shown.end() == 0
    assert "empty  started (attempt 1" in shown.text


@pytest.mark.parametrize("words", [["--in-process"], ["--output", "all"]])
def test_where_steps_or_their_output_want_the_terminal_there_are_lines(window, words: list[str]) -> None:
    shown = window(*run_words("quick", *words))
    assert shown.end() == 0
    assert "empty  started (attempt 1" in shown.text


def test_nothing_is_shown_until_the_summary_where_that_was_asked_for(window, executor) -> None:
    done = executor(*run_words("quick", "--progress", "none"))
    assert done.returncode == 0
    assert done.stdout.startswith("run succeeded after")


def test_a_live_view_is_refused_where_there_can_be_none(window, executor) -> None:
    done = executor(*run_words("quick", "--progress", "live"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: --progress live: stdout is no terminal that can show it; leave it out, or use --progress plain\n"
    )
    shown = window(*run_words("quick", "--progress", "live", "--in-process"))
    assert shown.end() == 2
    assert "steps that run in this process write to the same terminal" in " ".join(shown.rows)


def test_data_on_stdout_leaves_the_view_on_stderr(window, folder: Path) -> None:
    import json

    load = gate(folder, "load-gate")
    gate(folder, "train-gate")
    program = (
        "import subprocess, sys\n"
        "with open('out.json', 'wb') as out:\n"
        "    sys.exit(subprocess.run([sys.executable, '-m', 'executor.cli', *sys.argv[1:]], stdout=out).returncode)"
    )
    shown = window(*run_words("failing", "--json"), program=program)
    shown.wait_for("● load")
    load()
    shown.wait_for("● train")
    with open(folder / "train-gate", "w"):
        pass
    assert shown.end() == 1
    assert json.loads((folder / "out.json").read_text())["status"] == "failed"


def children_named(pid: int, what: str) -> list[int]:
    """The children of a process whose command line has this in it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if what in Path(f"/proc/{child}/cmdline").read_text()]


def test_what_is_shown_of_a_run_later_has_the_same_words_and_colours(write, executor, folder: Path, window) -> None:
    assert executor("run", write("jobs.py", JOBS).name, "-j", "quick").returncode == 0
    shown = window("show", "last")
    assert shown.end() == 0
    assert shown.rows[0].endswith(": succeeded")
    assert shown.said.count(b"\x1b[32msucceeded\x1b[0m") == 2  # the run, and its step
    (row,) = [row for row in shown.rows if row.startswith("empty")]
    head = next(row for row in shown.rows if row.startswith("step"))
    assert row.index("succeeded") == head.index("state")
    assert b"\x1b" not in executor("show", "last").stdout.encode()
