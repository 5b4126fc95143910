"""What the command prints can never stall a run or end it."""

from __future__ import annotations

import os

import pytest

from executor.cli import stream
from executor.cli.stream import LineStream


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read_all(fd: int) -> str:
    """Everything that stands in the pipe now."""
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode()


def test_lines_are_written_at_once_where_somebody_reads(pipe) -> None:
    lines = LineStream(pipe[1])
    lines.write("first")
    assert read_all(pipe[0]) == "first\n"
    lines.write("größe \ud800")
    assert read_all(pipe[0]) == "größe \\ud800\n"


def test_a_reader_that_stops_reading_does_not_block_and_gets_the_rest_later(pipe) -> None:
    lines = LineStream(pipe[1])
    sent = [f"{number:05} {'x' * 1000}" for number in range(500)]
    for line in sent:
        lines.write(line)
    got = read_all(pipe[0])
    assert 0 < len(got) < 500 * 1007
    while len(got) < 500 * 1007:
        lines.write("later")
        got += read_all(pipe[0])
    assert got.splitlines()[:500] == sent


def test_a_reader_that_never_catches_up_is_told_how_many_lines_it_missed(pipe, monkeypatch) -> None:
    monkeypatch.setattr(stream, "LINES_KEPT", 10)
    lines = LineStream(pipe[1])
    for number in range(500):
        lines.write(f"{number:05} {'x' * 1000}")
    got = read_all(pipe[0])
    missed = 500 - got.count("\n") - 10
    lines.write("end")
    rest = read_all(pipe[0])
    assert f"... {missed + 1} lines left out: nobody was reading\n" in rest
    assert rest.endswith("end\n")


def test_data_is_kept_however_slowly_it_is_read(pipe, monkeypatch) -> None:
    monkeypatch.setattr(stream, "LINES_KEPT", 10)
    lines = LineStream(pipe[1], keep_all=True)
    for number in range(500):
        lines.write(f"{number:05} {'x' * 1000}")
    got = read_all(pipe[0])
    while "end" not in got:
        lines.write("end")
        got += read_all(pipe[0])
    assert got.count("x\n") == 500


def test_a_reader_that_has_gone_is_forgotten_and_nothing_else_fails(pipe) -> None:
    lines = LineStream(pipe[1])
    os.close(pipe[0])
    lines.write("nobody sees this")
    lines.write("nor this")
    lines.finish()
    assert lines.trouble is None
    assert os.write(pipe[1], b"nor what others print") == 21


def test_a_full_disk_is_kept_as_trouble() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        lines = LineStream(fd)
        lines.write("x")
        lines.finish()
        assert lines.trouble == "No space left on device"
    finally:
        os.close(fd)


def test_a_descriptor_that_does_not_block_is_waited_for_at_the_end(pipe) -> None:
    import threading

    os.set_blocking(pipe[1], False)
    lines = LineStream(pipe[1])
    for _ in range(200):
        lines.write("x" * 1000)
    got: list[bytes] = []

    def read() -> None:
        while sum(map(len, got)) < 200 * 1001:
            got.append(os.read(pipe[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    lines.finish()
    reader.join()
    assert b"".join(got) == (b"x" * 1000 + b"\n") * 200
