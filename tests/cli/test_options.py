"""Options on the command line become a run config."""

from __future__ import annotations

from typing import Any

import click
import pytest

from executor.cli.options import run_config, run_options


def config_of(*words: str) -> dict[str, Any]:
    """The executor's part of the run config that these words stand for."""
    kept: dict[str, Any] = {}

    @click.command()
    @run_options
    def command(**options: Any) -> None:
        names = (
            "max_concurrent",
            "tag_limits",
            "per_value_limits",
            "in_process",
            "pdb",
            "steps_per_worker",
            "start_method",
        )
        kept.update(run_config(**{name: options[name] for name in names}))

    command.main(list(words), standalone_mode=False)
    return kept["execution"]["config"] if kept else {}


def test_no_option_leaves_the_job_its_own_config() -> None:
    assert config_of() == {}
    assert config_of("--dry-run", "--json") == {}


def test_limits_are_written_as_key_value_and_number() -> None:
    words = (
        "--tag-limit",
        "db:2",
        "--per-value-limit",
        "team:1",
        "--tag-limit",
        "url=http://x:80:3",
        "--tag-limit",
        "k=:1",
    )
    assert config_of(*words) == {
        "tag_concurrency_limits": [
            {"key": "db", "limit": 2},
            {"key": "url", "limit": 3, "value": "http://x:80"},
            {"key": "k", "limit": 1, "value": ""},
            {"key": "team", "limit": 1, "value": {"applyLimitPerUniqueValue": True}},
        ]
    }


def test_the_other_options_stand_under_their_names() -> None:
    words = ("--max-concurrent", "0", "--steps-per-worker", "unlimited", "--start-method", "forkserver")
    assert config_of(*words) == {"max_concurrent": 0, "steps_per_worker": "unlimited", "start_method": "forkserver"}
    assert config_of("--steps-per-worker", "20") == {"steps_per_worker": 20}
    assert config_of("--in-process") == {"in_process": {}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tag-limit", "db"), r"'db' does not end with a colon and a whole number: KEY\[=VALUE\]:N"),
        (("--tag-limit", "db:many"), "does not end with a colon and a whole number"),
        (("--tag-limit", ":3"), "names no tag"),
        (("--per-value-limit", "db=x:3"), "each value of the tag counts by itself, so none is given"),
        (("--steps-per-worker", "0"), "neither a whole number above 0 nor 'unlimited'"),
        (("--tag", "team"), "'team' is not KEY=VALUE"),
        (("--max-concurrent", "-1"), "not in the range"),
        (("--start-method", "thread"), "is not one of 'auto', 'fork', 'forkserver', 'spawn'"),
        (("--in-process", "--max-concurrent", "2", "--tag-limit", "a:1"), "leave out --max-concurrent, --tag-limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        config_of(*words)


def test_a_limit_that_one_process_cannot_hold_is_named_as_it_was_typed() -> None:
    with pytest.raises(click.UsageError, match=r"leave out --max-concurrent, --per-value-limit$"):
        run_config(
            max_concurrent=2,
            tag_limits=(),
            per_value_limits=({"key": "db", "limit": 1},),
            in_process=True,
            pdb=False,
            steps_per_worker=None,
            start_method=None,
        )
