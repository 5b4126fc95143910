"""Waiting for what a run writes next, without looking again and again: the kernel gives notice (inotify).

Where it has no notices left, what is there is looked at some times a second.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from executor.ledger.watch import CloseWatch

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

# The death of a driver gives notice a moment before its lock is free, so that is looked at besides; and so is
# everything where there are no notices.
LOOK_EVERY_S = 1.0
WITHOUT_NOTICES_S = 0.25


class Changes:
    """Changes of the files in a run's folder, from the moment when it is made. A ``with`` block closes it."""

    __slots__ = ("_notices",)

    def __init__(self, folder: RunFolder) -> None:
        self._notices: CloseWatch | None = None
        with suppress(OSError):
            self._notices = CloseWatch()
            if self._notices.add(str(folder.path), folder=True, written=True) is not None:
                return
        self.close()

    def wait(self, timeout_s: float = LOOK_EVERY_S) -> None:
        """Return when something has changed since the last call, or after so many seconds."""
        if self._notices is None:
            time.sleep(min(timeout_s, WITHOUT_NOTICES_S))  # all that is left where the kernel tells nothing
            return
        if select.select([self._notices.fileno()], [], [], timeout_s)[0]:
            for _ in self._notices.read():
                pass

    def close(self) -> None:
        """Watch nothing any more. Safe to call twice."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
