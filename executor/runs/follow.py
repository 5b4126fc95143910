"""The events of a run as its driver writes them, for a process that watches it; nothing is asked of the driver.

It sleeps until the kernel says that the event file was written to, or that the driver is gone.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.ledger.watch import CloseWatch
from executor.runs.history import HistoryReader
from executor.scheduler.events import RunStarted

if TYPE_CHECKING:
    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event

# What is read at once: some thousand events, a few tens of milliseconds of work for whoever reads them.
READ_BYTES = 1 << 20

# Where the kernel gives no notices (all that this user may have are in use), the file is looked at so often.
LOOK_EVERY_S = 0.5


class Follower:
    """Reads the history of a run that may still grow, and waits for more of it."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._reader = HistoryReader(folder.events)
        self._poll = select.poll()
        self._notices: CloseWatch | None = None
        self._driver = -1  #: a descriptor of the driver's process
        self._watched = False
        with suppress(OSError):
            self._notices = CloseWatch()
            self._poll.register(self._notices.fileno(), select.POLLIN)

    def read(self) -> list[tuple[float, Event]]:
        """The events that were written since the last call, but not too many at once; see ``behind``.

        Raises:
            HistoryUnreadable: the history is damaged.
        """
        if self._notices is not None:
            if not self._watched:  # before the file is read, so that nothing is missed between the two
                self._watched = self._notices.add(str(self.folder.events), written=True) is not None
            for _ in self._notices.read():
                pass
        try:
            events = self._reader.read_new(READ_BYTES)
        except FileNotFoundError:
            return []
        if events and isinstance(events[0][1], RunStarted):
            self._watch_driver(events[0][1].pid)
        return events

    @property
    def behind(self) -> bool:
        """Whether more may be there to be read already."""
        return self._reader.behind

    @property
    def alive(self) -> bool:
        """Whether the run's driver lives. When it does not, all that it ever wrote can be read."""
        if self.folder.is_alive():
            return True
        self._forget_driver()
        return False

    def wait(self, timeout_s: float | None, *fds: int, news: bool = True) -> None:
        """Sleep until something was written, the driver is gone, or one of ``fds`` can be read.

        ``news=False``: whatever is written, until one of ``fds`` can be read or the time is over.
        """
        poll = self._poll if news else select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        if news and not self._watched:
            timeout_s = LOOK_EVERY_S if timeout_s is None else min(timeout_s, LOOK_EVERY_S)
        poll.poll(None if timeout_s is None else max(0.0, timeout_s * 1000))

    def close(self) -> None:
        """Follow no longer. Safe to call twice."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        self._forget_driver()

    def _watch_driver(self, pid: int) -> None:
        with suppress(OSError):  # it is gone, or lives where this process cannot see it
            self._driver = os.pidfd_open(pid)
            if self.folder.is_alive():
                self._poll.register(self._driver, select.POLLIN)
            else:  # the number may be somebody else's by now
                self._forget_driver()

    def _forget_driver(self) -> None:
        if self._driver >= 0:
            with suppress(KeyError):
                self._poll.unregister(self._driver)
            os.close(self._driver)
            self._driver = -1
