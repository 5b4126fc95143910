"""Values from the environment, and that no secret is shown or kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import model_validator

import executor as dg
from executor import ConfigError, UsageError, config_from_files
from executor.config.secrets import MASK, SecretText, as_plain, hidden, is_secret_name, masked, texts_to_hide
from executor.runs.configs import read_config, write_config

sys.path.insert(0, str(Path(__file__).parents[1] / "authoring"))  # test folders are no packages here

import config_ops as ops


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))

    def write_file(text: str, name: str = "run.yaml") -> str:
        Path(name).write_text(text)
        return name

    return write_file


def rows(value: Any) -> dict[str, Any]:
    return {"ops": {"load": {"config": {"rows": value}}}}


# --- variables --------------------------------------------------------------------------------------------------------


def test_variables_in_a_file_become_what_the_setting_or_field_wants(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "3")
    monkeypatch.setenv("ROWS", "7")
    monkeypatch.setenv("PLACE", "eu")
    text = """
execution: {config: {max_concurrent: "${WORKERS}", stop_grace_s: "${GRACE:-1.5}"}}
ops:
  load:
    config:
      rows: {env: ROWS}
      source: {url: "db://${PLACE}/$${x}"}
tags: {place: "${PLACE}"}
"""
    resolved = ops.load_only.resolve(config_from_files(write(text)))
    assert (resolved.settings.max_concurrent, resolved.settings.stop_grace_s) == (3, 1.5)
    assert resolved.configs["load"] == {"rows": 7, "source": {"url": "db://eu/${x}"}}
    assert resolved.tags == {"place": "eu"}
    assert type(resolved.tags["place"]) is str
    assert resolved.sources["max_concurrent"] == "environment variable WORKERS (run.yaml:2:22)"


def test_a_dict_in_python_follows_env_and_leaves_dollars_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWS", "7")
    config = {"ops": {"load": {"config": {"rows": {"env": "ROWS"}, "folder": "${ROWS}"}}}}
    assert ops.load_only.resolve(config).configs["load"] == {"rows": 7, "folder": "${ROWS}"}


def test_a_field_that_is_called_env_is_a_field() -> None:
    class Where(dg.Config):
        env: str

    @dg.op
    def go(config: Where) -> str:
        return config.env

    made = dg.job(name="made")(lambda: [go()])
    assert made.resolve({"ops": {"go": {"config": {"env": "PROD"}}}}).configs == {"go": {"env": "PROD"}}


def test_a_variable_that_is_not_set_is_a_mistake_at_its_line(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWS", raising=False)
    name = write("ops:\n  load:\n    config:\n      rows: ${ROWS}\n")
    with pytest.raises(ConfigError) as caught:
        ops.load_only.resolve(config_from_files(name))
    (problem,) = caught.value.problems
    assert problem.startswith("run.yaml:4:13: ops.load.config.rows: the environment variable ROWS is not set; set it")


def test_configured_and_the_job_may_name_variables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    executor_def = dg.multiprocess_executor.configured({"max_concurrent": {"env": "WORKERS"}})
    made = dg.job(name="made", executor_def=executor_def, config=rows({"env": "ROWS"}))(lambda: [ops.load()])
    monkeypatch.setenv("WORKERS", "5")
    monkeypatch.setenv("ROWS", "2")
    resolved = made.resolve()
    assert resolved.settings.max_concurrent == 5
    assert resolved.configs["load"] == {"rows": 2}


def test_a_functions_own_schema_reads_variables_as_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def by_size(config: dict[str, Any]) -> dict[str, Any]:
        seen.append(config)
        return {"max_concurrent": config["size"]}

    schema = {"size": dg.Field(int, default_value=4)}
    executor_def = dg.multiprocess_executor.configured(by_size, config_schema=schema)
    assert executor_def.resolve().max_concurrent == 4
    monkeypatch.setenv("SIZE", "6")
    assert executor_def.resolve({"execution": {"config": {"size": {"env": "SIZE"}}}}).max_concurrent == 6
    assert seen[-1] == {"size": 6}
    with pytest.raises(ConfigError, match=r"execution\.config\.size: 'x' is not a whole number"):
        executor_def.resolve({"execution": {"config": {"size": "x"}}})
    required = dg.multiprocess_executor.configured(by_size, config_schema={"size": dg.Field(int)})
    with pytest.raises(ConfigError, match="needs 'size' from the config of the executor"):
        required.resolve()
    with pytest.raises(dg.DefinitionError, match="config_schema is 3; give the keys"):
        dg.multiprocess_executor.configured(by_size, config_schema=3)  # type: ignore[arg-type]


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["password", "db_password", "API_KEY", "apiKey", "github-token", "secret", "clientSecret", "credentials"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["monkey", "key", "tokens_per_minute", "passenger", "author", "keyboard", "", 3, None])
def test_other_names_are_not_taken_for_secrets(name: object) -> None:
    assert not is_secret_name(name)


def test_a_mask_takes_the_place_of_secrets_only() -> None:
    data = {
        "url": SecretText("db://x"),
        "password": "p",
        "rows": 3,
        "db": {"api_key": ["a"], "host": "h"},
        "token": None,
    }
    assert masked(data) == {
        "url": MASK,
        "password": MASK,
        "rows": 3,
        "db": {"api_key": [MASK], "host": "h"},
        "token": None,
    }
    assert repr(SecretText("x")) == "'***'"
    plain = as_plain(data)
    assert plain["url"] == "db://x"
    assert type(plain["url"]) is str


SECRET = "hunter2"


def test_no_secret_is_in_a_message(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_ROWS", SECRET)

    class Broken(dg.Config):
        password: int
        url: str

    class Telling(dg.Config):
        password: str

        @model_validator(mode="after")
        def _long(self) -> Telling:
            raise ValueError(f"the password {self.password} is too short")

    @dg.op
    def tell(config: Telling) -> None: ...

    @dg.op
    def use(config: Broken) -> None: ...

    def shows(config: dict[str, Any]) -> dict[str, Any]:
        raise ValueError(f"cannot use {config['password']}")

    executor_def = dg.multiprocess_executor.configured(shows, config_schema={"password": str})
    made = dg.job(name="made", executor_def=executor_def)(lambda: [use()])
    name = write(f"ops: {{use: {{config: {{password: {SECRET}, url: '${{SECRET_ROWS}}', more: {SECRET}}}}}}}\n")
    for config in (
        config_from_files(name),
        {"ops": {"use": {"config": {"password": SECRET, "url": 5}}}},
        {"ops": {"use": {"password": SECRET}}},
        {"execution": {"config": {"max_concurrent": {"env": "SECRET_ROWS"}}}},
        {"execution": {"config": {"password": SECRET}}},
        {"storage": {"postgres": {"password": SECRET}}},
        {"ops": {"use": {"env": "SECRET_ROWS"}}},
        {"tags": {"a": {"password": SECRET}}},
        {"execution": {"config": {"stop_grace_s": [{"env": "SECRET_ROWS"}]}}},
    ):
        with pytest.raises(ConfigError) as caught:
            made.resolve(config)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"ops\.tell\.config: the password \*\*\* is too short"):
        dg.job(name="telling")(lambda: [tell()]).resolve({"ops": {"tell": {"config": {"password": SECRET}}}})
    with pytest.raises(ConfigError, match=r"ValueError: cannot use \*\*\*; it was given \{'password': '\*\*\*'\}"):
        executor_def.resolve({"execution": {"config": {"password": SECRET}}})


def test_a_number_from_a_variable_is_as_secret_as_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", "13")
    with pytest.raises(ConfigError, match=r"config\.rows: \*\*\* \(environment variable PIN\) is not allowed"):
        ops.load_only.resolve(rows({"env": "PIN"}))
    monkeypatch.setenv("PIN", "4711")
    resolved = ops.load_only.resolve(rows({"env": "PIN"}))
    assert "4711" not in str(resolved.ops())
    assert resolved.ops()[0].value == MASK


def test_no_secret_is_in_what_is_shown_of_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", SECRET)
    source = {"url": {"env": "DB_URL"}, "password": SECRET}
    config = {"ops": {"load": {"config": {"rows": 1, "source": source}}}}
    resolved = ops.load_only.resolve(config)
    assert SECRET not in str(resolved.ops())
    valid = dg.validate_run_config(ops.load_only, config)
    assert valid["ops"]["load"]["config"]["source"]["password"] == SECRET
    assert valid["ops"]["load"]["config"]["source"]["url"] == SECRET
    assert SECRET not in repr(valid)
    assert SECRET not in repr({**dg.RunConfig(ops={"load": ops.LoadConfig(rows=1)}).to_config_dict()})

    class Login(dg.Config):
        user: str
        password: str

    assert repr(Login(user="u", password=SECRET)) == "Login(user='u', password='***')"
    assert SECRET not in str(Login(user="u", password=SECRET))


def test_no_secret_is_in_the_folder_of_a_run(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", SECRET)
    source = {"url": {"env": "DB_URL"}, "password": SECRET}
    config = {"ops": {"load": {"config": {"rows": 1, "source": source}}}, "tags": {"team": "data"}}

    @dg.op
    def quiet(config: ops.LoadConfig) -> int:
        return config.rows

    made = dg.job(name="made")(lambda: [quiet.alias("load")()])
    result = made.execute(config, raise_on_error=False)
    assert result.success
    folder = Path("home/runs") / result.run_id
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    kept = json.loads((folder / "config.json").read_text())
    assert kept["run_config"]["ops"]["load"]["config"]["source"] == {"url": {"env": "DB_URL"}, "password": MASK}
    assert kept["secrets"] == ["ops.load.config.source.password"]
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("executor", ["multiprocess", "in_process"])
def test_no_secret_is_told_of_a_step_that_fails(write, monkeypatch: pytest.MonkeyPatch, executor: str) -> None:
    monkeypatch.setenv("DB_URL", f"postgres://user:{SECRET}@host/east")
    monkeypatch.setenv("REGION", "east")
    source = {"url": {"env": "DB_URL"}, "password": SECRET}
    config = {"ops": {"load": {"config": {"rows": 1, "source": source, "folder": {"env": "REGION"}}}}}

    @dg.op
    def fails(config: ops.LoadConfig) -> int:
        assert config.source is not None
        try:
            raise ConnectionError(f"{config.source.url} is down")
        except ConnectionError as error:
            raise ValueError(f"no {config.folder}: {config.source.password.get_secret_value()}") from error

    made = dg.job(name="made")(lambda: [fails.alias("load")()])
    result = made.execute(config | {"execution": {"config": {executor: {}}}}, raise_on_error=False)
    error = result.step("load").error
    assert error is not None
    assert error.message == f"ValueError: no east: {MASK}"
    assert f"ConnectionError: {MASK} is down" in error.traceback
    for path in (Path("home/runs") / result.run_id).rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_what_a_short_secret_or_a_part_of_another_hides() -> None:
    data = {"token": "abc", "password": "hunter2", "old_password": "hunter2-old", "rows": "hunter", "pin": 4711}
    data |= {"name": SecretText("short"), "url": SecretText("https://host")}
    text = "abc hunter2 hunter2-old hunter short https://host/x"
    assert hidden(text, texts_to_hide([data])) == f"abc {MASK} {MASK} hunter short {MASK}/x"


def test_a_run_without_config_keeps_none(write) -> None:
    result = ops.several.execute_in_process()
    assert not (Path("home/runs") / result.run_id / "config.json").exists()


def test_what_is_kept_of_a_config_can_be_run_with_again(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWS", "4")
    name = write("ops: {load: {config: {rows: '${ROWS}', source: {url: u, password: {env: ROWS}}}}}")
    kept = tmp_path / "config.json"
    write_config(kept, ops.load_only.resolve(config_from_files(name)))
    again = read_config(kept)
    assert ops.load_only.resolve(again).configs["load"]["rows"] == 4
    assert read_config(tmp_path / "nothing.json") is None


def test_a_config_whose_secrets_were_not_kept_says_so(tmp_path: Path) -> None:
    kept = tmp_path / "config.json"
    write_config(
        kept, ops.load_only.resolve({"ops": {"load": {"config": {"rows": 1, "source": {"url": "u", "password": "p"}}}}})
    )
    with pytest.raises(UsageError, match=r"had secrets, which are not kept: ops\.load\.config\.source\.password"):
        read_config(kept)
