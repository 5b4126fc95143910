"""Do several processes that ask at the same moment ever have more slots than there are?

Four processes ask for the one slot of a pool as soon as a barrier lets all of them go, round after round, each round in
a pool of its own. Counted: rounds in which more than one of them had it. For this package every process is an owner of
the ledger, as the driver of a run is. With ``--peers`` Dagster, by the call that its executors claim slots with
(``claim_concurrency_slot``) on its default SQLite storage.

And real runs: four programs, each a run of one step, at the same time, their steps noting when they held the slot.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import (
    TIMEOUT_S,
    Case,
    MeasurementFailed,
    Target,
    in_fresh_process,
    installed,
    parse,
    parser,
    report,
    run_rounds,
    target_table,
)
from together import give_limit, most_at_once, run_together

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Figures, Results

GROUP = "races"
PROCESSES = 4
RACES = 25  #: as many as were held against Dagster; this package runs MANY besides
MANY = 2_000
HOLD_S = 0.01

LEDGER, LEDGER_MANY, RUNS, DAGSTER = (
    "executor, the ledger",
    "executor, the ledger, many races",
    "executor, whole runs",
    "dagster, claim_concurrency_slot",
)


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("--races", type=int, help=f"races of each kind ({RACES})")
    made.add_argument("--many", type=int, help=f"races for the ledger beside ({MANY:,})")
    options = parse(made, arguments)
    races = options.races or (3 if options.quick else RACES)
    many = options.many or (20 if options.quick else MANY)
    skipped = []
    cases = [
        Case(group=GROUP, name=LEDGER, measure=in_fresh_process("overcommit", "race", "executor_claims", races)),
        Case(group=GROUP, name=LEDGER_MANY, measure=in_fresh_process("overcommit", "race", "executor_claims", many)),
        Case(group=GROUP, name=RUNS, measure=_whole_runs(races)),
    ]
    if options.peers and installed("dagster") is None:
        skipped.append("dagster was left out: it is not installed.")
    elif options.peers:
        measure = in_fresh_process("overcommit", "race", "dagster_claims", races)
        cases.append(Case(group=GROUP, name=DAGSTER, measure=measure))
    results = run_rounds(cases, options)
    results.skipped = skipped
    sections = [
        f"### {PROCESSES} processes ask for one slot at the same moment\n\n{_table(results, cases)}",
        f"### Target\n\n{target_table(_targets(results))}",
    ]
    return report("overcommit", sections, results, options, ["dagster"])


# --- claims alone ----------------------------------------------------------------------------------------------------

if TYPE_CHECKING:
    #: Whether a process has the slot of a race, by the race's number.
    Claim = Callable[[int], bool]


def race(claims: str, races: str) -> Figures:
    """How many races several processes won, and how many nobody did; ``claims`` is a function of this module."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    count = int(races)
    globals()[f"{claims}_before"](count)
    barrier = context.Barrier(PROCESSES)
    won = context.Array("b", PROCESSES * count)
    # Forked before anything with threads is imported; each imports what it needs by itself.
    processes = [
        context.Process(target=_racer, args=(claims, number, count, barrier, won)) for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
        if process.exitcode != 0:
            raise RuntimeError(f"a racing process ended with {process.exitcode}")
    winners = [sum(won[number * count + one] for number in range(PROCESSES)) for one in range(count)]
    return _counted(winners)


def _counted(winners: list[int]) -> Figures:
    return {
        "races": len(winners),
        "overcommitted": sum(1 for count in winners if count > 1),
        "all_won": sum(1 for count in winners if count == PROCESSES),
        "nobody_won": winners.count(0),
    }


def _racer(claims: str, number: int, count: int, barrier: Any, won: Any) -> None:
    claim: Claim = globals()[claims](number)
    for one in range(count):
        barrier.wait()
        if claim(one):
            won[number * count + one] = 1
    barrier.wait()  # nobody ends, and so gives anything back, while others still race
    os._exit(0)


def executor_claims_before(races: int) -> None:
    """A pool of one slot for each race."""
    from executor import Instance

    ledger = Instance.get().ledger
    for one in range(races):
        ledger.set_limit(f"race{one}", 1)


def executor_claims(number: int) -> Claim:
    """An owner of the ledger, which tries until it had the ledger's lock."""
    from executor.ledger.ledger import Ledger
    from executor.ledger.requests import Changes, Request, needs_of

    home = Path(os.environ["EXECUTOR_HOME"])
    folder = home / "runs" / str(number)
    folder.mkdir(parents=True)
    ledger = Ledger(home)
    owner = ledger.register(str(number), folder)

    def claim(one: int) -> bool:
        request = Request(step="step", attempt=1, needs=needs_of({f"race{one}": 1}))
        while True:
            outcome = ledger.try_exchange(owner, Changes(request=[request]), told=None)
            if outcome is not None:
                return bool(outcome.granted)
            time.sleep(0.001)  # the ledger's lock is another's for the moment, and try_exchange does not wait

    return claim


def dagster_claims_before(races: int) -> None:
    """A pool of one slot for each race; in a process of its own, so that none of its threads is forked."""
    script = "import sys, overcommit; overcommit.dagster_limits(int(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, str(races)], check=True, env=os.environ)


def dagster_limits(races: int) -> None:
    """A pool of one slot for each race."""
    storage = _dagster_storage()
    for one in range(races):
        storage.set_concurrency_slots(f"race{one}", 1)


def dagster_claims(number: int) -> Claim:
    """An instance of Dagster's."""
    storage = _dagster_storage()

    def claim(one: int) -> bool:
        return bool(storage.claim_concurrency_slot(f"race{one}", f"run{number}", "step").is_claimed)

    return claim


def _dagster_storage() -> Any:
    module: Any = importlib.import_module("dagster")
    return module.DagsterInstance.local_temp(os.environ["EXECUTOR_HOME"]).event_log_storage


# --- whole runs ------------------------------------------------------------------------------------------------------


def _whole_runs(races: int) -> Callable[[Path], Figures]:
    """Four programs at once, race after race."""

    def measure(folder: Path) -> Figures:
        home = folder / "home"
        home.mkdir(mode=0o700)
        give_limit("executor_limit", home)
        most = []
        for one in range(races):
            place = folder / str(one)
            place.mkdir()
            held = run_together("executor_one_shot", PROCESSES, 1, HOLD_S, home, place)
            if len(held) != PROCESSES:
                raise MeasurementFailed(f"{len(held)} steps noted something, not {PROCESSES}")
            most.append(most_at_once(held))
        return _counted(most)

    return measure


# --- what is printed -------------------------------------------------------------------------------------------------


def _table(results: Results, cases: list[Case]) -> str:
    lines = [
        "| | races | over-committed | all four had it at once | nobody had it |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in cases:
        cells = []
        for figure in ("races", "overcommitted", "all_won", "nobody_won"):
            found = [value for value in results.samples(GROUP, case.name, figure) if value is not None]
            cells.append(f"{sum(found):,.0f}" if found else "failed")
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _targets(results: Results) -> list[Target]:
    return [
        Target(
            what=f"{name}: races over-committed",
            found=[value for value in results.samples(GROUP, name, "overcommitted") if value is not None],
            at_most=0,
            unit="",
        )
        for name in (LEDGER, LEDGER_MANY, RUNS)
    ]


if __name__ == "__main__":
    sys.exit(main())
