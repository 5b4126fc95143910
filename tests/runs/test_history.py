"""The history of a run: what is written comes back, whatever happens to the writer."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.runs.history import (
    HistoryLost,
    HistoryReader,
    HistoryUnreadable,
    HistoryWriter,
    decode,
    encode,
    read_history,
    read_last,
)
from executor.scheduler.events import (
    Event,
    Facts,
    RunEnded,
    RunNotice,
    RunStarted,
    SlotHolder,
    StepFailed,
    StepStarted,
    StepSucceeded,
    WaitCause,
)
from executor.scheduler.outcomes import FailureKind, StepError, StoredValue

if TYPE_CHECKING:
    from pathlib import Path

# A high surrogate followed by a low one is the one thing that JSON reads back as something else.
TEXT = st.text(st.characters() | st.characters(categories=["Cs"], max_codepoint=0xDBFF)) | st.text()
SECONDS = st.floats(min_value=0, max_value=1e9, allow_nan=False)
COUNT = st.integers(min_value=0, max_value=2**62)
PLAIN = st.recursive(
    st.none() | st.booleans() | COUNT | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "key": TEXT,
    "attempt": COUNT,
    "pid": COUNT,
    "lane": st.integers(min_value=-1, max_value=99),
    "waited": st.lists(st.tuples(TEXT, SECONDS)).map(tuple),
    "outputs": st.lists(
        st.builds(StoredValue, TEXT, st.none() | st.binary(), st.none() | TEXT, COUNT),
    ).map(tuple),
    "missing": st.lists(TEXT).map(tuple),
    "facts": st.builds(
        Facts,
        SECONDS,
        SECONDS,
        SECONDS,
        COUNT,
        COUNT,
        st.integers(min_value=-1, max_value=99),
        COUNT,
        COUNT,
        st.none() | st.integers(min_value=-64, max_value=255),
    ),
    "freed": st.booleans(),
    "token": COUNT,
    "pools": st.lists(TEXT).map(tuple),
    "held_by": st.lists(
        st.builds(SlotHolder, TEXT, TEXT, COUNT, st.none() | SECONDS, st.booleans(), st.booleans()), max_size=3
    ).map(tuple),
    "cause": st.sampled_from(get_args(WaitCause)),
    "lingered": st.booleans(),
    "retries": st.booleans(),
    "kill": st.booleans(),
    "error": st.builds(
        StepError,
        st.sampled_from(get_args(FailureKind)),
        TEXT,
        TEXT,
        st.booleans(),
        st.none() | COUNT,
        st.none() | SECONDS,
    ),
    "chance": st.floats(min_value=0, max_value=1, exclude_max=True),
    "exit_code": st.none() | st.integers(min_value=-64, max_value=255),
    "keys": st.lists(TEXT).map(tuple),
    "reason": TEXT,
    "delay_s": SECONDS,
    "because": TEXT,
    "run_id": TEXT,
    "job": TEXT,
    "at": SECONDS,
    "steps": COUNT,
    "max_concurrent": COUNT,
    "limits": st.lists(st.dictionaries(TEXT, PLAIN)).map(tuple),
    "tags": st.dictionaries(TEXT, TEXT),
    "workers": TEXT,
    "message": TEXT,
    "parent": TEXT,
    "partial": st.booleans(),
    "origin": st.dictionaries(TEXT, PLAIN | st.lists(PLAIN)),
    "status": st.sampled_from(["succeeded", "failed", "cancelled", "interrupted"]),
}
EVENTS = st.one_of(
    [st.builds(cls, **{field.name: FIELDS[field.name] for field in fields(cls)}) for cls in get_args(Event)]
)
SUCCEEDED = StepSucceeded("train", 1, (StoredValue("result", b"\x80\x05N.", None, 4),))


@given(EVENTS, SECONDS)
def test_every_event_comes_back_as_it_was_written(event: Event, t: float) -> None:
    line = encode(event, t)
    assert "\n" not in line
    assert line.isascii()
    assert decode(line) == (t, event)


@pytest.mark.parametrize("cls", get_args(Event), ids=lambda cls: cls.kind)
def test_fields_that_have_their_default_are_left_out(cls: type) -> None:
    values = {"attempt": 1, "error": StepError("exception", "boom")}
    required = {
        field.name: values.get(field.name, "x") for field in fields(cls) if field.default is field.default_factory
    }
    names = set(json.loads(encode(cls(**required), 1.0)))
    always = {"pid", "lane"} if cls is StepStarted else set()
    assert names == {"t", "e", *required, *always}


def test_a_line_is_plain_json_that_people_can_read() -> None:
    assert encode(StepStarted("train", 2, 812, 0, (("max_concurrent", 3.25),)), 1.5) == (
        '{"t":1.5,"e":"step_started","key":"train","attempt":2,"pid":812,"lane":0,"waited":[["max_concurrent",3.25]]}'
    )


def test_a_line_of_a_kind_or_field_that_is_not_known_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="'step_teleported' are not known"):
        decode('{"t":1,"e":"step_teleported"}')
    with pytest.raises(ValueError, match=r"fields of run_notice are missing or not known.*colour"):
        decode('{"t":1,"e":"run_notice","message":"x","colour":"red"}')
    with pytest.raises(ValueError, match="not an event"):
        decode("[]")


def test_what_was_flushed_is_in_the_file_and_what_was_not_is_not(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "events.jsonl")
    writer.write(RunNotice("first"), 0.5)
    assert list(read_history(writer.path)) == []
    writer.flush()
    assert list(read_history(writer.path)) == [(0.5, RunNotice("first"))]
    writer.write(RunNotice("second"), 0.75)
    writer.close()
    writer.close()
    assert [event for _, event in read_history(writer.path)] == [RunNotice("first"), RunNotice("second")]


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o277)
    try:
        writer = HistoryWriter(tmp_path / "events.jsonl")
    finally:
        os.umask(old)
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    assert not os.get_inheritable(writer.fileno())
    writer.close()


def test_a_sync_is_due_one_period_after_the_first_event_that_is_not_on_the_disk(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "events.jsonl", sync_every_s=2.0)
    assert writer.sync_at is None
    writer.write(RunNotice("first"), 10.0)
    writer.write(RunNotice("second"), 11.0)
    assert writer.sync_at == 12.0
    writer.sync()
    assert writer.sync_at is None
    assert len(list(read_history(writer.path))) == 2
    writer.close()


def test_a_line_that_a_crash_cut_off_is_not_read_and_the_next_writer_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    torn = encode(StepSucceeded("x", 1, (StoredValue("result", b"v" * 200_000, None, 200_000),)), 2.0)[:-9]
    path.write_text(encode(SUCCEEDED, 1.0) + "\n" + torn)
    assert list(read_history(path)) == [(1.0, SUCCEEDED)]
    assert HistoryReader(path).read_new() == [(1.0, SUCCEEDED)]
    assert read_last(path) == (1.0, SUCCEEDED)
    writer = HistoryWriter(path)
    writer.write(RunEnded("interrupted"), 3.0)
    writer.close()
    assert list(read_history(path)) == [(1.0, SUCCEEDED), (3.0, RunEnded("interrupted"))]


def test_a_file_that_holds_nothing_but_a_cut_off_line_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"t":0.0')
    assert list(read_history(path)) == []
    assert read_last(path) is None
    HistoryWriter(path).close()
    assert path.read_bytes() == b""


def test_a_reader_follows_the_file_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = HistoryWriter(path)
    reader = HistoryReader(path)
    assert reader.read_new() == []
    for number in range(3):
        writer.write(RunNotice(str(number)), float(number))
        writer.flush()
        assert reader.read_new() == [(float(number), RunNotice(str(number)))]
    with open(path, "ab") as file:
        file.write(b'{"t":9,"e":"run_no')
        file.flush()
        assert reader.read_new() == []
        file.write(b'tice","message":"late"}\n')
    assert reader.read_new() == [(9.0, RunNotice("late"))]
    writer.close()


@given(st.lists(st.integers(min_value=0, max_value=100_000), max_size=4))
def test_the_last_event_is_found_from_the_end_of_the_file_however_long_the_lines(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    writer = HistoryWriter(tmp_path_factory.mktemp("run") / "events.jsonl")
    for number, size in enumerate(sizes):
        writer.write(RunNotice("x" * size), float(number))
    writer.close()
    assert read_last(writer.path) == ((float(len(sizes) - 1), RunNotice("x" * sizes[-1])) if sizes else None)


def test_a_damaged_line_is_an_error_that_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(encode(SUCCEEDED, 1.0) + "\n\0\0\0\n")
    with pytest.raises(HistoryUnreadable, match=r"events\.jsonl, line 2: "):
        list(read_history(path))
    with pytest.raises(HistoryUnreadable, match=r"line 2: "):
        HistoryReader(path).read_new()


def test_a_full_disk_loses_nothing_that_was_collected_if_room_comes_back(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "events.jsonl")
    events: list[Event] = [RunStarted(run_id="r", job="j", at=1.0, pid=1, steps=1, max_concurrent=1), SUCCEEDED]
    for event in events:
        writer.write(event, 0.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # the system takes 100 bytes, then refuses
        with pytest.raises(HistoryLost, match=r"history of the run could not be written.*too large.*EXECUTOR_HOME"):
            writer.flush()
        with pytest.raises(HistoryLost):
            writer.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert writer.path.stat().st_size == 100
    writer.write(RunEnded("cancelled"), 1.0)
    writer.close()
    assert [event for _, event in read_history(writer.path)] == [*events, RunEnded("cancelled")]


def test_closing_on_a_full_disk_says_so_and_leaves_no_open_file(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "events.jsonl")
    fd = writer.fileno()
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), fd)
    writer.write(SUCCEEDED, 1.0)
    with pytest.raises(HistoryLost, match=os.strerror(errno.ENOSPC)):
        writer.close()
    assert writer.fileno() == -1
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_history_that_cannot_be_opened_is_lost_at_once(tmp_path: Path) -> None:
    with pytest.raises(HistoryLost, match="No such file"):
        HistoryWriter(tmp_path / "missing" / "events.jsonl")


def test_nothing_that_was_flushed_is_missing_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    script = """
import os, signal, sys
from pathlib import Path
from executor.runs.history import HistoryWriter
from executor.scheduler.events import RunNotice
writer = HistoryWriter(Path(sys.argv[1]))
for number in range(1000):
    writer.write(RunNotice(str(number)), number / 1000)
    writer.flush()
writer.write(RunNotice("never flushed"), 2.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [event.message for _, event in read_history(path) if isinstance(event, RunNotice)] == [
        str(number) for number in range(1000)
    ]


def test_a_failure_keeps_its_chance_and_what_the_step_asked_for() -> None:
    error = StepError("retry_requested", "again", "Traceback", max_retries=3, retry_after_s=0.1)
    event = StepFailed("x", 2, error, 0.123456789, Facts(1.0, 2.0, exit_code=-9), freed=False)
    assert decode(encode(event, 3.0)) == (3.0, event)


def test_what_the_disk_had_is_there_after_a_power_cut_whatever_became_of_the_rest(tmp_path: Path) -> None:
    """A power cut leaves any part of what was not synced, as it was or as zeros."""
    writer = HistoryWriter(tmp_path / "events.jsonl")
    for number in range(5):
        writer.write(RunNotice(f"on the disk {number}"), float(number))
    writer.sync()
    synced = writer.path.stat().st_size
    for number in range(5):
        writer.write(RunNotice(f"on its way {number}"), 10.0 + number)
    writer.flush()
    data = writer.path.read_bytes()
    writer.close()
    for kept in range(synced, len(data) + 1):
        for lost in (b"", b"\0" * (len(data) - kept), b"\0" * 4096):
            after = tmp_path / "after.jsonl"
            after.write_bytes(data[:kept] + lost)
            found = [event.message for _, event in read_history(after) if isinstance(event, RunNotice)]
            assert found[:5] == [f"on the disk {number}" for number in range(5)]
            assert found[5:] == [f"on its way {number}" for number in range(len(found) - 5)]
            with_end = HistoryWriter(after)
            with_end.write(RunEnded("interrupted"), 20.0)
            with_end.close()
            assert read_last(after) == (20.0, RunEnded("interrupted"))
