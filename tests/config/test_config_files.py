"""Run configs from files: what YAML means here, how files are merged, and that each mistake has its line."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from executor import ConfigError, config_from_files
from executor.config.layers import Layer, LayeredConfig, layers_of, merged, path_text


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write_file(text: str, name: str = "run.yaml") -> str:
        Path(name).write_text(text)
        return name

    return write_file


def problems(*names: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_from_files(*names)
    return list(caught.value.problems)


def test_plain_values_are_what_they_look_like(write) -> None:
    text = """
a: 1
b: 1000
c: 0x1F
d: 2.5
e: 1.0e+3
f: true
g: ~
h: text
i: "010"
j: 2026-01-31
k: [1, {x: y}]
l: 'yes'
m: |
  on
n: -3
o: {}
p: .inf
q: [-.Inf, +.INF]
1: number
true: word
"""
    assert config_from_files(write(text)) == {
        "a": 1,
        "b": 1000,
        "c": 31,
        "d": 2.5,
        "e": 1000.0,
        "f": True,
        "g": None,
        "h": "text",
        "i": "010",
        "j": "2026-01-31",
        "k": [1, {"x": "y"}],
        "l": "yes",
        "m": "on\n",
        "n": -3,
        "o": {},
        "p": float("inf"),
        "q": [float("-inf"), float("inf")],
        1: "number",
        "true": "word",
    }


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_what_is_no_number_is_read_as_that(write, text: str) -> None:
    assert math.isnan(config_from_files(write(f"a: {text}"))["a"])


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_words_that_yaml_1_1_takes_for_truth_are_refused_as_values_and_keys(write, word: str) -> None:
    (value,) = problems(write(f"a: {word}"))
    assert value.startswith(f"run.yaml:1:4: {word} means ")
    (key,) = problems(write(f"{word}: a"))
    assert key.startswith(f"run.yaml:1:1: {word} means ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("010", 'write 10, or "010" in quotes'),
        ("-010", 'write -10, or "-010" in quotes'),
        ("0b11", "to the base 2"),
        ("1_000", 'write 1000, or "1_000" in quotes'),
        ("-1_000.5", "write -1000.5, or"),
        ("0x_", 'write "0x_" in quotes'),
        ("9" * 5000, "is a number of 5000 characters"),
        ("0x" + "f" * 5000, "is a number of 5002 characters"),
        ("1:30", "to the base 60"),
        ("190:20:30.15", "to the base 60"),
        ("0o17", "write 15, or"),
        ("1e3", "write 1000.0, or"),
        ("!!binary aGk=", "the tag !!binary is not read"),
        ("!mine x", "the tag !mine is not read"),
        ("!!set {a}", "the tag !!set is not read"),
        ("!!python/object/apply:os.system [echo]", "the tag !!python/object/apply:os.system is not read"),
    ],
)
def test_what_readers_of_yaml_disagree_about_is_refused_with_its_line(write, written: str, said: str) -> None:
    (problem,) = problems(write(f"# a comment\nkey:\n  - {written}\n"))
    assert problem.startswith("run.yaml:3:5: ")
    assert said in problem


def test_aliases_and_merge_keys_are_followed(write) -> None:
    text = "base: &base {a: 1, b: {c: 2}}\nmore: {<<: *base, a: 3}\nlist: [*base]\nboth: {<<: [*base, {d: 4}]}\n"
    found = config_from_files(write(text))
    assert found["more"] == {"a": 3, "b": {"c": 2}}
    assert found["list"] == [{"a": 1, "b": {"c": 2}}]
    assert found["both"] == {"a": 1, "b": {"c": 2}, "d": 4}


def test_aliases_of_aliases_are_refused_where_they_grow_too_large_and_cost_nothing(write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (problem,) = problems(write("\n".join(lines)))
    assert problem.startswith("run.yaml:4:")
    assert "the aliases of this file stand for more than 10000 values" in problem


def test_all_mistakes_of_a_file_are_told_in_the_order_of_their_lines(write) -> None:
    assert [problem.partition(" ")[0] for problem in problems(write("a: on\nb: 010\na: 1\n? [x]\n: 1\n"))] == [
        "run.yaml:1:4:",
        "run.yaml:2:4:",
        "run.yaml:3:1:",
        "run.yaml:4:3:",
    ]


def test_mistakes_of_all_files_are_told_even_where_one_is_no_yaml(write) -> None:
    first, second = write("a: on", "first.yaml"), write("a: [", "second.yaml")
    found = problems(first, "third.yaml", second)
    assert found[0].startswith("first.yaml:1:4: on means true")
    assert found[1] == "third.yaml cannot be read: No such file or directory"
    assert found[2].startswith("second.yaml:1:5: is not YAML")


@pytest.mark.parametrize("text", ["a: 1\n---\nb: 2\n", "a: b: c", "a: 'x", "\ta: 1", "a: *nothing", "%YAML 3.0\n--- a"])
def test_what_is_no_yaml_has_a_line(write, text: str) -> None:
    (problem,) = problems(write(text))
    assert problem.startswith("run.yaml:")
    assert problem.split(":")[1].isdigit()
    assert "is not YAML" in problem


def test_an_endless_file_is_read_no_further_than_settings_go(write, tmp_path: Path) -> None:
    (problem,) = problems("/dev/zero")
    assert problem == "/dev/zero:1: goes on after 1048576 bytes, and no settings are so large"


def test_a_pipe_is_read_like_a_file(write) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"tags: {a: b}")
    os.close(writer)
    assert config_from_files(f"/dev/fd/{reader}") == {"tags": {"a": "b"}}
    os.close(reader)


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n", "---\n"])
def test_an_empty_file_says_nothing(write, text: str) -> None:
    assert config_from_files(write(text)) == {}


def test_later_files_win_key_by_key_and_an_empty_section_takes_nothing_away(write) -> None:
    first = write("execution: {config: {max_concurrent: 4, stop_grace_s: 1}}\nops: {load: {config: {a: 1}}}", "1.yaml")
    second = write("execution:\n  config:\n    max_concurrent: 2\nops:\ntags: {x: y}\n", "2.yaml")
    third = write("ops: {load: {config: {b: [2]}}}", "3.yaml")
    assert config_from_files(first, second, third) == {
        "execution": {"config": {"max_concurrent": 2, "stop_grace_s": 1}},
        "ops": {"load": {"config": {"a": 1, "b": [2]}}},
        "tags": {"x": "y"},
    }


def test_a_list_is_one_value_and_replaces_the_other() -> None:
    assert merged([{"a": [1, 2], "b": {"c": 1}}, {"a": [3]}, {"b": 5}, {"b": {"d": 1}}]) == {"a": [3], "b": {"d": 1}}


def test_what_is_merged_is_not_changed() -> None:
    first: dict[str, Any] = {"a": {"b": 1}}
    assert merged([first, {"a": {"c": 2}}]) == {"a": {"b": 1, "c": 2}}
    assert first == {"a": {"b": 1}}


def test_a_layer_knows_where_its_values_were_written(write) -> None:
    (layer,) = config_from_files(write("a:\n  - b: 1\n    c: 2\n")).layers
    assert layer.origin(("a", 0, "c")) == "run.yaml:3:5"
    assert layer.has(("a", 0, "c"))
    assert not layer.has(("a", 1))
    assert Layer({"a": 1}, "run config").origin(("a",)) == "run config"


def test_whatever_was_given_as_a_run_config_becomes_layers() -> None:
    assert layers_of(None) == ()
    assert layers_of({"a": 1}, "x") == (Layer({"a": 1}, "x"),)
    both = LayeredConfig([Layer({"a": 1}), Layer({"b": 2})])
    assert layers_of(both) == both.layers


def test_a_path_is_written_with_dots_and_brackets() -> None:
    assert path_text(("a", "b", 0, "c")) == "a.b[0].c"
    assert path_text(()) == ""
