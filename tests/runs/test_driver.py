"""The driver's loop with scripted workers and a clock that the test moves: no process, no waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from executor.plan.plan import Plan, Source, Step, StepInput, make_plan
from executor.runs.driver import KILL_WAIT_S, Driver
from executor.runs.history import HistoryWriter, read_history
from executor.runs.home import RunFolder
from executor.runs.values import ValueFiles
from executor.scheduler.events import (
    CancelRequested,
    Event,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepStarted,
    StepSucceeded,
    Woke,
)
from executor.scheduler.limits import Limits
from executor.scheduler.outcomes import StepError, StoredValue
from executor.scheduler.scheduler import Scheduler
from executor.workers.interface import Attempt
from executor.workers.job import ONE

if TYPE_CHECKING:
    from executor.workers.interface import Report


@dataclass
class ScriptedWorkers:
    """Keeps what it is told; the test makes its reports."""

    description: str = "scripted"
    blocking: bool = False
    template_died: bool = False
    wake_at: float | None = None
    reports: list[Report] = field(default_factory=list)
    begun: list[Attempt] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def start(self) -> None: ...

    def begin(self, attempt: Attempt) -> None:
        self.begun.append(attempt)
        self.reports.append(StepStarted(attempt.key, attempt.number))

    def stop(self, key: str, reason: str, *, kill: bool) -> None:
        self.told.append(f"{'kill' if kill else 'stop'} {key}: {reason}")

    def flush(self) -> None: ...

    def tick(self, now: float) -> None: ...

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def interrupt(self, signum: int) -> None: ...

    def close(self, *, kill: bool = False) -> None:
        self.told.append("close")
        over = {report.key for report in self.reports if isinstance(report, StepSucceeded)}
        for attempt in self.begun:
            if kill and attempt.key not in over:
                self.reports.append(StepFailed(attempt.key, attempt.number, StepError("cancelled", "given up")))


class Signals:
    """What the terminal asks, as the test says."""

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        self.wishes: list[tuple[str, str]] = []
        self.on_pause: Callable[[], bool] | None = None
        self.stopped = 0

    def take(self) -> list[tuple[str, str]]:
        wishes, self.wishes = self.wishes, []
        return wishes

    def stop_this_process(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)


class World:
    """A driver whose time goes on only where it waits: each wait takes the next turn of the script."""

    def __init__(self, plan: Plan, folder: Path, on_event: Callable[[Event, float], None] | None = None) -> None:
        self.now = 0.0
        self._paused_at: float | None = None
        self.script: list[Callable[[], object]] = []
        self.waits: list[float | None] = []
        self.workers, self.signals = ScriptedWorkers(), Signals()
        self.history = HistoryWriter(folder / "events.jsonl")
        self.scheduler = Scheduler(plan, Limits(max_concurrent=4))
        self._callbacks: dict[int, Callable[[], object]] = {}
        self.driver = Driver(
            plan=plan,
            scheduler=self.scheduler,
            workers=self.workers,  # type: ignore[arg-type]  # as much of one as a driver uses
            history=self.history,
            selector=self,  # type: ignore[arg-type]  # as above
            clock=self,  # type: ignore[arg-type]  # as above
            files=ValueFiles(plan, RunFolder(folder), keep_all=False),
            on_event=on_event,
        )

    # as a clock
    def __call__(self) -> float:
        return self.now

    def pause(self) -> None:
        self.workers.told.append("clock stands")
        self._paused_at = self.now

    def resume(self) -> None:
        self.workers.told.append("clock goes")
        if self._paused_at is not None:
            self.now, self._paused_at = self._paused_at, None

    # as a selector
    def add(self, fd: int, callback: Callable[[], object]) -> None:
        self._callbacks[fd] = callback

    def wait(self, timeout_s: float | None) -> None:
        self.waits.append(timeout_s)
        if self.script:
            self.script.pop(0)()
        else:
            assert timeout_s is not None, "it would wait for ever"
            self.now += timeout_s

    def signal(self, *wishes: tuple[str, str]) -> None:
        self.signals.wishes.extend(wishes)
        self._callbacks[self.signals.fd]()

    def run(self, *begin: Event) -> list[tuple[float, Event]]:
        self.driver.run(self.signals, list(begin))  # type: ignore[arg-type]  # as above
        self.history.close()
        return list(read_history(self.history.path))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes a world for a plan."""
    made: list[World] = []

    def make(plan: Plan, on_event: Callable[[Event, float], None] | None = None) -> World:
        made.append(World(plan, tmp_path, on_event))
        return made[-1]

    yield make
    for one in made:
        one.history.close()
        one.signals.close()


def single(**settings: object) -> Plan:
    return make_plan("job", (Step(index=0, key="load", compute=None, **settings),))  # type: ignore[arg-type]


def chain() -> Plan:
    reads = StepInput(name="value", sources=(Source(0, "result"),))
    steps = (Step(index=0, key="load", compute=None), Step(index=1, key="train", compute=None, inputs=(reads,)))
    return make_plan("job", steps)


def succeeded(key: str, value: bytes = b"v") -> StepSucceeded:
    return StepSucceeded(key, 1, (StoredValue("result", value, None, len(value)),))


def test_the_beginning_of_a_run_is_in_its_file_before_a_worker_is_asked_for(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is left of a driver that is killed in the first moment is known for what it is."""
    here = world(single())
    begin, seen = here.workers.begin, []

    def look(attempt: Attempt) -> None:
        seen.append([event for _, event in read_history(here.history.path)])
        begin(attempt)

    monkeypatch.setattr(here.workers, "begin", look)
    here.script.append(lambda: here.workers.reports.append(succeeded("load")))
    started = RunStarted(run_id="r", job="job", at=1.0, pid=1, steps=1, max_concurrent=4)
    here.run(started)
    assert seen == [[started]]


def test_a_result_that_was_there_before_its_deadline_counts_however_late_the_driver_looks(
    world: Callable[..., World],
) -> None:
    """As when the driver's process is stopped for a while, or the machine is busy."""
    here = world(single(timeout_s=1.0))

    def late() -> None:
        here.now = 100.0
        here.workers.reports.append(succeeded("load"))

    here.script.append(late)
    kinds = [type(event) for _, event in here.run()]
    assert kinds == [StepStarted, StepSucceeded]
    assert here.workers.told == []
    assert here.scheduler.status == "succeeded"


def test_a_deadline_that_passes_stops_the_step_at_that_moment(world: Callable[..., World]) -> None:
    here = world(single(timeout_s=1.0))

    def until_due() -> None:
        here.now += here.waits[-1] or 0.0

    def told_to_stop() -> None:
        assert here.workers.told == ["stop load: timed_out"]
        here.workers.reports.append(StepFailed("load", 1, StepError("timed_out", "late")))

    here.script += [until_due] * 2  # until the events are written, and until the deadline
    here.script.append(told_to_stop)
    timeline = here.run()
    assert [(t, type(event)) for t, event in timeline if isinstance(event, Woke)] == [(1.0, Woke)]
    assert here.scheduler.status == "failed"


def test_values_are_handed_on_and_then_let_go(world: Callable[..., World]) -> None:
    here = world(chain())
    here.script.append(lambda: here.workers.reports.append(succeeded("load", b"of load")))
    here.script.append(lambda: here.workers.reports.append(succeeded("train")))
    here.run()
    assert [attempt.inputs for attempt in here.workers.begun] == [
        (),
        (("value", (("result", b"of load", None, 7, "load"),), ONE),),
    ]
    assert here.driver._values == {}


def test_what_is_shown_is_in_the_file_before(world: Callable[..., World], tmp_path: Path) -> None:
    shown: list[Event] = []

    def on_event(event: Event, t: float) -> None:
        shown.append(event)
        assert (t, event) in list(read_history(tmp_path / "events.jsonl"))

    here = world(chain(), on_event)
    here.script.append(lambda: here.workers.reports.append(succeeded("load")))
    here.script.append(lambda: here.workers.reports.append(succeeded("train")))
    timeline = here.run()
    assert shown == [event for _, event in timeline]
    assert len(shown) == 4


def test_without_anybody_to_show_to_the_file_is_written_soon_all_the_same(
    world: Callable[..., World], tmp_path: Path
) -> None:
    here = world(single())
    seen: list[int] = []

    def go_on() -> None:
        here.now += here.waits[-1] or 0.0
        seen.append(len(list(read_history(tmp_path / "events.jsonl"))))
        if len(seen) > 1:
            here.workers.reports.append(succeeded("load"))

    here.script += [go_on] * 2
    here.run()
    assert seen == [0, 1]


def test_a_first_signal_stops_and_a_second_one_kills(world: Callable[..., World]) -> None:
    here = world(single())

    def ended() -> None:
        here.workers.reports.append(StepFailed("load", 1, StepError("cancelled", "stopped")))

    here.script += [
        lambda: here.signal(("stop", "SIGINT")),
        lambda: here.signal(("stop", "SIGTERM")),
        ended,
    ]
    timeline = here.run()
    assert here.workers.told == ["stop load: cancelled", "kill load: cancelled"]
    asked = [(event.kill, event.reason) for _, event in timeline if isinstance(event, CancelRequested)]
    assert asked == [(False, "SIGINT"), (True, "SIGTERM")]
    assert (here.driver.interrupted, here.scheduler.status) == ("SIGINT", "cancelled")


def test_a_step_that_a_worker_took_before_the_signal_is_told_before_it_and_none_starts_after_it(
    world: Callable[..., World],
) -> None:
    """All that came while the driver waited once: a worker took the step and finished it, and Ctrl-C was typed."""
    here = world(chain())
    start = here.workers.begin

    def begin_later(attempt: Attempt) -> None:
        start(attempt)
        held.append(here.workers.reports.pop())

    held: list[Report] = []
    here.workers.begin = begin_later  # type: ignore[method-assign]  # a worker that is not there yet

    def all_at_once() -> None:
        here.workers.reports += [*held, succeeded("load")]
        here.signal(("stop", "SIGINT"))

    here.script.append(all_at_once)
    told = [(type(event), getattr(event, "key", "")) for _, event in here.run()]
    assert told == [
        (StepStarted, "load"),
        (CancelRequested, ""),
        (StepCancelled, "train"),
        (StepSucceeded, "load"),
    ]


def test_a_run_whose_workers_do_not_answer_ends_after_the_second_signal_and_every_attempt_has_its_end(
    world: Callable[..., World],
) -> None:
    here = world(single())
    here.script.append(lambda: here.signal(("stop", "SIGINT"), ("stop", "SIGINT")))
    timeline = here.run()
    assert here.workers.told[-1] == "close"
    assert here.now == pytest.approx(KILL_WAIT_S, abs=1.1)
    assert [type(event) for _, event in timeline][-1] is StepFailed
    assert here.scheduler.finished


def test_ctrl_z_stops_the_steps_and_the_time(world: Callable[..., World]) -> None:
    here = world(single())
    here.script.append(lambda: here.signal(("pause", "SIGTSTP")))
    here.script.append(lambda: here.workers.reports.append(succeeded("load")))
    here.run()
    assert here.workers.told == ["pause", "clock stands", "clock goes", "resume"]
    assert here.signals.stopped == 1
    assert here.driver.interrupted is None


def test_the_time_of_a_step_stands_still_between_ctrl_z_and_fg(world: Callable[..., World]) -> None:
    here = world(single(timeout_s=1.0))

    def stop_for_an_hour() -> None:
        here.now += 3600.0

    here.signals.stop_this_process = stop_for_an_hour  # type: ignore[method-assign]  # what happens until `fg`
    here.script.append(lambda: here.signal(("pause", "SIGTSTP")))
    here.script.append(lambda: here.workers.reports.append(succeeded("load")))
    timeline = here.run()
    assert not [told for told in here.workers.told if told.startswith("stop")]
    assert here.scheduler.status == "succeeded"
    assert max(t for t, _ in timeline) < 1.0


def test_ctrl_z_stops_at_once_where_a_step_runs_in_this_very_thread(world: Callable[..., World]) -> None:
    here = world(single())

    def in_the_middle_of_a_step() -> None:
        assert here.signals.on_pause is not None
        here.workers.blocking = True
        assert here.signals.on_pause()
        here.workers.blocking = False
        assert not here.signals.on_pause(), "between steps the loop does it"
        here.workers.reports.append(succeeded("load"))

    here.script.append(in_the_middle_of_a_step)
    here.run()
    assert here.signals.stopped == 1
