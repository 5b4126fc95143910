"""Drives one run: performs the scheduler's commands, waits in one place, and tells the scheduler what happened."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.config.secrets import hidden
from executor.runs.display import Display
from executor.runs.history import HistoryLost
from executor.scheduler.commands import Record, StartStep, StopStep
from executor.scheduler.events import (
    CancelRequested,
    RunEnded,
    RunNotice,
    StepFailed,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    Woke,
)
from executor.workers.interface import Attempt
from executor.workers.job import FAN_IN, LAST_READER, ONE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.authoring.ops import OpDefinition
    from executor.plan.plan import Plan
    from executor.runs.claims import RunClaims
    from executor.runs.control import Control
    from executor.runs.history import HistoryWriter
    from executor.runs.signals import Signals
    from executor.runs.values import ValueFiles
    from executor.scheduler.commands import Command
    from executor.scheduler.events import Event, Told
    from executor.scheduler.outcomes import StepError
    from executor.scheduler.scheduler import Scheduler
    from executor.workers.clock import RunClock
    from executor.workers.interface import InputValue, MadeValue, Report, Workers
    from executor.workers.selector import Selector


# Events may stay in this process for so long before they are written to the file, when nobody is shown them.
# Several steps then share one write; a reader of the file does not notice.
FLUSH_EVERY_S = 0.02

# Processes that do not end within this time after the second Ctrl-C are left to their template's death.
KILL_WAIT_S = 2.0

# When all steps have ended and the ledger's lock is not to be had for so long, the end of the run gives the slots back.
GIVE_BACK_S = 2.0


class Driver:
    """One loop, no threads, and one line that blocks: ``Selector.wait``."""

    def __init__(
        self,
        *,
        plan: Plan,
        scheduler: Scheduler,
        workers: Workers,
        history: HistoryWriter,
        selector: Selector,
        clock: RunClock,
        files: ValueFiles,
        claims: RunClaims | None = None,
        control: Control | None = None,
        configs: Mapping[int, InputValue] | None = None,
        secrets: Sequence[str] = (),
        on_event: Callable[[Event, float], None] | None = None,
    ) -> None:
        self._files = files
        self._plan, self._scheduler, self._workers = plan, scheduler, workers
        self._claims = claims  #: None: no step uses pools
        self._control = control  #: None: nobody can ask for anything but by a signal
        self._configs = configs  #: by step index: the input with a step's config; None or empty: no step has any
        self._secrets = secrets  #: texts that are not shown where a step fails
        self._history, self._selector, self._clock = history, selector, clock
        self._on_event = on_event
        #: where it shows the run by itself too: when it wants to be called without an event
        self._display = on_event if isinstance(on_event, Display) else None
        self._unseen: list[tuple[Event, float]] = []  #: written, and not yet shown
        self._flush_at: float | None = None
        #: step index -> its outputs, until every step that reads them is done
        self._values: dict[int, dict[str, MadeValue]] = {}
        self._readers = [len(below) for below in plan.downstream]
        self._stops = 0  #: signals that asked to stop
        self._give_up_at: float | None = None
        self.interrupted: str | None = None  #: name of the signal that stopped the run

    def run(self, signals: Signals, begin: Sequence[Event]) -> None:
        """Run until every step is final and every process is gone. ``begin`` are the first events of the history.

        Raises:
            HistoryLost: the events can no longer be kept.
        """
        scheduler, workers, clock = self._scheduler, self._workers, self._clock
        self._selector.add(signals.fd, lambda: self._obey(signals))
        if self._control is not None:
            self._selector.add(self._control.fileno(), self._hear)
        signals.on_pause = lambda: workers.blocking and self._pause(signals)
        now = clock()
        reused = [event for event in begin if isinstance(event, StepReused)]
        for event in begin:
            self._write(event, now)
        self._flush()  # whoever finds what is left of this run finds out whose it is
        for event in reused:
            self._keep_values(event)
        self._perform(scheduler.start(now, reused), now)
        while True:
            self._settle(now)
            workers.flush()
            self._show(now)
            if scheduler.finished and self._has_given_back(now):
                return
            self._selector.wait(self._timeout(now))  # the one line that blocks
            now = clock()
            self._settle(now)  # before what is due: a step that ended in time has, however late this process looks
            if scheduler.wake_at is not None and scheduler.wake_at <= now:
                self._tell(Woke(), now)
            if self._claims is not None and (due := self._claims.wake_at) is not None and due <= now:
                self._claims.tick()
            if workers.wake_at is not None and workers.wake_at <= now:
                if self._flush_at is not None:  # a step may run in there for long, and this process be killed meanwhile
                    self._flush()
                workers.tick(now)
                self._obey(signals)  # a signal that came while a step ran in there stopped that step
                now = clock()  # a step may have run in there
            if self._history.sync_at is not None and self._history.sync_at <= now:
                self._history.sync()
            if self._display is not None and (due := self._display.wake_at) is not None and due <= now:
                self._display.tick(now)
            if self._give_up_at is not None and self._give_up_at <= now:
                workers.close(kill=True)
                self._settle(now)
                return

    def end(self, event: Event) -> None:
        """Keep the last event of the run, and show it."""
        self._write(event, self._clock())
        self._show(self._clock())

    def remove_values(self) -> None:
        """Remove the files of values that nobody needs any more. Raises ``HistoryLost`` as ``run`` does."""
        if self._files.due:
            self._flush()

    def abandon(self) -> None:
        """Keep, as far as it can be kept, that an error ended the run; no process of it is left. Shows nothing."""
        self._on_event = None
        now = self._clock()
        with suppress(HistoryLost):
            self._tell(CancelRequested((), kill=True, reason="an error ended the run"), now)  # nothing starts any more
            self._settle(now)
            self._write(RunEnded("cancelled"), now)
            self._history.flush()

    # --- events in ---------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """Tell the scheduler what had been reported by ``now``, and do what it says, until there is no more."""
        claims = self._claims
        if claims is None:
            self._settle_reports(now)
            return
        while True:
            self._settle_reports(now)
            told = claims.exchange(now)
            if not told:
                return
            for event in told:
                if isinstance(event, RunNotice):
                    self._write(event, now)
                else:
                    self._tell(event, now)

    def _settle_reports(self, now: float) -> None:
        workers, handle, perform, claims = self._workers, self._scheduler.handle, self._perform, self._claims
        while workers.reports:
            reports, workers.reports = workers.reports, []
            for report in reports:
                event = report if claims is None else self._with_claim(report, claims)
                if event.__class__ is StepFailed:
                    event.chance = _chance()
                    if self._secrets:
                        event.error = _without(self._secrets, event.error)
                self._write(event, now)
                if event.__class__ is StepStarted or event.__class__ is RunNotice:
                    continue
                if event.__class__ is StepSucceeded:
                    self._keep_values(event)
                commands = handle(event, now)  # type: ignore[arg-type]  # RunNotice was left out above
                if commands:
                    perform(commands, now)

    @staticmethod
    def _with_claim(event: Report, claims: RunClaims) -> Report:
        """The report, as far as slots of pools change it."""
        if isinstance(event, StepStarted):
            claims.started(event.key, event.lane)
        elif isinstance(event, StepSucceeded):
            return claims.checked(event)
        return event

    def _has_given_back(self, now: float) -> bool:
        """Whether the ledger has heard of everything, or cannot be told: the end of the run frees it all as well."""
        if self._claims is None or not self._claims.pending:
            return True
        if self._give_up_at is None:
            self._give_up_at = now + GIVE_BACK_S
        return False

    def _tell(self, event: Told, now: float) -> None:
        self._write(event, now)
        self._perform(self._scheduler.handle(event, now), now)

    def _write(self, event: Event, now: float) -> None:
        self._history.write(event, now)
        if self._on_event is not None:
            self._unseen.append((event, now))
        if self._flush_at is None:
            self._flush_at = now + FLUSH_EVERY_S

    def _show(self, now: float) -> None:
        """Write out what is due; whatever is shown to anybody is in the file first."""
        if self._on_event is not None:
            if self._unseen:
                self._flush()
                unseen, self._unseen = self._unseen, []
                for event, at in unseen:
                    self._on_event(event, at)
        elif self._flush_at is not None and self._flush_at <= now:
            self._flush()

    def _flush(self) -> None:
        """Write out what was collected, and then remove what a run that is resumed from there needs no more."""
        self._history.flush()
        self._flush_at = None
        self._files.remove_due()

    def _timeout(self, now: float) -> float | None:
        dues = (
            self._scheduler.wake_at,
            self._workers.wake_at,
            self._history.sync_at,
            self._flush_at,
            self._give_up_at,
            None if self._claims is None else self._claims.wake_at,
            None if self._display is None else self._display.wake_at,
        )
        due = min((at for at in dues if at is not None), default=None)
        return None if due is None else due - now

    def _obey(self, signals: Signals) -> None:
        for wish, name in signals.take():
            if wish == "pause":
                self._pause(signals)
                continue
            self._stops += 1
            self.interrupted = self.interrupted or name
            now = self._clock()
            kill = self._stops > 1
            if kill:
                self._give_up_at = now + KILL_WAIT_S
            self._write_starts(now)
            self._tell(CancelRequested((), kill, name), now)

    def _hear(self) -> None:
        """Do what other processes ask for: stop steps, or the run."""
        assert self._control is not None  # noqa: S101  (or else nothing is waited for)
        for keys, kill, reason in self._control.take():
            known = tuple(key for key in keys if key in self._plan.index_of)
            if keys and not known:
                continue
            now = self._clock()
            if kill and not keys:
                self._give_up_at = now + KILL_WAIT_S
            self._write_starts(now)
            self._tell(CancelRequested(known, kill, reason), now)

    def _write_starts(self, now: float) -> None:
        """Write down which steps workers have taken, so that none seems to have started after what comes now."""
        reports = self._workers.reports
        for event in reports:
            if isinstance(event, StepStarted):
                if self._claims is not None:
                    self._claims.started(event.key, event.lane)
                self._write(event, now)
        self._workers.reports = [event for event in reports if event.__class__ is not StepStarted]

    def _pause(self, signals: Signals) -> bool:
        self._workers.pause()
        if not self._workers.blocking:  # or else this is inside a handler, which may have come at any place
            self._history.flush()
        self._clock.pause()
        signals.stop_this_process()
        self._clock.resume()
        self._workers.resume()
        return True

    # --- commands out ------------------------------------------------------------------------------------------------

    def _perform(self, commands: list[Command], now: float) -> None:
        for command in commands:
            if command.__class__ is StartStep:
                self._begin(command)
            elif command.__class__ is StopStep:
                self._workers.stop(command.key, command.reason, kill=command.kill)
            elif command.__class__ is Record:
                self._write(command.event, now)
                if command.event.__class__ is StepSkipped:
                    self._has_read(self._plan.index_of[command.event.key])
            elif self._claims is not None:
                self._claims.perform(command)  # type: ignore[arg-type]  # what is left goes to the ledger

    def _begin(self, command: StartStep) -> None:
        key = command.key
        index = self._plan.index_of[key]
        inputs = self._inputs(index) if self._plan.steps[index].inputs else ()  # a fan-in may be of nothing
        if self._configs and index in self._configs:
            inputs = (*inputs, self._configs[index])
        step = self._plan.steps[index]
        op: OpDefinition = step.compute  # type: ignore[assignment]  # the plan holds it as opaque
        attempt = Attempt(
            index, key, command.attempt, op, inputs, command.waited, tags=step.tags, timeout_s=step.timeout_s
        )
        if self._claims is not None and (lease := self._claims.lease(key)) is not None:
            attempt = attempt._replace(claim=lease.claim, token=lease.token)
        self._workers.begin(attempt)

    def _inputs(self, index: int) -> tuple[InputValue, ...]:
        values = self._values
        inputs: list[InputValue] = []
        for item in self._plan.steps[index].inputs:
            if item.order_only:
                continue
            if item.fan_in:
                found = (values.get(source.step, {}).get(source.output) for source in item.sources)
                inputs.append((item.name, tuple([value for value in found if value is not None]), FAN_IN))
            else:
                source = item.sources[0]
                value = values[source.step][source.output]
                last = value[2] is not None and self._readers[source.step] == 1  # of a small one nobody asks
                inputs.append((item.name, (value,), LAST_READER if last else ONE))
        return tuple(inputs)

    def _keep_values(self, event: StepSucceeded | StepReused) -> None:
        """Keep what steps below will read; let go of what this was the last one to read.

        The files of a step that is reused belong to the earlier run, and stay there whoever has read them.
        """
        index = self._plan.index_of[event.key]
        if self._readers[index]:
            self._values[index] = {value[0]: (*value, event.key) for value in event.outputs}
        if event.__class__ is StepSucceeded:
            self._files.made(index, event.outputs)
        self._has_read(index)

    def _has_read(self, index: int) -> None:
        """A step has read what it reads for the last time, or never will."""
        readers = self._readers
        for above in self._plan.upstream[index]:
            readers[above] -= 1
            if not readers[above]:
                self._values.pop(above, None)
                self._files.was_read(above)


def _chance() -> float:
    """A number in [0, 1). Not from ``random``: once that is imported, it is seeded anew in each forked worker."""
    return int.from_bytes(os.urandom(3)) / (1 << 24)


def _without(secrets: Sequence[str], error: StepError) -> StepError:
    """What is told of a failure, without secrets of the run's config, which a step may have put into its exception."""
    message, traceback = hidden(error.message, secrets), hidden(error.traceback, secrets)
    return error._replace(message=message, traceback=traceback)
