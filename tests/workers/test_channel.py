"""A driver's socket to one worker: what does not fit waits, and is neither lost nor copied again and again."""

from __future__ import annotations

import os

from executor.workers.channel import Channel
from executor.workers.messages import frame
from executor.workers.selector import Selector
from executor.workers.sockets import stream_pair


def test_a_message_of_24_mb_goes_out_as_there_is_room_and_costs_what_it_weighs() -> None:
    """What is left to send stays in one buffer, whose front is given away: no part of it is copied again and again."""
    ours, theirs = stream_pair()
    os.set_blocking(theirs, False)
    selector = Selector()
    channel = Channel(ours, selector, on_message=lambda _: None, on_garbage=lambda: None, on_end=lambda: None)
    message = [bytes([number % 256]) * 60_000 for number in range(400)]
    channel.send(message)
    buffer, left = channel._outgoing, [len(channel._outgoing)]
    assert left[0] > 20_000_000, "a socket holds little of it"
    received = bytearray()
    while channel._outgoing:
        received += os.read(theirs, 1 << 20)
        selector.wait(0)
        assert channel._outgoing is buffer
        left.append(len(buffer))
    assert left == sorted(left, reverse=True)
    received += os.read(theirs, 1 << 20)
    while len(received) < len(frame(message)):
        received += os.read(theirs, 1 << 20)
    assert received == frame(message)
    channel.close()
    selector.close()
    os.close(theirs)
