"""Each benchmark runs with tiny sizes, and what it writes can be read. How long anything takes is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, folder: Path, *arguments: str) -> tuple[str, dict]:
    """What the script prints, and the JSON that it writes."""
    file = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--json", str(file)]
    done = subprocess.run([*command, "--folder", str(folder), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text())


def figures_of(record: dict, name: str) -> list[dict]:
    """The figures of the cases of that name."""
    return [figures for case in record["cases"] if case["name"] == name for figures in case["figures"]]


def test_step_overhead_measures_every_peer_in_every_shape(tmp_path: Path) -> None:
    text, record = run("step_overhead.py", tmp_path, "--sizes", "6", "--shapes", "fan", "tree")
    assert record["failures"] == []
    groups = {case["group"] for case in record["cases"]}
    assert groups == {"fan, 6 steps", "tree, 6 steps"}
    for name in (
        "executor, a process per step",
        "executor, persistent workers",
        "bare fork loop, same imports",
        "bare fork loop, empty interpreter",
        "bare pipe, warm workers",
        "ProcessPoolExecutor",
        "multiprocessing.Pool",
    ):
        found = figures_of(record, name)
        assert len(found) == 2, name
        assert all(figures["wall_s"] > 0 and figures["steps"] in (5, 6) for figures in found), name
    assert "| to reach |" in text


def test_step_overhead_says_which_frameworks_it_left_out(tmp_path: Path) -> None:
    if not _is_installed("joblib"):  # not imported: it would bring a thread into this process
        pytest.skip("joblib is not installed")
    for name in ("distributed", "ray", "dagster"):
        if _is_installed(name):
            pytest.skip(f"{name} is installed, and would be measured for minutes")
    _, record = run("step_overhead.py", tmp_path, "--peers", "--sizes", "3", "--shapes", "chain")
    assert [text.split()[0] for text in record["skipped"]] == ["dask", "ray", "dagster"]
    assert figures_of(record, "joblib: loky executor")[0]["steps"] == 3


def test_startup_measures_imports_and_first_steps(tmp_path: Path) -> None:
    text, record = run("startup.py", tmp_path)
    assert record["failures"] == []
    for name in ("executor run examples/hello.py", "ProcessPoolExecutor script"):
        figures = figures_of(record, name)[0]
        assert 0 < figures["first_step_s"] < figures["whole_s"]
    assert "import executor" in text


def test_startup_explains_what_is_imported() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "startup.py"), "--explain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| executor.authoring" in done.stdout
    assert "## executor run examples/hello.py" in done.stdout


def test_waiting_measures_us_and_the_pools(tmp_path: Path) -> None:
    _, record = run("waiting.py", tmp_path, "--seconds", "1.2", "--waiters", "5")
    assert record["failures"] == []
    names = {case["name"] for case in record["cases"]}
    assert {"executor, a tag limit is full", "ProcessPoolExecutor"} <= names
    assert all(figures["total_percent"] >= 0 for case in record["cases"] for figures in case["figures"])
    other = figures_of(record, "executor, a pool is full, held by another run")[0]
    assert other["processes"] >= 4  # two drivers, and the template and the step of the run that holds the slot


def test_handover_measures_both_kinds_of_workers_and_bare_locks(tmp_path: Path) -> None:
    text, record = run("handover.py", tmp_path)
    assert record["failures"] == []
    for name in (
        "executor, a process per step",
        "executor, persistent workers",
        "bare flock, a fork per step",
        "bare flock, a loop",
    ):
        turns, work = figures_of(record, name)
        assert turns["turns"] > 0, name
        assert 0 < turns["gone_p50_s"] <= turns["line_p50_s"], name
        assert work["wall_s"] >= 6 * 0.05, name  # three steps of each of two runs, one after another
    assert "two runs of 12 steps" in text


def test_overcommit_counts_races_that_several_won(tmp_path: Path, benchmarks_on_path: Path) -> None:
    _, record = run("overcommit.py", tmp_path, "--races", "2", "--many", "10")
    for name, races in (
        ("executor, the ledger", 2),
        ("executor, the ledger, many races", 10),
        ("executor, whole runs", 2),
    ):
        (found,) = figures_of(record, name)
        assert found == {"races": races, "overcommitted": 0, "all_won": 0, "nobody_won": 0}
    from overcommit import _counted

    assert _counted([1, 4, 0, 2, 1]) == {"races": 5, "overcommitted": 2, "all_won": 1, "nobody_won": 1}


def test_two_that_held_the_slot_at_the_same_time_are_found(benchmarks_on_path: Path) -> None:
    from handover import figures
    from harness import MeasurementFailed
    from together import Held, most_at_once

    held = [Held(0.0, 2.0, 2.0, "a"), Held(2.0, 3.0, 3.5, "b"), Held(3.75, 5.0, 5.0, "a")]
    assert most_at_once(held) == 1
    assert figures(held, 3)["gone_max_s"] == 0.25
    assert figures(held, 3)["line_max_s"] == 0.75
    overlapping = [*held, Held(4.0, 6.0, 6.0, "b")]
    assert most_at_once(overlapping) == 2
    with pytest.raises(MeasurementFailed, match="at the same time"):
        figures(overlapping, 4)
    with pytest.raises(MeasurementFailed, match="3 steps noted something, not 4"):
        figures(held, 4)


def test_ledger_measures_claims_under_every_lock(tmp_path: Path) -> None:
    text, record = run("ledger.py", tmp_path)
    assert record["failures"] == []
    assert figures_of(record, "ledger, 10,000 wait elsewhere")[0]["claim p50 us"] > 0
    for processes in ("1 process", "2 processes", "4 processes", "8 processes"):
        for lock in ("tried, 1-2 ms back-off", "blocking flock", "SQLite's own waiting"):
            assert all(figures["pairs/s"] > 0 for figures in figures_of(record, f"{processes}, {lock}"))
    assert "a claim, p50 / the same SQL alone" in text


def test_what_is_written_names_no_machine_and_no_path(tmp_path: Path) -> None:
    text, record = run("step_overhead.py", tmp_path, "--sizes", "2", "--shapes", "fan")
    assert str(tmp_path) not in text + json.dumps(record)
    assert str(ROOT) not in text + json.dumps(record)


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_values_measures_us_the_pools_and_the_bound(tmp_path: Path) -> None:
    if not all(_is_installed(name) for name in ("numpy", "pandas")):
        pytest.skip("numpy or pandas is not installed")
    kinds = ("numpy 64 KiB", "pandas frame, 80 MB", "list of 1,000,000 ints")
    text, record = run("values.py", tmp_path, "--kinds", *kinds)
    assert record["failures"] == []
    for name in ("executor, a process per step", "executor, persistent workers", "ProcessPoolExecutor"):
        assert len(figures_of(record, name)) == 3, name
    assert all(figures["pass_s"] > 0 for figures in figures_of(record, "file in /dev/shm, mapped"))
    assert "### Numpy 64 KiB" in text


def test_faults_counts_those_of_workers_and_of_bare_forks() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "faults.py"), "--times", "3"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a bare fork that ends at once", "a worker"]
    assert all("(median of 3; " in line for line in lines)
