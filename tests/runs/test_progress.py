"""``progress=True``: a run that a program starts shows itself in the way that suits the place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from executor import job, materialize, op
from executor.authoring.assets import asset
from executor.runs.progress import NotebookProgress
from executor.runs.result import RunResult
from executor.scheduler.events import RunEnded, RunStarted
from tests.window import Window, gate


@op
def load() -> int:
    print("loading")
    return 1


@op
def train(load: int) -> int:
    if load < 5:
        raise ValueError(f"only {load} <rows>")
    return load


@op
def count(load: int) -> int:
    return load + 1


@job
def small():
    count(load())


@job
def failing():
    train(load())


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a notebook would show, update by update."""
    shown: list[str] = []

    class Handle:
        def update(self, page: str) -> None:
            shown.append(page)

    def display(page: str, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(page)
        return Handle()

    shell, screen = ModuleType("IPython"), ModuleType("IPython.display")
    shell.get_ipython = type("Shell", (), {"kernel": object()})  # type: ignore[attr-defined]
    screen.HTML, screen.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", screen)
    return shown


def test_without_a_terminal_there_is_a_line_for_each_event_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert small.execute(progress=True).success
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split("  ")[1].split()[0] for line in lines[:5]] == ["run", "load", "load", "count", "count"]
    assert lines[5].startswith("run succeeded after")
    assert "critical path" in err


def test_without_progress_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert small.execute().success
    assert capfd.readouterr() == ("", "")


def test_assets_and_a_callback_beside_it_are_shown_too(capfd: pytest.CaptureFixture[str]) -> None:
    @asset
    def rows() -> int:
        return 1

    seen: list[object] = []
    assert materialize([rows], progress=True, on_event=lambda event, _: seen.append(event)).success
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunEnded)
    assert "rows  succeeded" in capfd.readouterr().err


def test_a_stderr_that_is_closed_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(tmp_path / "closed", "w") as closed:
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    assert small.execute(progress=True).success


def test_in_a_notebook_one_display_is_drawn_over(notebook: list[str]) -> None:
    result = failing.execute(progress=True, raise_on_error=False)
    assert not result.success
    assert "of 2 steps" in notebook[0]
    assert "running" in notebook[0]
    assert "2 of 2 steps" in notebook[-1]
    assert "only 1 &lt;rows&gt;" in notebook[-1]
    assert ">failed<" in notebook[-1]


def test_a_notebook_is_told_when_nothing_happens_for_a_while(notebook: list[str], tmp_path: Path) -> None:
    shows = NotebookProgress(tmp_path, None)
    assert shows.wake_at is None
    result = small.execute(progress=True)
    shows = NotebookProgress(result.folder.home, None)
    shows.meet(result.plan)
    first, second = result.timeline[:2]
    shows(first[1], 0.0)
    before = len(notebook)
    assert shows.wake_at == 1.0  # to count on, though nothing happens
    shows(second[1], 0.05)
    assert len(notebook) == before  # too soon
    assert shows.wake_at == 0.2  # but it will be shown
    shows.tick(0.2)
    assert len(notebook) == before + 1
    assert shows.wake_at == 1.2


PROGRAM = """
import sys
from small_jobs import nightly

result = nightly.execute(progress=True, raise_on_error=False)
print("the program goes on:", result.status)
"""

JOBS = """
from executor import job, op

@op
def load():
    open("load-gate").read()

@job
def nightly():
    load()
"""


def test_on_a_terminal_a_program_shows_the_live_view(tmp_path: Path) -> None:
    (tmp_path / "small_jobs.py").write_text(JOBS)
    go_on = gate(tmp_path, "load-gate")
    root = str(Path(__file__).parents[2])
    shown = Window(tmp_path, program=PROGRAM, PYTHONPATH=os.pathsep.join([str(tmp_path), root]))
    try:
        shown.wait_for("● load", "0/1")
        go_on()
        assert shown.end() == 0
        assert shown.rows[0].startswith("run succeeded after")
        assert shown.rows[-1] == "the program goes on: succeeded"
        assert "●" not in shown.text
    finally:
        shown.close()


# --- the result -------------------------------------------------------------------------------------------------------


def test_a_result_says_in_a_line_how_the_run_went() -> None:
    result = failing.execute(raise_on_error=False)
    text = repr(result)
    assert text.startswith(f"<RunResult {result.run_id} failed, job 'failing', ")
    assert text.endswith(": 1 succeeded, 1 failed>")


def test_a_result_is_a_table_in_a_notebook() -> None:
    result = failing.execute(raise_on_error=False)
    page = result._repr_html_()
    assert "<b>failing</b>" in page
    assert page.index(">train<") < page.index(">load<")  # what failed comes first
    assert "only 1 &lt;rows&gt;" in page
    assert "<rows>" not in page


def test_a_result_without_its_folder_or_with_a_long_history_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    from executor.runs import result as module

    result = small.execute()
    short = f"<RunResult {result.run_id} succeeded>"
    monkeypatch.setattr(module, "SHOWN_BYTES", 10)
    fresh = RunResult(result.folder, "succeeded")
    assert repr(fresh) == short
    assert "&lt;RunResult" in fresh._repr_html_()
    assert fresh.steps  # asked for, it is read
    assert "2 succeeded" in repr(fresh)
    import shutil

    shutil.rmtree(result.folder.path)
    assert repr(RunResult(result.folder, "succeeded")) == short


def test_a_large_result_shows_its_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from executor.runs import html

    monkeypatch.setattr(html, "STEPS_SHOWN", 1)
    page: Any = failing.execute(raise_on_error=False)._repr_html_()
    assert ">train<" in page
    assert "and 1 more" in page
