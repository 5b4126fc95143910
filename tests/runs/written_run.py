"""A run's folder as a driver would have written it: by a real scheduler that is told what a test says, at its times."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self

from executor.plan.plan import Plan, Source, Step, StepInput, make_plan
from executor.plan.record import plan_to_record
from executor.runs.history import HistoryWriter
from executor.runs.home import make_run, open_home
from executor.scheduler.commands import Record, StartStep
from executor.scheduler.events import RunEnded, RunStarted, StepStarted
from executor.scheduler.limits import Limits
from executor.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from pathlib import Path

    from executor.config.settings import TagLimit
    from executor.scheduler.commands import Command
    from executor.scheduler.events import Event, Told


def step(key: str, *reads: str, **fields: Any) -> dict[str, Any]:
    """A step of a plan: its key, the keys that it reads from, other fields of ``Step``."""
    return {"key": key, "reads": reads, **fields}


def plan_of(*steps: dict[str, Any]) -> Plan:
    index_of = {each["key"]: index for index, each in enumerate(steps)}
    made = []
    for index, each in enumerate(steps):
        fields = {name: value for name, value in each.items() if name != "reads"}
        inputs = tuple(StepInput(name=f"x{n}", sources=(Source(index_of[n], "result"),)) for n in each["reads"])
        made.append(Step(index=index, compute=None, inputs=inputs, **fields))
    return make_plan("nightly", tuple(made))


class WrittenRun:
    """A run that began ``began_s`` seconds ago and is alive until ``end``, or until its driver is said to ``die``."""

    def __init__(
        self,
        home: Path,
        *steps: dict[str, Any],
        at_once: int = 4,
        tags: tuple[TagLimit, ...] = (),
        began_s: float = 100.0,
    ) -> None:
        self._lock = make_run(open_home(home))
        self.folder = self._lock.folder
        self.run_id = self.folder.run_id
        plan = plan_of(*steps)
        self.folder.plan.write_text(json.dumps(plan_to_record(plan)))
        self._history = HistoryWriter(self.folder.events)
        limits = Limits(max_concurrent=at_once, tags=tags)
        self.scheduler = Scheduler(plan, limits)
        self.began = time.time() - began_s
        self.pids: dict[str, int] = {}
        self._write(
            RunStarted(
                run_id=self.run_id,
                job=plan.job_name,
                at=self.began,
                pid=4242,
                steps=len(plan),
                max_concurrent=at_once,
                limits=tuple(
                    {"key": t.key, "limit": t.limit, "value": t.value, "per_unique_value": t.per_unique_value}
                    for t in tags
                ),
                workers="one process per step",
                tags={"team": "core"},
            ),
            0.0,
        )
        self.commands = self._perform(self.scheduler.start(0.0), 0.0)

    def tell(self, event: Told, now: float) -> list[Command]:
        """What the scheduler commands, less what this does itself: starting steps, and writing down."""
        self._write(event, now)
        self.commands = self._perform(self.scheduler.handle(event, now), now)
        return self.commands

    def end(self, now: float) -> None:
        status = self.scheduler.status
        assert status is not None
        self._write(RunEnded(status), now)
        self._close()

    def die(self, now: float) -> None:
        """The driver died, and the next look has found it."""
        self._write(RunEnded("interrupted"), now)
        self._close()

    def _close(self) -> None:
        self._history.close()
        self._lock.release()

    def _write(self, event: Event, now: float) -> None:
        self._history.write(event, now)
        self._history.flush()

    def _perform(self, commands: list[Command], now: float) -> list[Command]:
        left: list[Command] = []
        for command in commands:
            if isinstance(command, StartStep):
                pid = self.pids[command.key] = 1000 + len(self.pids)
                self._write(StepStarted(command.key, command.attempt, pid, 0, command.waited), now)
            elif isinstance(command, Record):
                self._write(command.event, now)
            else:
                left.append(command)
        return left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
