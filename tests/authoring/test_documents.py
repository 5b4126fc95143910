"""What the documents of concurrency show works as it is shown, with ``dagster`` read as ``executor``.

The forms that they use are tested here; where ``EXECUTOR_SPEC_DIR`` names a folder with the documents themselves, their
Python blocks are run as well.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

import executor as dg
from executor.plan.compile import compile_job
from executor.scheduler.limits import BoundLimits, Limits, bind


def bound(job: dg.JobDefinition) -> BoundLimits:
    """Which steps of the job count against which of its tag limits."""
    settings = job.settings()
    return bind(Limits(max_concurrent=1, tags=settings.tag_concurrency_limits), compile_job(job))


class TestForms:
    def test_a_pool_on_assets_ops_and_the_ops_of_a_graph_asset(self) -> None:
        @dg.asset(pool="foo")
        def my_asset() -> None: ...

        @dg.op(pool="bar")
        def my_op() -> int:
            return 1

        @dg.op(pool="barbar")
        def my_downstream_op(inp: int) -> int:
            return inp

        @dg.graph_asset
        def my_graph_asset() -> Any:
            return my_downstream_op(my_op())

        plan = compile_job(dg.Definitions(assets=[my_asset, my_graph_asset]).job_of_all_assets())
        assert {step.key: dict(step.pools) for step in plan.steps} == {
            "my_asset": {"foo": 1},
            "my_graph_asset.my_op": {"bar": 1},
            "my_graph_asset.my_downstream_op": {"barbar": 1},
        }

    def test_several_slots_of_a_pool(self) -> None:
        @dg.asset(pool="database", pool_slots=3)
        def heavy(context: dg.AssetExecutionContext) -> None:
            context.log.info("heavy")

        @dg.op(pool="database", pool_slots=2)
        def medium(context: dg.OpExecutionContext) -> None:
            context.log.info("medium")

        assert heavy.op is not None
        assert (heavy.op.demands.pools, medium.demands.pools) == ({"database": 3}, {"database": 2})
        assert heavy() is medium() is None

    def test_the_older_spellings_of_a_pool(self) -> None:
        @dg.op(tags={"dagster/concurrency_key": "database"})
        def by_tag() -> None: ...

        @dg.op(concurrency_group="database")
        def by_group() -> None: ...

        @dg.asset(op_tags={"dagster/concurrency_key": "database"})
        def asset_by_tag() -> None: ...

        assert asset_by_tag.op is not None
        for made in (by_tag, by_group, asset_by_tag.op):
            assert made.demands.pools == {"database": 1}

    def test_a_job_of_asset_objects_with_a_configured_executor(self) -> None:
        @dg.asset
        def first_asset(context: dg.AssetExecutionContext) -> None:
            context.log.info("first")

        @dg.asset
        def second_asset(context: dg.AssetExecutionContext) -> None:
            context.log.info("second")

        my_job = dg.define_asset_job(
            name="my_job",
            selection=[first_asset, second_asset],
            executor_def=dg.multiprocess_executor.configured({"max_concurrent": 2}),
        )
        assert len(compile_job(my_job)) == 2
        assert my_job.settings().max_concurrent == 2

    def test_an_executor_for_all_jobs_that_one_job_overrides(self) -> None:
        @dg.asset
        def first_asset() -> None: ...

        two = dg.multiprocess_executor.configured({"max_concurrent": 2})
        jobs = [
            dg.define_asset_job("my_job", [first_asset], executor_def=two),
            dg.define_asset_job("other", [first_asset]),
        ]

        @dg.definitions
        def executor() -> dg.Definitions:
            four = dg.multiprocess_executor.configured({"max_concurrent": 4})
            return dg.Definitions(assets=[first_asset], jobs=jobs, executor=four)

        assert [job.settings().max_concurrent for job in executor().jobs] == [2, 4]

    @pytest.mark.parametrize("argument", ["tags", "op_tags"])
    def test_a_tag_limit_counts_assets_by_tags_and_by_op_tags(self, argument: str) -> None:
        decorate = dg.asset(**{argument: {"database": "warehouse"}})  # type: ignore[call-overload]  # one of two names

        def warehouse_sync() -> None: ...

        def warehouse_aggregate() -> None: ...

        limit = {"key": "database", "value": "warehouse", "limit": 1}
        warehouse_job = dg.define_asset_job(
            name="warehouse_job",
            selection=[decorate(warehouse_sync), decorate(warehouse_aggregate)],
            executor_def=dg.multiprocess_executor.configured({"max_concurrent": 4, "tag_concurrency_limits": [limit]}),
        )
        counted = bound(warehouse_job)
        assert (counted.names, counted.capacity, counted.unmatched) == (("tag database=warehouse",), (1,), ())
        assert counted.signatures == ((0,),)

    def test_a_job_config_in_the_nesting_of_the_default_executor(self) -> None:
        @dg.op
        def work() -> None: ...

        config = {"execution": {"config": {"multiprocess": {"max_concurrent": 1}}}}

        @dg.job(config=config)
        def my_job() -> None:
            work()

        assert my_job.settings().max_concurrent == 1
        with_executor = dg.job(name="my_job", executor_def=dg.multiprocess_executor, config=config)
        assert with_executor(lambda: [work()]).settings().max_concurrent == 1
        assert dg.validate_run_config(my_job, config).success

    def test_a_limit_in_the_wrong_place_is_an_error_where_it_is_written(self) -> None:
        wrong = {"tag_concurrency_limits": [{"key": "database", "limit": 1}]}
        with pytest.raises(
            dg.DefinitionError, match=r"(?s)\"tag_concurrency_limits\" is not read there.*\"execution\""
        ):
            dg.define_asset_job(name="my_job", config=wrong)


#: Words of what later versions bring; a block with one of them is not run.
LATER = re.compile(r"sensor|resource\b|ConfigurableResource|DagsterInstance|instance\.|RunRequest|schedule")


def blocks() -> list[Any]:
    """The Python blocks of the documents, each named by its file and line."""
    folder = os.environ.get("EXECUTOR_SPEC_DIR")
    found: list[Any] = []
    for path in sorted(Path(folder).glob("*.txt")) if folder else []:
        text = path.read_text()
        for match in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            if not LATER.search(match[1].replace("resource_type", "").replace("resource_usage", "")):
                found.append(pytest.param(match[1], id=f"{path.name[:3]}-line-{line}"))
    return found


@pytest.mark.skipif("EXECUTOR_SPEC_DIR" not in os.environ, reason="EXECUTOR_SPEC_DIR names no folder of documents")
def test_the_documents_have_blocks_to_run() -> None:
    assert len(blocks()) >= 10


@pytest.mark.parametrize("block", blocks())
def test_a_block_of_the_documents_works(block: str) -> None:
    def run(text: str) -> dict[str, Any]:
        scope: dict[str, Any] = {
            name: getattr(dg, name) for name in ("asset", "define_asset_job", "multiprocess_executor")
        }
        scope["my_job"] = dg.job(name="my_job")(lambda: None)
        exec(text.replace("from dagster import", "from executor import"), scope)
        return scope

    wrong, separator, right = block.partition("# ✅ Correct - works properly")
    if separator:
        with pytest.raises(dg.DefinitionError, match="is not read there"):
            run(wrong)
        block = right
    scope = run(block)
    assets = [value for value in scope.values() if isinstance(value, dg.AssetsDefinition)]
    for name, value in scope.items():
        if isinstance(value, dg.AssetJobDefinition):
            known = {str(asset.key) for asset in assets}
            named = [key for key in value.selection if key != "*" and key not in known]
            stand_ins = [dg.asset(name=key)(lambda: None) for key in named]
            all_assets = [*assets, *stand_ins] or [dg.asset(name="any")(lambda: None)]
            assert len(compile_job(dg.Definitions(assets=all_assets, jobs=[value]).get_job_def(value.name))) > 0
            value.settings()
        elif name.startswith("test_"):
            value()
