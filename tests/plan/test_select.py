"""Selections of steps: what they mean, and what is said when a step is left without what it reads."""

from typing import Any

import pytest

from executor import AssetOut, In, JobDefinition, Nothing, UsageError, asset, graph, graph_asset, job, multi_asset, op
from executor.authoring.jobs import job_of_assets
from executor.plan.compile import compile_job
from executor.plan.plan import Plan
from executor.plan.select import select_steps


@op
def load() -> int:
    return 1


@op
def clean(rows: int = 3) -> int:
    return rows


@op
def train(rows: int) -> int:
    return rows


@op(ins={"start": In(Nothing)})
def report() -> int:
    return 1


@op
def join(items: list[int]) -> int:
    return sum(items)


inner = graph(name="inner")(lambda x: train(clean(x)))


@job
def daily() -> None:
    loaded = load()
    cleaned = clean(loaded)
    trained = train(cleaned)
    report(trained)
    inner(loaded)
    join([loaded, cleaned])


def keys(selection: Any, made: JobDefinition = daily) -> list[str]:
    return [step.key for step in compile_job(made, selection=selection).steps]


EVERYTHING = ["load", "clean", "train", "report", "inner.clean", "inner.train", "join"]


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        ("*", EVERYTHING),
        (["*"], EVERYTHING),
        ("load", ["load"]),
        ("load, clean", ["load", "clean"]),
        (["clean", "load"], ["load", "clean"]),
        ("+clean", ["load", "clean"]),
        ("*train", ["load", "clean", "train"]),
        ("++train", ["load", "clean", "train"]),
        ("load*", EVERYTHING),
        ("load+", ["load", "clean", "inner.clean", "join"]),
        ("+inner", ["load", "inner.clean", "inner.train"]),
        ("inner.clean", ["inner.clean"]),
        ("*report", ["load", "clean", "train", "report"]),
        (load, ["load"]),
        ([load, "clean"], ["load", "clean"]),
        (clean, ["clean", "inner.clean"]),
        (["*train", "+inner"], ["load", "clean", "train", "inner.clean", "inner.train"]),
        ((["load"], [["clean"]]), ["load", "clean"]),
        ("report", ["report"]),
        ("clean", ["clean"]),
    ],
)
def test_a_selection_means_these_steps(selection: Any, selected: list[str]) -> None:
    assert keys(selection) == selected


def test_what_is_selected_keeps_its_order_its_edges_and_what_decides_how_it_runs() -> None:
    whole = compile_job(daily)
    part = select_steps(whole, "*train,join")
    assert [step.index for step in part.steps] == [0, 1, 2, 3]
    assert part.upstream == ((), (0,), (1,), (0, 1))
    assert part.downstream == ((1, 3), (2, 3), (), ())
    assert part.index_of == {"load": 0, "clean": 1, "train": 2, "join": 3}
    assert part.step("train").compute is train


def test_a_selection_of_everything_is_the_plan_itself() -> None:
    whole = compile_job(daily)
    assert select_steps(whole, "*") is whole


def test_an_input_with_a_default_falls_back_to_it() -> None:
    assert compile_job(daily, selection="clean").steps[0].inputs == ()


def test_a_step_that_only_waited_no_longer_waits() -> None:
    part = compile_job(daily, selection="report")
    assert (part.steps[0].inputs, part.upstream) == ((), ((),))


@pytest.mark.parametrize(
    ("selection", "reads", "add"),
    [
        ("train", "step 'train' reads its input 'rows' from step 'clean'", "'load', 'clean'"),
        ("train,load", "step 'train' reads its input 'rows' from step 'clean'", "'clean'"),
        ("join,load", "step 'join' reads its input 'items' from step 'clean'", "'clean'"),
        ("inner.train", "step 'inner.train' reads its input 'rows' from step 'inner.clean'", "'load', 'inner.clean'"),
    ],
)
def test_a_step_without_what_it_reads_is_an_error_that_says_what_to_add(selection: str, reads: str, add: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_job(daily, selection=selection)
    text = str(caught.value)
    assert text.startswith(reads)
    assert (
        "which is not selected (executor resume RUN --only STEP reads values of an earlier run); select too: " in text
    )
    assert text.endswith(add)


def test_a_long_list_of_steps_to_add_is_said_shorter() -> None:
    def body() -> None:
        value = load()
        for _ in range(20):
            value = train(value)

    with pytest.raises(UsageError, match=r"select too: 20 steps: '\*train_20' selects them$"):
        compile_job(job(name="long")(body), selection="train_20")


def test_adding_what_is_said_is_enough() -> None:
    assert keys("train,load,clean") == ["load", "clean", "train"]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("lod", "the selection 'lod' names no step; did you mean 'load'? (there are: load, clean, train, report"),
        ("load clean", "the selection 'load clean' cannot be read"),
        ("+*load", "the selection '+*load' cannot be read"),
        ([], "the selection [] selects nothing; name some steps, or '*' for all"),
        (",", "the selection ',' selects nothing"),
        (3, "3 cannot be selected; give the names of steps, or what @op or @asset made"),
        (op(name="other")(lambda: 1), "the selection 'other' names no step"),
    ],
)
def test_a_selection_that_cannot_be_read_is_an_error(selection: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_job(daily, selection=selection)
    assert str(caught.value).startswith(said)


class TestAssets:
    def plan(self) -> Plan:
        @asset(key_prefix="raw")
        def orders() -> int:
            return 1

        @multi_asset(outs={"rows": AssetOut(), "count": AssetOut()})
        def split() -> Any: ...

        @graph_asset
        def made(rows: Any) -> Any:
            return clean(clean(rows))

        self.orders, self.split, self.made = orders, split, made
        return compile_job(job_of_assets([orders, split, made]))

    def selected(self, selection: Any) -> list[str]:
        return [step.key for step in select_steps(self.plan(), selection).steps]

    def test_they_are_named_by_key(self) -> None:
        assert self.selected("raw/orders") == ["raw/orders"]

    def test_one_of_several_of_a_step_selects_the_step(self) -> None:
        assert self.selected("count") == self.selected("split") == ["split"]

    def test_one_that_is_made_by_a_graph_means_all_its_steps(self) -> None:
        assert self.selected("+made") == ["split", "made.clean", "made.clean_2"]

    def test_objects_select_themselves(self) -> None:
        plan = self.plan()
        assert [step.key for step in select_steps(plan, self.orders).steps] == ["raw/orders"]
        assert [step.key for step in select_steps(plan, [self.split, self.made]).steps] == [
            "split",
            "made.clean",
            "made.clean_2",
        ]


def test_a_use_with_a_name_selects_the_step_of_that_name() -> None:
    use = load.alias("first")

    def body() -> None:
        use()
        load()

    made = job(name="daily")(body)
    assert keys(use, made) == ["first"]
    assert keys(load, made) == ["first", "load"]
    assert keys(load.tag({"a": "1"}), made) == ["first", "load"]


def test_a_list_may_lie_in_lists_and_one_that_holds_itself_adds_nothing() -> None:
    deep: Any = ["train"]
    for _ in range(2_000):
        deep = ["load", deep]
    assert keys(["clean", deep]) == ["load", "clean", "train"]
    endless: list[Any] = ["load"]
    endless.append(endless)
    assert keys(endless) == ["load"]
    empty: list[Any] = []
    empty.append(empty)
    with pytest.raises(UsageError, match="selects nothing"):
        keys(empty)
