"""What does a step cost beside the work that it does?

No-op steps as fan, chain, layers and binary tree, in two workers: this package with a process per step and with
persistent workers, its history kept, beside bare loops of the same duties, the pools of the standard library, and
joblib; with ``--peers`` Dask, Ray and Dagster.

What is compared: for peers the time from the first submission to the last value, their pools warm. For this package
"whole call" is all of ``job.execute()`` (compile, the run's folder, the start and end of all processes, the last
fsync), and "steps" is from the first ``step_started`` to the last ``step_succeeded`` of its history. One process per
step is held against the bare fork loop by its whole call; persistent workers, which the whole call starts and ends,
are held against a pool that is warm by their steps.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import frameworks
from graphs import SHAPES
from harness import (
    Case,
    Row,
    Target,
    in_fresh_process,
    installed,
    number,
    parse,
    parser,
    ratios,
    report,
    run_rounds,
    table,
    target_table,
)
from harness import median as median_of

if TYPE_CHECKING:
    from harness import Results

SIZES = (1_000, 10_000)
QUICK_SIZES = (20, 40)
# Dask and Ray take half a minute for 10,000 steps, Dagster ten seconds for 20.
FRAMEWORK_SIZE = 1_000
DAGSTER_SIZE = 20
DAGSTER_SHAPES = ("fan", "chain")

ONE_SHOT = "executor, a process per step"
PERSISTENT = "executor, persistent workers"
FORK_SAME = "bare fork loop, same imports"
FORK_EMPTY = "bare fork loop, empty interpreter"
PIPE = "bare pipe, warm workers"
EXECUTOR_POOL = "ProcessPoolExecutor"
POOL = "multiprocessing.Pool"
JOBLIB = "joblib: loky executor"
JOBLIB_PARALLEL = "joblib: Parallel"

#: The largest ratios that are wanted.
ONE_SHOT_AT_MOST = 1.5
PERSISTENT_AT_MOST = 1.0
GROWTH_AT_MOST = 1.3


def group(shape: str, size: int) -> str:
    return f"{shape}, {size:,} steps"


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, help="only these")
    made.add_argument("--sizes", nargs="+", type=int, help="only these numbers of steps")
    made.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    options = parse(made, arguments)
    sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    skipped: list[str] = []
    cases = [case for shape in options.shapes for size in sizes for case in _cases(shape, size, options.workers)]
    if options.peers:
        cases += _framework_cases(options.shapes, options.workers, skipped)
    results = run_rounds(cases, options)
    results.skipped = skipped
    sections = [_section(results, name) for name in dict.fromkeys(case.group for case in cases)]
    sections += ["### Targets\n\n" + target_table(_targets(results, options.shapes, sizes))]
    sections += [_costs_apart(results, options.shapes, sizes)]
    return report("step_overhead", sections, results, options, ["joblib", *frameworks.DISTRIBUTIONS.values()])


def _cases(shape: str, size: int, workers: int) -> list[Case]:
    calls: dict[str, tuple[object, ...]] = {
        ONE_SHOT: ("ours", "run_job", shape, size, workers, 1),
        PERSISTENT: ("ours", "run_job", shape, size, workers, "unlimited"),
        FORK_SAME: ("bare", "fork_loop", shape, size, workers, "same"),
        FORK_EMPTY: ("bare", "fork_loop", shape, size, workers, "empty"),
        PIPE: ("bare", "pipe_loop", shape, size, workers),
        EXECUTOR_POOL: ("pools", "process_pool_executor", shape, size, workers),
        POOL: ("pools", "multiprocessing_pool", shape, size, workers),
    }
    if installed("joblib") is not None:
        calls[JOBLIB] = ("pools", "joblib_executor", shape, size, workers)
        if shape == "fan":
            calls[JOBLIB_PARALLEL] = ("pools", "joblib_parallel", shape, size, workers)
    return [_case(group(shape, size), name, call) for name, call in calls.items()]


def _framework_cases(shapes: list[str], workers: int, skipped: list[str]) -> list[Case]:
    cases = []
    for name, distribution in frameworks.DISTRIBUTIONS.items():
        if installed(distribution) is None:
            skipped.append(f"{name} was left out: it is not installed.")
            continue
        for shape in shapes:
            if name != "dagster":
                call: tuple[object, ...] = ("frameworks", name, shape, FRAMEWORK_SIZE, workers)
                cases.append(_case(group(shape, FRAMEWORK_SIZE), name, call))
            elif shape in DAGSTER_SHAPES:
                small = group(shape, DAGSTER_SIZE)
                cases.append(_case(small, name, ("frameworks", name, shape, DAGSTER_SIZE, workers)))
                known = {case.name: case for case in _cases(shape, DAGSTER_SIZE, workers)}
                cases += [known[other] for other in (ONE_SHOT, PERSISTENT, FORK_SAME, EXECUTOR_POOL)]
    return cases


def _case(of: str, name: str, call: tuple[object, ...]) -> Case:
    module, function, *arguments = call
    # the same shape in both sizes right after each other: their ratio is looked at too
    near = str(arguments[0])
    return Case(group=of, name=name, measure=in_fresh_process(str(module), str(function), *arguments), near=near)


# --- what is printed -------------------------------------------------------------------------------------------------


def per_step(results: Results, of: str, name: str, figure: str = "wall_s") -> list[float | None]:
    """Microseconds a step, round by round."""
    steps = results.samples(of, name, "steps")
    walls = results.samples(of, name, figure, scale=1e6)
    return [None if wall is None or not count else wall / count for wall, count in zip(walls, steps, strict=True)]


def _section(results: Results, of: str) -> str:
    rows = []
    for found, name in results.figures:
        if found != of:
            continue
        if name in (ONE_SHOT, PERSISTENT):
            rows.append(Row(name=f"{name}: whole call", samples=per_step(results, of, name)))
            rows.append(Row(name=f"{name}: steps", samples=per_step(results, of, name, "steps_s")))
        else:
            reference = name in (FORK_SAME, EXECUTOR_POOL)
            rows.append(Row(name=name, samples=per_step(results, of, name), reference=reference))
    return f"### {of[:1].upper()}{of[1:]}\n\n{table(rows, 'us a step')}"


def _targets(results: Results, shapes: list[str], sizes: tuple[int, ...]) -> list[Target]:
    targets = []
    for shape in shapes:
        for size in sizes:
            of = group(shape, size)
            bare, pool = per_step(results, of, FORK_SAME), per_step(results, of, EXECUTOR_POOL)
            targets.append(
                Target(
                    what=f"{of}: a process per step (whole call) / {FORK_SAME}",
                    found=ratios(per_step(results, of, ONE_SHOT), bare),
                    at_most=ONE_SHOT_AT_MOST,
                )
            )
            targets.append(
                Target(
                    what=f"{of}: persistent workers (steps) / {EXECUTOR_POOL}",
                    found=ratios(per_step(results, of, PERSISTENT, "steps_s"), pool),
                    at_most=PERSISTENT_AT_MOST,
                )
            )
        if len(sizes) < 2:
            continue
        small, large = group(shape, min(sizes)), group(shape, max(sizes))
        targets += [
            Target(
                what=f"{shape}: {name} (steps), {max(sizes):,} / {min(sizes):,} steps",
                found=ratios(per_step(results, large, name, "steps_s"), per_step(results, small, name, "steps_s")),
                at_most=GROWTH_AT_MOST,
            )
            for name in (ONE_SHOT, PERSISTENT)
        ]
    return targets


def _costs_apart(results: Results, shapes: list[str], sizes: tuple[int, ...]) -> str:
    """What comes before the steps, and whose CPU the steps take; medians."""
    lines = [
        "### Before the steps, and the CPU of the whole call (medians)",
        "",
        "| | define the job, ms | compile, ms | driver, CPU us a step | template and workers, CPU us a step |",
        "|---|---:|---:|---:|---:|",
    ]
    for shape in shapes:
        for size in sizes:
            of = group(shape, size)
            for name in (ONE_SHOT, PERSISTENT):
                figures = [
                    median_of(results.samples(of, name, "define_s", scale=1e3)),
                    median_of(results.samples(of, name, "compile_s", scale=1e3)),
                    median_of(per_step(results, of, name, "driver_cpu_s")),
                    median_of(per_step(results, of, name, "other_cpu_s")),
                ]
                lines.append(f"| {of}: {name} | " + " | ".join(map(number, figures)) + " |")
            bare = number(median_of(per_step(results, of, FORK_SAME, "cpu_s")))
            lines.append(f"| {of}: {FORK_SAME} | | | | {bare}, all of it |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
