"""What a program may give a run to show it: something that is called with each event, and when it asks to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from executor.plan.plan import Plan
    from executor.scheduler.events import Event


@runtime_checkable
class Display(Protocol):
    """Is called with each event of a run, and with ``tick`` when ``wake_at`` has come; in the driver's own loop."""

    wake_at: float | None  #: when to call ``tick``, in seconds since the run began; None: with the next event

    def __call__(self, event: Event, t: float) -> None:
        """Something happened ``t`` seconds after the run began."""

    def tick(self, now: float) -> None:
        """It is ``now``, and ``wake_at`` has come; set another one, or None."""


@runtime_checkable
class MeetsPlan(Protocol):
    """Is called with each event of a run, and shown its plan before the first."""

    def __call__(self, event: Event, t: float) -> None:
        """Something happened ``t`` seconds after the run began."""

    def meet(self, plan: Plan) -> None:
        """This is what will run."""
