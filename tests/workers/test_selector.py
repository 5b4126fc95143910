"""The one place where a driver waits."""

from __future__ import annotations

import os

from executor.workers.selector import Selector


def test_a_wait_for_longer_than_the_kernel_can_count_is_ended_by_what_happens() -> None:
    selector = Selector()
    reading, writing = os.pipe()
    called: list[int] = []
    selector.add(reading, lambda: called.append(1))
    os.write(writing, b"!")
    selector.wait(1e300)
    selector.close()
    for fd in (reading, writing):
        os.close(fd)
    assert called == [1]
