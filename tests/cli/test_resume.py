"""``executor resume``: the job is found and run again as the earlier run was asked for."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from executor.runs.home import find_run
from executor.runs.result import read_result

PIPE = """
from pathlib import Path
from executor import job, op

@op
def load():
    return 3

@op
def train(load):
    if not Path("go").exists():
        raise ValueError("no rows")
    return load + 1

@op
def end(train):
    return train

@job
def pipe():
    end(train(load()))

@job
def other():
    load()
"""


@pytest.fixture
def failed(write, executor):
    """A run that failed, in a folder with all that it needs to succeed now."""
    write("pipe.py", PIPE)
    ended = executor("run", "pipe.py", "--max-concurrent", "3", "--tag", "day=1")
    assert ended.returncode == 1
    return write("go", "")


def test_a_run_is_gone_on_with_from_any_folder_as_it_was_asked_for(failed: Path, executor, tmp_path, own_home) -> None:
    ended = executor("resume", "last", "--events", "events.jsonl", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert '"e":"step_reused"' in (tmp_path / "events.jsonl").read_text()
    assert "1 step reused, 2 steps to run: train, end" in ended.stdout
    assert "run succeeded after" in ended.stdout
    assert ": 1 reused, 2 succeeded" in ended.stdout
    result = read_result(find_run(own_home, "last"))
    started = result.events[0]
    assert (started.max_concurrent, started.tags["day"]) == (3, "1")
    assert result.output_for_node("end") == 4
    shown = executor("show", "last").stdout
    assert f"goes on from: run {started.parent}" in shown
    assert "load   reused     0" in shown
    assert json.loads(executor("show", "last", "--json").stdout)["steps"]["load"]["reused_from"] == started.parent
    listed = executor("runs").stdout.splitlines()
    assert listed[0].endswith("resumed from")
    assert listed[1].endswith(started.parent[:8])


def test_an_option_that_is_given_now_comes_before_the_one_that_was_given_then(failed: Path, executor, own_home) -> None:
    assert executor("resume", "last", "--max-concurrent", "2", "--from", "load").returncode == 0
    result = read_result(find_run(own_home, "last"))
    assert result.events[0].max_concurrent == 2
    assert [step.reused_from for step in result.steps.values()] == [None] * 3
    assert executor("resume", "last", "--only", "train").returncode == 0
    assert read_result(find_run(own_home, "last")).events[0].max_concurrent == 2, "as that run was"


def test_a_dry_run_says_what_would_run(failed: Path, executor, own_home) -> None:
    ended = executor("resume", "last", "--dry-run")
    assert (ended.returncode, ended.stderr) == (0, "")
    first, *steps = ended.stdout.splitlines()
    assert first.endswith(": 1 step reused, 2 steps to run: train, end")
    assert steps == ["  train", "  end"]
    told = json.loads(executor("resume", "last", "--dry-run", "--json").stdout)
    assert (told["reused"], told["runs"]) == (["load"], ["train", "end"])
    assert len(list((own_home / "runs").iterdir())) == 1


def test_mistakes_are_told_with_what_to_do(failed: Path, executor, own_home) -> None:
    def said(*words: str) -> str:
        ended = executor("resume", *words)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "Traceback" not in ended.stderr
        return ended.stderr

    assert "did you mean 'train'?" in said("last", "--from", "trian")
    assert "--from and --only exclude each other" in said("last", "--from", "train", "--only", "end")
    assert "--select is for new runs" in said("last", "--select", "train")
    assert "has no job 'pip'; did you mean 'pipe'?" in said("last", "-j", "pip")
    assert "there is no run 'abc'" in said("abc")
    failed.parent.rename(failed.parent.with_name("moved"))
    failed.parent.mkdir()
    assert "there is no file 'pipe.py'" in said("last")


def test_a_run_of_a_program_needs_to_be_told_where_its_job_is(write, executor) -> None:
    write("pipe.py", PIPE)
    write("program.py", "from pipe import pipe\n\npipe.execute(raise_on_error=False)\n")
    import subprocess
    import sys

    subprocess.run([sys.executable, "program.py"], check=True)
    write("go", "")
    ended = executor("resume", "last")
    assert ended.returncode == 2
    assert "was not started by this command, so say where its job is: executor resume" in ended.stderr
    assert executor("resume", "last", "-f", "pipe.py").returncode == 0


def test_a_module_is_found_again(write, executor, tmp_path: Path) -> None:
    write("shop/__init__.py", "")
    write("shop/jobs.py", PIPE)
    assert executor("run", "-m", "shop.jobs", "-j", "pipe").returncode == 1
    write("go", "")
    assert executor("resume", "last", cwd=tmp_path).returncode == 0


CONFIGURED = """
from executor import Config, job, op

class Rows(Config):
    rows: int
    api_key: str = ""

@op
def load(config: Rows):
    if config.rows > 5:
        raise ValueError(f"{config.rows} rows are too many")
    return config.rows

@job
def pipe():
    load()
"""


def test_the_config_of_the_earlier_run_is_that_of_the_next_unless_another_is_given(
    write, executor, tmp_path: Path, own_home
) -> None:
    write("pipe.py", CONFIGURED)
    write("run.yaml", "ops: {load: {config: {rows: 10}}}")
    assert executor("run", "pipe.py", "-c", "run.yaml").returncode == 1
    (tmp_path / "elsewhere").mkdir()
    config = write("run.yaml", "ops: {load: {config: {rows: 3}}}")
    again = executor("resume", "last", cwd=tmp_path / "elsewhere")
    assert again.returncode == 1
    assert "10 rows are too many" in again.stdout + again.stderr
    ended = executor(
        "resume", "last", "-c", os.path.relpath(config, tmp_path / "elsewhere"), cwd=tmp_path / "elsewhere"
    )
    assert ended.returncode == 0, ended.stderr
    assert read_result(find_run(own_home, "last")).output_for_node("load") == 3


def test_a_config_with_a_secret_is_not_kept_and_has_to_be_given_again(write, executor) -> None:
    write("pipe.py", CONFIGURED)
    write("open.yaml", "ops: {load: {config: {rows: 10, api_key: hunter2}}}")
    assert executor("run", "pipe.py", "-c", "open.yaml").returncode == 1
    again = executor("resume", "last")
    assert again.returncode == 2
    assert "ops.load.config.api_key" in again.stderr
    assert "hunter2" not in again.stderr


FAILS = """
from executor import Config, job, op

class Source(Config):
    rows: int
    api_key: str = ""

@op
def load(config: Source):
    print("load ran")
    return config.rows

@op
def train(load):
    if load == 13:
        raise ValueError("unlucky")

@job
def pipe():
    train(load())
"""


def told(text: str, what: str) -> list[str]:
    """The words of the command that stands after this."""
    (line,) = [line for line in text.splitlines() if what in line]
    return shlex.split(line.partition(": ")[2])


def test_the_commands_that_are_told_after_a_failure_run_it_again_with_its_config(write, executor) -> None:
    write("pipe.py", FAILS)
    write("rows.yaml", "ops: {load: {config: {rows: 13}}}\nexecution: {config: {multiprocess: {max_concurrent: 2}}}\n")
    first = executor("run", "pipe.py", "-c", "rows.yaml")
    alone = told(first.stderr, "to run it alone here")
    assert alone == ["executor", "run", "pipe.py", "-c", "rows.yaml", "--in-process", "--select", "*train"]
    second = executor(*alone[1:])
    assert (second.returncode, "ValueError: unlucky" in second.stderr) == (1, True)

    go_on = told(first.stderr, "to go on from here")
    third = executor(*go_on[1:], cwd=write("elsewhere/x", "").parent)
    assert (third.returncode, "ValueError: unlucky" in third.stderr) == (1, True)
    alone = told(third.stderr, "to run it alone here")
    fourth = executor(*alone[1:], cwd=write("elsewhere/x", "").parent)
    assert (fourth.returncode, "ValueError: unlucky" in fourth.stderr) == (1, True)
    assert "load ran" not in fourth.stdout, "what it reads was there"


def test_the_commands_that_are_told_give_a_config_with_secrets_again(write, executor) -> None:
    write("pipe.py", FAILS)
    write("my rows.yaml", "ops: {load: {config: {rows: 13, api_key: abc}}}\n")
    text = executor("run", "pipe.py", "-c", "my rows.yaml").stderr
    go_on = told(text, "to go on from here")
    assert go_on[3:] == ["-c", "my rows.yaml"]
    text = executor(*go_on[1:]).stderr
    assert "ValueError: unlucky" in text
    assert "ValueError: unlucky" in executor(*told(text, "to run it alone here")[1:]).stderr
