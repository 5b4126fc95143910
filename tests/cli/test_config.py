"""``executor config``, and ``-c`` of the commands that run a job."""

from __future__ import annotations

import json

import pytest

JOBS = """
from dataclasses import dataclass
from executor import Config, job, multiprocess_executor, op

class LoadConfig(Config):
    rows: int
    mode: str = "full"
    password: str = "none"

@dataclass
class TrainConfig:
    rate: float = 0.1

@op(tags={"database": "warehouse"})
def load(config: LoadConfig):
    print("rows", config.rows, config.mode)
    return config.rows

@op
def train(rows, config: TrainConfig):
    print("rate", config.rate)
    return rows * config.rate

@job(executor_def=multiprocess_executor.configured({"max_concurrent": 3}), tags={"owner": "me"})
def daily():
    train(load())

@job
def other():
    load()
"""

BASE = """
execution:
  config:
    multiprocess:
      max_concurrent: 4
      stop_grace_s: 1
ops:
  load:
    config:
      rows: 3
tags:
  team: data
"""

WRONG = """
execution:
  config:
    multiprocess:
      max_concurent: 4
ops:
  load:
    config: {rows: many}
"""


@pytest.fixture
def files(write) -> None:
    write("jobs.py", JOBS)
    write("base.yaml", BASE)
    write("wrong.yaml", WRONG)
    write("more.yaml", "ops: {load: {config: {mode: delta}}}\n")


@pytest.mark.parametrize("words", [("run", "jobs.py", "-j", "daily"), ("job", "execute", "-f", "jobs.py", "daily")])
def test_a_run_takes_its_config_from_files_in_order(files, executor, words: tuple[str, ...]) -> None:
    ended = executor(*words, "-c", "base.yaml", "-c", "more.yaml", "--output", "all", "--tag", "team=ml")
    assert ended.returncode == 0, ended.stderr
    assert "at most 4 at once" in ended.stdout
    assert "rows 3 delta" in ended.stdout
    assert "rate 0.1" in ended.stdout


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_every_mistake_of_every_file_is_told_and_nothing_runs(files, executor, extra: tuple[str, ...]) -> None:
    ended = executor("run", "jobs.py", "-j", "daily", "-c", "wrong.yaml", "-c", "nothing.yaml", *extra)
    assert (ended.returncode, ended.stdout) == (2, "")
    first = 'wrong.yaml:5:7: unknown key "max_concurent" under execution.config.multiprocess'
    assert ended.stderr.splitlines() == [
        f'Error: {first}; did you mean "max_concurrent"?',
        'wrong.yaml:8:20: ops.load.config.rows: "many" is not a whole number',
        "nothing.yaml cannot be read: No such file or directory",
    ]


def test_options_win_over_files_whatever_the_nesting(files, executor) -> None:
    ended = executor("run", "jobs.py", "-j", "daily", "-c", "base.yaml", "--max-concurrent", "1", "--dry-run")
    assert "at most 1 at once: max_concurrent" in ended.stdout
    ended = executor("run", "jobs.py", "-j", "daily", "-c", "base.yaml", "--in-process")
    assert ended.returncode == 0, ended.stderr
    assert "in this process" in ended.stdout


def test_a_step_that_is_left_out_needs_no_config(files, executor) -> None:
    ended = executor("run", "jobs.py", "-j", "other")
    assert ended.returncode == 2
    assert ended.stderr == 'Error: ops.load.config: has no "rows"; it takes a whole number\n'


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_says_that_all_is_right(files, executor) -> None:
    ended = executor("config", "check", "base.yaml", "more.yaml", "-f", "jobs.py", "-j", "daily")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "base.yaml, more.yaml: right (job daily)\n", "")


def test_check_tells_every_mistake(files, executor) -> None:
    ended = executor("config", "check", "wrong.yaml", "-f", "jobs.py", "-j", "daily")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("wrong.yaml:") == 2
    as_json = executor("config", "check", "wrong.yaml", "-f", "jobs.py", "-j", "daily", "--json")
    record = json.loads(as_json.stdout)
    assert (as_json.returncode, record["ok"], len(record["problems"])) == (2, False, 2)


def test_check_without_a_job_checks_what_needs_none(files, executor) -> None:
    ended = executor("config", "check", "base.yaml")
    assert ended.returncode == 0
    assert "config of ops was not checked, because no job was named" in ended.stdout
    ended = executor("config", "check", "wrong.yaml")
    assert (ended.returncode, ended.stderr.count("wrong.yaml:")) == (2, 1)


def test_check_names_a_limit_that_matches_no_step_and_what_is_near(files, write, executor) -> None:
    write("limit.yaml", "execution: {config: {tag_concurrency_limits: [{key: database, value: warehose, limit: 1}]}}\n")
    ended = executor("config", "check", "base.yaml", "limit.yaml", "-f", "jobs.py", "-j", "daily")
    assert ended.returncode == 0
    assert "tag database=warehose limits nothing" in ended.stderr
    assert "did you mean 'warehouse'?" in ended.stderr
    ran = executor("run", "jobs.py", "-j", "daily", "-c", "base.yaml", "-c", "limit.yaml")
    assert "tag database=warehose limits nothing" in ran.stdout


def test_a_job_needs_the_file_that_it_is_in(files, executor) -> None:
    ended = executor("config", "check", "base.yaml", "-j", "daily")
    assert (ended.returncode, ended.stderr) == (
        2,
        "Error: -j daily needs the file or module that it is in: -f FILE, or -m MODULE\n",
    )
    assert executor("config", "show").stderr == "Error: say where the job is: -f FILE, or -m MODULE\n"


# --- show -------------------------------------------------------------------------------------------------------------


def shown(executor, *words: str, **options: object) -> dict[str, tuple[object, str]]:
    ended = executor("config", "show", "-f", "jobs.py", "-j", "daily", *words, "--json", **options)
    assert ended.returncode == 0, ended.stderr
    return {item["setting"]: (item["value"], item["from"]) for item in json.loads(ended.stdout)["settings"]}


def test_show_has_every_setting_with_what_set_it(files, write, executor) -> None:
    write("vars.yaml", "ops:\n  load:\n    config:\n      mode: ${MODE:-full}\n")
    found = shown(executor, "-c", "base.yaml", "-c", "vars.yaml", "--start-method", "fork", "--tag", "a=b")
    settings = {name.rpartition(".")[2]: value for name, value in found.items()}
    assert settings["executor"] == ("multiprocess", "base.yaml:4:5")
    assert settings["max_concurrent"] == (4, "base.yaml:5:7")
    assert settings["stop_grace_s"] == (1.0, "base.yaml:6:7")
    assert settings["start_method"] == ("fork", "--start-method")
    assert settings["steps_per_worker"] == (1, "default")
    assert found["ops.load.config.rows"] == (3, "base.yaml:10:7")
    assert found["ops.load.config.mode"] == ("***", "environment variable MODE (vars.yaml:4:7)")
    assert found["ops.load.config.password"] == ("***", "default")
    assert found["ops.train.config.rate"] == (0.1, "default")
    assert found["tags.team"] == ("data", "base.yaml:12:3")
    assert found["tags.a"] == ("b", "--tag")
    assert found["tags.owner"] == ("me", "tags of job 'daily'")


def test_show_names_the_line_of_configured_and_the_variable_of_the_machine(files, write, executor, monkeypatch) -> None:
    write("rows.yaml", "ops: {load: {config: {rows: 3}}}")
    found = shown(executor, "-c", "rows.yaml")
    assert found["execution.config.multiprocess.max_concurrent"] == (3, "jobs.py:24 (multiprocess_executor.configured)")
    monkeypatch.setenv("EXECUTOR_MAX_CONCURRENT", "7")
    found = shown(executor, "-c", "rows.yaml", "--max-concurrent", "0")
    assert found["execution.config.multiprocess.max_concurrent"] == (7, "environment variable EXECUTOR_MAX_CONCURRENT")


def test_show_is_a_table_for_people(files, executor) -> None:
    ended = executor("config", "show", "-f", "jobs.py", "-j", "daily", "-c", "base.yaml")
    head, titles, *lines = ended.stdout.splitlines()
    assert (head, titles.split()) == ("job daily", ["setting", "value", "from"])
    assert any(line.split() == ["ops.load.config.rows", "3", "base.yaml:10:7"] for line in lines)


def test_show_tells_mistakes_instead(files, executor) -> None:
    ended = executor("config", "show", "-f", "jobs.py", "-j", "daily", "-c", "wrong.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")


# --- schema -----------------------------------------------------------------------------------------------------------


def test_schema_prints_that_of_any_run_config_or_that_of_a_job(files, executor) -> None:
    general = json.loads(executor("config", "schema").stdout)
    assert "max_concurrent" in general["properties"]["execution"]["properties"]["config"]["properties"]
    assert "properties" not in general["properties"]["ops"]
    of_job = json.loads(executor("config", "schema", "-f", "jobs.py", "-j", "daily").stdout)
    ops = of_job["properties"]["ops"]["properties"]
    assert set(ops) == {"load", "train"}
    assert ops["load"]["properties"]["config"]["required"] == ["rows"]


def test_a_function_that_configures_is_called_once_in_a_run(write, executor) -> None:
    write(
        "jobs.py",
        """
from executor import job, multiprocess_executor, op

def settings():
    print("configured", flush=True)
    return {"max_concurrent": 1, "tag_concurrency_limits": [{"key": "a", "limit": 1}]}

@op
def one():
    return 1

@job(executor_def=multiprocess_executor.configured(settings))
def alone():
    one()
""",
    )
    ended = executor("run", "jobs.py", "--quiet")
    assert (ended.returncode, ended.stdout.count("configured")) == (0, 1), ended
