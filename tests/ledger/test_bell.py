"""Bells and notices: who hears what, and what happens when nobody does."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

import pytest

from executor.ledger.bell import Bell, announce, ring
from executor.ledger.watch import Closed, CloseWatch
from tests.forked import fork, wait


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "bell").mkdir()
    return tmp_path


def fill(home: Path, what: bytes) -> None:
    """Write so much to a bell that nothing has room there any more."""
    fd = os.open(home / "bell" / "me", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(fd, what * 4096)
    os.close(fd)


def test_a_bell_is_heard_once_however_often_it_was_rung(home: Path) -> None:
    bell = Bell(home, "me")
    assert not bell.heard()
    assert all(ring(home, "me") for _ in range(3))
    assert select.select([bell], [], [], 0)[0]
    assert bell.heard()
    assert not bell.heard()
    bell.close()


def test_a_bell_that_nobody_hears_any_more_is_no_error(home: Path) -> None:
    bell = Bell(home, "me")
    bell.close()
    assert not ring(home, "me")
    assert not ring(home, "nobody")


def test_a_bell_that_is_full_of_rings_stays_rung(home: Path) -> None:
    bell = Bell(home, "me")
    fill(home, b"x")
    assert ring(home, "me")
    assert bell.heard()
    assert not bell.heard()
    bell.close()


def test_a_ring_that_is_announced_is_not_yet_heard(home: Path) -> None:
    bell = Bell(home, "me")
    assert announce(home, "me")
    assert select.select([bell], [], [], 0)[0]
    assert not bell.heard()
    assert bell.announced
    bell.announced = False
    assert announce(home, "me")
    assert ring(home, "me")
    assert bell.heard()
    assert bell.announced
    bell.close()
    assert not announce(home, "me")


def test_a_bell_so_full_of_announcements_that_a_ring_had_no_room_counts_as_rung(home: Path) -> None:
    bell = Bell(home, "me")
    fill(home, b".")
    assert ring(home, "me")
    assert bell.heard()
    bell.close()


def test_a_bell_is_for_its_owner_s_user_only(home: Path) -> None:
    bell = Bell(home, "me")
    assert (home / "bell" / "me").stat().st_mode & 0o777 == 0o600
    bell.close()


def test_a_bell_does_not_travel_into_a_forked_child(home: Path) -> None:
    begun, end = os.pipe(), os.pipe()
    bell = Bell(home, "me")
    pid = fork(lambda: (os.close(end[1]), os.write(begun[1], b"!"), os.read(end[0], 1)))
    os.read(begun[0], 1)
    bell.close()
    assert not ring(home, "me"), "the child hears for its parent"
    os.close(end[1])
    assert wait(pid) == 0
    for fd in (*begun, end[0]):
        os.close(fd)


def test_the_end_of_a_process_is_heard_from_the_files_that_it_could_write_to(home: Path) -> None:
    watch = CloseWatch()
    number = watch.add(str(home), folder=True)

    def open_and_end() -> None:
        os.open(home / "file", os.O_RDWR | os.O_CREAT)

    wait(fork(open_and_end))
    assert select.select([watch], [], [], 60)[0]
    assert list(watch.read()) == [Closed(number, "file")]
    assert list(watch.read()) == []
    watch.close()


def test_who_opens_a_file_for_reading_only_disturbs_nobody(home: Path) -> None:
    (home / "file").write_text("x")
    watch = CloseWatch()
    watch.add(str(home), folder=True)
    (home / "file").read_text()
    assert list(watch.read()) == []
    watch.close()


def test_a_single_file_can_be_watched_and_left(home: Path) -> None:
    (home / "file").touch()
    watch = CloseWatch()
    number = watch.add(str(home / "file"))
    assert number is not None
    (home / "file").write_text("x")
    assert list(watch.read()) == [Closed(number, "")]
    watch.remove(number)
    (home / "file").write_text("y")
    assert list(watch.read()) == []
    assert watch.add(str(home / "missing")) is None
    watch.close()
