"""The torture with real runs: real drivers, templates and workers, killed and stopped at random.

What holds slots is told by the steps themselves, in the diary, under the token that they were given. A step that was
killed has held its slots until then; so has one whose driver or template was killed before it said that it ended.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from executor import JobDefinition, OpDefinition, OpExecutionContext, RetryPolicy, UnmetRequirement, job, op
from executor.api import execute_job
from executor.ledger.client import LedgerClient
from executor.runs.history import HistoryUnreadable, read_history
from executor.runs.home import RunFolder
from executor.runs.index import find_runs, index_problems
from executor.runs.leftovers import look
from executor.runs.replay import replay
from executor.scheduler.events import (
    RunEnded,
    RunStarted,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepFailed,
    StepSucceeded,
)
from tests.torture.diary import Diary, Entry
from tests.torture.oracle import Verdict
from tests.torture.torture import NEEDS, Torture

ROOT = Path(__file__).parents[2]

#: What is killed inside drivers and workers by themselves, at places that the ledger names.
CRASHES = ["locked:0.01", "written:0.03", "before-commit:0.02", "committed:0.02", "granted:0.03", "step-locked:0.05"]

CONFIGS: list[dict[str, object]] = [
    {},
    {"steps_per_worker": "unlimited"},
    {"steps_per_worker": 3},
    {"steps_per_worker": "unlimited", "start_method": "forkserver"},
]

STEPS = 12  # of a run: some of its life is spent with beginning and ending

# What lives longer than its step by a tenth of a second is killed by the engine, and cannot say when it ended.
CHILD_S = 0.05

CHILD = """
import os, sys, time
time.sleep(float(sys.argv[3]))
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.write(fd, f"\\nend {time.monotonic_ns()} {os.getpid()} {sys.argv[2]} .\\n".encode())
"""


def hold(context: OpExecutionContext, needs: dict[str, int]) -> None:
    """Say what is held, for some milliseconds; one in ten leaves a process behind that holds it for longer."""
    diary, token = Diary(Path(context.run_tags["diary"])), context.fencing_token
    chance = random.Random(token)
    driver, template = int(context.run_tags["driver"]), os.getppid()
    now = time.monotonic_ns()
    text = ",".join(f"{pool}:{slots}" for pool, slots in needs.items())
    diary.note("file", token, text, 0, pid=driver, at=now)
    diary.note("grant", token, token, pid=driver, at=now)
    diary.note("begin", token, driver, template)
    try:
        if chance.random() < 0.1:
            command = [sys.executable, "-S", "-c", CHILD, str(diary.path), str(token), str(chance.uniform(0, CHILD_S))]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            diary.note("keep", token, child.pid)
            child.returncode = 0  # nobody waits for it
        time.sleep(chance.uniform(0, 0.02))
    finally:
        diary.note("end", token)
        diary.close()


def op_of(needs: dict[str, int]) -> OpDefinition:
    """A step that takes these slots, and is tried again when it is killed."""

    def compute(context: OpExecutionContext) -> None:
        hold(context, needs)

    name = "_".join(f"{pool}{slots}" for pool, slots in needs.items())
    return op(name=name, pools=needs, retry_policy=RetryPolicy(max_retries=2))(compute)


def job_of(chance: random.Random, needs: list[dict[str, int]]) -> JobDefinition:
    ops = [op_of(one) for position, one in enumerate(needs) if one not in needs[:position]]

    @job(name="tortured")
    def tortured() -> None:
        for _ in range(STEPS):
            chance.choice(ops)()

    return tortured


def main(diary_path: str, seed: int) -> NoReturn:
    """The whole life of a driver: one run after another, until it is told to stop."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    chance, diary = random.Random(seed), Diary(Path(diary_path))
    close = LedgerClient.close

    def counted(client: LedgerClient, **options: float) -> None:
        if client.saved_by_timer:
            diary.note("saved")
            client.saved_by_timer = 0
        close(client, **options)

    LedgerClient.close = counted  # type: ignore[method-assign]
    code = 0
    try:
        while not stopping:
            config = {"max_concurrent": chance.choice([1, 3]), **chance.choice(CONFIGS)}
            tags = {"diary": diary_path, "driver": str(os.getpid())}
            try:
                result = execute_job(job_of(chance, NEEDS), {"execution": {"config": config}}, tags=tags)
            except UnmetRequirement:  # a limit is smaller now than what a step takes
                continue
            stopping = stopping or result.interrupted
    except BaseException as error:
        diary.note("error", "driver:", repr(error).replace("\n", " "))
        code = 1
    os._exit(code)


class EngineTorture(Torture):
    """One torture of real runs; what is its own is known by the home folder that it was started with."""

    def _start_driver(self) -> None:
        self._next_seed += 1
        seed = self._setting.seed * 100_000 + self._next_seed
        if not (settings := self._home / "executor.yaml").exists():  # the first: every history is read in the end
            settings.write_text("retention:\n  runs: {max_count: null, max_days: null, max_gib: null}\n")
        environ = {**os.environ, "EXECUTOR_HOME": str(self._home), "PYTHONPATH": str(ROOT)}
        if self._random.random() < self._setting.crash:
            points = self._setting.crash_at or ",".join(self._random.sample(CRASHES, 2))
            environ["EXECUTOR_CRASH_POINTS"] = f"{points}@{self._diary.path}"
        code = f"from tests.torture.engine import main; main({str(self._diary.path)!r}, {seed})"
        pid = os.fork()
        if not pid:
            with suppress(BaseException):
                os.execve(sys.executable, [sys.executable, "-c", code], environ)
            os._exit(127)
        pidfd = os.pidfd_open(pid)
        self._drivers[pidfd] = pid
        self._poll.register(pidfd)

    def _note_holders(self, entry: Entry) -> None:
        """Workers that hold something, what they left behind, and some of their templates."""
        super()._note_holders(entry)
        if entry.kind == "begin" and self._random.random() < 0.05:
            self._steps[int(entry.words[2])] = None

    def _is_ours(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return f"EXECUTOR_HOME={self._home}".encode() in file.read().split(b"\0")
        except OSError:
            return False

    def _completed(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """A step does not know when it was asked for and granted, and when its slots were given back: its run does."""
        times = times_of(self._home)
        for entry in entries:
            if entry.kind in {"file", "grant"}:
                asked, granted, freed = times.get(entry.words[0], (entry.at, entry.at, 0))
                yield entry._replace(at=asked if entry.kind == "file" else granted)
                if entry.kind == "file" and freed:  # of those that were killed before they began nothing is known
                    yield Entry("free", freed, 0, entry.words[:1])
            else:
                yield entry

    def _judge(self) -> Verdict:
        verdict = super()._judge()
        look(self._home)
        find_runs(self._home)
        verdict.errors += index_problems(self._home)
        for path in sorted(self._home.glob("runs/*/events.jsonl")):
            verdict.errors += faults_of(RunFolder(path.parent))
        return verdict


def times_of(home: Path) -> dict[str, tuple[int, int, int]]:
    """When each claim that was granted was asked for, granted and given back (0: never), by the histories of the runs.

    By the token, in nanoseconds of the clock of the diary.
    """
    since_epoch = time.time() - time.monotonic()
    found: dict[str, tuple[int, int, int]] = {}
    for path in home.glob("runs/*/events.jsonl"):
        asked: dict[tuple[str, int], int] = {}
        token: dict[tuple[str, int], str] = {}
        began = 0.0
        for t, event in read_history(path):
            at = int((began + t) * 1e9)
            match event:
                case RunStarted():
                    began = event.at - since_epoch
                case SlotsWaiting():
                    asked.setdefault((event.key, event.attempt), at)
                case SlotsGranted():
                    name = event.key, event.attempt
                    token[name] = str(event.token)
                    found[token[name]] = (asked.get(name, at), at, 0)
                case StepSucceeded(freed=True) | StepFailed(freed=True) | SlotFreed():
                    name = event.key, event.attempt
                    if name in token:
                        found[token[name]] = (*found[token[name]][:2], at)
    return found


def faults_of(folder: RunFolder) -> list[str]:
    """What is wrong with the history of a run: an attempt or a run with two ends, or one that does not replay."""
    try:
        events = [event for _, event in read_history(folder.events)]
    except HistoryUnreadable as error:
        return [str(error)]
    ends = [(event.key, event.attempt) for event in events if isinstance(event, StepSucceeded | StepFailed)]
    found = [f"run {folder.run_id}: attempt {end} has two ends" for end in {*ends} if ends.count(end) > 1]
    last = [event for event in events if isinstance(event, RunEnded)]
    if len(last) != 1 and events:
        found.append(f"run {folder.run_id} has {len(last)} ends")
    elif last and last[0].status != "interrupted":
        scheduler = replay(folder)
        if (scheduler.finished, scheduler.status) != (True, last[0].status):
            found.append(f"run {folder.run_id} ended as {last[0].status} and replays as {scheduler.status}")
    return found
