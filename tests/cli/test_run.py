"""``executor run``, as a shell runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from executor import __version__
from executor.runs.history import decode, read_history
from executor.runs.home import RunFolder, find_run
from executor.scheduler.events import RunEnded, RunNotice, RunStarted, StepStarted

JOBS = """
import os, signal, time
from executor import In, Nothing, job, op

@op(tags={"database": "warehouse"})
def load():
    print("loaded three rows")
    return [1, 2, 3]

@op
def total(rows):
    return sum(rows)

@op
def fails(rows):
    print("about to fail\\x1b[2J")
    raise ValueError("no rows\\nin the table")

@op(ins={"after": In(Nothing)})
def report():
    pass

@op
def forever():
    open("running", "w").close()
    while True:
        time.sleep(1)

@job
def good():
    '''Adds rows up.'''
    total(load())

@job
def bad():
    report(after=fails(load()))

@job
def endless():
    forever()
"""

MANY = """
from executor import job, op

@op
def nothing_much():
    pass

@job
def many():
    for _ in range(40):
        nothing_much()
"""


@pytest.fixture
def jobs(write) -> str:
    write("jobs.py", JOBS)
    return "jobs.py"


def started(folder: Path, *words: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "executor.cli", "run", "jobs.py", "-j", "endless", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_for_step(run: subprocess.Popen[str]) -> int:
    """The pid of the first step that starts."""
    assert run.stdout is not None
    for line in run.stdout:
        if "  started (attempt 1, pid " in line:
            return int(line.split("pid ")[1].split(")")[0].split(";")[0])
    raise AssertionError(f"no step started: {run.stderr.read() if run.stderr else ''}")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_run_is_one_line_per_event_and_a_summary(executor, jobs: str) -> None:
    ended = executor("run", jobs, "-j", "good")
    assert (ended.returncode, ended.stderr) == (0, "")
    # on a busy machine a worker may not have ended when it is not waited for any more, and there is a line about that
    lines = [line for line in ended.stdout.splitlines() if "outlived its end" not in line]
    said = [line[14:].split(" (")[0].split(" in ")[0] for line in lines[1:5]]
    assert said == ["load  started", "load  succeeded", "total  started", "total  succeeded"]
    assert "of job good started: 2 steps, at most " in lines[0]
    assert lines[5].endswith(": 2 succeeded")
    assert "loaded three rows" not in ended.stdout


def test_a_failed_run_says_what_failed_on_stderr_and_how_to_run_it_alone(executor, jobs: str) -> None:
    ended = executor("run", jobs, "-j", "bad", "--max-concurrent", "1")
    assert ended.returncode == 1
    assert "1 failed, 1 succeeded, 1 not run" in ended.stdout
    assert "fails failed: ValueError: no rows\n    Traceback" in ended.stderr
    assert "    ValueError: no rows\n    in the table\n" in ended.stderr
    assert r"    | about to fail\x1b[2J" in ended.stderr
    assert "executor run jobs.py -j bad --in-process --select '*fails'" in ended.stderr
    again = executor("run", jobs, "-j", "bad", "--in-process", "--select", "*fails")
    assert again.returncode == 1
    assert "about to fail" in again.stdout


def test_output_is_shown_of_all_steps_or_of_none(executor, jobs: str) -> None:
    every = executor("run", jobs, "-j", "bad", "--output", "all")
    assert "  | loaded three rows\n" in every.stdout
    none = executor("run", jobs, "-j", "bad", "--output", "none")
    assert "about to fail" not in none.stdout + none.stderr
    assert "ValueError: no rows" in none.stderr


def test_how_to_run_a_step_alone_whose_worker_died_is_said_once(write, executor) -> None:
    write("dying.py", "import os\nfrom executor import job, op\n@op\ndef dies(): os._exit(3)\n@job\ndef it(): dies()\n")
    run = executor("run", "dying.py")
    assert run.returncode == 1
    failed = run.stderr[run.stderr.index("dies failed: ") :]
    assert failed.splitlines()[:2] == [
        "dies failed: its worker process exited with code 3",
        "  to run it alone here: executor run dying.py --in-process --select dies",
    ]
    assert (run.stdout + run.stderr).count("--in-process") == 1


def test_quiet_says_only_what_failed(executor, jobs: str) -> None:
    good = executor("run", jobs, "-j", "good", "--quiet")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    bad = executor("run", jobs, "-j", "bad", "-q")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("fails failed: ValueError: no rows")


def test_json_is_one_object_on_stdout_and_lines_go_to_stderr(executor, jobs: str) -> None:
    ended = executor("run", jobs, "-j", "bad", "--json")
    record = json.loads(ended.stdout)
    assert (record["job"], record["status"], record["success"]) == ("bad", "failed", False)
    assert {key: step["state"] for key, step in record["steps"].items()} == {
        "load": "succeeded",
        "fails": "failed",
        "report": "not_run",
    }
    assert record["steps"]["fails"]["error"]["kind"] == "exception"
    assert record["steps"]["report"]["because"] == "fails"
    assert "fails  failed after" in ended.stderr


def test_events_are_written_to_a_file_or_to_stdout_as_they_are_in_the_history(
    executor, jobs: str, folder: Path, own_home: Path
) -> None:
    to_file = executor("run", jobs, "-j", "good", "--events", "out.jsonl", "--quiet")
    history = find_run(own_home, "last").events
    assert (folder / "out.jsonl").read_text() == history.read_text()
    assert to_file.stdout == ""
    to_stdout = executor("run", jobs, "-j", "good", "--events", "-")
    events = [decode(line)[1] for line in to_stdout.stdout.splitlines()]
    assert isinstance(events[0], RunStarted)
    assert events[-1] == RunEnded("succeeded")
    assert "total  succeeded in" in to_stdout.stderr
    both = executor("run", jobs, "-j", "good", "--events", "-", "--json")
    assert (both.returncode, both.stderr) == (
        2,
        "Error: --json and --events - both want stdout; give --events a file\n",
    )
    nowhere = executor("run", jobs, "-j", "good", "--events", "no/such/file")
    assert (nowhere.returncode, nowhere.stderr) == (2, "Error: --events no/such/file: No such file or directory\n")


def test_limits_and_tags_of_the_command_line_are_those_of_the_run(executor, jobs: str, own_home: Path) -> None:
    words = (
        "--max-concurrent",
        "3",
        "--tag-limit",
        "database=warehose:2",
        "--per-value-limit",
        "team:1",
        "--tag",
        "who=me",
    )
    ended = executor("run", jobs, "-j", "good", *words)
    events = [event for _, event in read_history(find_run(own_home, "last").events)]
    began = events[0]
    assert isinstance(began, RunStarted)
    assert (began.max_concurrent, began.tags) == (3, {"who": "me"})
    assert [(limit["key"], limit["value"], limit["limit"]) for limit in began.limits] == [
        ("database", "warehose", 2),
        ("team", None, 1),
    ]
    notices = [event.message for event in events if isinstance(event, RunNotice)]
    assert "did you mean 'warehouse'?" in notices[0]
    assert f"notice: {notices[0]}" in ended.stdout


def test_a_selection_runs_a_part_of_the_job(executor, jobs: str) -> None:
    ended = executor("run", jobs, "-j", "good", "--select", "load")
    assert ended.returncode == 0
    assert ": 1 succeeded" in ended.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", "jobs.py"),
            "Error: jobs.py has 3 jobs; choose one with -j:\n  good     Adds rows up.\n  bad\n  endless\n",
        ),
        (("run", "jobs.py", "-j", "goood"), "did you mean 'good'?"),
        (("run", "job.py"), "there is no file 'job.py'; did you mean 'jobs.py'?"),
        (("run",), "nor definitions.py here; name one (executor run jobs.py), or write into pyproject.toml:\n"),
        (("run", "jobs.py", "-j", "good", "--select", "totl"), "names no step; did you mean 'total'?"),
        (("run", "jobs.py", "-j", "good", "--select", "total"), "which is not selected"),
        (("run", "jobs.py", "-j", "good", "--tag-limit", "a:0"), "tag_concurrency_limits[0].limit: 0 is not allowed"),
        (("run", "jobs.py", "-j", "good", "--max-concurrent", "many"), "'many' is not a valid integer"),
        (("run", "jobs.py", "-j", "good", "--max-concurent", "2"), "No such option"),
        (("runn",), "there is no command 'runn'; did you mean 'run'?"),
        (("job", "execute", "good"), "no file and no module is named"),
        (("job", "execute", "-f", "jobs.py", "-j", "good", "bad"), "two jobs are named, 'bad' and 'good'; name one"),
    ],
)
def test_what_is_asked_wrongly_is_one_message_on_stderr_and_code_2(executor, jobs: str, words, message: str) -> None:
    ended = executor(*words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_job_is_run_as_dagster_users_type_it(executor, jobs: str) -> None:
    for words in (("-f", jobs, "-j", "good"), ("good", "-f", jobs), ("-m", "jobs", "good")):
        ended = executor("job", "execute", *words)
        assert (ended.returncode, ended.stderr) == (0, ""), words
        assert "of job good started" in ended.stdout


def test_the_jobs_and_assets_of_a_file_are_listed(executor, jobs: str, write) -> None:
    write(
        "assets.py",
        "from executor import asset\n\n@asset(group_name='g', tags={'a': 'b'})\ndef orders():\n    '''All orders.'''\n",
    )
    assert executor("list", jobs).stdout == (
        "jobs:\n  good     Adds rows up.\n  bad\n  endless\n"
        "steps of good with pools or tags:\n  step  tags\n  load  database=warehouse\n"
        "steps of bad with pools or tags:\n  step  tags\n  load  database=warehouse\n"
    )
    assert executor("list", "assets.py").stdout == (
        "jobs:\n  assets\nassets:\n  orders  All orders.\n"
        "steps of assets with pools or tags:\n  step    tags\n  orders  a=b\n"
    )
    record = json.loads(executor("list", "-m", "assets", "--json").stdout)
    assert record == {
        "jobs": [
            {
                "name": "assets",
                "description": None,
                "steps": [{"key": "orders", "pools": {}, "tags": {"a": "b"}, "priority": 0}],
            }
        ],
        "assets": [{"key": "orders", "description": "All orders.", "group": "g", "tags": {"a": "b"}}],
    }


def test_a_dry_run_runs_nothing(executor, jobs: str, own_home: Path) -> None:
    ended = executor("run", jobs, "-j", "bad", "--dry-run", "--max-concurrent", "1")
    assert ended.returncode == 0
    assert "  1  load\n  2  fails\n  3  report\nwidth 1: 3 rounds for 3 steps; no limit" in ended.stdout
    assert not own_home.exists()


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("list", "-h"), ("job", "execute", "--help")])
def test_every_help_has_examples(executor, folder: Path, words: tuple[str, ...]) -> None:
    ended = executor(*words)
    assert ended.returncode == 0
    assert "Examples:\n    executor " in ended.stdout
    assert all(len(line) < 100 for line in ended.stdout.splitlines())


def test_the_exit_codes_are_in_the_help(executor) -> None:
    for code in range(5):
        assert f"\n    {code}  " in executor("run", "--help").stdout


def test_the_version_is_told(executor) -> None:
    assert executor("--version").stdout == f"executor {__version__}, Python {sys.version.split()[0]}\n"


def test_a_reader_that_goes_away_does_not_end_the_run(executor, jobs: str, folder: Path, own_home: Path) -> None:
    script = "exec 3>&1; (" + f"{sys.executable} -m executor.cli run jobs.py -j good; echo $? >&3) | head -1"
    ended = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout.splitlines()[-1] == "0"
    assert ended.stderr == ""
    last = list(read_history(find_run(own_home, "last").events))[-1][1]
    assert last == RunEnded("succeeded")


def test_a_step_in_this_process_may_print_to_a_reader_that_has_gone(executor, jobs: str, folder: Path) -> None:
    command = f"{sys.executable} -m executor.cli run jobs.py -j good --in-process"
    ended = subprocess.run(
        ["sh", "-c", f"exec 3>&1; ({command}; echo $? >&3) | true"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_a_full_disk_for_the_events_does_not_stop_the_run(executor, jobs: str) -> None:
    ended = executor("run", jobs, "-j", "good", "--events", "/dev/full")
    assert ended.returncode == 1, "what was asked for is not whole"
    assert ": 2 succeeded" in ended.stdout
    assert ended.stderr == "--events: no more events are written to /dev/full: No space left on device\n"


def test_a_reader_that_does_not_read_does_not_stall_the_run(executor, write, folder: Path, own_home: Path) -> None:
    write("many.py", MANY)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    words = [sys.executable, "-m", "executor.cli", "run", "many.py", "--steps-per-worker", "unlimited"]
    with subprocess.Popen(words, cwd=folder, stdout=writer, stderr=subprocess.PIPE) as run:
        os.close(writer)
        assert run.stderr is not None
        while run.poll() is None:
            ended = [
                line for path in own_home.glob("runs/*/events.jsonl") for line in path.read_text().splitlines()[-1:]
            ]
            if ended and '"e":"run_ended"' in ended[0]:
                break
            os.sched_yield()
        assert run.poll() is None, run.stderr.read()
        with open(reader, "rb") as said:
            text = said.read().lstrip(b".").decode()
        assert run.wait(60) == 0
    assert text.count("nothing_much") > 80
    assert "40 succeeded" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_its_steps_and_the_code_is_3(
    folder: Path, jobs: str, own_home: Path, number: signal.Signals
) -> None:
    with started(folder) as run:
        pid = wait_for_step(run)
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
    assert run.returncode == 3
    assert re.fullmatch(r"\nto go on from here, keeping what succeeded: executor resume \w{8}\n", err)
    assert f"run is asked to stop: {number.name}" in out
    assert "run cancelled after" in out
    assert gone(pid)
    assert list(read_history(find_run(own_home, "last").events))[-1][1] == RunEnded("cancelled")


def test_an_interrupt_while_the_file_is_imported_is_code_3(write, folder: Path) -> None:
    write("jobs.py", "import os, sys, time\nprint('importing', flush=True)\nos.read(0, 1)\n")
    with started(folder, stdin=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "importing\n"
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=60)[1].strip() == "interrupted"
        assert run.returncode == 3


def test_the_next_run_names_what_a_killed_one_left_behind(executor, write, folder: Path, own_home: Path) -> None:
    write(
        "jobs.py",
        JOBS
        + """
@op
def leaves():
    # Double-forked into a session of its own: nobody who watches the step's group can see it.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open("running", "w").write(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    os.wait()
    while True:
        time.sleep(1)

@job
def leaving():
    leaves()
""",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "executor.cli", "run", "jobs.py", "-j", "leaving"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        step = wait_for_step(run)
        while run.poll() is None and not ((folder / "running").exists() and (folder / "running").read_text()):
            os.sched_yield()
        left = int((folder / "running").read_text())
        parent = int(Path(f"/proc/{step}/stat").read_text().split(")")[1].split()[1])
        os.kill(parent, signal.SIGSTOP)  # the template cannot tidy up
        run.kill()
        run.wait()
        os.kill(parent, signal.SIGKILL)
    try:
        cut_off = find_run(own_home, "last")
        while not gone(step):
            os.sched_yield()
        ended = executor("run", "jobs.py", "-j", "good")
        assert ended.returncode == 0
        assert f"notice: run {cut_off.run_id} of job 'leaving' was interrupted: its driver died; " in ended.stdout
        assert f"still running from it: pid {left} (" in ended.stdout
        assert list(read_history(cut_off.events))[-1][1] == RunEnded("interrupted")
        assert "interrupted" not in executor("run", "jobs.py", "-j", "good").stdout
    finally:
        os.kill(left, signal.SIGKILL)


def test_the_lines_name_the_process_that_ran_the_step(executor, jobs: str, own_home: Path) -> None:
    ended = executor("run", jobs, "-j", "good")
    folder: RunFolder = find_run(own_home, "last")
    pids = [event.pid for _, event in read_history(folder.events) if isinstance(event, StepStarted)]
    assert [f"pid {pid}" in ended.stdout for pid in pids] == [True, True]


def test_a_mistake_on_the_command_line_leaves_the_events_of_an_earlier_run_alone(write, executor) -> None:
    write("jobs.py", JOBS)
    events = write("events", "of an earlier run\n")
    assert executor("run", "jobs.py", "-j", "good", "--select", "nothing", "--events", str(events)).returncode == 2
    assert events.read_text() == "of an earlier run\n"
    assert executor("run", "jobs.py", "-j", "good", "--events", str(events)).returncode == 0
    assert isinstance(decode(events.read_text().splitlines()[0])[1], RunStarted)


@pytest.mark.parametrize("words", [["--json"], ["--events", "-"], ["--events", "/dev/full"]])
def test_data_that_could_not_be_written_is_a_failure(write, executor, words: list[str]) -> None:
    write("jobs.py", JOBS)
    with open("/dev/full", "w") as full:
        done = executor("run", "jobs.py", "-j", "good", *words, capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["list"], ["run", "--dry-run", "-j", "good"], ["runs"], ["--help"]])
def test_any_command_says_in_one_line_that_the_disk_is_full(write, executor, words: list[str]) -> None:
    write("definitions.py", JOBS)
    with open("/dev/full", "w") as full:
        done = executor(*words, capture_output=False, stdout=full, stderr=-1)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_a_current_folder_that_was_removed_is_said(folder: Path) -> None:
    command = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m executor.cli list"
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: the current folder has been removed; change to another one\n")


STUBBORN = """
import time
from executor import job, op

@op
def stays():
    say = "here"
    while True:
        try:
            print(say, flush=True)
            time.sleep(600)
        except BaseException:
            say = "caught"

@job
def stubborn():
    stays()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_in_this_process_whatever_its_step_does(
    write, executor, folder: Path, number: signal.Signals
) -> None:
    write("jobs.py", STUBBORN)
    command = [sys.executable, "-m", "executor.cli", "run", "jobs.py", "--in-process"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert any(line == "here\n" for line in run.stdout)
        run.send_signal(number)
        assert run.stdout.readline() == "caught\n"
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
    assert run.returncode == -number
    assert err == f"{number.name}: the step is asked to stop; once more to end this process at once\n"
    assert "interrupted" in executor("runs").stdout
