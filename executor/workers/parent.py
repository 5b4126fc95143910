"""The driver's link to its template: starts it, gives it orders, passes on what it tells."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from executor.workers.child import LINGER_S
from executor.workers.launch import BegunPage, TemplateProcess, exec_template, fork_template

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.workers.interface import WorkerJob
    from executor.workers.selector import Selector

# Orders of one packet to the template; far below what a packet holds.
ORDERS = 1000

# A template kills and reaps its workers in milliseconds; one that takes longer is not waited for.
END_WITHIN_S = 5.0


class TemplateLink:
    """Orders are collected and sent together; what the template tells becomes a call.

    ``on_worker(pid, fd)``, a worker came; ``on_gone(pid, status, cpu_s, peak_rss_bytes, lingered)``, one is gone with
    all that it had started; ``on_none(why)``, one could not be forked; ``on_end(exit_code)``, the template is dead.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        on_worker: Callable[[int, int], None],
        on_gone: Callable[..., None],
        on_none: Callable[[str], None],
        on_end: Callable[[int | None], None],
    ) -> None:
        self._selector = selector
        self._on_worker, self._on_gone, self._on_none, self._on_end = on_worker, on_gone, on_none, on_end
        self._process: TemplateProcess | None = None
        self._starting = False  #: a forked template gets ready while the driver does other things
        self._orders: list[tuple[str, int]] = []

    def launch(
        self, method: str, job: WorkerJob, begun: BegunPage, attempts: int | None, *, preload: Sequence[str]
    ) -> None:
        """Start a template by ``fork``, or afresh.

        Raises:
            WorkersUnavailable: it cannot load the user's code, or that code starts threads.
        """
        if method == "fork":
            started = fork_template(job, begun, attempts)
        else:
            started = exec_template(job, begun, attempts, preload=preload)
            try:
                started.await_ready()
            except BaseException:
                started.kill()
                started.close()
                started.wait()
                raise
        self._process = started
        self._starting = method == "fork"
        self._orders.clear()
        self._selector.add(started.control.fileno(), self._on_ready)

    def await_ready(self) -> None:
        """Block until the template can fork workers.

        Raises:
            WorkersUnavailable: it died before.
        """
        if self._starting and self._process is not None:
            self._starting = False
            self._process.await_ready()

    def order(self, what: str, number: int) -> None:
        """``fork`` so many workers; ``stop`` or ``kill`` the group of a pid; ``signal_all`` with a signal."""
        self._orders.append((what, number))

    def flush(self) -> None:
        """Send the orders."""
        while self._orders and self._process is not None:
            packet, self._orders = self._orders[:ORDERS], self._orders[ORDERS:]
            self._process.control.send(packet)

    def close(self, used: set[int]) -> bool:
        """End the template with all its workers, and wait for it. False: it had to be killed.

        The pids of ``used`` see that their channel is closed, and get a moment to run their exit handlers.
        """
        started, self._process = self._process, None
        if started is None:
            return True
        self._selector.remove(started.control.fileno())
        if used:
            self._await_gone(started, used)
        started.close()
        if not started.wait(END_WITHIN_S):  # it is stopped, or waits for a process that the kernel cannot kill yet
            started.kill()
            started.wait()
            return False
        return True

    @staticmethod
    def _await_gone(started: TemplateProcess, pids: set[int]) -> None:
        deadline = time.monotonic() + LINGER_S
        poll = select.poll()
        poll.register(started.control, select.POLLIN)
        while pids and (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                return
            news, fds = started.control.receive()
            if news is None:
                return
            for fd in fds:  # a worker that came too late to get anything to do
                os.close(fd)
            pids.difference_update(item[1] for item in news if item[0] == "gone")

    def _on_ready(self) -> None:
        started = self._process
        if started is None:  # closed by an earlier callback of the same round
            return
        news, fds = started.control.receive()
        if news is None:
            self._selector.remove(started.control.fileno())
            self._process = None
            started.close()
            started.wait()
            self._on_end(started.exit_code)
            return
        if news[0] == "ready":
            self._starting = False
            return
        sockets = iter(fds)
        for kind, *details in news:
            if kind == "gone":
                self._on_gone(*details)
            elif kind == "worker":
                fd = next(sockets, -1)
                if fd >= 0:
                    self._on_worker(details[0], fd)
                else:  # no descriptor was free in this process, so the kernel dropped it
                    self.order("kill", details[0])
                    self._on_none("this process has too many open files")
            else:
                self._on_none(details[0])
