"""Runs a job of ``pool_ops`` in a program of its own, whose processes a test may kill and stop; and what they noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from running import PATIENCE_S, Mailbox, wait_until

from executor.ledger.client import LedgerClient
from executor.ledger.ledger import Ledger
from executor.ledger.news import SlotsGranted
from executor.ledger.requests import Request, needs_of
from executor.ledger.views import LedgerView
from executor.runs.history import read_history
from executor.runs.home import RunFolder, open_home
from executor.runs.pools import leave_ledger
from executor.scheduler.events import SlotsWaiting

PROGRAM = """
import json, sys
sys.path.insert(0, {tests!r})
import pool_ops
from executor.api import execute_in_process, execute_job

job, config, tags = getattr(pool_ops, sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
if config is None:
    result = execute_in_process(job, tags=tags, raise_on_error=False)
else:
    result = execute_job(job, {{"execution": {{"config": config}}}}, tags=tags)
print(json.dumps([result.status, result.run_id]), flush=True)
"""


class Gate:
    """A FIFO from which steps take a byte to go on."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def open(self, steps: int = 1) -> None:
        os.write(self._fd, b"!" * steps)

    def close(self) -> None:
        os.close(self._fd)


class Interval(NamedTuple):
    begin: int
    end: int
    run: str
    step: str


class Place:
    """A home folder with a ledger, and where its steps tell and note things; and somebody else who uses its pools."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = open_home(home)
        self.diary = folder / "diary"
        self.mailbox, self.gate = Mailbox(folder), Gate(folder)
        self.tags = {"diary": str(self.diary), "mailbox": self.mailbox.path, "gate": self.gate.path}
        self.programs: list[subprocess.Popen[str]] = []
        self.strangers: list[LedgerClient] = []

    def close(self) -> None:
        for program in self.programs:
            program.kill()
            program.communicate()
        for stranger in self.strangers:
            leave_ledger(stranger)  # one whose ledger was deleted, too
        self.mailbox.__exit__()
        self.gate.close()

    def set_limits(self, **limits: int) -> None:
        with Ledger(self.home) as ledger:
            for pool, limit in limits.items():
                ledger.set_limit(pool, limit)

    def start(
        self, job: str, config: dict[str, Any] | None = None, *, env: dict[str, str] | None = None, **tags: str
    ) -> subprocess.Popen[str]:
        """A program that runs that job; its pid is that of the run's driver."""
        settings = json.dumps({"max_concurrent": 2} | (config or {}))
        script = PROGRAM.format(tests=str(Path(__file__).parent))
        program = subprocess.Popen(
            [sys.executable, "-c", script, job, settings, json.dumps(self.tags | tags)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "error", **(env or {})},
        )
        self.programs.append(program)
        return program

    def stranger(self) -> LedgerClient:
        """Another owner of the ledger, in this process."""
        folder = self.home / "runs" / f"stranger-{len(self.strangers)}"
        folder.mkdir()
        client = LedgerClient(Ledger(self.home), folder.name, folder)
        self.strangers.append(client)
        return client

    def holder(self, **pools: int) -> Hold:
        """A stranger who holds these slots."""
        hold = Hold(self.stranger(), pools)
        assert hold.has()
        return hold

    def view(self) -> LedgerView:
        return LedgerView(self.home)

    def waits_for(self, step: str, run: str | None = None) -> None:
        """Block until a claim of that step waits in the ledger, and its run's history says for what."""

        def waits() -> bool:
            with self.view() as view:
                found = [wait.view for wait in view.waiters() if wait.view.step == step]
            return any(
                isinstance(event, SlotsWaiting) and event.key == step and event.reason and event.cause != "busy"
                for claim in found
                if run in {None, claim.run} and Path(claim.folder, "events.jsonl").exists()
                for _, event in read_history(Path(claim.folder, "events.jsonl"))
            )

        wait_until(waits, f"step {step} waits for slots")

    def intervals(self, ended: Callable[[int], int | None] = lambda pid: None) -> list[Interval]:
        """When which step held slots. ``ended`` says when a process was killed that held some until then."""
        open_: dict[tuple[str, str], tuple[int, int]] = {}
        found = []
        for line in self.diary.read_text().splitlines():
            what, at, pid, run, step = line.split()
            if what == "begin":
                open_[run, step] = int(at), int(pid)
            else:
                found.append(Interval(open_.pop((run, step))[0], int(at), run, step))
        for (run, step), (begin, pid) in open_.items():
            end = ended(pid)
            assert end is not None, f"step {step} of run {run} has no end"
            found.append(Interval(begin, end, run, step))
        return found

    def claims_left(self) -> list[str]:
        """What stands in the ledger for anybody but the strangers."""
        with self.view() as view:
            return [
                f"{claim.step} {claim.state}"
                for pool in view.pools()
                for claim in view.holders(pool.name)
                if not claim.run.startswith("stranger")
            ]


class Hold:
    """What a stranger asks for, holds, and gives back."""

    def __init__(self, client: LedgerClient, pools: dict[str, int], priority: int = 0) -> None:
        self._client = client
        self._ticket = client.request(Request(step="s", attempt=1, needs=needs_of(pools), priority=priority))
        self._has = False
        client.flush()

    def has(self) -> bool:
        """Whether it was granted; looks also at who holds what it waits for, and whether they are alive."""
        self._client.on_ready()
        self._client.tick()
        self._client.flush()
        self._has = self._has or any(
            isinstance(item, SlotsGranted) and item.ticket == self._ticket for item in self._client.news
        )
        return self._has

    def wait(self) -> None:
        wait_until(self.has, "it is granted")

    def give_back(self) -> None:
        assert self.has()
        self._client.release(self._ticket)
        self._client.flush()


def most_at_once(intervals: list[Interval], slots: Callable[[str], int]) -> int:
    """The most slots that were held at one moment; ``slots`` says how many a step takes."""
    changes: dict[int, int] = defaultdict(int)
    for interval in intervals:
        changes[interval.begin] += slots(interval.step)
        changes[interval.end] -= slots(interval.step)
    held = most = 0
    for at in sorted(changes):
        held += changes[at]
        most = max(most, held)
    return most


def outcome(program: subprocess.Popen[str]) -> tuple[str, RunFolder]:
    """How its run ended, and where it is kept."""
    out, errors = program.communicate(timeout=3 * PATIENCE_S)
    assert out, errors
    status, run_id = json.loads(out.splitlines()[-1])
    return status, RunFolder(Path(os.environ["EXECUTOR_HOME"]) / "runs" / run_id)
