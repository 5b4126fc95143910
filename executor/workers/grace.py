"""Which attempts are given some time to end, and when that is over. Nobody is killed here: ``processes.py`` does it.

Unaware of the clock: the caller says what time it is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.workers.assignment import Assignment
    from executor.workers.lanes import Lane


class _Queue:
    """Attempts that were all given the same time, so that the first to come is the first whose time is over."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Lane, Assignment]] = deque()

    def add(self, at: float, lane: Lane, task: Assignment) -> None:
        self._waiting.append((at, lane, task))

    @property
    def wake_at(self) -> float | None:
        """When the time of the first is over that is not gone from its lane."""
        waiting = self._waiting
        while waiting and waiting[0][1].task is not waiting[0][2]:
            waiting.popleft()
        return waiting[0][0] if waiting else None

    def overdue(self, now: float) -> list[tuple[Lane, Assignment]]:
        """Those whose time is over and who are still there; each is told once."""
        found: list[tuple[Lane, Assignment]] = []
        while (at := self.wake_at) is not None and at <= now:
            found.append(self._waiting.popleft()[1:])
        return found


class Grace:
    """The attempts of one run that are to end."""

    def __init__(self) -> None:
        self.ending = _Queue()  #: have reported, or cannot any more, and should end by themselves
        self.killed = _Queue()  #: were killed, and their end should have been heard of
        self._stopping: dict[Assignment, float] = {}  #: were asked to stop

    def give(self, task: Assignment, until: float) -> None:
        """An attempt was asked to stop."""
        self._stopping[task] = until

    def has(self, task: Assignment) -> bool:
        """Whether it was asked to stop, and may still take its time."""
        return task in self._stopping

    def withdraw(self, task: Assignment) -> None:
        """It has ended, or is killed now. Safe to call for one that had none."""
        self._stopping.pop(task, None)

    def overdue(self, now: float) -> list[Assignment]:
        """Those that were asked to stop and have had their time."""
        return [task for task, until in self._stopping.items() if until <= now]

    @property
    def wake_at(self) -> float | None:
        """When the time of the next is over."""
        dues = [self.ending.wake_at, self.killed.wake_at, *self._stopping.values()]
        return min((due for due in dues if due is not None), default=None)
