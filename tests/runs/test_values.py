"""Which value files go before the run ends: those that nobody of it can ask for any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.plan.plan import Plan, Source, Step, StepInput, StepOutput, make_plan
from executor.runs.home import RunFolder
from executor.runs.values import ValueFiles
from executor.scheduler.outcomes import StoredValue


def step(index: int, *above: Source, order_only: bool = False, outputs: tuple[StepOutput, ...] = ()) -> Step:
    inputs = [
        StepInput(name=f"in_{number}", sources=(source,), order_only=order_only) for number, source in enumerate(above)
    ]
    return Step(
        index=index,
        key=f"s{index}",
        compute=None,
        inputs=tuple(inputs),
        outputs=outputs or (StepOutput(name="result"),),
    )


def plan_of(*steps: Step) -> Plan:
    return make_plan("job", steps)


class World:
    """The files of a run whose steps end as the test says."""

    def __init__(self, plan: Plan, folder: Path, *, keep_all: bool = False) -> None:
        self.folder = RunFolder(folder)
        self.folder.values.mkdir()
        self.files = ValueFiles(plan, self.folder, keep_all=keep_all)

    def make(self, index: int, *outputs: str) -> None:
        stored = []
        for output in outputs or ("result",):
            path = f"{index}-{output}"
            (self.folder.values / path).write_text("a value")
            stored.append(StoredValue(output, None, path, 7))
        self.files.made(index, [*stored, StoredValue("small", b"x", None, 1)])

    def there(self) -> list[str]:
        return sorted(path.name for path in self.folder.values.iterdir())


READ = Source(0, "result")


def test_a_value_that_all_have_read_goes_when_the_history_says_so(tmp_path: Path) -> None:
    world = World(plan_of(step(0), step(1, READ), step(2, READ)), tmp_path)
    world.make(0)
    assert world.files.is_needed("0-result")
    world.files.was_read(0)
    assert world.there() == ["0-result"], "the history is not written yet"
    world.files.remove_due()
    assert world.there() == []
    assert not world.files.is_needed("0-result")


def test_what_nobody_reads_stays(tmp_path: Path) -> None:
    outputs = (StepOutput(name="read"), StepOutput(name="result"))
    plan = plan_of(step(0, outputs=outputs), step(1, Source(0, "read")), step(2, READ, order_only=True))
    world = World(plan, tmp_path)
    world.make(0, "read", "result")
    world.make(1)
    world.files.was_read(0)
    world.files.was_read(1)
    world.files.remove_due()
    assert world.there() == ["0-result", "1-result"]
    assert world.files.is_needed("0-result")
    assert not world.files.is_needed("0-read")


def test_an_asset_stays_although_it_is_read(tmp_path: Path) -> None:
    world = World(plan_of(step(0, outputs=(StepOutput(name="result", asset="orders"),)), step(1, READ)), tmp_path)
    world.make(0)
    world.files.was_read(0)
    world.files.remove_due()
    assert world.there() == ["0-result"]


def test_all_stays_where_all_is_kept(tmp_path: Path) -> None:
    world = World(plan_of(step(0), step(1, READ)), tmp_path, keep_all=True)
    world.make(0)
    world.files.was_read(0)
    world.files.remove_due()
    assert world.there() == ["0-result"]


@pytest.mark.parametrize("gone", ["the file", "the folder"])
def test_a_file_that_somebody_else_removed_is_no_error(gone: str, tmp_path: Path) -> None:
    world = World(plan_of(step(0), step(1, READ)), tmp_path)
    world.make(0)
    (world.folder.values / "0-result").unlink()
    if gone == "the folder":
        world.folder.values.rmdir()
    world.files.was_read(0)
    world.files.remove_due()


def test_the_file_of_another_run_is_left_alone(tmp_path: Path) -> None:
    world = World(plan_of(step(0), step(1, READ)), tmp_path)
    other = tmp_path / "of another run"
    other.write_text("a value")
    world.files.made(0, [StoredValue("result", None, str(other), 7)])
    world.files.was_read(0)
    world.files.remove_due()
    assert other.exists()
