"""The table of moves: complete, and with ends that nothing leaves."""

from __future__ import annotations

from executor.scheduler.states import FINAL, MOVES, StepState


def test_every_state_is_in_the_table() -> None:
    assert set(MOVES) == set(StepState)


def test_every_state_is_reached_and_leads_to_an_end() -> None:
    reached = {StepState.WAITING}
    while more := {after for state in reached for after in MOVES[state]} - reached:
        reached |= more
    assert reached == set(StepState)
    for state in set(StepState) - FINAL:
        seen = {state}
        while more := {after for each in seen for after in MOVES[each]} - seen:
            seen |= more
        assert seen & FINAL


def test_the_ends_are_the_five_outcomes() -> None:
    ends = {StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.NOT_RUN, StepState.CANCELLED}
    assert ends == FINAL


def test_a_step_never_starts_without_having_been_ready() -> None:
    assert {state for state, after in MOVES.items() if StepState.RUNNING in after} == {
        StepState.READY,
        StepState.CLAIMING,
    }
    assert {state for state, after in MOVES.items() if StepState.CLAIMING in after} == {StepState.READY}
