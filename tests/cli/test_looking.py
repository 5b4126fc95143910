"""``executor runs``, ``show``, ``why`` and ``list``: what they print, and what they end with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.cli.root import run_command
from executor.runs.words import LISTED, paint
from executor.scheduler.events import RunNotice, SlotHolder, SlotsGranted, SlotsWaiting, StepFailed, StepSucceeded
from executor.scheduler.outcomes import StepError

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))  # test folders are no packages here

from written_run import WrittenRun, step

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs one command: its exit code, and what it printed on stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = run_command(words)
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def masked(text: str, *runs: WrittenRun) -> str:
    """Runs, times and pids as they differ from run to run."""
    for number, run in enumerate(runs, 1):
        text = text.replace(str(run.folder.path), f"FOLDER{number}")
        text = text.replace(run.run_id, f"RUN{number}").replace(run.run_id[:8], f"RUN{number}")
    text = re.sub(r"(\d\d\d\d-\d\d-\d\d )?\d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"\d+ min \d\d s", "MINUTES", text)
    return re.sub(r"[ ]{2,}", "  ", re.sub(r"pid \d+", "pid N", text))


def small_run(home: Path) -> WrittenRun:
    """A run that has ended: it waited for a pool, and one of its steps failed."""
    run = WrittenRun(
        home,
        step("load", tags={"db": "x"}),
        step("train", "load", pools={"database": 1, "api": 2}),
        step("end", "train"),
    )
    run.tell(StepSucceeded("load", 1), 1.0)
    holder = SlotHolder("load", "7f3a12cd-0", 77, 1795253988.7)
    run.tell(SlotsWaiting("train", 1, ("database",), "full", "1 of 1 slots are held", (holder,)), 1.0)
    run.tell(SlotsGranted("train", 1, 5), 39.0)
    run.tell(StepFailed("train", 1, StepError("exception", "ValueError: no rows")), 41.5)
    run.end(41.5)
    return run


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_home_without_runs_says_so_and_is_not_made(command: Command, own_home: Path) -> None:
    assert command("runs") == (0, f"there is no run in {own_home}\n", "")
    assert command("runs", "--json")[1] == "[]\n"
    assert not own_home.exists()
    for words in (["show", "last"], ["why", "last"]):
        assert command(*words) == (2, "", f"Error: there is no run in {own_home}\n")


def test_the_runs_are_listed_the_newest_first(command: Command, own_home: Path) -> None:
    old = small_run(own_home)
    with WrittenRun(own_home, step("a")) as new:
        code, out, err = command("runs")
        assert (code, err) == (0, "")
        assert masked(out, old, new) == (
            "run  status  job  started  took  steps\n"
            "RUN2  running  nightly  TIME  MINUTES  1\n"
            "RUN1  failed  nightly  TIME  41.5 s  3\n"
        )
        listed = json.loads(command("runs", "--json")[1])
        assert [run["status"] for run in listed] == ["running", "failed"]
        assert listed[1]["run_id"] == old.run_id
        assert (listed[1]["duration_s"], listed[1]["steps"], listed[1]["tags"]) == (41.5, 3, {"team": "core"})
        assert "and 1 older; to see all: executor runs -n 0" in command("runs", "-n", "1")[1]
        assert masked(command("runs", "-n", "0")[1]) == masked(out)


def test_of_a_run_whose_driver_died_it_is_told_how_long_it_took_at_least(command: Command, own_home: Path) -> None:
    run = WrittenRun(own_home, step("a"), step("b"), at_once=1)
    run.tell(StepSucceeded("a", 1), 30.0)
    run.die(30.0)
    assert masked(command("runs")[1], run) == (
        "run  status  job  started  took  steps\nRUN1  interrupted  nightly  TIME  at least 30.0 s  2\n"
    )
    assert ", was last heard of after 30.0 s; at most 1 at once" in command("show", "last")[1]


def on_terminal(*words: str, **environ: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = os.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | environ
    try:
        subprocess.run([sys.executable, "-m", "executor.cli", *words], check=True, stdout=theirs, env=env, timeout=100)
        return os.read(ours, 64 * 1024).decode()  # it is small, so the terminal has kept all of it
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_list_of_runs_has_the_colours_of_the_one_table(own_home: Path) -> None:
    small_run(own_home)
    broken = small_run(own_home)
    broken.folder.events.write_text("{}\n")
    with WrittenRun(own_home, step("a")):
        out, plain = on_terminal("runs"), on_terminal("runs", NO_COLOR="1")
    shutil.rmtree(broken.folder.path)  # every run that is left is replayed after the test
    for status in ("running", "failed", "unreadable"):
        assert paint(status, LISTED[status], colours=True) in out
    assert "\x1b" not in plain


def test_a_run_that_never_began_or_cannot_be_read_is_listed_all_the_same(command: Command, own_home: Path) -> None:
    broken = small_run(own_home)
    broken.folder.events.write_text("{}\n")
    empty = small_run(own_home)
    empty.folder.events.unlink()
    assert [run["status"] for run in json.loads(command("runs", "--json")[1])] == ["not begun", "unreadable"]
    assert command("runs")[0] == 0
    assert command("show", empty.run_id) == (
        2,
        "",
        f"Error: run {empty.run_id} has no events: its driver died before it began\n",
    )
    code, out, err = command("why", broken.run_id[:8])
    assert (code, out) == (1, "")
    assert "events.jsonl, its last line: not an event" in err
    shutil.rmtree(broken.folder.path)  # every run that is left is replayed after the test


# --- show ------------------------------------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_steps(command: Command, own_home: Path) -> None:
    run = small_run(own_home)
    code, out, err = command("show", run.run_id[:6])
    assert (code, err) == (0, "")
    assert masked(out, run) == (
        "run RUN1 of job nightly: failed\n"
        "  started TIME, took 41.5 s; at most 4 at once; driver pid N\n"
        "  workers: one process per step\n"
        "  tags: team=core\n"
        "  folder: FOLDER1\n"
        "step  state  attempts  took  pools  tags  waited for\n"
        "load  succeeded  1  1.0 s  db=x\n"
        "train  failed  1  2.5 s  api (2), database  38.0 s pool database\n"
        "end  not run  0\n"
        "train failed: ValueError: no rows\n"
    )
    shown = json.loads(command("show", "last", "--json")[1])
    assert (shown["status"], shown["max_concurrent"], shown["tags"]) == ("failed", 4, {"team": "core"})
    train = shown["steps"]["train"]
    assert train["pools"] == {"api": 2, "database": 1}
    assert train["waited_s"] == {"pool database": 38.0}
    assert (train["started_at_s"], train["ended_at_s"], train["attempts"], train["state"]) == (39.0, 41.5, 1, "failed")
    assert train["error"]["message"] == "ValueError: no rows"
    assert shown["steps"]["load"]["tags"] == {"db": "x"}
    assert shown["steps"]["end"]["started_at_s"] is None


def test_a_run_that_goes_on_is_shown_as_it_is_now(command: Command, own_home: Path) -> None:
    with WrittenRun(own_home, step("a"), step("b", "a")) as run:
        run._write(RunNotice("something\x1b[2J to know"), 0.5)
        out = command("show", "last")[1]
        assert masked(out, run).splitlines()[:2] == [
            "run RUN1 of job nightly: running",
            "  started TIME, has gone on for MINUTES; at most 4 at once; driver pid N",
        ]
        assert "  notice: something\\x1b[2J to know\n" in out
        assert masked(out).splitlines()[-3:] == ["step  state  attempts  took", "a  running  1", "b  waiting  0"]


# --- why -------------------------------------------------------------------------------------------------------------


def test_why_says_what_each_step_that_does_not_run_waits_for(command: Command, own_home: Path) -> None:
    with WrittenRun(own_home, step("a"), step("b", "a"), step("c"), at_once=1) as run:
        code, out, err = command("why", "last")
        assert (code, err) == (0, "")
        head, *lines = masked(out, run).splitlines()
        assert re.fullmatch(r"run RUN1 of job nightly, running after .*: 1 waiting, 1 ready, 1 running", head)
        assert lines == [
            "c  is ready: max_concurrent is full (1 of 1, held by step 'a' (pid N, since TIME))",
            "  until step 'a' ends",
            "b  waits for 'a' (running)",
            "  until it has succeeded",
        ]
        one = masked(command("why", "last", "a")[1]).splitlines()[1:]
        assert len(one) == 1
        assert re.fullmatch(r"a  is running \(attempt 1\) for .* as pid N", one[0])
        told = json.loads(command("why", "last", "--json")[1])
        assert [each["key"] for each in told["steps"]] == ["c", "b"]
        (blocker,) = told["steps"][0]["blockers"]
        assert (blocker["name"], blocker["used"], blocker["limit"], blocker["until"]) == (
            "max_concurrent",
            1,
            1,
            "step 'a' ends",
        )
        assert blocker["held_by"][0]["pid"] == run.pids["a"]
        assert command("why", "last", "d") == (2, "", f"Error: run {run.run_id} has no step 'd'\n")


def test_of_a_run_whose_driver_died_it_is_said_when_it_was_last_heard_of(command: Command, own_home: Path) -> None:
    with WrittenRun(own_home, step("a")) as run:
        run.die(3.0)
        assert ", was last heard of after 3.0 s; " in command("show", "last")[1]
        assert "  at least 3.0 s  " in command("runs")[1]


def test_why_answers_after_the_run_as_well(command: Command, own_home: Path) -> None:
    run = small_run(own_home)
    assert masked(command("why", "last")[1], run) == (
        "run RUN1 of job nightly, failed after 41.5 s: 1 succeeded, 1 failed, 1 not run\n"
        "train  failed in attempt 1; before that it had waited 38.0 s pool database (held by step 'load' of run "
        "7f3a12cd (pid N, since TIME))\n"
        "end  was not run, because 'train' did not succeed\n"
    )
    (wait,) = json.loads(command("why", "last", "train", "--json")[1])["steps"][0]["waited"]
    assert (wait["cause"], wait["seconds"]) == ("pool database", 38.0)
    assert wait["held_by"] == [
        {
            "step": "load",
            "run": "7f3a12cd-0",
            "pid": 77,
            "since": 1795253988.7,
            "outlived": False,
            "encloses": False,
        }
    ]


def test_a_run_without_waits_says_so(command: Command, own_home: Path) -> None:
    with WrittenRun(own_home, step("a")) as run:
        assert command("why", "last")[1].endswith("no step waits\n")
        run.tell(StepSucceeded("a", 1), 1.0)
        run.end(1.0)
    assert command("why", "last")[1].endswith("no step had to wait, and all of them ran\n")


def test_a_long_list_is_cut_and_says_how_to_see_the_rest(command: Command, own_home: Path) -> None:
    with WrittenRun(own_home, *[step(f"s{number}") for number in range(60)], at_once=1):
        out = command("why", "last")[1]
        assert out.endswith("and 19 more; to see one of them, name it\n")
        assert len(out.splitlines()) == 1 + 2 * 40 + 1
        told = json.loads(command("why", "last", "--json")[1])
        assert (len(told["steps"]), told["left_out"]) == (59, 0)
        assert command("why", "last", "s59")[1].splitlines()[1].startswith("s59  is ready: max_concurrent is full")


# --- list ------------------------------------------------------------------------------------------------------------


def test_the_list_of_a_file_shows_the_pools_and_tags_of_each_step(command: Command, write) -> None:
    write(
        "pooled.py",
        "from executor import job, op\n\n"
        "@op(pools={'database': 2, 'api': 1}, tags={'db': 'x'})\ndef load(): ...\n\n"
        "@op\ndef plain(): ...\n\n"
        "@op(pool='database', priority=3)\ndef late(): ...\n\n"
        "@job\ndef nightly():\n    load()\n    plain()\n    late()\n",
    )
    code, out, _ = command("list", "pooled.py")
    assert code == 0
    assert out == (
        "jobs:\n"
        "  nightly\n"
        "steps of nightly with pools or tags:\n"
        "  step  pools              tags\n"
        "  load  api, database (2)  db=x\n"
        "  late  database\n"
    )
    (job,) = json.loads(command("list", "pooled.py", "--json")[1])["jobs"]
    assert job["steps"] == [
        {"key": "load", "pools": {"database": 2, "api": 1}, "tags": {"db": "x"}, "priority": 0},
        {"key": "plain", "pools": {}, "tags": {}, "priority": 0},
        {"key": "late", "pools": {"database": 1}, "tags": {}, "priority": 3},
    ]


@pytest.mark.parametrize("name", ["runs", "show", "why"])
def test_help_has_examples(command: Command, name: str) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    assert f"executor {name}" in out.partition("Examples:")[2]
