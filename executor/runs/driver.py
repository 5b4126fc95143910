"""Drives one run: performs the scheduler's commands, waits in one place, and tells the scheduler what happened."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from executor.runs.history import HistoryLost
from executor.scheduler.commands import Record, StartStep, StopStep
from executor.scheduler.events import CancelRequested, RunEnded, RunNotice, StepFailed, StepStarted, StepSucceeded, Woke
from executor.workers.interface import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from executor.authoring.ops import OpDefinition
    from executor.plan.plan import Plan
    from executor.runs.claims import RunClaims
    from executor.runs.history import HistoryWriter
    from executor.runs.signals import Signals
    from executor.scheduler.commands import Command
    from executor.scheduler.events import Event, Told
    from executor.scheduler.scheduler import Scheduler
    from executor.workers.clock import RunClock
    from executor.workers.interface import InputValue, PlainValue, Report, Workers
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
        claims: RunClaims | None = None,
        on_event: Callable[[Event, float], None] | None = None,
    ) -> None:
        self._plan, self._scheduler, self._workers = plan, scheduler, workers
        self._claims = claims  #: None: no step uses pools
        self._history, self._selector, self._clock = history, selector, clock
        self._on_event = on_event
        self._unseen: list[tuple[Event, float]] = []  #: written, and not yet shown
        self._flush_at: float | None = None
        #: step index -> its outputs, until every step that reads them is done
        self._values: dict[int, dict[str, PlainValue]] = {}
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
        signals.on_pause = lambda: workers.blocking and self._pause(signals)
        now = clock()
        for event in begin:
            self._write(event, now)
        self._perform(scheduler.start(now), now)
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
                    self._history.flush()
                    self._flush_at = None
                workers.tick(now)
                self._obey(signals)  # a signal that came while a step ran in there stopped that step
                now = clock()  # a step may have run in there
            if self._history.sync_at is not None and self._history.sync_at <= now:
                self._history.sync()
            if self._give_up_at is not None and self._give_up_at <= now:
                workers.close(kill=True)
                self._settle(now)
                return

    def end(self, event: Event) -> None:
        """Keep the last event of the run, and show it."""
        self._write(event, self._clock())
        self._show(self._clock())

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
                self._history.flush()
                self._flush_at = None
                unseen, self._unseen = self._unseen, []
                for event, at in unseen:
                    self._on_event(event, at)
        elif self._flush_at is not None and self._flush_at <= now:
            self._history.flush()
            self._flush_at = None

    def _timeout(self, now: float) -> float | None:
        dues = (
            self._scheduler.wake_at,
            self._workers.wake_at,
            self._history.sync_at,
            self._flush_at,
            self._give_up_at,
            None if self._claims is None else self._claims.wake_at,
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
            elif self._claims is not None:
                self._claims.perform(command)  # type: ignore[arg-type]  # what is left goes to the ledger

    def _begin(self, command: StartStep) -> None:
        key = command.key
        index = self._plan.index_of[key]
        inputs = self._inputs(index) if self._plan.steps[index].inputs else ()  # a fan-in may be of nothing
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
                inputs.append((item.name, tuple([value for value in found if value is not None]), True))
            else:
                source = item.sources[0]
                inputs.append((item.name, (values[source.step][source.output],), False))
        return tuple(inputs)

    def _keep_values(self, event: StepSucceeded) -> None:
        """Keep what steps below will read; let go of what this was the last one to read."""
        plan, readers, values = self._plan, self._readers, self._values
        index = plan.index_of[event.key]
        if readers[index]:
            values[index] = {value[0]: tuple(value) for value in event.outputs}  # type: ignore[misc]  # four items each
        for above in plan.upstream[index]:
            readers[above] -= 1
            if not readers[above]:
                values.pop(above, None)


def _chance() -> float:
    """A number in [0, 1). Not from ``random``: once that is imported, it is seeded anew in each forked worker."""
    return int.from_bytes(os.urandom(3)) / (1 << 24)
