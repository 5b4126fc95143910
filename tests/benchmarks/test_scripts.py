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


def test_what_is_written_names_no_machine_and_no_path(tmp_path: Path) -> None:
    text, record = run("step_overhead.py", tmp_path, "--sizes", "2", "--shapes", "fan")
    assert str(tmp_path) not in text + json.dumps(record)
    assert str(ROOT) not in text + json.dumps(record)


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
