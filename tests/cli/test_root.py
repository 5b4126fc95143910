"""Every kind of error ends with its message on stderr and its exit code."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from executor.cli import main, root
from executor.errors import ConfigError, DefinitionError, ExecutorError, UnmetRequirement, UsageError
from executor.runs.history import HistoryLost


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("there is no job"), 2, "Error: there is no job\n"),
        (ConfigError(["a: wrong", "b: wrong too"]), 2, "Error: a: wrong\nb: wrong too\n"),
        (DefinitionError("two ops"), 2, "Error: two ops\n"),
        (UnmetRequirement("no home"), 2, "Error: no home\n"),
        (HistoryLost("/x", "No space left on device"), 1, "Error: the history of the run could not be written to /x"),
        (ExecutorError("no worker process could be started"), 1, "Error: no worker process could be started\n"),
        (KeyboardInterrupt(), 3, "interrupted\n"),
        (
            click.UsageError("no such option"),
            2,
            "Usage: executor [OPTIONS]\nTry 'executor --help' for help.\n\nError: no such option\n",
        ),
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 1, "Error: No space left on device\n"),
        (OSError(24, "Too many open files", "/x/y"), 1, "Error: /x/y: Too many open files\n"),
    ],
)
def test_an_error_is_one_message_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(root, "root", failing)
    assert root.run_command([]) == code
    shown = capfd.readouterr()
    assert shown.err.lstrip().startswith(said)
    assert shown.out == ""


def test_what_is_a_bug_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(root, "root", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        root.run_command([])


def test_a_signal_while_the_command_is_imported_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def importing(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "run_command", importing)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert capfd.readouterr().err == "interrupted\n"


def test_nothing_of_the_package_is_loaded_before_the_command_can_be_interrupted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import executor.cli, sys; print([name for name in sys.modules if 'executor' in name])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['executor', 'executor.cli']\n"
