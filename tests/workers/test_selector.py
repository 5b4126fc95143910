"""The one place where a driver waits."""

from __future__ import annotations

import os

from executor.workers.selector import Selector


def test_a_descriptor_that_takes_the_number_of_one_that_was_ready_is_not_taken_for_ready() -> None:
    """Two are ready at once; whoever is called first closes the other, and opens another in its place."""
    selector = Selector()
    pipes = [os.pipe(), os.pipe()]
    called: list[str] = []

    def replace(other: int) -> None:
        called.append("ready")
        reader = pipes[other][0]
        selector.remove(reader)
        os.close(reader)
        pipes.append(os.pipe())
        assert pipes[-1][0] == reader, "the lowest number that is free"
        selector.add(reader, lambda: called.append("never ready"))

    for number, (reader, writer) in enumerate(pipes):
        os.write(writer, b"x")
        selector.add(reader, lambda other=1 - number: replace(other))  # type: ignore[misc]  # mypy cannot infer it
    try:
        selector.wait(None)
        assert called == ["ready"]
    finally:
        selector.close()
        for fd in {fd for pipe in pipes for fd in pipe}:
            os.close(fd)


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
