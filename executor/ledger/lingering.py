"""Slots of steps that are over, while a process that such a step left behind still carries its lock.

It happens where nobody could end that process: it had left its step's group, and the template that would have adopted
it was killed. Its slots stay taken until it ends, and its end is heard of as everywhere in the ledger: the kernel says
that a file was closed, and whoever is named is probed until the lock is dropped as well.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from executor.ledger import liveness
from executor.ledger.deaths import FIRST_PROBE_S, LAST_PROBE_S
from executor.ledger.watch import CloseWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where the kernel has no watch left for us, this look is the mechanism.
LOOK_S = 1.0


def is_worked_on(files: Sequence[str], claim: int) -> bool:
    """Whether a process still carries the lock of this claim on one of these lane files, or that cannot be known."""
    try:
        return any(liveness.probe(path, (claim,)) for path in files)
    except OSError:  # this process has no descriptors left
        return True


class LingeringSteps:
    """The steps of one run that are over and are still being worked on."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._files: dict[int, tuple[int, tuple[str, ...]]] = {}  #: ticket -> claim and lane files
        self._watch: CloseWatch | None = None
        self._wait_s = LOOK_S
        self.wake_at: float | None = None  #: when to look again, if nothing is heard before

    def add(self, ticket: int, claim: int, files: Sequence[str], now: float) -> None:
        """Keep the slots of a request until no process of its step carries the lock any more."""
        self._files[ticket] = (claim, tuple(files))
        try:
            if self._watch is None:
                self._watch = CloseWatch()
                self._epoll.register(self._watch.fileno(), select.EPOLLIN)
            for path in files:
                self._watch.add(path)
        except OSError:  # the user's inotify instances or watches are used up
            pass
        self._suspect(now)  # it may have ended since it was probed

    def ended(self, now: float) -> list[int]:
        """The tickets of those that nobody works on any more; each is told once."""
        if self._watch is not None and next(self._watch.read(), None) is not None:
            self._suspect(now)
        if self.wake_at is None or self.wake_at > now:
            return []
        found = [ticket for ticket, (claim, files) in self._files.items() if not is_worked_on(files, claim)]
        for ticket in found:
            del self._files[ticket]
        if not self._files:
            self.close()
            return found
        self.wake_at = now + self._wait_s
        self._wait_s = LOOK_S if self._wait_s > LAST_PROBE_S else 2 * self._wait_s
        return found

    def close(self) -> None:
        """Watch nothing any more. Safe to call twice."""
        self.wake_at = None
        self._files.clear()
        if self._watch is not None:
            if self._watch.fileno() >= 0:
                self._epoll.unregister(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _suspect(self, now: float) -> None:
        """Look now, and again soon: the notice of a file's end comes before its locks are dropped."""
        self.wake_at, self._wait_s = now, FIRST_PROBE_S
