"""An executor's settings from a dict: what each value means, and every mistake with its path."""

from typing import Any

import pytest

from executor.config.settings import ExecutorSettings, TagLimit
from executor.errors import ConfigError
from tests.config.checked import executor_settings


def problems(config: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        executor_settings(config, **options)
    return caught.value.problems


def limits(*items: Any) -> dict[str, Any]:
    return {"tag_concurrency_limits": list(items)}


def test_nothing_said_means_the_defaults() -> None:
    assert executor_settings({}) == executor_settings(None) == ExecutorSettings()


@pytest.mark.parametrize(("written", "means"), [(None, None), (0, None), (1, 1), (64, 64)])
def test_max_concurrent_missing_null_and_0_mean_the_default(written: Any, means: int | None) -> None:
    assert executor_settings({"max_concurrent": written}).max_concurrent == means


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (-1, "-1 is not allowed; write a whole number of steps at once"),
        (-2, "-2 is not allowed"),
        ("4", "'4' is not a whole number; write it without quotes: 4"),
        ("many", "'many' is not a whole number"),
        (True, "True is not a whole number"),
        (2.5, "2.5 is not a whole number"),
        ([2], r"[2] is not a whole number"),
        ("²", "'²' is not a whole number; write a whole number of"),
        (4_194_305, "4194305 is more steps at once than any Linux has processes (4194304)"),
        (10**20, f"{10**20} is more steps at once"),
    ],
)
def test_any_other_max_concurrent_is_an_error(written: Any, said: str) -> None:
    (problem,) = problems({"max_concurrent": written})
    assert problem.startswith(f"max_concurrent: {said}")


def test_a_digit_that_is_none_of_ten_is_no_number_of_steps_per_worker() -> None:
    (problem,) = problems({"steps_per_worker": "²"})
    assert problem.startswith("steps_per_worker: '²' is neither a whole number nor 'unlimited'")


def test_all_mistakes_are_reported_at_once_each_with_its_path() -> None:
    found = problems(
        {
            "max_concurent": 2,
            "start_method": "forked",
            "stop_grace_s": -1,
            **limits({"key": "database", "limit": 0}, {"kye": "database", "limit": 1}),
        }
    )
    assert found == (
        'unknown key "max_concurent"; did you mean "max_concurrent"?',
        "start_method: unknown method 'forked'; use one of auto, fork, forkserver, spawn; did you mean \"fork\"?",
        "stop_grace_s: -1 is not a number of seconds, 0 or more; it is the time from SIGTERM to SIGKILL, usually 5.0",
        "tag_concurrency_limits[0].limit: 0 is not allowed; write a whole number of steps at once, 1 or more",
        'tag_concurrency_limits[1]: unknown key "kye"; did you mean "key"? (a limit has key, value and limit)',
        "tag_concurrency_limits[1]: has no key; write the tag that it limits, such as 'key': 'database'",
    )


def test_a_limit_counts_one_value_all_values_or_each_value() -> None:
    settings = executor_settings(
        limits(
            {"key": "database", "value": "warehouse", "limit": 1},
            {"key": "database", "limit": 4},
            {"key": "database", "value": {"applyLimitPerUniqueValue": True}, "limit": 2},
            {"key": "team", "value": {"apply_limit_per_unique_value": True}, "limit": 3},
            {"key": "size", "value": {"applyLimitPerUniqueValue": False}, "limit": 5},
            {"key": "kind", "value": None, "limit": 6},
        )
    )
    assert settings.tag_concurrency_limits == (
        TagLimit(key="database", value="warehouse", limit=1),
        TagLimit(key="database", limit=4),
        TagLimit(key="database", per_unique_value=True, limit=2),
        TagLimit(key="team", per_unique_value=True, limit=3),
        TagLimit(key="size", limit=5),
        TagLimit(key="kind", limit=6),
    )


def test_limits_may_be_null_or_a_tuple() -> None:
    assert executor_settings({"tag_concurrency_limits": None}).tag_concurrency_limits == ()
    one = ({"key": "a", "limit": 1},)
    assert executor_settings({"tag_concurrency_limits": one}).tag_concurrency_limits == (TagLimit(key="a", limit=1),)


@pytest.mark.parametrize(
    ("value", "quoted"), [(5, '"5"'), (True, '"true"'), (1.5, '"1.5"'), (["a"], r'"[\"a\"]"'), ({1}, '"…"')]
)
def test_a_tag_value_that_is_no_text_is_shown_with_quotes(value: Any, quoted: str) -> None:
    (problem,) = problems(limits({"key": "n", "value": value, "limit": 1}))
    assert problem == (
        f"tag_concurrency_limits[0].value: {value!r} is not text, and tags are; write it with quotes: {quoted}"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"applyLimitPerUniqueValues": True},
        {},
        {"applyLimitPerUniqueValue": "yes"},
        {"applyLimitPerUniqueValue": True, "x": 1},
    ],
)
def test_a_wrong_form_of_each_value_shows_the_right_one(value: Any) -> None:
    (problem,) = problems(limits({"key": "n", "value": value, "limit": 1}))
    assert "applyLimitPerUniqueValue': True}" in problem


@pytest.mark.parametrize(
    "form",
    [{}, {"value": "x"}, {"value": {"applyLimitPerUniqueValue": True}}, {"value": {"applyLimitPerUniqueValue": False}}],
)
def test_the_same_limit_twice_is_an_error(form: dict[str, Any]) -> None:
    (problem,) = problems(
        limits({"key": "a", "limit": 3, **form}, {"key": "b", "limit": 1}, {"key": "a", "limit": 5, **form})
    )
    assert problem.startswith("tag_concurrency_limits[2]: limits tag a")
    assert problem.endswith("a second time, after [0]; keep one of the two")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"key": "a"}, "has no limit; write how many"),
        ({"limit": 1}, "has no key; write the tag"),
        ({"key": 3, "limit": 1}, "key 3 is not text; write the tag that it limits, such as 'key': '3'"),
        ({"key": "", "limit": 1}, "key '' is not text"),
        ("database", "'database' is not a dict"),
    ],
)
def test_an_incomplete_limit_says_what_is_missing(item: Any, said: str) -> None:
    assert said in problems(limits(item))[0]


@pytest.mark.parametrize("limit", [-1, "2", False, 1.0])
def test_a_limit_is_a_whole_number_from_1(limit: Any) -> None:
    (problem,) = problems(limits({"key": "a", "limit": limit}))
    assert problem.startswith(f"tag_concurrency_limits[0].limit: {limit!r} is not")


@pytest.mark.parametrize("value", ["database", {"key": "a", "limit": 1}, 3])
def test_limits_stand_in_a_list(value: Any) -> None:
    assert "is not a list; give a list such as" in problems({"tag_concurrency_limits": value})[0]


@pytest.mark.parametrize(
    ("written", "method", "modules"),
    [
        ("auto", "auto", ()),
        ("fork", "fork", ()),
        ({"forkserver": {}}, "forkserver", ()),
        ("spawn", "spawn", ()),
        ({"spawn": {}}, "spawn", ()),
        ({"forkserver": None}, "forkserver", ()),
        ({"forkserver": {"preload_modules": ["numpy", "a.b"]}}, "forkserver", ("numpy", "a.b")),
    ],
)
def test_a_start_method_is_a_name_or_a_dict_with_it(written: Any, method: str, modules: tuple[str, ...]) -> None:
    settings = executor_settings({"start_method": written})
    assert (settings.start_method, settings.preload_modules) == (method, modules)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"fork": {"preload_modules": []}}, 'start_method.fork: unknown key "preload_modules"'),
        (
            {"forkserver": {"preload": []}},
            'start_method.forkserver: unknown key "preload"; did you mean "preload_modules"?',
        ),
        (
            {"forkserver": {"preload_modules": "numpy"}},
            "start_method.forkserver.preload_modules: 'numpy' is not a list",
        ),
        ({"forkserver": 3}, "start_method.forkserver: 3 is not a dict"),
        ({"fork": {}, "forkserver": {}}, "must have one key"),
        (7, "start_method: unknown method 7"),
        (None, "start_method: unknown method None"),
    ],
)
def test_a_wrong_start_method_says_what_is_right(written: Any, said: str) -> None:
    assert said in problems({"start_method": written})[0]


@pytest.mark.parametrize(
    ("written", "retries"),
    [({"enabled": {}}, True), ({"disabled": {}}, False), ({"disabled": None}, False), ("disabled", False)],
)
def test_retries_are_enabled_or_disabled(written: Any, retries: bool) -> None:
    assert executor_settings({"retries": written}).retries is retries


@pytest.mark.parametrize(
    "written", [{}, {"off": {}}, {"enabled": {}, "disabled": {}}, False, {"enabled": {"x": 1}}, None]
)
def test_any_other_form_of_retries_is_an_error(written: Any) -> None:
    assert "write one of them" in problems({"retries": written})[0]


@pytest.mark.parametrize(("written", "means"), [(1, 1), (50, 50), ("unlimited", None)])
def test_steps_per_worker_is_a_number_or_unlimited(written: Any, means: int | None) -> None:
    assert executor_settings({"steps_per_worker": written}).steps_per_worker == means


@pytest.mark.parametrize("written", [0, -1, None, "unlimitd", "5", True])
def test_any_other_steps_per_worker_is_an_error(written: Any) -> None:
    assert problems({"steps_per_worker": written})[0].startswith("steps_per_worker: ")


def test_seconds_of_grace_may_be_none_at_all() -> None:
    assert executor_settings({"stop_grace_s": 0}).stop_grace_s == 0.0
    assert executor_settings({"stop_grace_s": 2}).stop_grace_s == 2.0


def test_dagsters_rule_for_upstreams_is_accepted_where_it_is_ours() -> None:
    right = {"step_dependency_config": {"require_upstream_step_success": True}}
    assert executor_settings(right) == ExecutorSettings()
    wrong = {"step_dependency_config": {"require_upstream_step_success": False}}
    assert "a step starts when all steps that it reads from have succeeded" in problems(wrong)[0]


def test_settings_of_workers_are_an_error_in_process() -> None:
    (problem,) = problems({"max_concurrent": 2}, kind="in_process")
    assert problem.startswith("max_concurrent: the in-process executor runs one step at a time")
    settings = executor_settings({"retries": {"disabled": {}}}, kind="in_process")
    assert settings == ExecutorSettings(in_process=True, retries=False)


@pytest.mark.parametrize("config", [[1], "max_concurrent", 3])
def test_a_config_is_a_dict(config: Any) -> None:
    assert "is not a dict; give the settings by name" in problems(config)[0]


def test_every_setting_is_one_that_can_be_checked() -> None:
    given = {
        "max_concurrent": 3,
        "tag_concurrency_limits": [{"key": "a", "limit": 1}],
        "start_method": {"forkserver": {"preload_modules": ["json"]}},
        "retries": {"disabled": {}},
        "steps_per_worker": "unlimited",
        "stop_grace_s": 1.5,
    }
    assert executor_settings(given) == ExecutorSettings(
        max_concurrent=3,
        tag_concurrency_limits=(TagLimit(key="a", limit=1),),
        start_method="forkserver",
        preload_modules=("json",),
        retries=False,
        steps_per_worker=None,
        stop_grace_s=1.5,
    )
