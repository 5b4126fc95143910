"""Torture the ledger with bare processes: ``python -m tests.torture --kills 2000``. ``--help`` says more.

Drivers (runs without an engine), their workers and what these leave behind are killed with SIGKILL and stopped with
SIGSTOP, at random and at named points inside the ledger. An oracle that knows nothing of the ledger's file judges from
a diary that the processes wrote. Prints a table of figures; the exit code is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, help="at least so long (default: 10, where nothing else is asked for)")
    parser.add_argument("--kills", type=int, default=0, help="go on until there were so many kills from outside")
    parser.add_argument("--grants", type=int, default=0, help="go on until there were so many grants")
    parser.add_argument("--drivers", type=int, default=6, help="runs at once (default %(default)s)")
    parser.add_argument("--kill-every", type=float, default=0.05, metavar="S", help="on average; 0: never")
    parser.add_argument("--restart", type=float, default=0.02, metavar="S", help="until one that ended is replaced")
    parser.add_argument("--crash", type=float, default=0.0, metavar="SHARE", help="of drivers with armed crash points")
    parser.add_argument("--crash-at", metavar="POINTS", help="name:chance,... for all of these, not three at random")
    parser.add_argument("--stop-every", type=float, default=0.0, metavar="S", help="on average; 0: never")
    parser.add_argument("--stop", type=float, default=0.3, metavar="S", help="longest stop (default %(default)s)")
    parser.add_argument("--limits-every", type=float, default=0.0, metavar="S", help="change a limit, on average")
    parser.add_argument("--hold", type=float, default=0.004, metavar="S", help="a step lasts, on average")
    parser.add_argument("--lanes", type=int, default=3, help="claims and steps of a run at once (default %(default)s)")
    parser.add_argument("--pools", metavar="NAMES", help="only claims of these, separated by commas")
    parser.add_argument("--leaves", type=float, default=0.0, metavar="SHARE", help="of rounds: a driver ends early")
    parser.add_argument("--withdraw-every", type=float, default=0.0, metavar="S", help="a run waits for something else")
    parser.add_argument("--waiters", type=int, default=0, help="claims that wait for a paused pool all the time")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="default: another each time")
    parser.add_argument("--engine", action="store_true", help="real runs, with real templates and workers")
    parser.add_argument("--mutant", help="plant this bug first (its sentence); it should be found")
    parser.add_argument("--list-mutants", action="store_true", help="the bugs that can be planted")
    parser.add_argument("--until-fault", action="store_true", help="end as soon as anything is wrong")
    parser.add_argument("--folder", type=Path, help="where to make the home folder")
    parser.add_argument("--keep", action="store_true", help="leave the home folder and the diary there")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    options = parser.parse_args(arguments)
    if options.seconds is None:
        options.seconds = 0.0 if options.kills or options.grants else 10.0
    return options


def main() -> int:
    """Do what the command line says."""
    options = options_of(sys.argv[1:])
    from tests.torture.mutants import MUTANTS, plant_by_name

    if options.list_mutants:
        print("\n".join(f"{mutant.breaks:8} {mutant.says}" for mutant in MUTANTS))
        return 0
    if options.mutant:
        plant_by_name(options.mutant)
    with suppress(PermissionError):  # it leads one already
        os.setsid()
    from tests.torture.driver import Plan
    from tests.torture.torture import NEEDS, Setting, Torture

    pools = set(options.pools.split(",")) if options.pools else {pool for needs in NEEDS for pool in needs}
    needs = [needs for needs in NEEDS if needs.keys() <= pools]
    kind = Torture
    if options.engine:
        from tests.torture.engine import EngineTorture

        kind = EngineTorture
    torture = kind(
        Setting(
            seconds=options.seconds,
            kills=options.kills,
            grants=options.grants,
            drivers=options.drivers,
            kill_every_s=options.kill_every,
            restart_s=options.restart,
            crash=options.crash,
            crash_at=options.crash_at,
            stop_every_s=options.stop_every,
            stop_s=options.stop,
            limits_every_s=options.limits_every,
            waiters=options.waiters,
            until_fault=options.until_fault,
            seed=options.seed,
            plan=Plan(
                needs=needs,
                leaves=options.leaves,
                withdraw_every_s=options.withdraw_every,
                hold_s=options.hold,
                lanes=options.lanes,
            ),
        ),
        options.folder,
    )
    verdict = torture.run()
    figures = verdict.figures() | {"seed": options.seed}
    if options.json:
        print(json.dumps(figures | {"faults": verdict.faults}))
    else:
        width = max(map(len, figures))
        for name, value in figures.items():
            print(f"{name:{width}}  {value}")
        for fault in verdict.faults:
            print(f"FAULT: {fault}")
    if options.keep:
        print(f"kept: {torture.folder}", file=sys.stderr)
    else:
        torture.close()
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
