"""The least that a process per step and a warm worker can cost in Python: loops with nothing above system calls."""

import os
import sys
from marshal import dumps, loads
from time import perf_counter

from graphs import Order, graph, step

# One message, with at most two numbers in it; far below what a pipe moves in one piece.
MESSAGE_BYTES = 512


def fork_loop(shape: str, size: str, workers: str, loaded: str) -> dict[str, float]:
    """Seconds of a loop that does for each step what a process per step must do, ``workers`` at once.

    That is: fork, lead a process group, point stdout and stderr at a log, run the step, send its value through a pipe,
    exit; and ``wait4`` for the facts. ``loaded``: "same" has imported before what a file with the same job imports
    (and so forks as much memory), "empty" nothing.
    """
    of = graph(shape, int(size))
    if loaded == "same":
        from ours import make_job

        job = make_job(of)  # noqa: F841  (held, as the module of a job holds it)
    elif "executor" in sys.modules:
        raise AssertionError("this interpreter should be empty, and has imported executor")
    log = os.open(os.path.join(os.environ["EXECUTOR_HOME"], "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # noqa: PTH118  (pathlib would be an import)
    pipes = [os.pipe() for _ in range(int(workers))]
    free = list(range(len(pipes)))
    order = Order(of)
    ready = order.ready[::-1]
    running: dict[int, tuple[int, int]] = {}
    cpu_before = sum(os.times()[:4])
    began = perf_counter()
    while order.left:
        while ready and free:
            index, lane = ready.pop(), free.pop()
            pid = os.fork()
            if not pid:
                try:
                    os.setpgid(0, 0)
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                    os.write(pipes[lane][1], dumps(step(*order.inputs(index))))
                finally:
                    os._exit(0)
            running[pid] = index, lane
        pid, _, _ = os.wait4(-1, 0)
        index, lane = running.pop(pid)
        free.append(lane)
        ready.extend(order.end(index, loads(os.read(pipes[lane][0], MESSAGE_BYTES))))
    took = perf_counter() - began
    cpu_s = sum(os.times()[:4]) - cpu_before
    order.check()
    return {"steps": len(of), "wall_s": took, "cpu_s": cpu_s}


def pipe_loop(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of a loop that hands steps to ``workers`` warm processes through pipes, one in flight each."""
    from select import POLLIN, poll

    of = graph(shape, int(size))
    order = Order(of)
    ready = order.ready[::-1]
    watch = poll()
    inbox_of: dict[int, int] = {}
    for _ in range(int(workers)):
        theirs, inbox = os.pipe()
        outbox, ours = os.pipe()
        if not os.fork():
            for other in inbox_of.values():
                os.close(other)
            os.close(inbox)
            _serve(theirs, ours)
        os.close(theirs)
        os.close(ours)
        watch.register(outbox, POLLIN)
        inbox_of[outbox] = inbox
    idle = list(inbox_of)
    running: dict[int, int] = {}
    began = perf_counter()
    while order.left:
        while ready and idle:
            index, outbox = ready.pop(), idle.pop()
            running[outbox] = index
            os.write(inbox_of[outbox], dumps(order.inputs(index)))
        for outbox, _ in watch.poll():
            ready.extend(order.end(running.pop(outbox), loads(os.read(outbox, MESSAGE_BYTES))))
            idle.append(outbox)
    took = perf_counter() - began
    for inbox in inbox_of.values():
        os.close(inbox)
    for _ in inbox_of:
        os.wait()
    order.check()
    return {"steps": len(of), "wall_s": took}


def _serve(inbox: int, outbox: int) -> None:
    try:
        while message := os.read(inbox, MESSAGE_BYTES):
            os.write(outbox, dumps(step(*loads(message))))
    finally:
        os._exit(0)
