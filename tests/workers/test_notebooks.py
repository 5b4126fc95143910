"""Where code is written that is in no file: notebook cells, the REPL, ``python -c``, a script without a guard."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pexpect
import pytest
from running import KINDS, PATIENCE_S

METHODS = ["auto", "fork", "forkserver", "spawn", "in-process"]

#: A cell with all that people define in cells: classes, closures, lambdas, wrapped, async and generator functions.
CELL = """
import asyncio, functools
from executor import job, op, Out, Output

class Point:
    def __init__(self, x): self.x = x

OFFSET = 10

def logged(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)
    return wrapper

@op
def make(): return Point(1)

@op
@logged
def shift(point): return Point(point.x + OFFSET)

def scaled(factor):
    @op(name=f"times_{factor}")
    def scale(point): return Point(point.x * factor)
    return scale

@op
async def wait(point):
    await asyncio.sleep(0)
    return point

@op(out={"half": Out(), "rest": Out()})
def split(point):
    yield Output(point.x // 2, "half")
    yield Output(point.x - point.x // 2, "rest")

@op
async def make_function(): return lambda x: x + 0.5

@op
def add(function, a, b): return function(a) + b

@job
def cell_job():
    half, rest = split(wait(scaled(3)(shift(make()))))
    add(make_function(), half, rest)

def answer(method, steps_per_worker=1):
    config = {"start_method": method, "steps_per_worker": steps_per_worker, "max_concurrent": 2}
    if method == "in-process":
        config = {"in_process": {}}
    return cell_job.execute({"execution": {"config": config}}).output_for_node("add")
"""
ANSWER = 33.5


# --- notebooks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jupyter() -> Iterator[Any]:
    """A client of a real IPython kernel, which has descriptors of its own that stay open from test to test."""
    if find_spec("ipykernel") is None:
        pytest.skip("ipykernel is not installed")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's own libraries
        from jupyter_client.manager import KernelManager

        manager = KernelManager()
        manager.start_kernel(cwd=str(Path(__file__).parents[2]))  # so that it finds this package
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=PATIENCE_S)
            yield client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
            client.context.destroy()


@pytest.fixture
def kernel(jupyter: Any, home: Path) -> Any:
    """The same, for one test."""
    cell(jupyter, f"import os\nos.environ.update(EXECUTOR_HOME={str(home)!r}, PYTHONPATH={os.environ['PYTHONPATH']!r})")
    return jupyter


def cell(kernel: Any, source: str) -> str:
    """What the cell prints and what it gives, or the text of what it raises."""
    said = []

    def on_output(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "execute_result":
            said.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            said.append(f"{content['ename']}: {content['evalue']}")

    kernel.execute_interactive(source, timeout=PATIENCE_S, output_hook=on_output)
    return "".join(said).strip()


def test_what_is_defined_in_cells_runs_in_a_notebook(kernel: Any) -> None:
    assert cell(kernel, CELL) == ""
    for method in ("auto", "forkserver", "spawn"):
        assert cell(kernel, f"answer({method!r})") == str(ANSWER), method
    assert cell(kernel, "answer('auto', 'unlimited')") == str(ANSWER)


def test_a_cell_that_is_changed_runs_as_it_is_now(kernel: Any) -> None:
    cell(kernel, CELL)
    assert cell(kernel, "answer('auto')") == str(ANSWER)
    cell(kernel, "OFFSET = 20")
    assert cell(kernel, "answer('auto')") == "63.5"


def test_a_notebook_says_what_cannot_work_there_and_the_way_out(kernel: Any) -> None:
    cell(kernel, CELL)
    assert "this process has other threads" in cell(kernel, "answer('fork')")
    cell(kernel, "import threading\nLOCK = threading.Lock()\n@op\ndef locked():\n    with LOCK: return 1\n")
    cell(kernel, "@job\ndef with_lock(): locked()\n")
    said = cell(kernel, "with_lock.execute()")
    assert "op 'locked' cannot be sent to a fresh process, because its function refers to LOCK, which" in said
    assert "make that object inside the function" in said
    assert cell(kernel, "with_lock.execute_in_process().output_for_node('locked')") == "1"
    assert "op 'wait' is async, and an event loop runs in this thread already" in cell(
        kernel, "cell_job.execute_in_process()"
    )


def test_a_failure_in_a_cell_shows_the_line_of_the_cell(kernel: Any) -> None:
    cell(kernel, "from executor import job, op\n@op\ndef divides():\n    x = 0\n    return 1 / x\n")
    said = cell(kernel, "@job\ndef failing(): divides()\nfailing.execute()")
    assert "ZeroDivisionError" in said
    assert "line 5, in divides" in said


# --- the prompt and the command line ---------------------------------------------------------------------------------


def test_what_is_typed_at_the_prompt_runs(tmp_path: Path) -> None:
    source = tmp_path / "typed.txt"
    source.write_text(CELL)
    prompt = ">>> "
    environ = {**os.environ, "TERM": "dumb", "PYTHON_BASIC_REPL": "1"}
    shell = pexpect.spawn(sys.executable, ["-q", "-i"], encoding="utf-8", timeout=PATIENCE_S, env=environ)  # type: ignore[arg-type]  # it takes any mapping
    try:
        shell.setecho(False)
        shell.expect_exact(prompt)
        for line in (f"exec(open({str(source)!r}).read())", "from executor import job, op"):
            shell.sendline(line)
            shell.expect_exact(prompt)
        for method in METHODS:
            shell.sendline(f"answer({method!r})")
            shell.expect_exact(prompt)
            assert str(ANSWER) in str(shell.before), method
        for line in ("@op", "def typed(): return 'here'", ""):
            shell.sendline(line)
        shell.expect_exact(prompt)
        for line in ("@job", "def typed_job(): typed()", ""):
            shell.sendline(line)
        shell.expect_exact(prompt)
        shell.sendline("typed_job.execute().output_for_node('typed')")
        shell.expect_exact("'here'")
    finally:
        shell.close(force=True)


def program(*words: str, text: str = "") -> list[str]:
    """The lines that ``python WORDS`` prints; it must print no warning and no error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        check=False,
        capture_output=True,
        text=True,
        input=text,
        timeout=PATIENCE_S,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


@pytest.mark.parametrize("method", METHODS)
def test_a_program_given_by_c_runs(method: str) -> None:
    assert program("-c", f"{CELL}\nprint(answer({method!r}))") == [str(ANSWER)]


@pytest.mark.parametrize("method", METHODS)
def test_a_program_from_standard_input_runs(method: str) -> None:
    assert program("-", text=f"{CELL}\nprint(answer({method!r}))") == [str(ANSWER)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_without_a_guard_runs_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "unguarded.py"
    path.write_text(
        f"print('begins')\n{CELL}\n"
        f"config = {KINDS[kind] or {'in_process': {}}!r}\n"
        "result = cell_job.execute({'execution': {'config': config}})\n"
        "print(result.output_for_node('add'))\n"
    )
    assert program(str(path)) == ["begins", str(ANSWER)]


def test_a_module_run_by_m_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "__main__.py").write_text(
        f"from .jobs import answer\n[print(answer(m)) for m in {METHODS!r}]\n"
    )
    (tmp_path / "pack" / "jobs.py").write_text(CELL)
    monkeypatch.chdir(tmp_path)
    assert program("-m", "pack") == [str(ANSWER)] * len(METHODS)
