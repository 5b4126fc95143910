"""What a process made itself is handed over where nobody could tell, and loaded everywhere else."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from running import KINDS, PROCESSES, run

from executor import In, JobDefinition, asset, define_asset_job, job, op
from executor.authoring.ports import AssetIn
from executor.scheduler.outcomes import StoredValue
from executor.workers.own_values import ABSENT, MOST_BYTES, OwnValues
from tests.outputs.blocks import Block, block

NUMBERS = list(range(100_000))


def stored(path: str = "file", size: int = 1_000_000) -> StoredValue:
    return StoredValue("result", None, path, size)


def fresh(value: Any) -> Any:
    """An equal one that nobody else refers to."""
    return type(value)(value) if not isinstance(value, tuple | frozenset) else type(value)(list(value))


# --- which ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"x" * 100, "text" * 100], ids=["bytes", "text"])
def test_what_nobody_can_change_is_handed_to_every_reader(value: object) -> None:
    own = OwnValues()
    own.keep([(stored(), value)])
    assert own.take("file", last=False) is value
    assert own.take("file", last=False) is value
    assert own.take("file", last=True) is value
    assert own.take("file", last=True) is ABSENT
    assert own.take("other", last=True) is ABSENT


@pytest.mark.parametrize(
    "value",
    [[1, 2.5, None, True, "text", b"bytes", 1j], {"a": 1, 2: "b"}, {1, 2, 3}, (1, "two"), frozenset({1, 2})],
    ids=lambda value: type(value).__name__,
)
def test_a_plain_collection_is_handed_to_its_last_reader_once(value: object) -> None:
    own = OwnValues()
    own.keep([(stored(), fresh(value))])
    assert own.take("file", last=False) is ABSENT
    assert own.take("file", last=True) == value
    assert own.take("file", last=True) is ABSENT


def test_a_collection_that_somebody_else_refers_to_is_loaded() -> None:
    own, cache = OwnValues(), [1, 2, 3]
    own.keep([(stored(), cache)])
    assert own.take("file", last=True) is ABSENT
    own.keep([(stored(), fresh(cache)), (stored("again"), fresh(cache))])
    assert own.take("again", last=True) == cache


@pytest.mark.parametrize(
    "value",
    [[1, [2]], {"a": {}}, {(1, 2): 3}, ([],), [block(10)], [bytearray(3)], [type("Number", (int,), {})(3)]],
    ids=["list in list", "dict in dict", "tuple as key", "list in tuple", "object", "bytearray", "kind of int"],
)
def test_a_collection_with_parts_that_can_be_changed_is_loaded(value: object) -> None:
    own = OwnValues()
    own.keep([(stored(), fresh(value))])
    assert own.take("file", last=True) is ABSENT


@pytest.mark.parametrize("value", [block(10), bytearray(10), OrderedDict(a=1), type("Text", (str,), {})("x")])
def test_other_kinds_are_loaded(value: object) -> None:
    own = OwnValues()
    own.keep([(stored(), value)])
    assert own.take("file", last=True) is ABSENT


def test_only_the_last_attempt_that_made_any_is_remembered_and_nothing_very_large() -> None:
    own = OwnValues()
    own.keep([(stored("first"), b"first")])
    own.keep([(stored("second"), b"second"), (stored("huge", MOST_BYTES + 1), b"huge"), (stored("fits"), b"fits")])
    assert own.take("first", last=True) is ABSENT
    assert own.take("huge", last=True) is ABSENT
    assert (own.take("second", last=True), own.take("fits", last=True)) == (b"second", b"fits")


# --- in real runs ----------------------------------------------------------------------------------------------------

#: Where the step of the same process finds the objects that earlier ones made; filled in workers only.
SEEN: dict[str, Any] = {}


@op
def numbers() -> list:
    made = list(NUMBERS)
    SEEN["numbers"] = id(made)
    return made


@op
def cached_numbers() -> list:
    SEEN["cache"] = cache = list(NUMBERS)
    return cache


@op
def changes(values: list) -> tuple[int, bool]:
    same = id(values) == SEEN.get("numbers")
    values[0] = -1
    return sum(values), same


@op
def first_of_cache(after: tuple) -> int | None:
    return SEEN["cache"][0] if "cache" in SEEN else None


@op(ins={"values": In(copy=True)})
def changes_a_copy(values: list) -> tuple[int, bool]:
    return changes.fn(values)  # type: ignore[no-any-return]


@op(ins={"value": In(copy=True)})
def is_mapped(value: Block) -> bool:
    return ".value" in Path("/proc/self/maps").read_text()


@op
def is_mapped_else(value: Block) -> bool:
    return ".value" in Path("/proc/self/maps").read_text()


def chain_of(*ops: Any) -> JobDefinition:
    @job
    def chain() -> None:
        value = None
        for one in ops:
            value = one() if value is None else one(value)

    return chain


EXPECTED = sum(NUMBERS) - 1


@pytest.mark.parametrize("kind", ["in-process", "unlimited-fork", "unlimited-forkserver"])
def test_a_step_is_handed_what_its_process_made(kind: str) -> None:
    """One worker, so that the same process makes it and reads it."""
    SEEN.clear()
    result = run(chain_of(numbers, changes), kind, max_concurrent=1)
    assert result.output_for_node("changes") == (EXPECTED, True)


@pytest.mark.parametrize("kind", ["in-process", "unlimited-fork"])
def test_a_step_that_asks_for_a_copy_gets_one(kind: str) -> None:
    SEEN.clear()
    result = run(chain_of(numbers, changes_a_copy), kind, max_concurrent=1)
    assert result.output_for_node("changes_a_copy") == (EXPECTED, False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_a_buffer_is_not_mapped(kind: str) -> None:
    result = run(chain_of(block_of_bytes, is_mapped), kind)
    assert result.output_for_node("is_mapped") is False
    result = run(chain_of(block_of_bytes, is_mapped_else), kind)
    assert result.output_for_node("is_mapped_else") is True


@op
def block_of_bytes() -> Block:
    return block()


@pytest.mark.parametrize("kind", ["in-process", *PROCESSES])
def test_what_a_step_still_has_is_not_changed_by_the_next(kind: str) -> None:
    SEEN.clear()
    result = run(chain_of(cached_numbers, changes, first_of_cache), kind, max_concurrent=1)
    assert result.output_for_node("changes") == (EXPECTED, False)
    assert result.output_for_node("first_of_cache") in (0, None)


@pytest.mark.parametrize("kind", ["in-process", *PROCESSES])
def test_steps_that_read_the_same_value_do_not_see_each_others_changes(kind: str) -> None:
    @job
    def several() -> None:
        made = numbers()
        for number in range(5):
            changes.alias(f"changes_{number}")(made)

    result = run(several, kind, max_concurrent=1)
    assert {result.output_for_node(f"changes_{number}")[0] for number in range(5)} == {EXPECTED}


@pytest.mark.parametrize("kind", ["in-process", *PROCESSES])
def test_two_inputs_of_one_value_are_two_values(kind: str) -> None:
    @op
    def both(first: list, second: list) -> int:
        first[0] = -1
        return second[0]  # type: ignore[no-any-return]

    @job
    def twice() -> None:
        made = numbers()
        both(made, made)

    assert run(twice, kind, max_concurrent=1).output_for_node("both") == 0


def test_an_asset_can_ask_for_a_copy() -> None:
    @asset
    def rows() -> Block:
        return block()

    @asset(ins={"rows": AssetIn(copy=True)})
    def mapped(rows: Block) -> bool:
        return ".value" in Path("/proc/self/maps").read_text()

    from executor import Definitions

    nightly = define_asset_job("nightly", selection="*mapped")
    result = Definitions(assets=[rows, mapped], jobs=[nightly]).get_job_def("nightly").execute()
    assert result.asset_value("mapped") is False
