"""Config of ops and assets: what it may be, how mistakes are told, and how it comes to the function."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import executor as dg
from executor import Config, ConfigError, DefinitionError, RunConfig

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here

import config_ops as ops

TRAIN = {"rate": 0.5, "layers": [{"width": 8}], "sizes": {"a": "big"}}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")


def op_configs(**configs: Any) -> dict[str, Any]:
    return {"ops": {name: {"config": config} for name, config in configs.items()}}


def problems(job: dg.JobDefinition, run_config: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        job.resolve(run_config)
    return list(caught.value.problems)


EXECUTORS: list[dict[str, Any]] = [
    {"in_process": {}},
    {"multiprocess": {"start_method": "fork"}},
    {"multiprocess": {"start_method": "forkserver"}},
    {"multiprocess": {"steps_per_worker": "unlimited"}},
]


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_config_comes_to_the_function_as_its_class_with_every_kind_of_worker(executor: dict[str, Any]) -> None:
    config = op_configs(load={"rows": 3, "source": {"url": "u", "password": "s"}, "folder": "a/b"}, train=TRAIN)
    result = ops.everything.execute({**config, "execution": {"config": executor}})
    assert result.output_for_node("load") == {"rows": 3, "mode": "full", "secret": "s", "folder": "a/b"}
    built, plain = result.output_for_node("train")
    assert built == ops.TrainConfig(0.5, [ops.Layer(8)], {"a": ops.Size.BIG}, None, (1, 2))
    assert plain["layers"] == [{"width": 8, "name": "dense"}]


def test_config_of_a_notebooks_classes_and_closures_travels_with_them() -> None:
    class Local(Config):
        x: int

    @dataclass
    class LocalData:
        y: list[int]

    @dg.op
    def one(config: Local) -> int:
        return config.x

    @dg.op
    def two(x, config: LocalData) -> int:
        return x + sum(config.y)

    @dg.job
    def local():
        two(one())

    for method in ("fork", "forkserver"):
        config = {**op_configs(one={"x": 2}, two={"y": [3, 4]}), "execution": {"config": {"start_method": method}}}
        assert local.execute(config).output_for_node("two") == 9


def test_what_is_missing_and_wrong_is_told_before_anything_runs(tmp_path: Path) -> None:
    config = op_configs(load={"mode": "dleta", "source": {"url": 5}}, train={"rate": "x", "layers": [{"widht": 8}]})
    with pytest.raises(ConfigError) as caught:
        ops.everything.execute(config)
    assert caught.value.problems == (
        "ops.load.config.mode: 'dleta' is not one of 'full' or 'delta'; did you mean \"delta\"?",
        'ops.load.config.source.url: 5 is not text; write it with quotes: "5"',
        "ops.train.config.rate: 'x' is not a number",
        'ops.train.config.layers[0]: unknown key "widht"; did you mean "width"?',
        'ops.load.config: has no "rows"; it takes a whole number',
        'ops.train.config.layers[0]: has no "width"; it takes a whole number',
    )
    assert not (tmp_path / "home").exists()


def test_a_models_own_rules_hold() -> None:
    assert problems(ops.load_only, op_configs(load={"rows": 13})) == [
        "ops.load.config.rows: 13 is not allowed: 13 brings bad luck"
    ]


def test_required_config_that_nobody_gave_is_a_mistake_and_that_of_a_step_left_out_is_none() -> None:
    assert problems(ops.load_only, None) == ['ops.load.config: has no "rows"; it takes a whole number']
    result = ops.everything.execute_in_process(op_configs(load={"rows": 3}), selection="load")
    assert result.success
    with pytest.raises(ConfigError, match=r'ops\.load\.config: has no "rows"'):
        ops.everything.execute_in_process(selection="load")


def test_what_is_missing_is_not_told_where_it_may_be_meant_by_another_mistake(tmp_path: Path) -> None:
    assert problems(ops.load_only, {"ops": {"load": {"confg": {"rows": 3}}}}) == [
        'ops.load: unknown key "confg"; did you mean "config"?'
    ]
    assert len(problems(ops.load_only, {"ops": {"load": {"rows": 3}}})) == 1
    from executor.config.config_files import read_files
    from executor.config.layers import LayeredConfig

    not_there = LayeredConfig(read_files([tmp_path / "nothing.yaml"]))
    assert problems(ops.load_only, not_there) == [f"{tmp_path}/nothing.yaml cannot be read: No such file or directory"]


def test_defaults_need_no_config() -> None:
    result = ops.several.execute_in_process()
    assert result.output_for_node("with_default") == 7
    assert result.output_for_node("permissive") == {"known": 1}
    more = op_configs(with_default={"x": 9}, permissive={"known": 2, "other": [1]})
    result = ops.several.execute_in_process(more)
    assert result.output_for_node("with_default") == 9
    assert result.output_for_node("permissive") == {"known": 2, "other": [1]}


def test_a_schema_of_types_gives_a_dict_in_the_context() -> None:
    config = op_configs(report={"title": "t"}, number=5, by_schema={"rate": 1})
    result = ops.schemas.execute_in_process(config)
    assert result.output_for_node("report") == {"title": "t", "pages": 2}
    assert result.output_for_node("number") == 5
    assert result.output_for_node("by_schema") == 1.0
    assert problems(ops.schemas, op_configs(report={"title": 5, "page": 3}, number="5", by_schema={"rate": 1})) == [
        'ops.report.config.title: 5 is not text; write it with quotes: "5"',
        'ops.report.config: unknown key "page"; did you mean "pages"?',
        "ops.number.config: '5' is not a whole number; write it without quotes: 5",
    ]


@pytest.mark.parametrize(
    "section",
    [
        {"inner": {"ops": {"fit": {"config": TRAIN}}}},
        {"inner.fit": {"config": TRAIN}},
    ],
)
def test_ops_inside_graphs_are_found_nested_and_with_dots(section: dict[str, Any]) -> None:
    config = {"ops": {"read": {"config": {"rows": 1}}, **section}}
    resolved = ops.nested.resolve(config)
    assert resolved.configs["inner.fit"]["rate"] == 0.5


def test_config_that_is_given_twice_for_one_step_is_a_mistake() -> None:
    both = {"inner": {"ops": {"fit": {"config": TRAIN}}}, "inner.fit": {"config": TRAIN}}
    assert problems(ops.nested, {"ops": {**both, "read": {"config": {"rows": 1}}}}) == [
        "the config of 'inner.fit' is given here a second time, after ops.inner.ops.fit.config; keep one of the two"
    ]


def test_layers_that_spell_a_step_in_two_ways_are_merged(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("ops:\n  read: {config: {rows: 1}}\n  inner: {ops: {fit: {config: {rate: 1}}}}\n")
    second.write_text("ops:\n  inner.fit:\n    config: {seed: 3, shape: [x]}\n")
    assert problems(ops.nested, dg.config_from_files(first, second)) == [
        f'{second}:3:31: ops.inner.fit.config.shape[0]: "x" is not a whole number'
    ]
    second.write_text("ops:\n  inner.fit:\n    config: {seed: 3}\n")
    resolved = ops.nested.resolve(dg.config_from_files(first, second))
    assert (resolved.configs["inner.fit"]["rate"], resolved.configs["inner.fit"]["seed"]) == (1.0, 3)
    sources = {item.path: item.source for item in resolved.ops() if item.step == "inner.fit"}
    assert (sources["rate"], sources["seed"]) == (f"{first}:3:32", f"{second}:3:14")


def test_config_is_for_one_use_of_an_op_and_not_for_its_definition() -> None:
    assert problems(ops.nested, {"ops": {"load": {"config": {"rows": 1}}}})[0] == ('ops: unknown op "load"')


@pytest.mark.parametrize("name", ["raw/orders", "raw__orders"])
def test_assets_take_config_under_their_key(name: str) -> None:
    job = ops.defs.get_job_def("assets_job")
    result = job.execute_in_process({"ops": {name: {"config": {"x": 4}}, "pair": {"config": {"x": 5}}}})
    assert result.output_for_node("raw/orders") == 4
    assert dg.materialize([ops.orders], {"ops": {name: {"config": {"x": 6}}}}).success


def test_config_in_the_job_is_the_default_and_the_run_wins_key_by_key() -> None:
    made = dg.job(name="made", config=op_configs(load={"rows": 1, "mode": "delta"}))(lambda: [ops.load()])
    assert made.execute_in_process().output_for_node("load")["rows"] == 1
    result = made.execute_in_process(op_configs(load={"rows": 2}))
    assert result.output_for_node("load") == {"rows": 2, "mode": "delta", "secret": None, "folder": "."}


def test_an_unknown_op_in_the_config_of_a_job_is_an_error_where_it_is_written() -> None:
    with pytest.raises(DefinitionError, match=r'job \'made\': config\.ops: unknown op "laod"; did you mean "load"\?'):
        dg.job(name="made", config=op_configs(laod={}))(lambda: [ops.load()])


def test_a_run_config_of_objects_is_the_same_as_one_of_dicts() -> None:
    config = RunConfig(
        ops={"load": ops.LoadConfig(rows=3, source=ops.Source(url="u", password="s")), "train": ops.TrainConfig(0.5)},  # type: ignore[arg-type]
        execution={"config": {"in_process": {}}},
        tags={"team": "data"},
    )
    result = ops.everything.execute(config)
    assert result.output_for_node("load")["secret"] == "s"
    assert ops.everything.resolve(config).tags == {"team": "data"}
    assert "'s'" not in repr(config)
    assert RunConfig(ops={"load": {"config": {"rows": 1}}}).to_config_dict() == op_configs(load={"rows": 1})


def test_direct_calls_take_an_object_a_dict_or_the_config_of_the_context() -> None:
    assert ops.load(config=ops.LoadConfig(rows=2))["rows"] == 2
    assert ops.load(ops.LoadConfig(rows=2))["rows"] == 2
    assert ops.load(config={"rows": 2})["rows"] == 2
    assert ops.with_default() == 7
    assert ops.named_otherwise(ops.LoadConfig(rows=2), 5) == 7
    context = dg.build_op_context(op_config={"title": "t"})
    assert ops.report(context) == {"title": "t"}
    with_rate = dg.build_op_context(op_config={"rate": 0.25})
    assert ops.train(with_rate, 3)[0].rate == 0.25
    with pytest.raises(ConfigError, match=r"config\.rows: 'x' is not a whole number"):
        ops.load(config={"rows": "x"})


def test_an_op_without_config_has_an_empty_one_in_its_context() -> None:
    seen = []

    @dg.op
    def look(context):
        seen.append(context.op_config)

    dg.job(name="looks")(lambda: [look()]).execute_in_process()
    assert seen == [{}]


def test_a_dataclass_that_is_an_input_stays_one() -> None:
    @dg.op
    def make() -> ops.Layer:
        return ops.Layer(3)

    @dg.op
    def use(layer: ops.Layer) -> int:
        return layer.width

    made = dg.job(name="made")(lambda: [use(make())])
    assert made.execute_in_process().output_for_node("use") == 3


def test_two_parameters_for_config_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"the parameters 'a' and 'b' are both for config; put all of it in one"):

        @dg.op
        def both(a: ops.LoadConfig, b: ops.Source) -> None: ...


def test_what_no_config_can_be_is_told_with_its_field() -> None:
    @dataclass
    class Odd:
        call: type(len)  # type: ignore[valid-type]

    @dg.op
    def odd(config: Odd) -> None: ...

    with pytest.raises(DefinitionError, match=r"op 'odd', field 'call' of Odd: nothing in a config can be a"):
        dg.job(name="odds")(lambda: [odd()]).resolve()


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "said"),
    [
        (int, 3, True, "True is not a whole number"),
        (float, 3, "x", "'x' is not a number"),
        (str, "x", 3, '3 is not text; write it with quotes: "3"'),
        (bool, True, 1, "1 is not true or false"),
        (int | None, None, "x", "'x' is not a whole number or null"),
        (list[int], [1], [1, "x"], "[1]: 'x' is not a whole number"),
        (dict[str, int], {"a": 1}, {"a": "x"}, ".a: 'x' is not a whole number"),
        (Path, "a/b", 3, "3 is not a path"),
        (ops.Size, "big", "bgi", '\'bgi\' is not one of "small", "big"; did you mean "big"?'),
        ({"a": {"b": int}}, {"a": {"b": 1}}, {"a": {"b": "x"}}, ".a.b: 'x' is not a whole number"),
        ([int], [1, 2], 3, "3 is not a list of a whole number"),
    ],
    ids=str,
)
def test_each_kind_takes_what_it_says_and_tells_what_it_does_not(
    annotation: Any, right: Any, wrong: Any, said: str
) -> None:
    @dg.op(config_schema={"key": annotation})
    def take(context):
        return context.op_config["key"]

    made = dg.job(name="made")(lambda: [take()])
    assert made.resolve(op_configs(take={"key": right})).configs["take"]["key"] == right
    assert problems(made, op_configs(take={"key": wrong})) == [
        f"ops.take.config.key{'' if said.startswith(('[', '.')) else ': '}{said}"
    ]


def test_steps_without_config_get_nothing_more_than_before() -> None:
    from executor.plan.compile import compile_job
    from executor.runs.configs import config_inputs

    made = dg.job(name="made")(lambda: [ops.none_at_all()])
    assert config_inputs(compile_job(made), made.resolve()) == {}
    assert not ops.none_at_all.prepares


def test_what_a_run_config_comes_to_has_the_defaults_of_each_op_and_can_be_given_again() -> None:
    given = {"ops": {"load": {"config": {"rows": 3, "source": {"url": "s3://"}}}}}
    valid = dg.validate_run_config(ops.load_only, given)
    source = {"url": "s3://"}  # the default of its password is a SecretStr, and stays where it is
    assert valid["ops"]["load"]["config"] == {"rows": 3, "mode": "full", "source": source, "folder": "."}
    assert dg.validate_run_config(ops.load_only, valid) == valid


def test_the_config_that_stands_in_a_functions_signature_is_shown_as_that() -> None:
    class Rows(Config):
        rows: int

    @dataclass
    class Rate:
        rate: float = 0.5

    @dg.op
    def load(config: Rows = Rows(rows=3)) -> int:  # noqa: B008  (what is tested)
        return config.rows

    @dg.op
    def train(rows: int, config: Rate = Rate(rate=0.1)) -> float:  # noqa: B008  (as above)
        return rows * config.rate

    @dg.job
    def pipe() -> None:
        train(load())

    assert dg.validate_run_config(pipe).get("ops") is None, "it is not of the run config"
    assert [row for row in pipe.resolve().ops() if row.path] == [
        ("load", "rows", 3, "default of op 'load'"),
        ("train", "rate", 0.1, "default of op 'train'"),
    ]
    again = pipe.resolve({"ops": {"load": {"config": {"rows": 4}}}})
    assert [(row.value, row.source) for row in again.ops() if row.step == "load"] == [(4, "the run config")]
