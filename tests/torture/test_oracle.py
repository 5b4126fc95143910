"""What the oracle of the torture makes of a diary."""

from __future__ import annotations

from tests.torture.diary import Entry
from tests.torture.oracle import LIVES_NS, judge

SECOND = 1_000_000_000
WORKER, CHILD, DRIVER, OTHER = 11, 12, 13, 14


def held_twice(*, killed_after_ns: int) -> list[Entry]:
    """One step leaves a child behind that never says that it ended; a second later another has the only slot."""
    entries = [
        Entry("file", 10, DRIVER, ("1", "solo:1", "0")),
        Entry("grant", 10, DRIVER, ("1", "1")),
        Entry("begin", 10, WORKER, ("1", str(DRIVER), "9")),
        Entry("keep", 11, WORKER, ("1", str(CHILD))),
        Entry("end", 12, WORKER, ("1",)),
        Entry("kill", 11 + killed_after_ns, CHILD, ()),
    ]
    for kind, words in (("file", ("2", "solo:1", "0")), ("grant", ("2", "2")), ("begin", ("2", str(DRIVER), "9"))):
        entries.append(Entry(kind, SECOND, OTHER, words))
    return [*entries, Entry("end", SECOND + 1, OTHER, ("2",))]


def test_who_is_killed_has_held_its_slots_until_then() -> None:
    assert judge(held_twice(killed_after_ns=2 * SECOND), {"solo": 1}).over_limit == 1


def test_who_is_killed_under_a_pid_that_had_been_another_s_long_before_says_nothing_of_that_one() -> None:
    assert judge(held_twice(killed_after_ns=2 * LIVES_NS), {"solo": 1}).over_limit == 0
