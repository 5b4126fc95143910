# ruff: noqa: PLW0108 -- a body is a function of its own, also when it only calls one op
"""Jobs run themselves through the one place that puts the parts together."""

from typing import Any

import pytest

import executor.api
from executor import JobDefinition, asset, define_asset_job, job, op


@op
def one() -> int:
    return 1


@job
def daily() -> None:
    one()


@asset
def orders() -> int:
    return 1


ARGUMENTS: dict[str, Any] = {"tags": {"team": "x"}, "raise_on_error": False, "selection": "one", "home": "/somewhere"}
CONFIG = {"execution": {"config": {"max_concurrent": 1}}}


@pytest.mark.parametrize("made", [daily, define_asset_job("assets", [orders])])
@pytest.mark.parametrize(("method", "function"), [("execute", "execute_job"), ("execute_in_process",) * 2])
def test_a_job_hands_all_arguments_over(
    monkeypatch: pytest.MonkeyPatch, made: JobDefinition, method: str, function: str
) -> None:
    calls: list[Any] = []

    def record(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "result"

    monkeypatch.setattr(executor.api, function, record)
    arguments = ARGUMENTS | {"resume_from": "last"} | ({"progress": True} if method == "execute" else {})
    assert getattr(made, method)(CONFIG, **arguments) == "result"
    assert calls == [((made, CONFIG), arguments)]


def test_an_op_selection_is_a_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    selections: list[Any] = []
    monkeypatch.setattr(executor.api, "execute_in_process", lambda *_, selection, **__: selections.append(selection))
    daily.execute_in_process(op_selection=["one"])
    daily.execute_in_process(selection="*")
    daily.execute_in_process()
    assert selections == [["one"], "*", None]


def test_a_failure_is_raised_unless_it_is_asked_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(executor.api, "execute_job", lambda *_, raise_on_error, **__: asked.append(raise_on_error))
    daily.execute()
    daily.execute(raise_on_error=False)
    assert asked == [True, False]


def test_a_graph_can_be_run_as_a_job_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from executor import graph

    names: list[str] = []
    monkeypatch.setattr(executor.api, "execute_in_process", lambda made, *_, **__: names.append(made.name))
    graph(name="whole")(lambda: one()).execute_in_process()
    assert names == ["whole"]
