"""Messages between our processes: whole however they are cut, and nothing else is taken for one."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.workers import messages
from executor.workers.messages import FrameReader, frame

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(PLAIN, max_size=6), st.randoms(use_true_random=False))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(sent: list[object], chance: object) -> None:
    data = b"".join(map(frame, sent))
    reader, received = FrameReader(), []
    while data:
        size = chance.randint(1, max(1, len(data)))  # type: ignore[attr-defined]
        received += reader.feed(data[:size])
        data = data[size:]
    assert received == sent


@given(st.binary(min_size=8, max_size=64))
def test_bytes_of_somebody_else_are_no_message(data: bytes) -> None:
    if data[5:8] == frame(())[5:8]:
        return
    with pytest.raises(ValueError, match="not a message"):
        FrameReader().feed(data)


@given(st.binary(min_size=1, max_size=40))
def test_bytes_between_two_messages_are_found_out_at_the_latest_with_the_next(data: bytes) -> None:
    reader = FrameReader()
    assert reader.feed(frame(("first",))) == [("first",)]
    with pytest.raises(ValueError, match="not a message"):
        reader.feed(data + frame(("second", "message")) * 2)


def test_a_message_that_is_cut_inside_is_not_taken() -> None:
    body = frame(("a", "b"))
    broken = body[:8] + b"\xff" * (len(body) - 8)
    with pytest.raises(ValueError, match="not a message"):
        FrameReader().feed(broken)


def test_a_message_of_64_mb_in_small_pieces_costs_what_it_weighs() -> None:
    """Each piece is kept as it came until the last one is there: to put them together at each would be their square."""
    data = frame((b"x" * (64 << 20),))
    pieces = [data[at : at + (1 << 16)] for at in range(0, len(data), 1 << 16)]
    reader = FrameReader()
    for count, piece in enumerate(pieces[:-1], 1):
        assert reader.feed(piece) == []
        assert len(reader._parts) == count
        assert reader._parts[-1] is piece
    ((received,),) = reader.feed(pieces[-1])
    assert len(received) == 64 << 20


def test_a_descriptor_gives_its_messages_until_the_other_end_is_closed() -> None:
    reading, writing = os.pipe()
    messages.send(writing, ("one", 1))
    messages.send(writing, ("two", {"a": b"b"}))
    os.close(writing)
    assert list(messages.incoming(reading)) == [("one", 1), ("two", {"a": b"b"})]
    os.close(reading)


def test_what_was_read_before_counts() -> None:
    reading, writing = os.pipe()
    data = frame(("one", 1))
    os.write(writing, data[5:])
    os.close(writing)
    assert list(messages.incoming(reading, data[:5])) == [("one", 1)]
    os.close(reading)
