"""The driver's link to its template: starts it, gives it orders, passes on what it tells."""

from __future__ import annotations

import select
import signal
import time
from typing import TYPE_CHECKING

from executor.workers import hygiene, process
from executor.workers.child import LINGER_S
from executor.workers.launch import END_WITHIN_S
from executor.workers.sockets import FDS_PER_PACKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.workers.job import WorkerJob
    from executor.workers.launch import TemplateProcess
    from executor.workers.selector import Selector

# Orders of one packet to the template; far below what a packet holds.
ORDERS = 1000


class TemplateLink:
    """Orders are collected and sent together; what the template tells becomes a call.

    ``on_worker(lane, pid)``, a worker came; ``on_gone(lane, status, cpu_s, peak_rss_bytes, lingered)``, one is gone
    with all that it had started; ``on_none(lane, why)``, none could be forked there; ``on_end(exit_code)``, the
    template is dead.
    """

    def __init__(
        self,
        selector: Selector,
        *,
        on_worker: Callable[[int, int], None],
        on_gone: Callable[..., None],
        on_none: Callable[[int, str], None],
        on_end: Callable[[int | None], None],
    ) -> None:
        self._selector = selector
        self._on_worker, self._on_gone, self._on_none, self._on_end = on_worker, on_gone, on_none, on_end
        self._process: TemplateProcess | None = None
        self._starting = False  #: a forked template gets ready while the driver does other things
        self._orders: list[tuple[str, object]] = []
        self._fds: list[int] = []  #: the sockets of the lanes among them, in order

    def attach(self, started: TemplateProcess, job: WorkerJob, *, ready: bool) -> None:
        """Work with this template from now on, and tell it of the job. ``ready``: it has said that it can fork."""
        self._process = started
        self._starting = not ready
        self._forget_orders()
        self._orders.append(("job", job.plain()))
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
        """``fork`` a worker on a lane; ``stop`` or ``kill`` the group of a pid; ``signal_all`` with a signal."""
        self._orders.append((what, number))

    def open_lane(self, number: int, fd: int) -> None:
        """Give the template the other end of a lane's socket; ``fd`` is the template's from now on."""
        if len(self._fds) == FDS_PER_PACKET:
            self.flush()
        self._orders.append(("lane", number))
        self._fds.append(hygiene.register(fd))

    def wake(self) -> bool:
        """Continue the template if it was stopped (SIGSTOP); whether it was."""
        if self._process is None:
            return False
        found = process.stat_of(self._process.pid)
        if found is None or found[0] != b"T":
            return False
        process.signal_one(self._process.pid, signal.SIGCONT)
        return True

    def flush(self) -> None:
        """Send the orders."""
        while self._orders and self._process is not None:
            packet, self._orders = self._orders[:ORDERS], self._orders[ORDERS:]
            sockets = sum(what == "lane" for what, _ in packet) if self._fds else 0
            self._process.control.send(packet, self._fds[:sockets])
            for fd in self._fds[:sockets]:
                hygiene.close(fd)
            del self._fds[:sockets]

    def close(self, used: set[int]) -> bool:
        """End the template with all its workers, and wait for it. False: it had to be killed.

        Workers on the lanes of ``used`` see that their channel is closed, and get a moment to run their exit handlers.
        """
        started, self._process = self._process, None
        self._forget_orders()
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

    def _forget_orders(self) -> None:
        self._orders.clear()
        for fd in self._fds:
            hygiene.close(fd)
        self._fds.clear()

    @staticmethod
    def _await_gone(started: TemplateProcess, lanes: set[int]) -> None:
        deadline = time.monotonic() + LINGER_S
        poll = select.poll()
        poll.register(started.control, select.POLLIN)
        while lanes and (left := deadline - time.monotonic()) > 0:
            if not poll.poll(left * 1000):
                return
            news, _ = started.control.receive()
            if news is None:
                return
            lanes.difference_update(item[1] for item in news if item[0] == "gone")

    def _on_ready(self) -> None:
        started = self._process
        if started is None:  # closed by an earlier callback of the same round
            return
        news, _ = started.control.receive()
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
        for kind, *details in news:
            if kind == "gone":
                self._on_gone(*details)
            elif kind == "worker":
                self._on_worker(*details)
            else:
                self._on_none(*details)
