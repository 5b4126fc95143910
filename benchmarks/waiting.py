"""What does waiting cost? One step sleeps 10 s, 1,000 others wait for a limit; the CPU of everybody but the sleeper.

Looked at from outside, in the middle of the sleep, by the kernel's own counts (``schedstat``): the process that drives
the run with all its threads, and all processes below it (where another run holds the pool, that one too). "wake-ups"
counts how often any of their threads was run.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import frameworks
from harness import (
    HERE,
    Case,
    MeasurementFailed,
    Row,
    Target,
    environment,
    installed,
    median,
    number,
    parse,
    parser,
    report,
    run_rounds,
    table,
    target_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Figures, Results

GROUP = "waiting"
AT_MOST_PERCENT = 0.5

# From the begin of the sleep to the begin of the window, and from its end to the end of the time that was asked for: so
# long a start may still keep a driver busy, with room.
EDGE_S = 0.5

# An observer on a busy machine may be late by so much. The program is killed when it was looked at.
LATE_S = 600.0

# Dagster needs half a minute to begin a run of so many steps on a slow machine.
BEGIN_WITHIN_S = 120.0

#: Name in the table, and function in ``waits.py``. The first ones are ours.
OURS = {
    "executor, max_concurrent is full": "executor_max_concurrent",
    "executor, a tag limit is full": "executor_tag_limit",
    "executor, persistent workers, a tag limit is full": "executor_persistent",
    "executor run (command), a tag limit is full": "executor_command",
    "executor, a pool is full": "executor_pool",
    "executor, a pool is full, held by another run": "executor_other_run",
}
PEERS = {"ProcessPoolExecutor": "process_pool_executor", "multiprocessing.Pool": "multiprocessing_pool"}
#: Name in the table: the framework, and its function.
FRAMEWORKS = {
    "dask": ("dask", "dask"),
    "dagster": ("dagster", "dagster"),
    "dagster, a pool is full, held by another run": ("dagster", "dagster_pool"),
}


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--seconds", type=float, help="how long the step sleeps (10)")
    made.add_argument("--waiters", type=int, help="how many others wait (1,000)")
    options = parse(made, arguments)
    seconds = options.seconds or (2.0 if options.quick else 10.0)
    waiters = options.waiters or (20 if options.quick else 1_000)
    if seconds <= 2 * EDGE_S:
        made.error(f"--seconds must be more than {2 * EDGE_S:g}")
    kinds = OURS | PEERS
    skipped = []
    for name, (framework, function) in FRAMEWORKS.items() if options.peers else ():
        if installed(frameworks.DISTRIBUTIONS[framework]) is None:
            skipped.append(f"{name} was left out: {framework} is not installed.")
        else:
            kinds |= {name: function}
    cases = [Case(group=GROUP, name=name, measure=_observed(kind, seconds, waiters)) for name, kind in kinds.items()]
    results = run_rounds(cases, options)
    results.skipped = skipped
    sections = [
        f"### {waiters:,} steps wait while one sleeps {seconds:g} s: share of a core\n\n{_shares(results, cases)}",
        f"### Who takes it, and how often anybody is woken up (medians)\n\n{_parts(results, cases)}",
        f"### Target\n\n{target_table(_targets(results))}",
    ]
    return report("waiting", sections, results, options, list(frameworks.DISTRIBUTIONS.values()))


# --- measuring -------------------------------------------------------------------------------------------------------


def _observed(kind: str, seconds: float, waiters: int) -> Callable[[Path], Figures]:
    """The idle cost of one program of ``waits.py``."""

    def measure(folder: Path) -> Figures:
        home, fifo = folder / "home", folder / "begun"
        home.mkdir(mode=0o700)
        os.mkfifo(fifo)
        with (folder / "output").open("wb") as output:
            program = subprocess.Popen(
                [sys.executable, str(HERE / "waits.py"), kind, str(seconds + LATE_S), str(waiters)],
                env=environment(home) | {"BEGUN": str(fifo)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        found: dict[int, Usage] = {}
        try:
            _await_begin(program, fifo, folder / "output")
            time.sleep(EDGE_S)
            began, before = time.monotonic(), usage(program.pid)
            time.sleep(seconds - 2 * EDGE_S)
            found = usage(program.pid)
            took = time.monotonic() - began
            if program.poll() is not None:
                raise MeasurementFailed("the program ended while its first step should sleep")
            started = _started_steps(home)
            if kind.startswith("executor_") and started != 1:
                raise MeasurementFailed(f"{started} steps were started, not 1")
        finally:
            _end(program, found)
        return _figures(program.pid, before, found, took)

    return measure


def _await_begin(program: subprocess.Popen[bytes], fifo: Path, output: Path) -> None:
    """Block until the step says that it sleeps."""
    reader, ended = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), os.pidfd_open(program.pid)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(ended, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(BEGIN_WITHIN_S * 1000)}
        if reader not in ready:
            last = output.read_text(errors="replace").strip().splitlines()[-3:]
            what = "ended" if ready else "was not there"
            raise MeasurementFailed(f"the program {what} before its first step began: {' | '.join(last)}")
    finally:
        os.close(reader)
        os.close(ended)


def _started_steps(home: Path) -> int:
    return sum(file.read_text().count('"e":"step_started"') for file in home.glob("runs/*/events.jsonl"))


def _end(program: subprocess.Popen[bytes], below: dict[int, Usage]) -> None:
    """Kill the program, whose other steps need not run, and what is left of what it had started."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    for pid in below.keys() - {program.pid}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


#: Nanoseconds of CPU, and how often it was run.
Usage = tuple[int, int]


def usage(pid: int) -> dict[int, Usage]:
    """The usage of a process and of every process below it, all threads together."""
    found: dict[int, Usage] = {}
    pids = [pid]
    while pids:
        one = pids.pop()
        cpu_ns = turns = 0
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                on_cpu, _, runs = map(int, (task / "schedstat").read_text().split())
                cpu_ns, turns = cpu_ns + on_cpu, turns + runs
                pids += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        found[one] = cpu_ns, turns
    return found


def _figures(driver: int, before: dict[int, Usage], after: dict[int, Usage], took_s: float) -> Figures:
    spent = {pid: (ns - before.get(pid, (0, 0))[0], n - before.get(pid, (0, 0))[1]) for pid, (ns, n) in after.items()}
    own = spent[driver][0]
    total = sum(ns for ns, _ in spent.values())
    return {
        "driver_percent": own / 1e7 / took_s,
        "below_percent": (total - own) / 1e7 / took_s,
        "total_percent": total / 1e7 / took_s,
        "wakeups_per_s": sum(turns for _, turns in spent.values()) / took_s,
        "processes": len(after),
    }


# --- what is printed -------------------------------------------------------------------------------------------------


def _shares(results: Results, cases: list[Case]) -> str:
    rows = [Row(name=case.name, samples=results.samples(GROUP, case.name, "total_percent")) for case in cases]
    return table(rows, "% of a core")


def _parts(results: Results, cases: list[Case]) -> str:
    lines = [
        "| | driver, % of a core | all below it, % of a core | wake-ups a second | processes |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in cases:
        figures = [
            number(median(results.samples(GROUP, case.name, figure)))
            for figure in ("driver_percent", "below_percent", "wakeups_per_s", "processes")
        ]
        lines.append(f"| {case.name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _targets(results: Results) -> list[Target]:
    return [
        Target(
            what=f"{name}: driver and all below it",
            found=[value for value in results.samples(GROUP, name, "total_percent") if value is not None],
            at_most=AT_MOST_PERCENT,
            unit=" %",
        )
        for name in OURS
    ]


if __name__ == "__main__":
    sys.exit(main())
