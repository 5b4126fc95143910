"""``--pdb`` and ``breakpoint()``: the debugger in a real terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest
import sample_ops as ops
from running import PATIENCE_S, error_of, run

PROGRAM = """
from executor import job, op

@op
def numbers():
    return [3, 2, 1, 0]

@op
def stops(numbers):
    total = sum(numbers)
    breakpoint()
    return total

@op
def divides(numbers):
    for number in numbers:
        result = 6 / number
    return result

@job
def program():
    divides(numbers())

@job
def stopping():
    stops(numbers())
"""
PROMPT = "(Pdb) "


@contextmanager
def terminal(tmp_path: Path, *words: str) -> Iterator[pexpect.spawn[str]]:
    """``executor run`` on a program, in a terminal of its own."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    environ = {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}
    command = ["-m", "executor", "run", str(path), *words]
    shell = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=PATIENCE_S, env=environ)  # type: ignore[arg-type]  # it takes any mapping
    try:
        shell.setecho(False)
        yield shell
    finally:
        shell.close(force=True)


def test_pdb_is_where_the_step_failed_and_the_run_goes_on_to_its_end(tmp_path: Path) -> None:
    with terminal(tmp_path, "-j", "program", "--pdb") as shell:
        shell.expect_exact("step 'divides' failed: ZeroDivisionError: division by zero")
        shell.expect_exact("The debugger is where it was raised; q leaves it.")
        shell.expect_exact(PROMPT)
        shell.sendline("p ('it was', number, numbers)")
        shell.expect_exact("('it was', 0, [3, 2, 1, 0])")
        shell.expect_exact(PROMPT)
        shell.sendline("q")
        shell.expect(pexpect.EOF)
        assert "ZeroDivisionError" in shell.before
        assert shell.wait() == 1


def test_a_breakpoint_in_a_step_in_process_stops_there_and_goes_on(tmp_path: Path) -> None:
    with terminal(tmp_path, "-j", "stopping", "--in-process") as shell:
        shell.expect_exact(PROMPT)
        shell.sendline("p ('the total is', total)")
        shell.expect_exact("('the total is', 6)")
        shell.expect_exact(PROMPT)
        shell.sendline("total = 7")
        shell.expect_exact(PROMPT)
        shell.sendline("c")
        shell.expect(pexpect.EOF)
        assert "succeeded" in shell.before
        assert shell.wait() == 0


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there, leaving a breakpoint ends the whole process")
def test_a_debugger_that_is_left_is_the_failure_of_its_step(tmp_path: Path) -> None:
    with terminal(tmp_path, "-j", "stopping", "--pdb") as shell:
        shell.expect_exact(PROMPT)
        shell.sendline("q")
        shell.expect(pexpect.EOF)
        assert "the debugger was left" in shell.before
        assert shell.wait() == 1


@pytest.mark.parametrize("kind", ["one-shot-forkserver", "unlimited-forkserver"])
def test_a_breakpoint_in_a_worker_process_says_where_it_works(kind: str) -> None:
    of_kind, message = error_of(run(ops.stops_at_a_breakpoint, kind), "stops_at_a_breakpoint")
    assert of_kind == "exception"
    assert message == "the debugger was left (in a worker process it has no terminal; run the step with --in-process)"


def test_pdb_without_a_terminal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, "-m", "executor", "run", str(path), "--pdb"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "--pdb needs a terminal" in done.stderr
