"""The frameworks that run DAGs of Python functions, each used as its documentation says; run only with ``--peers``."""

from __future__ import annotations

import importlib
import os
from time import perf_counter
from typing import Any

from graphs import check, graph, sinks, step

#: Whoever asks for one of these needs this distribution.
DISTRIBUTIONS = {"dask": "distributed", "ray": "ray", "dagster": "dagster"}


def dask(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of the graph in a warm ``LocalCluster``, a ``submit`` per step; values stay on the workers."""
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=int(workers), threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        client.gather([client.submit(step, pure=False) for _ in range(4 * int(workers))])
        of = graph(shape, int(size))
        began = perf_counter()
        futures: list[Any] = []
        for above in of:
            futures.append(client.submit(step, *[futures[source] for source in above], pure=False))
        values = client.gather([futures[index] for index in sinks(of)])
        took = perf_counter() - began
    check(of, values)
    return {"steps": len(of), "wall_s": took}


def ray(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of the graph in a started Ray with warm workers, a remote call per step."""
    module: Any = importlib.import_module("ray")
    module.init(num_cpus=int(workers), include_dashboard=False, logging_level="ERROR")
    try:
        remote = module.remote(step)
        module.get([remote.remote() for _ in range(4 * int(workers))])
        of = graph(shape, int(size))
        began = perf_counter()
        made: list[Any] = []
        for above in of:
            made.append(remote.remote(*[made[source] for source in above]))
        values = module.get([made[index] for index in sinks(of)])
        took = perf_counter() - began
    finally:
        module.shutdown()
    check(of, values)
    return {"steps": len(of), "wall_s": took}


def dagster(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of ``execute_job`` with Dagster's multiprocess executor, forkserver start, its own SQLite instance."""
    module: Any = importlib.import_module("dagster")
    home = os.environ["EXECUTOR_HOME"]
    of = graph(shape, int(size))
    instance = module.DagsterInstance.local_temp(home)
    made = module.build_reconstructable_job("frameworks", "dagster_job", (shape, int(size), int(workers)))
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    began = perf_counter()
    with module.execute_job(made, instance=instance, run_config=quiet, raise_on_error=True) as result:
        took = perf_counter() - began
        check(of, [result.output_for_node(f"s{index}") for index in sinks(of)])
    return {"steps": len(of), "wall_s": took}


def dagster_job(shape: str, size: int, workers: int) -> Any:
    """The graph as a Dagster job; its workers call this as well."""
    module: Any = importlib.import_module("dagster")
    of = graph(shape, size)
    ops = [
        module.op(name=name, ins={key: module.In(int) for key in keys}, out=module.Out(int))(function)
        for name, keys, function in (
            ("leaf", (), _leaf),
            ("after_one", ("first",), _after_one),
            ("after_two", ("first", "second"), _after_two),
        )
    ]
    executor = module.multiprocess_executor.configured(
        {
            "max_concurrent": workers,
            "start_method": {"forkserver": {"preload_modules": ["dagster", "frameworks"]}},
        }
    )

    @module.job(name="benchmark", executor_def=executor)  # type: ignore[untyped-decorator]  # Any: a peer
    def made() -> None:
        values: list[Any] = []
        for index, above in enumerate(of):
            values.append(ops[len(above)].alias(f"s{index}")(*[values[source] for source in above]))

    return made


# Without a context, which Dagster would want to be annotated with a type of its own.


def _leaf() -> int:
    return step()


def _after_one(first: int) -> int:
    return step(first)


def _after_two(first: int, second: int) -> int:
    return step(first, second)
