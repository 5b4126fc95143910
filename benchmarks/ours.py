"""The same graphs as jobs of this package."""

from __future__ import annotations

import resource
from time import perf_counter
from typing import TYPE_CHECKING, Any

from graphs import check, graph, sinks, step

import executor as ex

if TYPE_CHECKING:
    from graphs import Graph

    from executor import JobDefinition, RunResult


@ex.op
def leaf() -> int:
    """A step that reads nothing."""
    return step()


@ex.op
def after_one(first: int) -> int:
    """A step that reads one value."""
    return step(first)


@ex.op
def after_two(first: int, second: int) -> int:
    """A step that reads two."""
    return step(first, second)


OPS = (leaf, after_one, after_two)


def make_job(of: Graph) -> JobDefinition:
    """The job whose steps are those of the graph, named ``s0``, ``s1``, ..."""

    @ex.job(name="benchmark")
    def made() -> None:
        values: list[Any] = []
        for index, above in enumerate(of):
            values.append(OPS[len(above)].alias(f"s{index}")(*[values[source] for source in above]))

    return made


def run_job(shape: str, size: str, workers: str, steps_per_worker: str) -> dict[str, float]:
    """Seconds of defining, compiling and executing the graph as a job, its history kept.

    ``wall_s`` is the whole ``job.execute()``: loading what only a run needs, compiling, the run's folder, starting and
    ending processes, the last fsync. ``steps_s`` is from the first ``step_started`` to the last ``step_succeeded``, by
    the history's own times.
    """
    of = graph(shape, int(size))
    began = perf_counter()
    job = make_job(of)
    defined = perf_counter()
    per_worker: int | str = int(steps_per_worker) if steps_per_worker.isdigit() else steps_per_worker
    config = {"execution": {"config": {"max_concurrent": int(workers), "steps_per_worker": per_worker}}}

    cpu_before = _cpu_s()
    started = perf_counter()
    result = job.execute(run_config=config)
    took = perf_counter() - started
    cpu = [after - before for after, before in zip(_cpu_s(), cpu_before, strict=True)]
    check(of, _values(result, of))
    from executor.plan.compile import compile_job

    begun = perf_counter()
    compile_job(job)  # once more: what it takes within the call is not told apart
    compiled = perf_counter()
    begins = [t for t, event in result.timeline if event.kind == "step_started"]
    ends = [t for t, event in result.timeline if event.kind == "step_succeeded"]
    return {
        "steps": len(of),
        "define_s": defined - began,
        "compile_s": compiled - begun,
        "wall_s": took,
        "steps_s": max(ends) - min(begins),
        "driver_cpu_s": cpu[0],
        "other_cpu_s": cpu[1],
    }


def _values(result: RunResult, of: Graph) -> list[int]:
    return [result.output_for_node(f"s{index}") for index in sinks(of)]


def _cpu_s() -> tuple[float, float]:
    """CPU seconds of this process, and of those that it has waited for: the template with its workers."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime
