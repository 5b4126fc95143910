"""How long until the first step runs, and what does ``import executor`` cost?

Imports: the whole life of ``python -c "import X"``, less that of ``python -c pass`` in the same round. First step: from
just before the process is started to the first line of the first step's body, which writes the time down; the job is
``examples/hello.py``. ``--explain`` lists instead which modules the import and the command spend their time in.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import (
    HERE,
    ROOT,
    Case,
    MeasurementFailed,
    Row,
    Target,
    environment,
    installed,
    parse,
    parser,
    report,
    run_process,
    run_rounds,
    table,
    target_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import Figures, Results

IMPORTS, FIRST_STEP = "imports", "first step"
BARE = "bare interpreter"
POOL_SCRIPT = "ProcessPoolExecutor script"
IMPORT_AT_MOST_MS = 50.0

# One start of an interpreter takes 10 to 20 ms and varies by as much, so a sample is the median of so many.
STARTS = 9

# The console script, without the search for it.
COMMAND = "import sys; from executor.cli import main; sys.exit(main())"
WRITE_TIME = 'import os, time; open(os.environ["FIRST_STEP"], "w").write(str(time.monotonic_ns()))'
FIRST_LINE = "def name() -> str:\n"

#: What is imported, by the distribution that must be installed for it.
IMPORTED = {"executor": None, "concurrent.futures.process": None, "joblib": "joblib"}
IMPORTED_PEERS = {"distributed": "distributed", "dagster": "dagster"}


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--explain", action="store_true", help="list the modules that the time goes to, and end")
    options = parse(made, arguments)
    if options.explain:
        explain()
        return 0
    peers = {**IMPORTED, **(IMPORTED_PEERS if options.peers else {})}
    names = [name for name, needs in peers.items() if needs is None or installed(needs) is not None]
    starts = 1 if options.quick else STARTS
    cases = [Case(group=IMPORTS, name=BARE, measure=_starts("pass", starts))]
    cases += [Case(group=IMPORTS, name=name, measure=_starts(f"import {name}", starts)) for name in names]
    cases += [
        Case(group=FIRST_STEP, name="one line in a bare interpreter", measure=_first_step(["-c", WRITE_TIME])),
        Case(group=FIRST_STEP, name=POOL_SCRIPT, measure=_first_step([_hello("pool_hello.py")])),
        Case(group=FIRST_STEP, name="executor run examples/hello.py", measure=_run_example(["-c", COMMAND, "run"])),
        Case(
            group=FIRST_STEP,
            name="the same job, hello.execute() in a script",
            measure=_run_example([], "hello.execute()"),
        ),
    ]
    skipped = []
    if options.peers and installed("dagster") is None:
        skipped.append("dagster was left out: it is not installed.")
    elif options.peers:
        command = ["-m", "dagster", "job", "execute", "-f", _hello("dagster_hello.py")]
        cases.append(Case(group=FIRST_STEP, name="dagster job execute", measure=_first_step(command)))
    results = run_rounds(cases, options)
    results.skipped = skipped
    sections = [_imports(results, names), _first_steps(results, cases), _targets(results)]
    return report("startup", sections, results, options, ["joblib", "distributed", "dagster"])


# --- measuring -------------------------------------------------------------------------------------------------------


def _starts(code: str, times: int) -> Callable[[Path], Figures]:
    """The median life of an interpreter that runs this code."""

    def measure(folder: Path) -> Figures:
        variables = environment(folder)
        command = [sys.executable, "-c", code]
        lives = []
        for turn in range(times + 1):
            began = time.perf_counter()
            done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
            if done.returncode:
                raise MeasurementFailed(done.stderr.strip().splitlines()[-1])
            if turn:  # the first one may have compiled something
                lives.append(time.perf_counter() - began)
        return {"life_s": statistics.median(lives)}

    return measure


def _first_step(arguments: list[str]) -> Callable[[Path], Figures]:
    """Seconds from the start of this Python command to the time that its first step wrote down, and to its end."""

    def measure(folder: Path) -> Figures:
        return _started(arguments, folder)

    return measure


def _run_example(arguments: list[str], ending: str = "") -> Callable[[Path], Figures]:
    """The same for the example, whose first step gets one line more."""

    def measure(folder: Path) -> Figures:
        text = (ROOT / "examples" / "hello.py").read_text()
        if text.count(FIRST_LINE) != 1:
            raise MeasurementFailed("examples/hello.py has no step that begins with " + FIRST_LINE.strip())
        file = folder / "hello.py"
        file.write_text(text.replace(FIRST_LINE, f"{FIRST_LINE}    {WRITE_TIME}\n") + ending + "\n")
        return _started([*arguments, str(file)], folder)

    return measure


def _started(arguments: list[str], folder: Path) -> Figures:
    home, told = folder / "home", folder / "first_step"
    home.mkdir(mode=0o700)
    command = [sys.executable, *arguments]
    began = time.monotonic_ns()
    run_process(command, home, FIRST_STEP=str(told), DAGSTER_HOME=str(home))
    ended = time.monotonic_ns()
    return {"first_step_s": (int(told.read_text()) - began) / 1e9, "whole_s": (ended - began) / 1e9}


def _hello(name: str) -> str:
    return str(HERE / "hello" / name)


# --- what is printed -------------------------------------------------------------------------------------------------


def _over_bare(results: Results, name: str) -> list[float | None]:
    lives = results.samples(IMPORTS, name, "life_s", scale=1e3)
    bare = results.samples(IMPORTS, BARE, "life_s", scale=1e3)
    return [None if life is None or less is None else life - less for life, less in zip(lives, bare, strict=True)]


def _imports(results: Results, names: list[str]) -> str:
    rows = [Row(name=f"{BARE}, its whole life", samples=results.samples(IMPORTS, BARE, "life_s", scale=1e3))]
    rows += [
        Row(name=f"import {name}", samples=_over_bare(results, name), reference=name == "concurrent.futures.process")
        for name in names
    ]
    return f"### Imports, over a bare interpreter\n\n{table(rows, 'ms')}"


def _first_steps(results: Results, cases: list[Case]) -> str:
    sections = []
    for title, figure in (("To the first line of the first step", "first_step_s"), ("To the end", "whole_s")):
        rows = [
            Row(
                name=case.name,
                samples=results.samples(FIRST_STEP, case.name, figure, scale=1e3),
                reference=case.name == POOL_SCRIPT,
            )
            for case in cases
            if case.group == FIRST_STEP
        ]
        sections.append(f"### {title}\n\n{table(rows, 'ms')}")
    return "\n\n".join(sections)


def _targets(results: Results) -> str:
    found = [value for value in _over_bare(results, "executor") if value is not None]
    what = "import executor, over a bare interpreter"
    return "### Target\n\n" + target_table([Target(what=what, found=found, at_most=IMPORT_AT_MOST_MS, unit=" ms")])


# --- --explain -------------------------------------------------------------------------------------------------------


def explain() -> None:
    """Print the modules that the import and the command spend most in; one pass each, so expect noise."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        bare = set(_import_times(["-c", "pass"], home))
        example = str(ROOT / "examples" / "hello.py")
        for what, arguments in (
            ("import executor", ["-c", "import executor"]),
            ("executor run examples/hello.py", ["-c", COMMAND, "run", example]),
        ):
            times = {name: us for name, us in _import_times(arguments, home).items() if name not in bare}
            print(f"## {what}: {len(times)} modules, {sum(own for own, _ in times.values()) / 1e3:.1f} ms\n")
            print("| module | itself, ms | with what it imports first, ms |\n|---|---:|---:|")
            for name, (own, whole) in sorted(times.items(), key=lambda item: -item[1][0])[:20]:
                print(f"| {name} | {own / 1e3:.2f} | {whole / 1e3:.2f} |")
            print()


def _import_times(arguments: list[str], home: Path) -> dict[str, tuple[int, int]]:
    """Microseconds of each module: its own, and with what it imported first."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, env=environment(home), check=True, capture_output=True, text=True, cwd=os.sep)
    times = {}
    for line in done.stderr.splitlines():
        if line.startswith("import time:") and "[us]" not in line:
            own, whole, name = line.removeprefix("import time:").split("|")
            times[name.strip()] = int(own), int(whole)
    return times


if __name__ == "__main__":
    sys.exit(main())
