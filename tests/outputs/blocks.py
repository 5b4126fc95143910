"""A value with one large buffer, as an array has, without a library that would bring threads into the process."""

from __future__ import annotations

import pickle


class Block:
    """Bytes that pickle may keep beside the pickle."""

    def __init__(self, data: bytearray | memoryview) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: object) -> object:
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Block of {len(self.data)} bytes>"


def block(size: int = 800_000, first: int = 0) -> Block:
    """One whose bytes differ from place to place."""
    return Block(bytearray((number + first) % 251 for number in range(size)))


BIG = block()
