"""A template in surroundings that are hard on it: descriptors near the limit, none to be had, signals ignored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import PATIENCE_S

JOBS = """
import os, signal
if os.path.exists("ignores"):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from executor import job, op

inherited = 0

@op
def one():
    return os.fstat(inherited).st_ino

@op
def same(inode):
    return inode

@job
def both():
    same(one())
"""

PROGRAM = """
import os, resource, sys
import jobs
from executor import WorkersUnavailable
from executor.workers import launch

method, what = sys.argv[1:]
if what == "high":
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    jobs.inherited = 1020
    os.dup2(os.open(__file__, os.O_RDONLY), jobs.inherited)
if what == "full":
    # from where the template begins there is no room for a descriptor of its own
    begin = launch.Template.run
    def run(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
        begin(self)
    launch.Template.run = run
try:
    result = jobs.both.execute({"execution": {"config": {"start_method": method}}})
except WorkersUnavailable as error:
    print(error)
    sys.exit(4)
print(result.success)
assert result.output_for_node("same") == os.fstat(jobs.inherited).st_ino
"""


def run(tmp_path: Path, method: str, what: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    (tmp_path / "jobs.py").write_text(JOBS)
    words = [sys.executable, script, method, what]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=tmp_path)


def test_a_descriptor_just_below_the_limit_keeps_no_run_from_starting_and_steps_have_it(tmp_path: Path) -> None:
    done = run(tmp_path, "fork", "high")
    assert (done.returncode, done.stdout) == (0, "True\n"), done


def test_a_template_that_cannot_get_ready_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, "fork", "full")
    said = "the workers' template process could not get ready: OSError: [Errno 24] Too many open files"
    assert (done.returncode, done.stderr) == (4, "")
    assert done.stdout.startswith(said)  # and then which one, where that is known


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_steps_whose_module_ignores_the_end_of_children_run(method: str, tmp_path: Path) -> None:
    (tmp_path / "ignores").touch()
    done = run(tmp_path, method, "ignores")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_step_is_asked_to_stop_again_where_the_first_signal_came_before_python_ran_in_its_worker(
    tmp_path: Path,
) -> None:
    """A fork forgets what has come by then; here a hook takes the first away."""
    jobs = """
import os, signal, time
from executor import job, op

driver = os.getpid()

def drop_the_first():
    if os.getppid() == driver:  # in the template
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigwait({signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

os.register_at_fork(after_in_child=drop_the_first)

@op
def sleeps():
    time.sleep(3600)

@job
def alone():
    sleeps()
"""
    program = """
import os
from executor.api import execute_job
from executor.scheduler.events import StepStarted
import jobs

def on_event(event, now):
    if isinstance(event, StepStarted):
        os.kill(os.getpid(), 2)

config = {"execution": {"config": {"multiprocess": {"start_method": "fork", "stop_grace_s": 3600}}}}
result = execute_job(jobs.alone, config, on_event=on_event, raise_on_error=False)
print(result.step("sleeps").state.value)
"""
    (tmp_path / "jobs.py").write_text(jobs)
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "cancelled\n"), done
