"""What is asked of the kernel about processes."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys

import pytest
from running import wait_until

from executor.workers import process
from executor.workers.child import end_children
from tests import forked

#: Prints how many children it has started, and how many it finds.
MANY = """
import os, sys
from executor.workers.process import Children
children, (reading, writing), pids = Children(), os.pipe(), []
for _ in range(1000):
    pids.append(os.fork())
    if not pids[-1]:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
print(len(pids), len(children.pids()), children.pids() == pids)
os.close(writing)
for pid in pids:
    os.waitpid(pid, 0)
print(children.pids())
"""


def test_all_children_are_found_however_many_there_are() -> None:
    """The kernel gives a page of them at a time, which is some 800."""
    done = subprocess.run([sys.executable, "-c", MANY], check=True, capture_output=True, text=True)
    assert done.stdout == "1000 1000 True\n[]\n"


def test_a_process_is_exiting_from_its_death_on_and_when_it_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert not process.is_exiting(os.getpid())
    assert not process.is_exiting(child.pid)
    child.send_signal(signal.SIGKILL)
    wait_until(lambda: process.is_exiting(child.pid), "it exits")
    child.communicate()
    assert process.is_exiting(child.pid)


CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())


@pytest.mark.skipif(CLONE is None, reason="the number of clone(2) is not known here")
def test_a_child_whose_end_is_told_by_no_signal_is_a_child_and_is_ended_with_the_others() -> None:
    """As sandboxes and runtimes of other languages make them; wait(2) leaves them out unless it is asked for all."""

    def work() -> None:
        assert not process.has_children()
        go_on, wait = os.pipe()
        if not ctypes.CDLL(None).syscall(CLONE, 0, 0, 0, 0, 0):
            os.read(go_on, 1)  # until it is killed
            os._exit(0)
        assert process.has_children()
        assert end_children(), "it had to be killed"
        assert not process.has_children()
        os.close(wait)

    assert forked.wait(forked.fork(work)) == 0
