"""``executor.yaml``: what it says of pools, and what each mistake in it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from executor.config.instance_file import InstanceSettings, PoolSettings, read_instance_settings
from executor.errors import ConfigError


def read(home: Path, text: str, name: str = "executor.yaml") -> InstanceSettings:
    (home / name).write_text(text)
    return read_instance_settings(home)


def problems(home: Path, text: str) -> list[str]:
    """What is said of a file, each sentence without the folder that the file is in."""
    with pytest.raises(ConfigError) as raised:
        read(home, text)
    return [problem.replace(f"{home}/", "") for problem in raised.value.problems]


def notices(home: Path, text: str) -> list[str]:
    return [notice.replace(f"{home}/executor.yaml:", "") for notice in read(home, text).notices]


# --- what it says ----------------------------------------------------------------------------------------------------


def test_a_home_without_a_file_has_no_settings_and_no_yaml_is_loaded(tmp_path: Path) -> None:
    assert read_instance_settings(tmp_path) == InstanceSettings()
    program = (
        "import sys; from pathlib import Path; from executor.config.instance_file import read_instance_settings; "
        f"read_instance_settings(Path({str(tmp_path)!r})); assert 'yaml' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_limits_by_name_and_a_default(tmp_path: Path) -> None:
    text = """
# the warehouse takes two
concurrency:
  pools:
    granularity: op
    default_limit: 5
    limits:
      database: 2
      on: 1     # a name, whatever YAML 1.1 makes of it
      paused: 0
"""
    settings = read(tmp_path, text)
    assert settings.pools == PoolSettings(limits={"database": 2, "on": 1, "paused": 0}, default_limit=5)
    assert settings.file == tmp_path / "executor.yaml"
    assert settings.notices == settings.ignored == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "concurrency:\n",
        "concurrency:\n  pools:\n",
        "concurrency: {pools: {default_limit: null}}",
        "~",
    ],
)
def test_an_empty_file_or_section_says_nothing(tmp_path: Path, text: str) -> None:
    settings = read(tmp_path, text)
    assert settings.pools == PoolSettings()
    assert settings.notices == ()


def test_dagsters_file_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    text = "concurrency:\n  pools:\n    default_limit: 5\n"
    assert read(tmp_path, text, "dagster.yaml").pools.default_limit == 5
    assert read(tmp_path, text.replace("5", "6")).pools.default_limit == 6


def test_other_sections_are_left_alone_and_named(tmp_path: Path) -> None:
    settings = read(tmp_path, "run_launcher: {module: x}\ntelemetry: {enabled: false}\n")
    assert settings.ignored == ("run_launcher", "telemetry")
    assert settings.notices == ()


# --- older spellings, and what has no effect yet ---------------------------------------------------------------------


def test_older_spellings_of_the_default_mean_the_same_and_show_the_new_one(tmp_path: Path) -> None:
    old = "concurrency:\n  default_op_concurrency_limit: 3\n"
    assert read(tmp_path, old).pools.default_limit == 3
    assert notices(tmp_path, old) == [
        "2:3: concurrency.default_op_concurrency_limit is an older spelling; write concurrency.pools.default_limit"
    ]
    oldest = "concurrency:\n  concurrency_group:\n    default_limit: 1\n    enforcement_level: op\n"
    assert read(tmp_path, oldest).pools.default_limit == 1
    assert notices(tmp_path, oldest) == [
        "2:3: concurrency.concurrency_group is an older spelling; write concurrency.pools"
    ]


def test_two_spellings_of_one_setting_may_say_the_same_and_must_not_differ(tmp_path: Path) -> None:
    text = "concurrency:\n  pools:\n    default_limit: 3\n  default_op_concurrency_limit: 3\n"
    assert read(tmp_path, text).pools.default_limit == 3
    assert problems(tmp_path, text.replace("limit: 3\n  d", "limit: 4\n  d")) == [
        (
            "executor.yaml:4:3: concurrency.default_op_concurrency_limit is 3, while concurrency.pools.default_limit "
            "in line 3 is 4; keep one of the two"
        )
    ]


def test_what_belongs_to_the_queue_of_runs_is_said_to_have_no_effect(tmp_path: Path) -> None:
    text = """concurrency:
  runs:
    max_concurrent_runs: 15
    tag_concurrency_limits:
      - {key: dagster/backfill, limit: 10}
  pools:
    op_granularity_run_buffer: 1
  max_runs: 15
  run_tag_limits: []
run_queue:
  max_concurrent_runs: 15
run_coordinator:
  class: QueuedRunCoordinator
"""
    tail = "has no effect in this version: it belongs to the queue of runs, which is not there yet; runs start at once"
    assert notices(tmp_path, text) == [
        f"3:5: concurrency.runs.max_concurrent_runs {tail}",
        f"4:5: concurrency.runs.tag_concurrency_limits {tail}",
        f"7:5: concurrency.pools.op_granularity_run_buffer {tail}",
        "8:3: concurrency.max_runs is an older spelling; write concurrency.runs.max_concurrent_runs",
        f"8:3: concurrency.max_runs {tail}",
        "9:3: concurrency.run_tag_limits is an older spelling; write concurrency.runs.tag_concurrency_limits",
        f"9:3: concurrency.run_tag_limits {tail}",
        f"10:1: run_queue {tail}",
        f"12:1: run_coordinator {tail}",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("concurrency:\n  pools:\n    granularity: run\n", "3:18: concurrency.pools.granularity"),
        ("concurrency:\n  pools:\n    granularity: 'run'\n", "3:18: concurrency.pools.granularity"),
        (
            "concurrency:\n  concurrency_group:\n    enforcement_level: run\n",
            "3:24: concurrency.concurrency_group.enforcement_level",
        ),
    ],
)
def test_pools_that_would_count_runs_are_refused(tmp_path: Path, text: str, where: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"executor.yaml:{where}: run, which makes a pool count whole runs, comes with the queue")
    assert problem.endswith("Write op, or leave it out")


# --- mistakes --------------------------------------------------------------------------------------------------------

SLOTS = "write a whole number of slots from 0, which pauses the pool, to 1000, or leave it out"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("concurency: {}", "1:1: unknown key 'concurency'; did you mean 'concurrency'?"),
        ("concurrency: {pool: {}}", "1:15: unknown key 'pool' under concurrency; did you mean 'pools'?"),
        (
            "concurrency: {pools: {defualt_limit: 1}}",
            "1:23: unknown key 'defualt_limit' under concurrency.pools; did you mean 'default_limit'?",
        ),
        (
            "concurrency: {runs: {max_concurent_runs: 1}}",
            "1:22: unknown key 'max_concurent_runs' under concurrency.runs; did you mean 'max_concurrent_runs'?",
        ),
        (
            "concurrency:\n  pools:\n    database: 3\n",
            ("3:5: unknown key 'database' under concurrency.pools; the limit of a pool stands under limits:\n"
            "  concurrency:\n    pools:\n      limits:\n        database: 3"),
        ),
        ("concurrency: {pools: {default_limit: 1.5}}", f"1:38: 1.5 is not a whole number; {SLOTS}"),
        ("concurrency: {pools: {default_limit: yes}}", f"1:38: yes is not a whole number; {SLOTS}"),
        ("concurrency: {pools: {default_limit: -1}}", f"1:38: -1 is not allowed; {SLOTS}"),
        ("concurrency: {pools: {default_limit: 1001}}", f"1:38: 1001 is not allowed; {SLOTS}"),
        (
            f"concurrency: {{pools: {{default_limit: {'9' * 5000}}}}}",
            f"1:38: {'9' * 5000} is not a whole number; {SLOTS}",
        ),
        ("concurrency: {pools: {default_limit: [1]}}", f"1:38: a sequence is not a whole number; {SLOTS}"),
        ("concurrency: {pools: {default_limit: '3'}}", "1:38: '3' is text; write it without quotes: 3"),
        (
            "concurrency: {pools: {default_limit: 010}}",
            "1:38: 010 begins with 0, which YAML takes for octal; write 10",
        ),
        ("concurrency: {pools: {limits: {db: }}}", f"1:35: nothing is not a whole number; {SLOTS}"),
        (
            "concurrency: {pools: {limits: {'two words': 1}}}",
            "1:32: a pool cannot be named 'two words': a name is one word, without blanks",
        ),
        (
            "concurrency: {pools: {limits: [db]}}",
            "1:31: a sequence stands where a mapping such as {database: 2, api: 1} should",
        ),
        ("concurrency: {pools: {granularity: asset}}", "1:36: 'asset' is neither op nor run"),
        ("concurrency: {pools: {granularity: ops}}", "1:36: 'ops' is neither op nor run; did you mean 'op'?"),
        ("concurrency: 4", "1:14: 4 stands where a mapping, such as pools: ..., should"),
        ("- concurrency", "1:1: a sequence stands where a mapping of settings should"),
        (
            "concurrency:\n  pools: {}\n  pools: {}\n",
            "3:3: 'pools' stands here a second time, after line 2; keep one of the two",
        ),
        (
            "concurrency: {runs: {max_concurrent_runs: -2}}",
            "1:43: -2 is not allowed; write how many runs may go on at once, 0 or more, or -1 for no limit",
        ),
        (
            "concurrency: {runs: {tag_concurrency_limits: 3}}",
            "1:46: 3 stands where a list of limits should",
        ),
        ("concurrency: {[1]: 2}", "1:15: a key must be one word"),
        (
            "concurrency: [",
            "1:15: is not YAML: expected the node content, but found '<stream end>' while parsing a flow node",
        ),
        (
            "a: 1\n\tb: 2",
            "2:1: is not YAML: found character '\\t' that cannot start any token while scanning for the next token",
        ),
        ("a: &x 1\nb: *y\n", "2:4: is not YAML: found undefined alias 'y'"),
        ("a: 1\n---\nb: 2\n", "2:1: is not YAML: but found another document expected a single document in the stream"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line_and_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    assert problems(tmp_path, text) == [f"executor.yaml:{said}"]


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = "concurrency:\n  pools:\n    limits: {b: x}\n    a: 1\n    limits: {}\n    default_limit: -1\n  poolz: {}\n"
    lines = [problem.split(":")[1] for problem in problems(tmp_path, text)]
    assert lines == ["3", "4", "5", "6", "7"]


def test_a_file_that_cannot_be_text_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "executor.yaml"
    path.write_bytes(b"concurrency:\n  # \xff\n")
    with pytest.raises(ConfigError, match=r"executor\.yaml:2: is not UTF-8 text"):
        read_instance_settings(tmp_path)
    path.write_text("x: \x00")
    with pytest.raises(ConfigError, match=r"executor\.yaml:1: the character U\+0000 cannot stand in YAML"):
        read_instance_settings(tmp_path)
    path.write_text("#\n" * (1 << 19) + "#")
    with pytest.raises(ConfigError, match=r"executor\.yaml:524289: goes on after 1048576 bytes"):
        read_instance_settings(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"executor\.yaml:1:65: is nested more than 64 levels deep"):
        read_instance_settings(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_instance_settings(tmp_path)


# --- variables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["${POOL_LIMIT}", "'${POOL_LIMIT}'", "{env: POOL_LIMIT}", "${NOT_SET_AT_ALL:-3}"])
def test_a_limit_may_come_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("POOL_LIMIT", "3")
    monkeypatch.delenv("NOT_SET_AT_ALL", raising=False)
    text = f"storage: {{postgres: '${{NOT_SET_AT_ALL}}'}}\nconcurrency:\n  pools:\n    default_limit: {written}\n"
    assert read(tmp_path, text).pools.default_limit == 3


def test_a_variable_that_gives_no_limit_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_LIMIT", "many")
    monkeypatch.delenv("NOT_SET_AT_ALL", raising=False)
    text = "concurrency:\n  pools:\n    limits: {a: '${POOL_LIMIT}', b: '${NOT_SET_AT_ALL}'}\n"
    first, second = problems(tmp_path, text)
    assert first.startswith("executor.yaml:3:17: the environment variable POOL_LIMIT is no number that can stand here")
    assert second.startswith("executor.yaml:3:37: the environment variable NOT_SET_AT_ALL is not set; set it")
