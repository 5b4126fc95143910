"""What does it cost to pass a large value from one step to the next?

A numpy array of 64 KiB, 1 MiB and 100 MiB, a list of a million ints and a pandas frame: this package with a process per
step and with persistent workers, values in memory and on the disk, beside ``ProcessPoolExecutor``, joblib, and two
processes of which one writes a file in /dev/shm and the other maps it (the bound: one copy, and no scheduling); with
``--peers`` Dask and Ray.

A figure is the time from the end of the first function until the second has read every byte of the value; the median
of several passes in one process. What else the machine does hits whoever runs then, so look at the ratios, which are
taken within a round.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness import (
    Case,
    Row,
    Target,
    in_fresh_process,
    installed,
    parse,
    parser,
    ratios,
    report,
    run_rounds,
    table,
    target_table,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from harness import Figures, Results

NEEDED = ("numpy", "pandas")
DISTRIBUTIONS = {"dask": "distributed", "ray": "ray"}

# Small ones vary more, large ones take longer.
PASSES = {
    "numpy 64 KiB": 40,
    "numpy 1 MiB": 40,
    "numpy 100 MiB": 8,
    "list of 1,000,000 ints": 8,
    "pandas frame, 80 MB": 8,
}
QUICK_PASSES = 2

SHARED = "/dev/shm"

ONE_SHOT = "executor, a process per step"
PERSISTENT = "executor, persistent workers"
ON_DISK = f"{PERSISTENT}, values on the disk"
POOL = "ProcessPoolExecutor"
BOUND = "file in /dev/shm, mapped"

#: The one that the targets are about, and the largest ratios that are wanted of it.
TARGET = "numpy 100 MiB"
POOL_AT_MOST, BOUND_AT_MOST = 0.3, 1.5


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--kinds", nargs="+", choices=list(PASSES), default=list(PASSES), help="only these values")
    made.add_argument("--explain", action="store_true", help="measure the parts of a pass by themselves, and end")
    options = parse(made, arguments)
    missing = [name for name in NEEDED if installed(name) is None]
    if missing:
        made.error(f"it needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if options.explain:
        return _explain(options)
    skipped: list[str] = []
    cases = [case for kind in options.kinds for case in _cases(kind, options.quick, options.peers, skipped)]
    results = run_rounds(cases, options)
    results.skipped = list(dict.fromkeys(skipped))
    sections = [_section(results, kind) for kind in options.kinds]
    if TARGET in options.kinds:
        sections.append("### Targets\n\n" + target_table(_targets(results)))
    return report("values", sections, results, options, ["numpy", "pandas", "joblib", *DISTRIBUTIONS.values()])


def _cases(kind: str, quick: bool, peers: bool, skipped: list[str]) -> list[Case]:
    passes = QUICK_PASSES if quick else PASSES[kind]
    calls: dict[str, tuple[object, ...]] = {
        ONE_SHOT: ("executor", kind, passes, 1, "auto"),
        PERSISTENT: ("executor", kind, passes, "unlimited", "auto"),
        ON_DISK: ("executor", kind, passes, "unlimited", "disk"),
        POOL: ("process_pool", kind, passes),
        BOUND: ("mapped_file", kind, passes, SHARED),
    }
    if installed("joblib") is None:
        skipped.append("joblib was left out: it is not installed.")
    else:
        calls["joblib: loky executor"] = ("joblib", kind, passes)
        calls["joblib: Parallel"] = ("joblib_parallel", kind, passes)
    for name, distribution in DISTRIBUTIONS.items() if peers else ():
        if installed(distribution) is None:
            skipped.append(f"{name} was left out: it is not installed.")
        else:
            calls[name] = (name, kind, passes)
    return [
        Case(group=kind, name=name, measure=in_fresh_process("passing", str(function), *rest))
        for name, (function, *rest) in calls.items()
    ]


def _explain(options: argparse.Namespace) -> int:
    """The parts with the array of 100 MiB, one case each; the same process has measured them all."""
    name = "the parts of a pass"

    def measure(folder: Path) -> Figures:
        (folder / "values").mkdir()
        return in_fresh_process("passing", "parts", folder / "values", SHARED)(folder)

    results = run_rounds([Case(group=name, name=TARGET, measure=measure)], options)
    found = results.figures[name, TARGET]
    rows = [
        Row(name=part, samples=results.samples(name, TARGET, part, scale=1e3))
        for part in next((figures for figures in found if figures), {})
    ]
    return report("values, part by part", [table(rows, "ms")], results, options, ["numpy"])


# --- what is printed -------------------------------------------------------------------------------------------------


def _samples(results: Results, kind: str, name: str) -> list[float | None]:
    """Milliseconds, round by round."""
    return results.samples(kind, name, "pass_s", scale=1e3)


def _section(results: Results, kind: str) -> str:
    rows = [
        Row(name=name, samples=_samples(results, kind, name), reference=name in (POOL, BOUND))
        for found, name in results.figures
        if found == kind
    ]
    return f"### {kind[:1].upper()}{kind[1:]}\n\n{table(rows, 'ms')}"


def _targets(results: Results) -> list[Target]:
    return [
        Target(
            what=f"{TARGET}: {name} / {other}",
            found=ratios(_samples(results, TARGET, name), _samples(results, TARGET, other)),
            at_most=at_most,
        )
        for name in (PERSISTENT, ONE_SHOT)
        for other, at_most in ((POOL, POOL_AT_MOST), (BOUND, BOUND_AT_MOST))
    ]


if __name__ == "__main__":
    sys.exit(main())
