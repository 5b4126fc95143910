"""Which bytes of the lanes' logs belong to which attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from executor.runs.logs import LogPieces, Piece
from executor.scheduler.events import Facts, StepFailed, StepReturned, StepStarted, StepSucceeded
from executor.scheduler.outcomes import StepError


def ended(key: str, begin: int, end: int, *, lane: int = 0, attempt: int = 1) -> StepSucceeded:
    return StepSucceeded(key, attempt, facts=Facts(lane=lane, log_from=begin, log_to=end))


def test_an_attempt_that_has_ended_wrote_what_its_end_says() -> None:
    events = [StepStarted("a", 1, 1, 0), ended("a", 0, 10), StepStarted("b", 1, 2, 0), ended("b", 12, 20)]
    assert LogPieces().add(events, {}) == [Piece("a", 1, 0, 0, 10), Piece("b", 1, 0, 12, 20)]


def test_one_that_runs_has_written_what_came_after_the_one_before_it() -> None:
    pieces = LogPieces()
    assert pieces.add([StepStarted("a", 1, 1, 0), ended("a", 0, 10), StepStarted("b", 1, 2, 0)], {}) == [
        Piece("a", 1, 0, 0, 10)
    ]
    assert pieces.lanes == [0]
    assert pieces.add([], {0: 15}) == [Piece("b", 1, 0, 10, 15)]
    assert pieces.add([], {0: 15}) == []
    assert pieces.add([ended("b", 12, 20)], {0: 20}) == [Piece("b", 1, 0, 15, 20)], "nothing twice, nothing left out"
    assert pieces.lanes == []


def test_one_that_never_began_and_one_without_a_log_wrote_nothing() -> None:
    pieces = LogPieces()
    assert pieces.add([StepStarted("a", 1, 1, 0), StepReturned("a", 1)], {0: 9}) == []
    failed = StepFailed("c", 1, StepError("cancelled", "stopped"), 0.0, Facts(1.0, 1.0))
    assert pieces.add([StepStarted("b", 1, 1, -1), ended("b", 0, 0, lane=-1), failed], {}) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(0, 20))), max_size=8))
def test_whatever_is_seen_when_each_byte_is_given_out_once(attempts: list[tuple[int, list[int]]]) -> None:
    pieces, given_out, at = LogPieces(), [], 0
    for number, (size, looks) in enumerate(attempts):
        given_out += pieces.add([StepStarted(str(number), 1, 1, 0)], {})
        for seen in sorted(looks):
            given_out += pieces.add([], {0: at + min(seen, size)})
        given_out += pieces.add([ended(str(number), at, at + size)], {0: at + size})
        at += size
    taken = [
        (number, byte) for key, _, _, begin, end in given_out for number in [int(key)] for byte in range(begin, end)
    ]
    starts = [sum(size for size, _ in attempts[:number]) for number in range(len(attempts))]
    assert taken == [
        (number, starts[number] + byte) for number, (size, _) in enumerate(attempts) for byte in range(size)
    ]
