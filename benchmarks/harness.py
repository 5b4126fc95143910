"""What all benchmarks share: rounds in shuffled order, figures from fresh processes, tables, notes on the machine.

A benchmark is a list of cases. Those of one group are compared with each other, so they run right after each other, in
an order shuffled anew in each round; a ratio is taken within a round and only then is the median over rounds, so that
what else the machine does between rounds does not count.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parent

# A measurement that takes longer hangs: the slowest real one takes about a minute.
TIMEOUT_S = 600.0

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something to measure once in each round; ``measure`` gets an empty folder that is removed afterwards."""

    group: str  #: cases of one group are compared with each other
    name: str
    measure: Callable[[Path], Figures]
    near: str = ""  #: groups that say the same run after each other, since their ratios are taken as well


@dataclass(slots=True, kw_only=True)
class Results:
    """The figures of each case, round by round; None where it failed."""

    rounds: int
    figures: dict[tuple[str, str], list[Figures | None]] = field(default_factory=dict)  #: by group and name
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  #: what was not run, and why
    load: tuple[float, float] = (0.0, 0.0)  #: load average over one minute, before and after

    def samples(self, group: str, name: str, figure: str, *, scale: float = 1.0) -> list[float | None]:
        """One figure of one case, round by round, times ``scale``."""
        return [
            None if found is None or figure not in found else found[figure] * scale
            for found in self.figures.get((group, name), [])
        ]


class MeasurementFailed(Exception):
    """A measured process did not give its figures; the text has its last lines."""


# --- measuring -------------------------------------------------------------------------------------------------------


def environment(home: Path) -> dict[str, str]:
    """The variables of a measured process: this checkout first, and a run history of its own."""
    paths = [str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "EXECUTOR_HOME": str(home)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles what it imports
    return variables


def in_fresh_process(module: str, function: str, *arguments: object) -> Callable[[Path], Figures]:
    """A measurement: ``module.function(*arguments)`` in an interpreter of its own (see ``measured.py``)."""

    def measure(folder: Path) -> Figures:
        file = folder / "figures.json"
        home = folder / "home"
        home.mkdir(mode=0o700)
        command = [sys.executable, str(HERE / "measured.py"), module, function, str(file), *map(str, arguments)]
        run_process(command, home)
        figures: Figures = json.loads(file.read_text())
        return figures

    return measure


def run_process(command: list[str], home: Path, **variables: str) -> str:
    """What the command prints.

    Raises:
        MeasurementFailed: it does not end with 0, or not in time; it and what it started are killed then.
    """
    process = subprocess.Popen(
        command,
        env=environment(home) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise MeasurementFailed(f"it did not end within {TIMEOUT_S:g} s") from None
        raise
    if process.returncode:
        last = " | ".join(output.strip().splitlines()[-3:])
        raise MeasurementFailed(f"it ended with {process.returncode}: {last}")
    return output


def run_rounds(cases: list[Case], options: argparse.Namespace) -> Results:
    """The figures of all cases over ``options.rounds`` rounds. Progress goes to stderr."""
    results = Results(rounds=options.rounds)
    results.figures = {(case.group, case.name): [] for case in cases}
    chance = random.Random(options.seed)
    before = os.getloadavg()[0]
    for number in range(1, options.rounds + 1):
        for case in _shuffled(cases, chance):
            results.figures[case.group, case.name].append(_measure(case, number, options, results))
    results.load = before, os.getloadavg()[0]
    return results


def _shuffled(cases: list[Case], chance: random.Random) -> list[Case]:
    """The cases in a new order that keeps those of one group, and groups that are near, together."""
    place = {key: chance.random() for case in cases for key in (case.near, case.group)}
    return sorted(
        chance.sample(cases, len(cases)), key=lambda case: (place[case.near or case.group], place[case.group])
    )


def _measure(case: Case, number: int, options: argparse.Namespace, results: Results) -> Figures | None:
    folder = Path(tempfile.mkdtemp(prefix="executor-benchmark-", dir=options.folder))
    try:
        figures = case.measure(folder)
    except (MeasurementFailed, OSError) as error:
        results.failures.append(f"round {number}, {case.group}, {case.name}: {error}")
        print(f"  {results.failures[-1]}", file=sys.stderr)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    print(f"  round {number}, {case.group}, {case.name}: {shown}", file=sys.stderr)
    return figures


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: a figure of a case, round by round."""

    name: str
    samples: list[float | None]
    reference: bool = False  #: others are divided by it


def median(samples: list[float | None]) -> float | None:
    """The median of those that were measured; None without any."""
    found = [value for value in samples if value is not None]
    return statistics.median(found) if found else None


def ratios(samples: list[float | None], to: list[float | None]) -> list[float]:
    """Each sample over that of the other in the same round."""
    return [a / b for a, b in zip(samples, to, strict=True) if a is not None and b]


def number(value: float | None) -> str:
    """A figure with three digits that count."""
    if value is None:
        return "failed"
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def table(rows: list[Row], unit: str) -> str:
    """A Markdown table: median, smallest and largest of each row, and its median ratio to each reference."""
    references = [row for row in rows if row.reference]
    heads = ["", f"{unit}, median", "min - max", *(f"ratio to {row.name}" for row in references), "rounds"]
    lines = [_line(heads), "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        found = [value for value in row.samples if value is not None]
        spread = f"{number(min(found))} - {number(max(found))}" if found else ""
        cells = [row.name, number(median(row.samples)), spread]
        for reference in references:
            shares = ratios(row.samples, reference.samples)
            cells.append(f"{statistics.median(shares):.2f}x" if shares else "")
        lines.append(_line([*cells, str(len(found))]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure should stay below, and what it was, round by round."""

    what: str
    found: list[float]
    at_most: float
    unit: str = "x"


def target_table(targets: list[Target]) -> str:
    """A Markdown table of what was to be reached, and whether the median reaches it."""
    lines = [_line(["to reach", "at most", "median", "min - max", "reached"]), "|---|---:|---:|---:|---|"]
    for target in targets:
        if not target.found:
            lines.append(_line([target.what, f"{target.at_most:g}{target.unit}", "", "", "not measured"]))
            continue
        middle = statistics.median(target.found)
        spread = f"{number(min(target.found))} - {number(max(target.found))}"
        reached = "yes" if middle <= target.at_most else "**no**"
        lines.append(
            _line([target.what, f"{target.at_most:g}{target.unit}", f"{number(middle)}{target.unit}", spread, reached])
        )
    return "\n".join(lines)


# --- the command line ------------------------------------------------------------------------------------------------


def parser(question: str, *, rounds: int = 5) -> argparse.ArgumentParser:
    """The options that all benchmarks have; ``question`` is what this one answers."""
    made = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"how often each is measured ({rounds})")
    made.add_argument("--quick", action="store_true", help="one round of small sizes: to see that it works")
    made.add_argument("--peers", action="store_true", help="also Dask, Ray and Dagster, where they are installed")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    made.add_argument("--seed", type=int, default=1, help="of the shuffling (1)")
    made.add_argument("--folder", type=Path, help="where run histories are kept meanwhile; put it on a real disk")
    return made


def parse(made: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """The options; ``--quick`` means one round."""
    options = made.parse_args(arguments)
    if options.quick:
        options.rounds = 1
    if options.rounds < 1:
        made.error("--rounds must be at least 1")
    if options.folder is None:
        options.folder = Path(tempfile.gettempdir())
    return options


def report(title: str, sections: list[str], results: Results, options: argparse.Namespace, peers: list[str]) -> int:
    """Print everything, write the JSON, and give the exit code: 1 where a measurement failed."""
    machine = machine_note(options.folder, peers)
    print(f"## {title}\n")
    print("\n\n".join(sections))
    for text in [*results.skipped, *(f"failed: {failure}" for failure in results.failures)]:
        print(f"\n{text}")
    print(f"\n{results.rounds} round{'s' if results.rounds > 1 else ''}. {describe(machine)}", end=" ")
    print(f"Load average {results.load[0]:.1f} before, {results.load[1]:.1f} after.")
    if options.json is not None:
        record = {
            "benchmark": title,
            "machine": machine,
            "rounds": results.rounds,
            "load": results.load,
            "skipped": results.skipped,
            "failures": results.failures,
            "cases": [
                {"group": group, "name": name, "figures": figures} for (group, name), figures in results.figures.items()
            ],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if results.failures else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures depend on and what may be told: no name, no path."""

    processor: str
    processors: int  #: that this process may use
    memory_gib: float
    kernel: str
    file_system: str  #: that run histories were kept on
    python: str
    versions: dict[str, str]


def machine_note(folder: Path, peers: list[str]) -> dict[str, Any]:
    """The machine, Python, and the versions of what is compared."""
    versions = {name: found for name in peers if (found := installed(name)) is not None}
    return asdict(
        Machine(
            processor=_processor(),
            processors=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            kernel=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
            file_system=_file_system(folder.resolve()),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions=versions,
        )
    )


def describe(machine: dict[str, Any]) -> str:
    """The machine in one sentence."""
    versions = "".join(f", {name} {found}" for name, found in machine["versions"].items())
    return (
        f"{machine['processors']} usable CPUs ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"{machine['kernel']}, histories on {machine['file_system']}, {machine['python']}{versions}."
    )


def installed(distribution: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    best, kind = "", "an unknown file system"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        if (folder == Path(mount) or Path(mount) in folder.parents) and len(mount) >= len(best):
            best, kind = mount, found
    return kind
