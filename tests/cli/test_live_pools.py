"""What the commands say of real runs that share a pool, each started by ``executor run``; also when they are over."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))  # test folders are no packages here
sys.path.insert(0, str(Path(__file__).parents[1] / "workers"))

import pool_ops
from census import Census
from pool_programs import Place
from running import PATIENCE_S, wait_until

from executor.cli.root import run_command
from executor.runs.waits import SHOWN_S


class Shop(Place):
    """A home folder, and runs in it that ``executor run`` has started."""

    def run(self, job: str, *words: str) -> subprocess.Popen[str]:
        """A command that runs a job of ``pool_ops``; its pid is that of the run's driver."""
        tags = [word for key, value in self.tags.items() for word in ("--tag", f"{key}={value}")]
        program = subprocess.Popen(
            [sys.executable, "-m", "executor.cli", "run", pool_ops.__file__, "-j", job, *tags, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.programs.append(program)
        return program

    def hold(self, job: str = "one_holder", *words: str) -> Held:
        """A run whose step ``holds`` has a slot of ``database`` until the gate is opened."""
        program = self.run(job, *words)
        ((_, pid, run_id),) = [line.split() for line in self.mailbox.wait()]
        return Held(program, run_id, int(pid))

    def wait_behind(self, job: str, step: str, *words: str) -> Waits:
        """A run, a step of which waits for a slot of ``database``."""
        before = set(os.listdir(self.home / "runs"))
        program = self.run(job, *words)
        wait_until(lambda: set(os.listdir(self.home / "runs")) - before, "the run has a folder")
        (run_id,) = set(os.listdir(self.home / "runs")) - before
        self.waits_for(step, run_id)
        return Waits(program, run_id)

    def open_later(self) -> None:
        """Open the gate when who waits has waited for longer than what is not worth showing."""
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2 * SHOWN_S, "the wait is worth showing")
        self.gate.open()


class Held(NamedTuple):
    """A run that holds a slot."""

    program: subprocess.Popen[str]
    run_id: str
    pid: int  #: of the step


class Waits(NamedTuple):
    """A run that waits for one."""

    program: subprocess.Popen[str]
    run_id: str


@pytest.fixture
def shop(tmp_path: Path, own_home: Path) -> Iterator[Shop]:
    """A home folder whose pool ``database`` has one slot; no process is left after it."""
    with Census(kills_drivers=True):
        made = Shop(tmp_path, own_home)
        try:
            made.set_limits(database=1)
            yield made
        finally:
            made.close()


def command(*words: str) -> tuple[int, str, str]:
    """The exit code of one command, and what it printed on stdout and stderr."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = run_command(words)
    return code, out.getvalue(), err.getvalue()


def masked(text: str) -> str:
    """Times and pids as they differ from run to run."""
    text = re.sub(r"(\d\d\d\d-\d\d-\d\d )?\d\d:\d\d:\d\d \([^)]+\)", "TIME", text)
    return re.sub(r"pid \d+", "pid N", text)


def end(program: subprocess.Popen[str]) -> int:
    """What the program ends with."""
    program.communicate(timeout=3 * PATIENCE_S)
    return program.returncode


def data(*words: str) -> Any:
    """What a command prints with --json."""
    code, out, err = command(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


# --- why --------------------------------------------------------------------------------------------------------------


def test_why_names_the_step_of_the_other_run_while_it_holds_the_slot_and_afterwards(shop: Shop) -> None:
    held = shop.hold()
    waits = shop.wait_behind("two_queries", "query")
    code, out, err = command("why", waits.run_id)
    assert (code, err) == (0, "")
    holder = f"step 'holds' of run {held.run_id[:8]}"
    assert f"{holder} (pid {held.pid}, since " in out
    lines = out.splitlines()
    assert lines[0].startswith(f"run {waits.run_id[:8]} of job two_queries, running after ")
    assert lines[0].endswith(": 1 waiting, 1 claiming")
    assert lines[1].startswith("query  has waited ")
    assert " for slots (1 of pool 'database'): pool 'database' is full (1 of 1, held by " in lines[1]
    assert lines[2] == (
        f"    until {holder} ends, or somebody raises the limit: executor instance concurrency set database 2"
    )
    assert lines[3:] == ["query_after  waits for 'query' (claiming)", "    until it has succeeded"]

    (step, _) = data("why", waits.run_id)["steps"]
    (blocker,) = step["blockers"]
    assert (blocker["pool"], blocker["cause"], blocker["used"], blocker["limit"]) == ("database", "full", 1, 1)
    assert (blocker["place"], len(blocker["held_by"])) == (1, 1)
    (holder_record,) = blocker["held_by"]
    assert (holder_record["run"], holder_record["step"], holder_record["pid"]) == (held.run_id, "holds", held.pid)
    assert command("why", held.run_id)[1].splitlines()[1:] == ["no step waits"]
    assert f" as pid {held.pid}\n" in command("why", held.run_id, "holds")[1]

    shop.open_later()
    assert (end(held.program), end(waits.program)) == (0, 0)
    line = command("why", waits.run_id, "query")[1].splitlines()[1]
    assert line.startswith("query  succeeded in attempt 1; it had waited ")
    assert f" pool database (held by {holder} (pid {held.program.pid}, since " in line
    (wait,) = data("why", waits.run_id, "query")["steps"][0]["waited"]
    assert wait["cause"] == "pool database"
    (by,) = wait["held_by"]
    assert (by["step"], by["run"], by["pid"], by["outlived"]) == ("holds", held.run_id, held.program.pid, False)
    assert wait["others"] is False


def test_why_tells_the_place_of_a_claim_and_what_becomes_of_it_when_the_pool_is_paused(shop: Shop) -> None:
    held = shop.hold()
    first = shop.wait_behind("one_query", "query")
    second = shop.wait_behind("one_query", "query")
    assert "its claim is number" not in command("why", first.run_id)[1]
    assert "; its claim is number 2 of those that wait\n" in command("why", second.run_id)[1]
    assert " and those before it have had their turn, or " in command("why", second.run_id)[1]
    assert command("instance", "concurrency", "set", "database", "0")[0] == 0
    out = command("why", first.run_id)[1]
    assert "pool 'database' is paused (limit 0)\n" in out
    assert "    until somebody raises the limit: executor instance concurrency set database 1\n" in out
    shop.gate.open()
    assert end(held.program) == 0
    assert "pool 'database' is paused (limit 0)\n" in command("why", second.run_id)[1]
    assert command("instance", "concurrency", "set", "database", "1")[0] == 0
    assert (end(first.program), end(second.program)) == (0, 0)


# --- show -------------------------------------------------------------------------------------------------------------


def test_the_pool_and_the_runs_are_shown_as_they_are_now_and_as_they_were(shop: Shop) -> None:
    held = shop.hold()
    waits = shop.wait_behind("one_query", "query", "--tag", "dagster/priority=3")
    code, out, err = command("instance", "concurrency", "show", "database")
    assert (code, err) == (0, "")
    holder, waiter = held.run_id[:8], waits.run_id[:8]
    assert f"step holds, attempt 1, 1 slot, pid {held.pid}, since " in out
    assert masked(out) == (
        "pool database: 1 of 1 slot held, limit set by command\n"
        "held by:\n"
        f"  run {holder}, step holds, attempt 1, 1 slot, pid N, since TIME\n"
        "waiting, in this order:\n"
        f"  1. run {waiter}, step query, attempt 1, 1 slot, priority 3, since TIME, waits for pool 'database' "
        "(1 of 1 held)\n"
    )
    (pool,) = data("instance", "concurrency", "list")["pools"]
    assert (pool["pool"], pool["held"], pool["waiting"], pool["limit"]) == ("database", 1, 1, 1)
    assert [run["status"] for run in data("runs")] == ["running", "running"]
    shown = data("show", held.run_id)
    assert (shown["status"], shown["driver_pid"]) == ("running", held.program.pid)
    assert (shown["steps"]["holds"]["state"], shown["steps"]["holds"]["pid"]) == ("running", held.pid)
    assert shown["steps"]["holds"]["pools"] == {"database": 1}
    assert data("show", waits.run_id)["steps"]["query"]["state"] == "claiming"
    assert masked(command("show", waits.run_id)[1]).splitlines()[-1].split() == ["query", "claiming", "0", "database"]

    shop.open_later()
    assert (end(held.program), end(waits.program)) == (0, 0)
    assert command("instance", "concurrency", "show", "database")[1] == (
        "pool database: 0 of 1 slot held, limit set by command\nheld by nobody\nnobody waits\n"
    )
    shown = data("show", waits.run_id)
    assert (shown["status"], shown["steps"]["query"]["state"]) == ("succeeded", "succeeded")
    assert shown["steps"]["query"]["waited_s"]["pool database"] > 0
    assert " pool database" in command("show", waits.run_id)[1].splitlines()[-1]


# --- free -------------------------------------------------------------------------------------------------------------


def test_the_slot_of_a_run_that_lives_is_not_freed(shop: Shop) -> None:
    held = shop.hold()
    waits = shop.wait_behind("one_query", "query")
    for words in ([held.run_id], [held.run_id[:8], "holds"]):
        code, out, err = command("instance", "concurrency", "free", *words)
        assert (code, out) == (2, "")
        assert f"1 claim of run {held.run_id[:8]} not freed: process {held.program.pid}, which drives it, lives" in err
        assert f"executor instance concurrency free {' '.join([held.run_id[:8], *words[1:]])} --force\n" in err
    assert command("instance", "concurrency", "free", waits.run_id, "holds")[0] == 2
    assert held.program.poll() is None
    shop.gate.open()
    assert (end(held.program), end(waits.program)) == (0, 0)


def test_a_step_that_is_freed_by_force_is_stopped_and_its_run_goes_on(shop: Shop) -> None:
    program = shop.run("holds_and_busy", "--max-concurrent", "2")
    told = {what: (int(pid), run_id) for what, pid, run_id in map(str.split, shop.mailbox.wait(2))}
    pid, run_id = told["holds"]
    waits = shop.wait_behind("one_query", "query")
    code, out, err = command("instance", "concurrency", "free", run_id, "holds", "--force")
    assert (code, err) == (0, "")
    assert out == (f"stopped process {pid}\nfreed step holds of run {run_id[:8]}, which held 1 slot of pool database\n")
    assert end(waits.program) == 0
    shop.gate.open()
    end(program)
    steps = data("show", run_id)["steps"]
    assert (steps["busy"]["state"], steps["busy"]["attempts"]) == ("succeeded", 1)
    assert steps["holds"]["state"] == "cancelled"
    assert shop.claims_left() == []


def test_a_run_that_is_freed_by_force_is_stopped_and_another_has_its_slot(shop: Shop) -> None:
    held = shop.hold("holds_and_query")
    waits = shop.wait_behind("one_query", "query")
    freed = data("instance", "concurrency", "free", held.run_id, "--force")
    assert (freed["run"], freed["alive"], freed["stopped_pids"][0]) == (held.run_id, [], held.program.pid)
    assert "holds" in [claim["step"] for claim in freed["freed"]]
    assert (end(held.program), end(waits.program)) == (3, 0)
    assert data("show", held.run_id)["status"] in {"cancelled", "interrupted"}
    assert shop.claims_left() == []


def test_after_a_driver_was_killed_its_slot_is_had_by_who_waits_and_there_is_nothing_to_free(shop: Shop) -> None:
    held = shop.hold()
    waits = shop.wait_behind("one_query", "query")
    os.kill(held.program.pid, signal.SIGKILL)
    assert (end(held.program), end(waits.program)) == (-signal.SIGKILL, 0)
    assert command("instance", "concurrency", "free", held.run_id) == (
        0,
        f"run {held.run_id[:8]} has left nothing behind\n",
        "",
    )
    assert data("show", held.run_id)["status"] == "interrupted"
