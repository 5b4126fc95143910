"""Values that are too large for a message, in real runs: where they are, how long, and when there is no room."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import sample_ops as ops
from programs import start
from running import PATIENCE_S, PROCESSES, Mailbox, error_of, run, wait_until

from executor import OpExecutionContext, Out, Output, RetryPolicy, asset, job, materialize, op
from executor.outputs.values import ValueLost, is_intact, load_value
from executor.outputs.writer import MEMORY
from executor.runs.home import RunFolder, open_home
from executor.runs.memory import PREFIX
from executor.runs.result import RunResult, read_result
from executor.scheduler.states import StepState
from tests.outputs.blocks import Block, block


@pytest.fixture(params=PROCESSES)
def process_kind(request: pytest.FixtureRequest) -> str:
    """A process per step, and processes that take many."""
    return str(request.param)


@pytest.fixture(params=["auto", "disk", "memory"])
def place(request: pytest.FixtureRequest, home: Path) -> str:
    """Each place for values in turn, set for the test's runs."""
    set_storage(home, f"values: {request.param}")
    return str(request.param)


def set_storage(home: Path, text: str) -> None:
    open_home(home)
    (home / "executor.yaml").write_text(f"storage: {{{text}}}")


def value_files(result: RunResult) -> list[str]:
    """The steps whose values are there as files, by the path of each; none is left in memory."""
    assert not any(result.run_id in name for name in os.listdir("/dev/shm"))
    files = {path.resolve() for path in result.folder.values.rglob("*") if path.is_file()}
    stored = [(key, value.path) for key, step in result.steps.items() for value in step.outputs if value.path]
    there = [(key, file) for key, path in stored if (file := (result.folder.values / path).resolve()) in files]
    assert len(there) == len(files), "nothing else is there"
    return sorted(key for key, _ in there)


@op
def make() -> Block:
    return block()


@op
def first_byte(value: Block) -> int:
    return value.data[0]


@op
def changed(value: Block) -> Block:
    value.data[0] = 99
    return value


@op(out={"large": Out(), "left_out": Out(is_required=False)})
def half():
    yield Output(block(), "large")


@op
def reads_both(large: Block, left_out: Block) -> int:
    return 0


@op
def fails(value: Block) -> None:
    value.data[0] = 98
    raise ValueError("not today")


@op(retry_policy=RetryPolicy(max_retries=2))
def changes_and_fails_twice(context: OpExecutionContext, value: Block) -> int:
    seen = value.data[0]
    value.data[0] = 97
    if context.attempt < 3:
        raise ValueError("not yet")
    return seen


@job
def chain():
    made = make()
    first_byte.alias("before")(made)
    new = changed(made)
    first_byte.alias("after")(new)
    first_byte.alias("again")(made)
    changed.alias("last")(new)


def test_a_value_goes_when_it_was_read_and_the_last_one_stays(process_kind: str, place: str) -> None:
    result = run(chain, process_kind)
    assert result.success, result.failures
    assert [result.output_for_node(key) for key in ("before", "after", "again")] == [0, 99, 0]
    assert value_files(result) == ["last"]
    assert result.output_for_node("last").data[0] == 99
    (stored,) = result.step("last").outputs
    assert str(stored.path).startswith(MEMORY) == (place != "disk")
    assert is_intact(stored, result.folder.values)
    with pytest.raises(ValueLost, match=r"is gone: .* unless storage\.keep in executor\.yaml is all"):
        result.output_for_node("make")


def test_what_a_reader_writes_into_its_value_nobody_else_sees(process_kind: str) -> None:
    @job
    def several():
        made = make()
        for number in range(4):
            first_byte.alias(f"reads_{number}")(made)
            changed.alias(f"changes_{number}")(made)

    result = run(several, process_kind)
    assert {result.output_for_node(f"reads_{number}") for number in range(4)} == {0}
    assert {result.output_for_node(f"changes_{number}").data[0] for number in range(4)} == {99}


@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork"])
def test_all_values_stay_where_that_is_asked_for_and_in_process(kind: str, home: Path) -> None:
    if kind != "in-process":
        set_storage(home, "keep: all")
    result = run(chain, kind)
    assert value_files(result) == ["changed", "last", "make"]
    assert result.output_for_node("make") == block()
    assert not (result.folder.values / MEMORY).exists(), "what stays is not written twice"


def test_in_process_only_results_stay_where_that_is_asked_for(home: Path) -> None:
    set_storage(home, "keep: results")
    assert value_files(run(chain, "in-process")) == ["last"]


def test_a_step_that_fails_keeps_what_it_reads(process_kind: str) -> None:
    @job
    def failing():
        made = make()
        first_byte(made)
        fails(made)

    result = run(failing, process_kind)
    assert result.status == "failed"
    assert value_files(result) == ["make"]
    assert result.output_for_node("make") == block(), "what the step wrote into it was its own"


def test_a_step_that_was_not_run_keeps_what_it_would_have_read(process_kind: str) -> None:
    @job
    def failing():
        made, other = make(), make.alias("other")()
        fails(made)
        changed.alias("never")([fails.alias("fails_too")(made), other])

    result = run(failing, process_kind)
    assert result.step("never").state is StepState.NOT_RUN
    assert value_files(result) == ["make", "other"]


def test_each_attempt_reads_the_value_as_it_was_made(process_kind: str) -> None:
    @job
    def retried():
        changes_and_fails_twice(make())

    result = run(retried, process_kind)
    assert result.output_for_node("changes_and_fails_twice") == 0
    assert value_files(result) == []


def test_a_step_that_was_skipped_needs_nothing(process_kind: str) -> None:
    @job
    def skipping():
        large, left_out = half()
        reads_both(large, left_out)

    result = run(skipping, process_kind)
    assert result.step("reads_both").state is StepState.SKIPPED
    assert value_files(result) == []


def test_the_values_of_assets_stay() -> None:
    @asset
    def rows() -> Block:
        return block()

    @asset
    def count(rows: Block) -> int:
        return len(rows.data)

    result = materialize([rows, count])
    assert value_files(result) == ["rows"]
    assert result.asset_value("rows") == block()


FRAMES = """
import os
import pandas as pd
from executor import job, op

@op
def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": range(100_000)})

@op
def total(frame: pd.DataFrame) -> int:
    return int(frame["a"].sum())

@job
def frames():
    total(frame())

if __name__ == "__main__":
    result = frames.execute()
    print(result.output_for_node("total"), result.step("total").attempts[-1].pid != os.getpid())
"""


def test_a_module_that_imports_pandas_runs_in_workers(tmp_path: Path) -> None:
    """pandas imports Arrow, whose allocator would have a thread."""
    if any(find_spec(name) is None for name in ("pandas", "pyarrow")):
        pytest.skip("pandas or pyarrow is not installed")
    script = tmp_path / "frames.py"
    script.write_text(FRAMES)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.stdout == f"{sum(range(100_000))} True\n", done.stderr


# --- no room ---------------------------------------------------------------------------------------------------------


@op(out={"small": Out(), "first": Out(), "second": Out()})
def too_much():
    """Its process may not write files as large as its second value."""
    yield Output(1, "small")
    yield Output(block(200_000), "first")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    yield Output(block(), "second")


@op
def never(small: int, first: Block, second: Block) -> None: ...


def test_a_value_for_which_there_is_no_room_fails_its_step_and_nothing_else(process_kind: str, place: str) -> None:
    @job
    def full():
        never(*too_much())
        changed(make())
        ops.one()

    result = run(full, process_kind)
    kind, message = error_of(result, "too_much")
    where = f"{result.folder.values}/{MEMORY}" if place == "memory" else str(result.folder.values)
    assert (kind, message) == (
        "bad_output",
        f"the value of output 'second' could not be written to {where}: File too large",
    )
    assert result.step("one").success
    assert result.step("never").state is StepState.NOT_RUN
    assert value_files(result) in (["changed"], []), "and of the step that failed nothing is left"
    assert read_result(result.folder).status == "failed"


def test_a_value_too_large_for_the_part_of_memory_that_it_may_use_goes_to_the_disk(home: Path) -> None:
    set_storage(home, "values: auto, memory_limit: 1 kB")
    result = run(chain)
    assert result.success
    assert not str(result.step("last").outputs[0].path).startswith(MEMORY)


# --- a driver that dies ----------------------------------------------------------------------------------------------


KILLS_DRIVERS = True


def says_that_it_is_made(folder: RunFolder) -> bool:
    lines = folder.events.read_text().splitlines()
    return any("step_succeeded" in line and "makes_and_waits.large" in line for line in lines)


def test_the_values_of_a_run_whose_driver_was_killed_are_saved_by_the_next(
    mailbox: Mailbox, tmp_path: Path, home: Path
) -> None:
    with start("makes_and_waits", "one-shot-fork", mailbox, folder=tmp_path) as program:
        mailbox.wait()
        (path,) = home.glob("runs/*")
        dead = RunFolder(path)
        assert f"{PREFIX}{dead.run_id}" in os.listdir("/dev/shm")
        wait_until(lambda: says_that_it_is_made(dead), "the history says so")
        program.kill()
        program.wait()
    run(ops.one)
    assert f"{PREFIX}{dead.run_id}" not in os.listdir("/dev/shm")
    (stored,) = read_result(dead).step("makes_and_waits.large").outputs
    assert is_intact(stored, dead.values)
    assert len(load_value(stored, dead.values)) == ops.LARGE_BYTES


class WillNotLoad:
    """Can be sent, and raises where it is received."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return int, ("no number",)


@op
def makes_what_will_not_load() -> object:
    return WillNotLoad()


@op
def is_fine() -> int:
    return 1


@op
def reads_two(fine: int, broken: object) -> None:
    """Never runs."""


@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork"])
def test_the_input_that_could_not_be_loaded_is_named(kind: str) -> None:
    @job
    def broken() -> None:
        reads_two(is_fine(), makes_what_will_not_load())

    found, message = error_of(run(broken, kind), "reads_two")
    assert found == "bad_input"
    assert message.startswith(
        "input 'broken', made by step 'makes_what_will_not_load', could not be loaded: ValueError: invalid"
    )


class KeptElsewhere:
    """Refers to a file, and raises as the system does where it is not to be had."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __getstate__(self) -> dict[str, str]:
        if self.when == "stored":
            raise OSError(errno.ENOSPC, "No space left on device", "/models/a.bin")
        return {"when": self.when}

    def __setstate__(self, state: dict[str, str]) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/models/a.bin")


@op
def keeps_elsewhere(context: OpExecutionContext) -> object:
    value = KeptElsewhere(context.tags["when"])
    return {"size": "x" * int(context.tags["size"]), "value": value, "by value": lambda: 1}


@op
def reads_all(items: object) -> None:
    """Never runs."""


@pytest.mark.parametrize("size", ["10", "1000000"])
@pytest.mark.parametrize("kind", ["in-process", "one-shot-fork"])
def test_what_the_system_refuses_the_code_of_a_value_is_told_as_an_error_of_that_code(kind: str, size: str) -> None:
    @job
    def broken() -> None:
        keeps_elsewhere.alias("is_not_stored").tag({"when": "stored", "size": size})()
        make = keeps_elsewhere.tag({"when": "loaded", "size": size})
        reads_all([is_fine(), make.alias("made")()])

    result = run(broken, kind)
    found, message = error_of(result, "is_not_stored")
    assert found == "not_picklable"
    assert message.startswith("result['value'] cannot be pickled: ")
    assert message.endswith("KeptElsewhere raised OSError: [Errno 28] No space left on device: '/models/a.bin'")
    assert last_frame_of(result, "is_not_stored") == "__getstate__"
    not_loaded = "FileNotFoundError: [Errno 2] No such file or directory: '/models/a.bin'"
    made_by = "input 'items', made by step 'made', could not be loaded: "
    assert error_of(result, "reads_all") == ("bad_input", made_by + not_loaded)
    assert last_frame_of(result, "reads_all") == "__setstate__"


def last_frame_of(result: RunResult, key: str) -> str:
    """The function that raised why a step failed; nothing of ours, or of the pickler, is in its traceback."""
    trace = result.step(key).error.traceback  # type: ignore[union-attr]
    frames = [line for line in trace.splitlines() if line.startswith("  File ")]
    assert all(__file__ in frame for frame in frames), trace
    assert "During handling" not in trace
    return frames[-1].rpartition(" in ")[2]
