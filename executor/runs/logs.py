"""What the steps of a run wrote to stdout and stderr, attempt by attempt: where it lies in the logs of the lanes.

An attempt's part of its lane's log is told by the event of its end. Of one that still runs it begins where the part of
the attempt before it on that lane ended. Pure: told events and the sizes of the logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.events import StepFailed, StepReturned, StepStarted, StepSucceeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.scheduler.events import Event


class Piece(NamedTuple):
    """Some of what an attempt wrote: bytes of its lane's log."""

    key: str
    attempt: int
    lane: int
    begin: int
    end: int


@dataclass(slots=True)
class _Open:
    """An attempt that runs on a lane."""

    key: str
    attempt: int
    at: int  #: up to where it was given out
    given: bool = False  #: whether any of it was


class LogPieces:
    """Turns the events of a run, in order, into the pieces that its attempts wrote."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}  #: by lane
        self._ends: dict[int, int] = {}  #: lane -> end of the part of the last attempt that has ended there

    @property
    def lanes(self) -> list[int]:
        """The lanes on which an attempt runs now."""
        return list(self._open)

    def add(self, events: Iterable[Event], sizes: Mapping[int, int]) -> list[Piece]:
        """What can be given out now. ``sizes`` are those of the logs of lanes, as they were before these events."""
        pieces: list[Piece] = []
        for event in events:
            if isinstance(event, StepStarted) and event.lane >= 0:
                self._open[event.lane] = _Open(event.key, event.attempt, self._ends.get(event.lane, 0))
            elif isinstance(event, StepSucceeded | StepFailed):
                pieces += self._ended(event)
            elif isinstance(event, StepReturned):
                self._open = {lane: one for lane, one in self._open.items() if one.key != event.key}
        for lane, one in self._open.items():
            size = sizes.get(lane, 0)
            if size > one.at:
                pieces.append(Piece(one.key, one.attempt, lane, one.at, size))
                one.at, one.given = size, True
        return pieces

    def _ended(self, event: StepSucceeded | StepFailed) -> list[Piece]:
        facts = event.facts
        lane, begin, end = facts.lane, facts.log_from, facts.log_to
        found = next((at for at, one in self._open.items() if (one.key, one.attempt) == (event.key, event.attempt)), -1)
        one = self._open.pop(found, None)
        if lane < 0:
            return []
        if one is not None and one.given:
            begin = one.at
        self._ends[lane] = max(end, self._ends.get(lane, 0))
        return [Piece(event.key, event.attempt, lane, begin, end)] if end > begin else []
