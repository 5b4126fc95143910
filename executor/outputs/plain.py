"""Pickles of the values that most steps give, written and read by hand: None, and whole numbers of 32 bits.

They are what ``pickle.dumps`` could have written (protocol 5; opcodes NONE and BININT, see ``pickletools``), so whoever
else reads them needs to know nothing. A pickler and an unpickler are made for each value, which costs a process that
was just forked more page faults than the rest of a small step.
"""

from __future__ import annotations

import _pickle as pickle  # the C half: the Python half would be in the memory of every worker

_NONE = b"\x80\x05N."
_INT, _INT_BYTES = b"\x80\x05J", 8
_LEAST, _MOST = -(2**31), 2**31 - 1

#: Types whose pickles are small and cannot fail.
PLAIN = frozenset({int, float, bool, type(None)})


def dump_plain(value: object) -> bytes:
    """The pickle of a value whose type is one of ``PLAIN``."""
    if value is None:
        return _NONE
    if type(value) is int and _LEAST <= value <= _MOST:
        return _INT + value.to_bytes(4, "little", signed=True) + b"."
    return pickle.dumps(value, 5)


def load_small(data: bytes) -> object:
    """The value of any pickle."""
    if len(data) == _INT_BYTES and data[:3] == _INT:
        return int.from_bytes(data[3:7], "little", signed=True)
    return None if data == _NONE else pickle.loads(data)
