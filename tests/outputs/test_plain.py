"""Pickles that are written and read by hand are what pickle writes and reads."""

from __future__ import annotations

import io
import pickle
import pickletools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.outputs.plain import dump_plain, load_small

EDGES = [0, 1, -1, 255, 256, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 10**30, True, False, None, 0.0, 1e300]


@pytest.mark.parametrize("value", EDGES)
def test_plain_values_at_the_edges_come_back_as_what_they_were(value: object) -> None:
    data = dump_plain(value)
    for found in (load_small(data), pickle.loads(data)):
        assert (type(found), found) == (type(value), value)
    pickletools.dis(data, out=io.StringIO())  # raises where it is no well-formed pickle


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()))
def test_any_plain_value_comes_back_as_what_it_was(value: object) -> None:
    data = dump_plain(value)
    assert [(type(found), found) for found in (load_small(data), pickle.loads(data))] == [(type(value), value)] * 2


@given(st.one_of(st.binary(max_size=8), st.text(max_size=4), st.integers(), st.lists(st.integers(), max_size=2)))
def test_what_pickle_wrote_is_read_in_every_protocol(value: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert load_small(pickle.dumps(value, protocol)) == value
