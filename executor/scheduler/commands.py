"""What the scheduler asks for. The driver performs each; none is performed by the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from executor.scheduler.events import Derived


@dataclass(slots=True)
class StartStep:
    """Hand this attempt of this step to a worker.

    ``waited`` says for how many seconds what held the step back since it was ready: ``(("max_concurrent", 3.2),)``.
    """

    key: str
    attempt: int
    waited: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class StopStep:
    """Ask the attempt that is running to stop, and kill it after the grace; or, with ``kill``, at once."""

    key: str
    attempt: int
    reason: Literal["timed_out", "cancelled"]
    kill: bool = False


@dataclass(slots=True)
class Record:
    """Keep this consequence in the history and show it."""

    event: Derived


Command = StartStep | StopStep | Record
