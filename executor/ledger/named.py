"""How runs, times and those who hold slots are named to people, everywhere in the same way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.scheduler.events import SlotHolder

# The first characters of a run's id, by which people tell runs apart and commands find them.
RUN_SHOWN = 8


def run_name(run: str) -> str:
    """A run's id as far as it is shown to people; commands take it."""
    return run[:RUN_SHOWN]


def time_text(at: float, now: float | None = None) -> str:
    """A time of day, with its date unless that is today: ``12:03:04``, ``2026-03-01 12:03:04``."""
    local, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M:%S" if local[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", local)


def step_name(holder: SlotHolder) -> str:
    """The step, and its run if that is another one: ``step 'load' of run 7f3a12cd``."""
    return f"step {holder.step!r}" + (f" of run {run_name(holder.run)}" if holder.run else "")


def holder_text(holder: SlotHolder) -> str:
    """Who holds slots, by which process and since when: ``step 'load' of run 7f3a12cd (pid 4711, since 12:03:04)``."""
    known = []
    if holder.outlived:
        known.append("its driver died")
    if holder.pid:
        known.append(f"pid {holder.pid}" + (" of the step lives" if holder.outlived else ""))
    if holder.since is not None:
        known.append(f"since {time_text(holder.since)}")
    if holder.encloses:
        known.append("until this run ends, which was started in it")
    return step_name(holder) + (f" ({', '.join(known)})" if known else "")
