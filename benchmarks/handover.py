"""How soon has a waiting run the slot that another run gives back?

Two runs in two programs share the one slot of a pool, and take turns. Measured to the first line of the other run's
step, by a clock that all processes share, from two moments: from the last line of the step that had the slot, which
holds the end of its process as well; and from the end of its process, as a third program hears of it (which is a little
late, and so a little in favour of whoever is measured). Where the process goes on, with persistent workers, the second
is the first. Beside two loops around a bare ``flock``, which know no queue; with ``--peers`` Dagster.

And: two runs of 12 steps of 50 ms each through one slot, from the first line of the first step to the last line of the
last. All steps together are 1.2 s.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from harness import (
    Case,
    MeasurementFailed,
    Row,
    Target,
    installed,
    parse,
    parser,
    report,
    run_rounds,
    table,
    target_table,
)
from together import give_limit, most_at_once, run_together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness import Figures, Results
    from together import Held

TURNS = "hand-overs"
WORK = "work"

HOLD_MS = 5.0  # long enough that the other run surely waits by then, and that processors have gone to sleep

#: Name in the tables: function in ``slots.py``, and who gives the pool its limit.
ONE_SHOT, PERSISTENT = "executor, a process per step", "executor, persistent workers"
KINDS = {
    ONE_SHOT: ("executor_one_shot", "executor_limit"),
    PERSISTENT: ("executor_persistent", "executor_limit"),
    "bare flock, a fork per step": ("flock_fork", None),
    "bare flock, a loop": ("flock_loop", None),
}
DAGSTER = "dagster"

#: What is wanted: milliseconds, and seconds.
P50_AT_MOST = {PERSISTENT: 1.0, ONE_SHOT: 3.0}
P99_AT_MOST = 10.0
WORK_AT_MOST_S = 1.6
WORK_STEPS, WORK_HOLD_S = 12, 0.05


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--steps", type=int, help="of each of the two runs, for the hand-overs (201)")
    made.add_argument("--hold-ms", type=float, default=HOLD_MS, help="how long a step has the slot (%(default)s)")
    options = parse(made, arguments)
    steps = options.steps or (6 if options.quick else 201)
    work_steps = 3 if options.quick else WORK_STEPS
    skipped = []
    cases = []
    for name, (kind, limit) in KINDS.items():
        cases.append(Case(group=TURNS, name=name, measure=_two_programs(kind, limit, steps, options.hold_ms / 1e3)))
        cases.append(Case(group=WORK, name=name, measure=_two_programs(kind, limit, work_steps, WORK_HOLD_S)))
    if options.peers and installed(DAGSTER) is None:
        skipped.append("dagster was left out: it is not installed.")
    elif options.peers:
        # Hand-overs between its runs are few: a run of this shape queues all of its steps before the other one.
        measure = _two_programs(DAGSTER, "dagster_limit", work_steps, WORK_HOLD_S)
        cases.append(Case(group=WORK, name=DAGSTER, measure=measure))
    results = run_rounds(cases, options)
    results.skipped = skipped
    sections = [
        f"### {since[1]} -> first line of the other run's step: {what}\n\n"
        + _rows(results, cases, TURNS, f"{since[0]}_{what}_s", "ms", 1e3)
        for since in (("gone", "Processes of the step gone"), ("line", "Last line of the step"))
        for what in ("p50", "p99", "max")
    ]
    sections.append(
        f"### Two runs of {work_steps} steps of {WORK_HOLD_S * 1e3:g} ms through one slot\n\n"
        + _rows(results, cases, WORK, "wall_s", "s", 1.0)
    )
    sections.append(f"### Targets\n\n{target_table(_targets(results))}")
    return report("handover", sections, results, options, [DAGSTER])


# --- measuring -------------------------------------------------------------------------------------------------------


def _two_programs(kind: str, limit: str | None, steps: int, hold_s: float) -> Callable[[Path], Figures]:
    """Two programs of ``slots.py`` at once."""

    def measure(folder: Path) -> Figures:
        home = folder / "home"
        home.mkdir(mode=0o700)
        if limit is not None:
            give_limit(limit, home)
        return figures(run_together(kind, 2, steps, hold_s, home, folder), 2 * steps)

    return measure


def figures(held: list[Held], steps: int) -> Figures:
    """What the notes of two programs say.

    Raises:
        MeasurementFailed: steps are missing, or two had the slot at the same time.
    """
    if len(held) != steps:
        raise MeasurementFailed(f"{len(held)} steps noted something, not {steps}")
    if most_at_once(held) > 1:
        raise MeasurementFailed("two steps had the slot at the same time")
    turns = [(before, after) for before, after in pairwise(held) if after.run != before.run]
    found = {"turns": float(len(turns)), "wall_s": held[-1].ended - held[0].began}
    for since, lags in (
        ("line", [after.began - before.ended for before, after in turns]),
        ("gone", [after.began - before.gone for before, after in turns]),
    ):
        lags.sort()
        found |= {
            f"{since}_p50_s": lags[len(lags) // 2],
            f"{since}_p99_s": lags[min(len(lags) - 1, int(len(lags) * 0.99))],
            f"{since}_max_s": lags[-1],
        }
    return found


# --- what is printed -------------------------------------------------------------------------------------------------


def _rows(results: Results, cases: list[Case], group: str, figure: str, unit: str, scale: float) -> str:
    return table(
        [
            Row(
                name=case.name,
                samples=results.samples(group, case.name, figure, scale=scale),
                reference=case.name == "bare flock, a fork per step",
            )
            for case in cases
            if case.group == group
        ],
        unit,
    )


def _targets(results: Results) -> list[Target]:
    targets = []
    for name, p50 in P50_AT_MOST.items():
        for what, at_most in (("p50", p50), ("p99", P99_AT_MOST)):
            found = _found(results, TURNS, name, f"gone_{what}_s", 1e3)
            targets.append(Target(what=f"{name}: hand-over, {what}", found=found, at_most=at_most, unit=" ms"))
        found = _found(results, WORK, name, "wall_s", 1.0)
        targets.append(Target(what=f"{name}: two runs of 12 steps", found=found, at_most=WORK_AT_MOST_S, unit=" s"))
    return targets


def _found(results: Results, group: str, name: str, figure: str, scale: float) -> list[float]:
    return [value for value in results.samples(group, name, figure, scale=scale) if value is not None]


if __name__ == "__main__":
    sys.exit(main())
