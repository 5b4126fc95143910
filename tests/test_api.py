"""Running jobs from programs as they are: threads, scripts, notebooks' habits, callers that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "workers"), str(HERE / "runs")]  # test folders are no packages here

import sample_ops as ops  # noqa: E402  (after the line that lets it be found)
from census import Census, children  # noqa: E402
from replaying import assert_home_replays  # noqa: E402
from running import run  # noqa: E402

from executor import (  # noqa: E402
    DefinitionError,
    RunFailed,
    RunInterrupted,
    RunResult,
    UnmetRequirement,
    UsageError,
    asset,
    execute_job,
    job,
    materialize,
    op,
)
from executor.errors import WorkersUnavailable  # noqa: E402
from executor.ledger.ledger import Ledger  # noqa: E402
from executor.runs.home import RunFolder, open_home  # noqa: E402
from executor.runs.result import read_result  # noqa: E402
from executor.scheduler.events import Event, RunEnded, RunNotice, RunStarted, StepStarted, StepSucceeded  # noqa: E402
from executor.scheduler.states import StepState  # noqa: E402


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of the test's runs; nothing of them is left after it."""
    path = tmp_path / "home"
    monkeypatch.setenv("EXECUTOR_HOME", str(path))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent), prepend=os.pathsep)
    with Census():
        yield path
    assert_home_replays(path)


def description(result: RunResult) -> str:
    """Which kind of worker the run had, and why."""
    (began,) = [event for event in result.events if isinstance(event, RunStarted)]
    return began.workers


def script(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of that text, run as ``python program.py``."""
    path = folder / "program.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "error", path, *words], check=False, capture_output=True, text=True, timeout=60
    )


# --- what is chosen --------------------------------------------------------------------------------------------------


def test_a_small_program_of_one_thread_forks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.workers.launch.FORK_UP_TO_BYTES", sys.maxsize)  # the program is all of these tests
    said = description(execute_job(simple))
    assert said.startswith("one process per step, forked (this process has one thread and ")


LARGE = """
import sys
from executor import job, op
from executor.scheduler.events import RunStarted

BALLAST = bytearray(b"x") * (200 << 20)

@op
def work(): return 1

@job
def it(): work()

method = sys.argv[1]
config = {"in_process": {}} if method == "in-process" else {"start_method": method}
result = it.execute({"execution": {"config": config}})
print(*[event.workers for event in result.events if isinstance(event, RunStarted)])
print(result.output_for_node("work"))
"""


@pytest.mark.parametrize("method", ["auto", "fork", "forkserver", "spawn", "in-process"])
def test_a_large_program_is_not_forked_unless_that_is_asked_for(method: str, tmp_path: Path) -> None:
    done = script(tmp_path, LARGE, method)
    assert done.stderr == ""
    how, value = done.stdout.splitlines()
    assert value == "1"
    assert ("forked" in how) == (method == "fork")
    assert ("this process is large (" in how) == (method == "auto")


def test_a_native_thread_of_an_imported_library_is_seen(tmp_path: Path) -> None:
    """Started in C, so that Python knows nothing of it; as libraries for linear algebra or graphics do."""
    (tmp_path / "native.py").write_text(
        "import ctypes\n"
        "from executor import job, op\n"
        "libc = ctypes.CDLL(None)\n"
        "thread = ctypes.c_ulong()\n"
        "libc.pthread_create(ctypes.byref(thread), None, libc.pause, None)\n"
        "@op\ndef work(): return 1\n"
        "@job\ndef it(): work()\n"
    )
    text = (
        "import sys\nfrom native import it\nfrom executor.scheduler.events import RunStarted\n"
        "method = sys.argv[1]\n"
        "config = {'in_process': {}} if method == 'in-process' else {'start_method': method}\n"
        "result = it.execute({'execution': {'config': config}})\n"
        "print(*[event.workers for event in result.events if isinstance(event, RunStarted)])\n"
    )
    for method in ("fork", "forkserver"):
        assert "(native)" in script(tmp_path, text, method).stderr
    for method in ("auto", "spawn"):
        assert "each a fresh interpreter" in script(tmp_path, text, method).stdout
    assert "in this process" in script(tmp_path, text, "in-process").stdout


def test_a_program_with_threads_gets_a_fresh_template_and_the_reason_names_them() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="telemetry")
    thread.start()
    try:
        result = execute_job(simple)
        with pytest.raises(WorkersUnavailable, match=r"has other threads \(telemetry\).*--in-process"):
            run(ops.one, "one-shot-fork")
    finally:
        end.set()
        thread.join()
    assert result.success
    assert description(result) == (
        "one process per step, from a fresh template process (this process has other threads: telemetry)"
    )


BUSY = """
import threading
from executor import job, op

threading.Thread(target=threading.Event().wait, name="heartbeat", daemon=True).start()

@op
def work(): return threading.active_count()

@job
def busy(): work()
"""


def test_code_that_starts_threads_when_it_is_imported_gets_workers_that_import_it_each(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    text = (
        "from busy import busy\n"
        "from executor.scheduler.events import RunStarted\n"
        "result = busy.execute()\n"
        "print(*[event.workers for event in result.events if isinstance(event, RunStarted)])\n"
        "print(result.output_for_node('work'))\n"
    )
    done = script(tmp_path, text)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "one process per step, each a fresh interpreter (importing the steps' code starts threads: heartbeat)",
            "2",
        ],
    )


def test_code_that_starts_threads_is_refused_by_name_where_only_forks_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    config = "{'execution': {'config': {'start_method': 'forkserver'}}}"
    done = script(tmp_path, f"from busy import busy\nbusy.execute({config})\n")
    assert done.returncode == 1
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("executor.")]
    assert "importing the steps' code starts threads (heartbeat)" in said
    assert "start them inside the steps instead, or use start_method spawn or auto, or run it with --in-process" in said


def test_code_that_cannot_be_loaded_in_a_fresh_process_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(
        "import os\nfrom executor import job, op\n"
        "if os.environ.setdefault('LOADED_BY', str(os.getpid())) != str(os.getpid()):\n"
        "    raise RuntimeError('not here')\n"
        "@op\ndef work(): return 1\n@job\ndef it(): work()\n"
    )
    text = (
        "import sys\nfrom once import it\n"
        "config = {'in_process': {}} if sys.argv[1] == 'in-process' else {'start_method': sys.argv[1]}\n"
        "it.execute({'execution': {'config': config}})\n"
    )
    assert [script(tmp_path, text, method).returncode for method in ("fork", "in-process")] == [0, 0]
    done = script(tmp_path, text, "forkserver")
    assert "the workers' template process could not get ready: RuntimeError: not here" in done.stderr
    assert 'once.py", line 4, in <module>' in done.stderr


DIES_WHERE_IT_IS_IMPORTED_AGAIN = """
import os, signal, sys
from executor import job, op
if os.environ.setdefault('LOADED_BY', str(os.getpid())) != str(os.getpid()):
    with open(os.path.join(os.path.dirname(__file__), 'deaths'), 'a+') as file:
        file.seek(0)
        deaths = len(file.read())
        file.write('x')
    if deaths < {deaths}:
        os.kill(os.getpid(), signal.{how})
@op
def kills_its_parent():
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
@op
def later(): return 1
@job
def it():
    kills_its_parent()
    later()
"""


def dies_where_it_is_imported_again(
    folder: Path, method: str, how: str, deaths: int
) -> subprocess.CompletedProcess[str]:
    """A run with a template that a step kills, and ``deaths`` others that end while they import the code."""
    (folder / "mortal.py").write_text(DIES_WHERE_IT_IS_IMPORTED_AGAIN.format(how=how, deaths=deaths))
    config = {"execution": {"config": {"start_method": method, "max_concurrent": 1}}}
    text = (
        f"from mortal import it\nfrom executor import execute_job\nresult = execute_job(it, {config})\n"
        "print(*result.failures.values(), sep='\\n')\n"
        "print(*[event.message for event in result.events if hasattr(event, 'message')], sep='\\n')\n"
        "print(result.step('later').success)\n"
    )
    return script(folder, text)


@pytest.mark.parametrize(
    ("how", "said"), [("SIGKILL", "SIGKILL (the kernel does so when memory runs out)"), ("SIGSEGV", "SIGSEGV")]
)
def test_a_template_that_dies_before_it_is_ready_says_how_and_nothing_was_run(
    tmp_path: Path, how: str, said: str
) -> None:
    done = dies_where_it_is_imported_again(tmp_path, "forkserver", how, deaths=100)
    assert done.returncode == 1
    assert (
        f"the workers' template process was killed by {said} before it was ready, while the steps' code" in done.stderr
    )
    assert (tmp_path / "deaths").read_text() == "x", "it is not tried again: that would end in the same way, and later"
    assert ("Fatal Python error: Segmentation fault" in done.stderr) == (how == "SIGSEGV"), "a crash says where"


def test_a_template_that_dies_before_it_is_ready_in_the_course_of_a_run_is_replaced(tmp_path: Path) -> None:
    killed = "the workers' template process was killed by SIGKILL; another one is started"
    done = dies_where_it_is_imported_again(tmp_path, "fork", "SIGKILL", deaths=1)
    lines = done.stdout.splitlines()
    assert lines == ["its worker process died with its template", killed, killed, "True"], done.stderr
    (tmp_path / "deaths").unlink()
    done = dies_where_it_is_imported_again(tmp_path, "fork", "SIGKILL", deaths=100)
    given_up = "the workers' template process died 4 times in a row"
    lines = done.stdout.splitlines()
    assert lines == ["its worker process died with its template", given_up, killed, killed, killed, "False"], (
        done.stderr
    )


def test_a_spawned_worker_that_cannot_load_the_code_says_why(tmp_path: Path) -> None:
    (tmp_path / "shy.py").write_text(
        "import os\nfrom executor import job, op\n"
        "if os.getppid() != int(os.environ.setdefault('ONLY_PARENT', str(os.getppid()))):\n"
        "    raise RuntimeError('not here')\n"
        "@op\ndef work(value): return value\n@op\ndef before(): return 1\n"
        "@job\ndef shy(): work(before())\n"
    )
    text = (
        "from shy import shy\n"
        "result = shy.execute({'execution': {'config': {'start_method': 'spawn'}}}, raise_on_error=False)\n"
        "error = result.step('before').error\nprint(error.kind, error.message)\nprint(error.traceback)\n"
    )
    said = script(tmp_path, text).stdout
    assert said.startswith(
        "worker_died its code could not be loaded in a fresh process: RuntimeError: not here\nTraceback"
    )
    assert 'shy.py", line 4, in <module>' in said


@job
def simple():
    ops.one()


# --- scripts ---------------------------------------------------------------------------------------------------------

MAIN = """
import json, sys
from executor import job, op, execute_job

OFFSET = 10

class Point:
    def __init__(self, x): self.x = x

def helper(x): return x + OFFSET

@op
def make(): return Point(1)

@op
def shift(point): return Point(helper(point.x))

def scaled(factor):
    @op(name=f"times_{factor}")
    def scale(point): return Point(point.x * factor)
    return scale

@op
def apply(function, point): return function(point.x)

@op
def make_function(): return lambda x: x + 0.5

@job
def main_job():
    apply(make_function(), scaled(3)(shift(make())))

if __name__ == "__main__":
    for method in ("fork", "forkserver", "spawn"):
        for per_worker in (1, "unlimited"):
            config = {"start_method": method, "steps_per_worker": per_worker, "max_concurrent": 2}
            result = main_job.execute({"execution": {"config": config}})
            print(json.dumps([method, per_worker, result.output_for_node("apply")]))
"""


def test_a_script_may_define_everything_in_its_own_main(tmp_path: Path) -> None:
    done = script(tmp_path, MAIN)
    assert done.stderr == ""
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [value for *_, value in results] == [33.5] * 6


LOCKED = """
import sys, threading
from executor import job, op

LOCK = threading.Lock()

@op
def locked():
    with LOCK: return 1

@job
def it(): locked()

method = sys.argv[1]
config = {"in_process": {}} if method == "in-process" else {"start_method": method}
result = it.execute({"execution": {"config": config}})
print(result.output_for_node("locked"))
"""


@pytest.mark.parametrize("method", ["auto", "fork", "in-process"])
def test_where_nothing_is_sent_nothing_need_be_picklable(method: str, tmp_path: Path) -> None:
    assert script(tmp_path, LOCKED, method).stdout == "1\n"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_step_that_refers_to_what_cannot_be_sent_is_named(method: str, tmp_path: Path) -> None:
    done = script(tmp_path, LOCKED, method)
    assert "op 'locked' cannot be sent to a fresh process, because its function refers to LOCK, which" in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert "define it in a module, or make that object inside the function" in done.stderr


def test_a_program_ends_with_the_code_that_its_run_deserves(tmp_path: Path) -> None:
    text = (
        "import sys\nsys.path.insert(0, {!r})\nimport sample_ops as ops\nfrom executor import job\n"
        "@job\ndef it(): getattr(ops, sys.argv[1])()\nit.execute()\n"
    ).format(str(HERE / "workers"))
    assert script(tmp_path, text, "one").returncode == 0
    failed = script(tmp_path, text, "divides")
    assert failed.returncode == 1
    assert "ZeroDivisionError" in failed.stderr
    assert "about to divide" not in failed.stdout


# --- callers ---------------------------------------------------------------------------------------------------------


def test_two_runs_go_on_at_once_in_two_threads_of_one_program() -> None:
    results: dict[str, RunResult] = {}
    meet = threading.Barrier(2, timeout=60)

    def work(name: str, kind: str) -> None:
        def on_event(event: Event, _: float) -> None:
            if isinstance(event, StepStarted) and event.key == "step_0":
                meet.wait()

        several = [ops.ids.alias(f"step_{number}") for number in range(30)]
        results[name] = run(several, kind, on_event=on_event)

    threads = [
        threading.Thread(target=work, args=("a", "one-shot-forkserver")),
        threading.Thread(target=work, args=("b", "unlimited-forkserver")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert {name: result.status for name, result in results.items()} == {"a": "succeeded", "b": "succeeded"}
    parents = [{result.output_for_node(key)[1] for key in result.steps} for result in results.values()]  # type: ignore[index]
    assert all(len(found) == 1 for found in parents)
    assert parents[0] != parents[1], "each run has a template of its own"


@pytest.mark.parametrize("method", ["auto", "forkserver", "spawn"])
def test_a_web_server_runs_a_job_for_each_of_two_requests_at_once(method: str) -> None:
    """Each in a thread of its own, both at work at the same time."""
    meet = threading.Barrier(2, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            def on_event(event: Event, _: float) -> None:
                if isinstance(event, StepStarted):
                    meet.wait()

            result = run(ops.one, "one-shot-fork", start_method=method, on_event=on_event)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([result.status, result.output_for_node("one")]).encode())

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    def ask() -> None:
        with urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=60) as answer:
            answers.append(json.load(answer))

    answers: list[object] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threads = [threading.Thread(target=what) for what in (ask, ask, server.serve_forever)]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join(90)
        server.shutdown()
        threads[2].join()
    assert answers == [["succeeded", 1]] * 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "ModuleNotFoundError: No module named 'warm'"),
        ("raise OSError('no connection')", "OSError: no connection"),
    ],
)
def test_a_preload_that_fails_is_told(
    source: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source is not None:
        (tmp_path / "warm.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    how = {"forkserver": {"preload_modules": ["warm"]}}
    with pytest.raises(WorkersUnavailable, match="preload_modules: importing 'warm' failed: " + said):
        run(ops.one, "one-shot-forkserver", start_method=how)


def test_a_run_in_another_thread_than_the_main_one_works_with_timeouts_and_failures() -> None:
    found: list[RunResult] = []
    what = [ops.takes_too_long, ops.divides, ops.one]
    thread = threading.Thread(target=lambda: found.append(run(what, "one-shot-forkserver")))
    thread.start()
    thread.join(60)
    assert sorted(found[0].failures) == ["divides", "takes_too_long"]


def test_in_process_runs_work_in_another_thread_too() -> None:
    found: list[RunResult] = []
    thread = threading.Thread(target=lambda: found.append(run([ops.one, ops.divides], "in-process")))
    thread.start()
    thread.join(60)
    assert list(found[0].failures) == ["divides"]


@pytest.mark.parametrize("error", [ValueError("in the caller"), KeyboardInterrupt(), SystemExit(4)])
@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork", "unlimited-forkserver"])
def test_an_error_in_the_callers_on_event_ends_the_run_and_its_processes(
    kind: str, error: BaseException, home: Path
) -> None:
    def fail(event: Event, _: float) -> None:
        if isinstance(event, StepSucceeded):
            raise error

    with pytest.raises(type(error)):
        run([ops.one, *[ops.silent.alias(f"step_{number}") for number in range(5)]], kind, on_event=fail)
    assert children() == []
    # what was broken off has an end all the same, and every attempt in it
    (path,) = home.glob("runs/*")
    broken_off = read_result(RunFolder(path))
    assert broken_off.status == "cancelled"
    assert {step.state for step in broken_off.steps.values()} <= {StepState.SUCCEEDED, StepState.CANCELLED}
    after = run(ops.one, "one-shot-fork")
    assert [event for event in after.events if isinstance(event, RunNotice)] == [], "so the next run has nothing to say"


def test_what_a_step_raised_is_raised_in_process_and_its_text_elsewhere() -> None:
    @job
    def failing() -> None:
        ops.divides()

    with pytest.raises(ZeroDivisionError):
        failing.execute_in_process()
    with pytest.raises(RunFailed, match="ZeroDivisionError: division by zero") as caught:
        failing.execute()
    assert "in deep" in str(caught.value)


def test_a_worker_that_died_left_no_traceback_so_the_error_says_how_to_see_where() -> None:
    @job
    def dying() -> None:
        ops.exits_3()

    with pytest.raises(RunFailed) as caught:
        dying.execute()
    assert caught.value.failures == {
        "exits_3": "its worker process exited with code 3; to see where, run it in this process: "
        "execute_in_process(selection='*exits_3')"
    }


def test_an_interrupted_run_raises_what_a_program_expects_of_ctrl_c(tmp_path: Path) -> None:
    @job
    def interrupted() -> None:
        ops.cleans_up()

    tags = {"driver": str(os.getpid()), "folder": str(tmp_path)}
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted.execute(tags=tags)
    assert isinstance(caught.value, RunInterrupted)


def test_ctrl_c_that_comes_too_late_for_the_run_to_stop_is_not_lost_on_the_program(home: Path) -> None:
    def interrupt(event: Event, _: float) -> None:
        if isinstance(event, RunEnded):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(ops.one, on_event=interrupt)
    (path,) = home.glob("runs/*")
    assert not RunFolder(path).is_alive()
    assert read_result(RunFolder(path)).success, "the run itself had ended"


@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork", "unlimited-fork"])
def test_a_clock_that_is_set_by_a_day_changes_no_time_and_no_order(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody sets it, or a time server: forwards and back again while the run goes on."""
    wall, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall() + ahead[0])

    def set_the_clock(event: Event, _: float) -> None:
        if isinstance(event, StepSucceeded):
            ahead[0] = {0.0: 86_400.0, 86_400.0: -86_400.0, -86_400.0: 0.0}[ahead[0]]

    @op(pool="till")
    def sell() -> int:
        return 1

    with Ledger(open_home()) as ledger:
        ledger.set_limit("till", 1)
    result = run([sell.alias(f"sell_{number}") for number in range(6)], kind, on_event=set_the_clock)
    assert result.success
    times = [at for at, _ in result.timeline]
    assert times == sorted(times)
    assert all(0 <= step.attempts[0].wall_s < 60 for step in result.steps.values())


def test_ctrl_c_again_after_a_run_was_stopped_by_it_is_no_news(tmp_path: Path) -> None:
    def interrupt(event: Event, _: float) -> None:
        if isinstance(event, RunEnded):
            signal.raise_signal(signal.SIGINT)

    result = run(ops.cleans_up, tags={"folder": tmp_path}, on_event=interrupt)
    assert result.interrupted


def test_assets_are_made_in_worker_processes() -> None:
    @asset
    def orders() -> int:
        return os.getpid()

    @asset
    def report(orders: int) -> tuple[int, int]:
        return orders, os.getpid()

    result = materialize([orders, report])
    maker, reader = result.asset_value("report")  # type: ignore[misc]
    assert len({maker, reader, os.getpid()}) == 3


def test_what_cannot_run_is_refused_before_anything_is_made(home: Path) -> None:
    @op(pool="database", pool_slots=3)
    def queries() -> None: ...

    @job
    def pooled() -> None:
        queries()

    with Ledger(open_home(home)) as ledger:
        ledger.set_limit("database", 2)
    with pytest.raises(UnmetRequirement) as caught:
        pooled.execute()
    assert str(caught.value) == (
        "step 'queries' wants 3 slots of pool 'database', whose limit is 2: it would wait for ever; take fewer, or "
        "raise the limit: executor instance concurrency set database 3"
    )
    with pytest.raises(DefinitionError, match="'dagster/priority' is 'high'"):
        simple.execute(tags={"dagster/priority": "high"})
    with pytest.raises(UsageError, match="give a job"):
        execute_job(ops.one)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nonsense"):
        execute_job(simple, selection="nonsense")
    assert list(home.glob("runs/*")) == []
