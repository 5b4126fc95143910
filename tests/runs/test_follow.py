"""Following the events of a run as they are written, without asking anything of its driver."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from written_run import WrittenRun, step

from executor.runs import follow
from executor.runs.follow import Follower
from executor.runs.home import RunFolder
from executor.scheduler.events import RunStarted, StepStarted, StepSucceeded


def test_what_is_written_wakes_whoever_follows(tmp_path: Path) -> None:
    with WrittenRun(tmp_path, step("load"), step("train", "load")) as run:
        follower = Follower(run.folder)
        kinds = [type(event) for _, event in follower.read()]
        assert kinds == [RunStarted, StepStarted]
        assert follower.read() == []
        writer = threading.Thread(target=lambda: run.tell(StepSucceeded("load", 1), 1.0))
        writer.start()
        events: list[object] = []
        while len(events) < 2:
            follower.wait(None)  # for ever, if nothing woke it
            events += [event for _, event in follower.read()]
        writer.join()
        assert isinstance(events[0], StepSucceeded)
        follower.close()


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LOOK_EVERY_S", 0.0)
    folder = RunFolder(tmp_path / "runs" / "7f3a12cd")
    follower = Follower(folder)
    assert follower.read() == []
    follower.wait(None)  # there is nothing to be woken by, so it looks again soon
    with WrittenRun(tmp_path, step("load")) as run:
        folder.path.symlink_to(run.folder.path)
        assert len(follower.read()) == 2
    follower.close()


def test_a_large_history_is_read_in_parts_that_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "READ_BYTES", 100)
    with WrittenRun(tmp_path, *[step(f"s{number}") for number in range(50)], at_once=50) as run:
        follower = Follower(run.folder)
        events, reads = [], 0
        while True:
            events += follower.read()
            reads += 1
            if not follower.behind:
                break
        assert reads > 20
        assert len(events) == 51
        follower.close()


def test_other_news_end_the_wait_too(tmp_path: Path) -> None:
    with WrittenRun(tmp_path, step("load")) as run:
        follower = Follower(run.folder)
        follower.read()
        reads, writes = os.pipe()
        os.write(writes, b"!")
        follower.wait(None, reads)
        follower.wait(None, reads, news=False)
        follower.close()
        os.close(reads)
        os.close(writes)


def test_a_dead_driver_is_known_by_its_lock(tmp_path: Path) -> None:
    with WrittenRun(tmp_path, step("load")) as run:
        follower = Follower(run.folder)
        assert follower.alive
    assert not follower.alive
    follower.close()
