"""The time of one run: seconds since it began, standing still while the run is stopped (Ctrl-Z)."""

from __future__ import annotations

import time


class RunClock:
    """Call it for the seconds since it was made, less those of its pauses; the wall clock may jump as it likes."""

    __slots__ = ("_offset", "_paused_at", "_pauses")

    def __init__(self) -> None:
        self._offset = time.monotonic()
        self._paused_at: float | None = None
        self._pauses: list[tuple[float, float]] = []  #: raw time of each pause's begin, and its seconds

    def __call__(self) -> float:
        """Now, in whole microseconds: what a history can keep, so that a replay sees the very same times."""
        raw = time.monotonic() if self._paused_at is None else self._paused_at
        return int((raw - self._offset) * 1e6) / 1e6

    def at(self, raw: float) -> float:
        """The run's time at ``raw``, a value of ``time.monotonic`` in any process of this machine."""
        offset = self._offset
        if self._pauses:
            offset -= sum(seconds for begin, seconds in self._pauses if begin >= raw)
        return int((raw - offset) * 1e6) / 1e6

    def pause(self) -> None:
        """Stand still from now on."""
        if self._paused_at is None:
            self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Go on from where it stood still."""
        if self._paused_at is not None:
            seconds = time.monotonic() - self._paused_at
            self._pauses.append((self._paused_at, seconds))
            self._offset += seconds
            self._paused_at = None
