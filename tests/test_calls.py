"""What a caller gets wrong, and what is left of a run that an error ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from executor import UsageError, graph, job, multiprocess_executor, op
from executor.api import execute_job
from executor.runs.home import RunFolder
from executor.runs.result import read_result


@op(tags={"database": "warehouse"})
def query() -> int:
    return 1


@graph
def inner() -> Any:
    return query()


@job(
    executor_def=multiprocess_executor.configured(
        {"tag_concurrency_limits": [{"key": "database", "value": "warehouse", "limit": 1}]}
    )
)
def limited() -> None:
    inner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def notices(result: Any) -> list[str]:
    return [event.message for event in result.events if event.kind == "run_notice"]


def test_tag_limits_of_a_run_config_that_replace_the_jobs_own_are_announced() -> None:
    config = {"execution": {"config": {"tag_concurrency_limits": [{"key": "database", "limit": 3}]}}}
    (notice,) = notices(limited.execute(config))
    assert "replace the job's own" in notice
    assert "tag database=warehouse (at most 1)" in notice
    assert notices(limited.execute()) == []


@pytest.mark.parametrize("name", ["selection", "op_selection"])
def test_an_empty_selection_selects_nothing_and_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="selects nothing"):
        execute_job(limited, **{name: []})


def test_the_output_of_a_graph_names_the_steps_whose_output_can_be_had() -> None:
    with pytest.raises(UsageError, match=r"'inner' is a graph; .*: inner\.query"):
        limited.execute().output_for_node("inner")


def test_a_callers_error_while_it_is_shown_an_event_ends_the_run_and_its_history(home: Path) -> None:
    def show(event: Any, _t: float) -> None:
        if event.kind == "step_started":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        execute_job(limited, on_event=show)
    (folder,) = (home / "runs").iterdir()
    assert read_result(RunFolder(folder)).status == "cancelled"
    assert list((home / "live").iterdir()) == []


def test_an_interrupt_before_a_run_has_begun_leaves_nothing_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> NoReturn:
        assert list((home / "runs").iterdir()), "it has its folder"
        raise KeyboardInterrupt

    monkeypatch.setattr("executor.runs.start.join_ledger", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute_job(limited)
    monkeypatch.undo()
    assert list((home / "runs").iterdir()) == []
    assert list((home / "live").iterdir()) == []
    with pytest.raises(ChildProcessError):  # no template is left, not even as a zombie
        os.waitpid(-1, os.WNOHANG)
