"""Ops and jobs that use pools, for tests in this process and for programs of their own (``pool_programs.py``).

They note in a file, in single writes, when they hold what: an oracle that knows nothing of the ledger. Where a step has
to wait for the test, it takes a byte from a FIFO, the *gate*; what it tells the test goes through another.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from executor import OpExecutionContext, RetryPolicy, job, op


def note(context: OpExecutionContext, what: str) -> None:
    """A line in the diary: what, when by the clock that all processes share, who."""
    line = f"{what} {time.monotonic_ns()} {os.getpid()} {context.run_id} {context.step_key}\n"
    fd = os.open(context.run_tags["diary"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


def tell(context: OpExecutionContext, *words: object) -> None:
    """A line to the test."""
    with open(context.run_tags["mailbox"], "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def pass_gate(context: OpExecutionContext) -> None:
    """Wait until the test lets one step through."""
    fd = os.open(context.run_tags["gate"], os.O_RDONLY)
    os.read(fd, 1)
    os.close(fd)


def use_slot(context: OpExecutionContext) -> int:
    """Hold the slots for a moment."""
    note(context, "begin")
    time.sleep(0.002)
    note(context, "end")
    return context.fencing_token


@op(pool="database")
def query(context: OpExecutionContext) -> int:
    return use_slot(context)


@op(pool="database")
def query_last(context: OpExecutionContext) -> int:
    return use_slot(context)


@op(pool="database")
def query_after(context: OpExecutionContext, before: object) -> int:
    return use_slot(context)


@op(pool="database", pool_slots=2)
def wide(context: OpExecutionContext) -> int:
    return use_slot(context)


@op(pool="database")
def holds_while_another_run_goes_on(context: OpExecutionContext) -> bool:
    """That run needs the same pool. It is driven by this very process, or by a child of it."""
    if context.run_tags["inside"] == "process":
        return one_query.execute(tags=context.run_tags, raise_on_error=False).success
    code = "import pool_ops, sys; pool_ops.one_query.execute(tags=dict(zip(sys.argv[1::2], sys.argv[2::2])))"
    words = [word for tag in context.run_tags.items() for word in tag]
    here = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    return not subprocess.run(
        [sys.executable, "-c", code, *words], env=here, capture_output=True, check=False
    ).returncode


@op(pools={"left": 1, "right": 1})
def both(context: OpExecutionContext) -> int:
    return use_slot(context)


@op(pool="right")
def right(context: OpExecutionContext) -> int:
    return use_slot(context)


@op(pool="left")
def left(context: OpExecutionContext) -> int:
    return use_slot(context)


@op
def plain(context: OpExecutionContext) -> int:
    return context.fencing_token


@op(pool="database")
def holds(context: OpExecutionContext) -> int:
    """Holds its slot until the test lets it go."""
    note(context, "begin")
    tell(context, "holds", os.getpid(), context.run_id)
    pass_gate(context)
    note(context, "end")
    return context.fencing_token


@op
def busy(context: OpExecutionContext) -> None:
    """Uses no pool, and takes as long as the test likes."""
    tell(context, "busy", os.getpid(), context.run_id)
    pass_gate(context)


@op(pool="database", retry_policy=RetryPolicy(max_retries=1))
def fails_once(context: OpExecutionContext) -> int:
    if context.attempt == 1:
        raise ValueError("the first time it fails")
    return context.fencing_token


@op(pool="database", retry_policy=RetryPolicy(max_retries=1))
def killed_once(context: OpExecutionContext) -> int:
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.fencing_token


#: Ignores SIGTERM, and ends when it gets a byte from the gate.
CHILD = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.read()
fd = os.open(sys.argv[1], os.O_RDONLY)
os.read(fd, 1)
"""


@op(pool="database", retry_policy=RetryPolicy(max_retries=1))
def leaves_a_child(context: OpExecutionContext) -> None:
    """Starts a process in a session of its own; of this step's streams only the input is left to it."""
    if context.attempt > 1:
        return
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", CHILD, context.run_tags["gate"]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    tell(context, "left", os.getpid(), child.pid, os.getppid())
    child.wait()


@op(pool="database")
def forks_a_child(context: OpExecutionContext) -> None:
    """Leaves a forked process behind that waits for the test."""
    if os.fork() == 0:
        pass_gate(context)
        os._exit(0)


@job
def run_in_run() -> None:
    holds_while_another_run_goes_on()


@job
def one_query() -> None:
    query()


@job
def one_holder() -> None:
    holds()


@job
def one_plain() -> None:
    plain()


@job
def one_with_child() -> None:
    leaves_a_child()


@job
def busy_and_query() -> None:
    query()
    busy()


@job
def many_queries() -> None:
    for _ in range(25):
        query()


@job
def mixed() -> None:
    for _ in range(10):
        query()
        wide()
        both()
        right()
        plain()


@job
def one_last_query() -> None:
    query_last()


@job
def holds_and_query() -> None:
    holds()
    query()


@job
def holds_and_busy() -> None:
    holds()
    busy()


@job
def two_queries() -> None:
    query_after(query())


@job
def fork_then_query() -> None:
    query_after(forks_a_child())
