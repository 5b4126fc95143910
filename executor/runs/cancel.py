"""Asking a run that another process drives to stop, as a whole or some of its steps, and seeing what comes of it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, UsageError
from executor.ledger.named import run_name
from executor.plan.select import select_indexes
from executor.runs.changes import Changes
from executor.runs.control import CancelAsked, ask
from executor.runs.history import HistoryReader
from executor.runs.leftovers import look, processes_of
from executor.runs.replay import read_plan
from executor.runs.result import read_result
from executor.runs.steps import collect_steps
from executor.scheduler.events import CancelRequested, RunEnded, RunStarted
from executor.scheduler.states import FINAL
from executor.workers.process import stat_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.runs.home import RunFolder
    from executor.scheduler.events import Event

# A driver that can hear does so within milliseconds.
HEARD_S = 5.0


class NotHeard(ExecutorError):
    """A driver was asked for something and has not heard it yet; ``run_id`` names its run, ``reason`` says why."""

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(run_id, reason)
        self.run_id, self.reason = run_id, reason

    def __str__(self) -> str:
        return f"run {self.run_id} was asked to stop, and has not heard it yet: {self.reason}"


def cancel(
    folder: RunFolder, steps: Sequence[str] = (), *, kill: bool = False, wait: bool = True, patience_s: float = HEARD_S
) -> tuple[str, ...]:
    """Ask for the stop of a run, or of some steps of it; the keys of these steps, none for the run.

    Args:
        folder: of the run.
        steps: names as in a selection: ``train``, or ``train*`` with all that is below.
        kill: without the time that a step has to end by itself.
        wait: until what was asked for has come; without it until the driver has heard it.
        patience_s: how long a driver may take to hear it.

    Raises:
        UsageError: the run has ended, or its driver has died; or the steps are not there, or have ended.
        NotHeard: the driver has not heard it within ``patience_s``; it will, when it can.
    """
    _check_alive(folder)
    with Changes(folder) as changes:
        teller = _Teller(folder, changes)
        keys = _keys(folder, steps, teller)
        reason = f"asked by process {os.getpid()}"
        told = len(teller.timeline)
        if not ask(folder, CancelAsked(keys, kill, reason)):
            raise _not_there(folder)
        end = time.monotonic() + patience_s
        while not teller.ended and not teller.heard(reason, told):
            if (left := end - time.monotonic()) <= 0:
                raise NotHeard(folder.run_id, _why_not(teller))
            teller.wait(left)
        while wait and not teller.ended and not (keys and teller.over(keys)):
            teller.wait()
    return keys


class _Teller:
    """What the history of a run says, as it grows."""

    def __init__(self, folder: RunFolder, changes: Changes) -> None:
        self._folder, self._changes = folder, changes
        self._reader = HistoryReader(folder.events)
        self.timeline: list[tuple[float, Event]] = []
        self.ended = False
        self._read()

    def wait(self, timeout_s: float = 1.0) -> None:
        """Wait for more of it."""
        self._changes.wait(min(timeout_s, 1.0))
        self._read()

    def _read(self) -> None:
        alive = self._folder.is_alive()  # first: what a driver wrote before it died is read then
        with suppress(FileNotFoundError):  # it has only just been made
            self.timeline += self._reader.read_new()
        self.ended = not alive or (bool(self.timeline) and isinstance(self.timeline[-1][1], RunEnded))

    def heard(self, reason: str, since: int) -> bool:
        """Whether somebody's wish stands in it, after so many events."""
        return any(isinstance(event, CancelRequested) and event.reason == reason for _, event in self.timeline[since:])

    def over(self, keys: tuple[str, ...]) -> bool:
        """Whether these steps have come to an end."""
        steps = collect_steps(self.timeline, keys)
        return all(steps[key].state in FINAL for key in keys)


def _check_alive(folder: RunFolder) -> None:
    if folder.is_alive():
        return
    found = next((run for run in look(folder.home) if run.folder == folder), None)
    status = read_result(folder).status
    if found is None and status != "interrupted":
        raise UsageError(f"run {folder.run_id} has ended: {status}")
    left = processes_of(folder)
    text = f"the driver of run {folder.run_id} has died, so there is nothing to stop"
    if left:
        pids = " ".join(str(process.pid) for process in left)
        text += (
            f" but what it left behind: {', '.join(map(str, left))}; to end {'it' if left[1:] else 'that'}: kill {pids}"
        )
    raise UsageError(f"{text}; to go on from there: executor resume {run_name(folder.run_id)}")


def _keys(folder: RunFolder, steps: Sequence[str], teller: _Teller) -> tuple[str, ...]:
    if not steps:
        return ()
    plan = read_plan(folder)
    chosen = [plan.steps[index].key for index in select_indexes(plan, list(steps))]
    known = collect_steps(teller.timeline, chosen)
    keys = tuple(key for key in chosen if known[key].state not in FINAL)
    if not keys:
        key = chosen[0]
        what = f"step {key!r} {known[key].explain()}" if not chosen[1:] else "these steps have all ended"
        raise UsageError(
            f"{what}, so there is nothing to stop; the run goes on: executor cancel {run_name(folder.run_id)}"
        )
    return keys


def _not_there(folder: RunFolder) -> ExecutorError:
    if not folder.is_alive():
        return UsageError(f"run {folder.run_id} has just ended")
    pid = _driver([] if not folder.events.exists() else read_result(folder).events)
    if not pid:
        return NotHeard(folder.run_id, "its driver is only just beginning; ask again")
    return NotHeard(folder.run_id, f"its driver takes no requests (any more); to stop it by a signal: kill {pid}")


def _why_not(teller: _Teller) -> str:
    events = [event for _, event in teller.timeline]
    pid = _driver(events)
    stat = stat_of(pid)
    if stat is not None and stat[0] in {b"T", b"t"}:
        return f"its driver, process {pid}, is stopped, and hears it when it goes on: kill -CONT {pid}"
    running = [step.key for step in collect_steps(teller.timeline).values() if step.state.value == "running"]
    inside = isinstance(events[0], RunStarted) and events[0].workers.startswith("in this process")
    if inside and running:
        return f"step {running[0]!r} runs inside of its driver, process {pid}, which hears it when that step has ended"
    return f"its driver, process {pid}, is busy"


def _driver(events: Sequence[Event]) -> int:
    first = events[0] if events else None
    return first.pid if isinstance(first, RunStarted) else 0
