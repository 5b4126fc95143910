"""A check for every run of the suite: its history, told to a new scheduler, leads to the same states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.runs.history import read_history, read_last
from executor.runs.home import RunFolder
from executor.runs.replay import replay
from executor.runs.steps import collect_steps
from executor.scheduler.events import RunEnded, RunStarted

if TYPE_CHECKING:
    from pathlib import Path


def assert_replays(folder: RunFolder) -> None:
    """The run's scheduler, replayed, stands where the run's history says that it ended, step by step.

    Also: the history begins with one ``RunStarted``, its times never go back, and it ends with one ``RunEnded``.
    """
    timeline = list(read_history(folder.events))
    times = [t for t, _ in timeline]
    assert times == sorted(times)
    kinds = [type(event) for _, event in timeline]
    assert (kinds[0], kinds.count(RunStarted)) == (RunStarted, 1)
    assert (kinds[-1], kinds.count(RunEnded)) == (RunEnded, 1)
    ended = timeline[-1][1]
    assert isinstance(ended, RunEnded)
    scheduler = replay(folder)
    told = {key: step.state for key, step in collect_steps(timeline).items()}
    replayed = {key: scheduler.state(key) for key in told}
    assert replayed == told
    if ended.status == "interrupted":
        return
    # What has no event in a run that came to its end never had a reason to have one: there is nothing of the kind.
    assert scheduler.finished
    assert len(told) == sum(scheduler.counts().values())
    assert scheduler.status == ended.status


def assert_home_replays(home: Path) -> None:
    """``assert_replays`` for every run in ``home`` that has come to an end."""
    for path in sorted(home.glob("runs/*")):
        folder = RunFolder(path)
        try:
            last = read_last(folder.events)
        except FileNotFoundError:  # its driver was killed before it began
            continue
        if last is not None and isinstance(last[1], RunEnded):
            assert_replays(folder)
