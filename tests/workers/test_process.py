"""What is asked of the kernel about processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from running import wait_until

from executor.workers import process

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
