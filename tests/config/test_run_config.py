"""Where the executor's part stands in a run config, and what is said of it elsewhere."""

from typing import Any

import pytest

import executor as dg
from executor.config.check import (
    IN_PROCESS_SETTINGS,
    ONLY_IN_PROCESS_SETTINGS,
    SETTINGS,
    settings_config,
)
from executor.config.layers import Layer, path_text
from executor.config.problems import Problems
from executor.config.run_config import sections
from executor.config.settings import ExecutorSettings
from tests.config.checked import executor_settings


def read(config: Any) -> tuple[tuple[str | None, Any, str], list[str]]:
    """The executor's part of a run config: its kind, its settings and its path; and what is wrong."""
    problems = Problems()
    part = sections(Layer(config), problems).executor
    return (part.kind, part.config, path_text(part.path)), problems.found


@pytest.mark.parametrize(
    ("config", "kind", "part", "path"),
    [
        ({"execution": {"config": {"max_concurrent": 2}}}, None, {"max_concurrent": 2}, "execution.config"),
        (
            {"execution": {"config": {"multiprocess": {"max_concurrent": 2}}}},
            "multiprocess",
            {"max_concurrent": 2},
            "execution.config.multiprocess",
        ),
        ({"execution": {"config": {"in_process": None}}}, "in_process", {}, "execution.config.in_process"),
        ({"execution": {"config": {}}}, None, {}, "execution.config"),
        ({"execution": {"config": None}}, None, {}, "execution.config"),
        ({"execution": None}, None, {}, "execution.config"),
        ({}, None, {}, "execution.config"),
        (None, None, {}, "execution.config"),
    ],
)
def test_both_nestings_are_right(config: Any, kind: str | None, part: dict[str, Any], path: str) -> None:
    assert read(config) == ((kind, part, path), [])


def test_a_setting_at_the_top_is_an_error_with_the_lines_to_write() -> None:
    _, found = read({"tag_concurrency_limits": [{"key": "database", "limit": 1}]})
    (problem,) = found
    said, _, lines = problem.partition("\n")
    assert said.startswith('"tag_concurrency_limits" is not read there; the executor\'s settings stand under')
    assert lines.splitlines() == [
        "{",
        '    "execution": {',
        '        "config": {',
        "            \"tag_concurrency_limits\": [{'key': 'database', 'limit': 1}],",
        "        },",
        "    },",
        "}",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"max_concurrent": 3},
        {"multiprocess": {"max_concurrent": 3}},
        {"execution": {"max_concurrent": 3}},
        {"execution": {"multiprocess": {"max_concurrent": 3}}},
        {"execution": {"multiprocess": {"config": {"max_concurrent": 3}}}},
        {"execution": {"config": {"multiprocess": {"config": {"max_concurrent": 3}}}}},
    ],
)
def test_the_lines_to_write_are_right_for_every_wrong_place(config: Any) -> None:
    _, (problem,) = read(config)
    lines = problem.partition("Write:\n")[2]
    assert eval(lines) == {"execution": {"config": {"max_concurrent": 3}}}
    assert read(eval(lines))[1] == []


def test_the_lines_keep_what_stood_in_the_right_place() -> None:
    _, (problem,) = read({"stop_grace_s": 1.0, "execution": {"config": {"max_concurrent": 3}}})
    lines = eval(problem.partition("Write:\n")[2])
    assert lines == {"execution": {"config": {"max_concurrent": 3, "stop_grace_s": 1.0}}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"executoin": {}}, 'unknown section "executoin"; did you mean "execution"?'),
        ({"execution": {"confg": {}}}, 'execution: unknown key "confg"; did you mean "config"?'),
        ({"ops": 3}, "ops: 3 is not a dict; it looks like {'load': {'config': {'rows': 3}}}"),
        ({"tags": ["a"]}, "tags: ['a'] is not a dict; it looks like {'team': 'data'}"),
        ({"resources": {"io": 1}}, "this version has no resources; leave this section out"),
        ({"loggers": {"console": {}}}, "this version has no loggers"),
        ({"execution": [1]}, "execution: [1] is not a dict"),
        ({"execution": {"config": 4}}, "execution.config: 4 is not a dict"),
        ({"execution": {"config": {"multiprocess": 4}}}, "execution.config.multiprocess: 4 is not a dict"),
        ([], "[] is not a dict; a run config looks like"),
        (
            {"execution": {"config": {"multiprocess": {}, "max_concurrent": 2}}},
            'execution.config: "max_concurrent" beside "multiprocess"; put settings inside "multiprocess"',
        ),
        (
            {"execution": {"config": {"multiprocess": {}, "in_process": {}}}},
            'execution.config: "in_process" beside "multiprocess"',
        ),
    ],
)
def test_a_wrong_section_is_an_error(config: Any, said: str) -> None:
    _, found = read(config)
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize("section", ["ops", "resources", "loggers"])
def test_an_empty_section_of_dagsters_changes_nothing(section: str) -> None:
    assert read({section: {}})[1] == []
    assert read({section: None})[1] == []


def test_a_config_inside_the_config_says_what_to_write() -> None:
    (problem,) = read({"execution": {"config": {"config": {"max_concurrent": 2}}}})[1]
    assert problem.startswith('"execution.config.config" is not read there; the executor\'s settings stand under')
    assert '"max_concurrent": 2' in problem


@pytest.mark.parametrize("where", ["execution", "execution.config"])
def test_a_misspelled_name_of_an_executor_is_told_the_right_one(where: str) -> None:
    config: dict[str, Any] = {"multiproces": {"max_concurrent": 2}}
    for part in reversed(where.split(".")):
        config = {part: config}
    assert read(config)[1] == [f'{where}: unknown key "multiproces"; did you mean "multiprocess"?']


@pytest.mark.parametrize("key", ["stop_grace_s", "max_concurrent", "steps_per_worker"])
def test_a_number_that_is_larger_than_any_setting_is_a_mistake(key: str) -> None:
    job = dg.define_asset_job("any", "*")
    with pytest.raises(dg.ConfigError) as caught:
        job.resolve({"execution": {"config": {key: 10**5000}}})
    assert caught.value.problems == (
        f"execution.config.{key}: is a whole number of more than 100 digits; no setting is so large",
    )


def test_what_settings_stand_for_names_every_one_of_them() -> None:
    fixed = {"step_dependency_config"}  # there is one value for it
    assert set(settings_config(ExecutorSettings())) == set(SETTINGS) - ONLY_IN_PROCESS_SETTINGS - fixed
    assert set(settings_config(ExecutorSettings(in_process=True))) == set(IN_PROCESS_SETTINGS) - fixed
    assert executor_settings(settings_config(ExecutorSettings(stack_signal=False))).stack_signal is False
