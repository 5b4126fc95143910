"""Drivers on one ledger, and somebody who kills and stops them and what they started, at random and at named points."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from executor.database import crash_points
from executor.ledger.ledger import Ledger
from tests.torture.diary import Diary, DiaryReader, Entry
from tests.torture.driver import Plan, crowd, main
from tests.torture.oracle import Verdict, judge

POINTS = [
    "locked", "begun", "written", "before-commit", "committed", "owner-locked", "owner-files-removed", "owner-probed",
    "step-locked", "granted",
]  # fmt: skip

# Where nobody is granted anything, or does not end, for so long, something hangs; no machine is as slow as that.
HANGS_S = 60.0

# A driver that was told to end and goes on is told again after so long.
ASK_AGAIN_S = 5.0

LIMITS = {"solo": 1, "pair": 2, "trio": 3, "left": 1, "right": 1}

NEEDS = [
    {"solo": 1}, {"solo": 1}, {"pair": 1}, {"pair": 2}, {"trio": 1}, {"trio": 2}, {"left": 1}, {"right": 1},
    {"left": 1, "right": 1}, {"pair": 1, "trio": 2}, {"solo": 1, "free": 1},
]  # fmt: skip


@dataclass(kw_only=True)
class Setting:
    """What is done to whom, and for how long."""

    seconds: float = 0.0  #: at least so long
    kills: int = 0  #: until there were at least so many, however long that takes
    grants: int = 0  #: the same
    drivers: int = 6
    restart_s: float = 0.02  #: on average, after which another takes the place of one that ended
    kill_every_s: float = 0.05  #: on average; 0: never
    crash: float = 0.0  #: how many of the drivers have crash points armed
    crash_at: str | None = None  #: name:chance,...; None: three of them at random
    stop_every_s: float = 0.0  #: on average; 0: never
    stop_s: float = 0.3  #: for how long, at most
    limits_every_s: float = 0.0  #: on average, a limit is changed; 0: never
    waiters: int = 0  #: claims that wait for a paused pool all the time
    until_fault: bool = False  #: end as soon as anything is wrong
    seed: int = 1
    plan: Plan = field(default_factory=lambda: Plan(needs=NEEDS))


class Torture:
    """One torture; must be the leader of its session, so that it can tell its own processes from others."""

    def __init__(self, setting: Setting, folder: Path | None = None) -> None:
        self._setting = setting
        self._random = random.Random(setting.seed)
        self.folder = Path(tempfile.mkdtemp(prefix="executor-torture-", dir=folder))
        self._home = self.folder / "home"
        self._home.mkdir(mode=0o700)
        self._diary = Diary(self.folder / "diary")
        self._reader = DiaryReader(self.folder / "diary")
        self._drivers: dict[int, int] = {}  #: pidfd -> pid
        self._helpers: dict[int, int] = {}  #: pidfd -> pid: those who change a limit
        self._limits = dict(LIMITS)
        self._steps: dict[int, None] = {}  #: processes that hold something, by the diary
        self._stopped: list[tuple[float, int, int]] = []  #: until when, pidfd, pid
        self._killed = self._granted = self._next_seed = 0
        self._granted_at = 0.0  #: when the last grant was read of
        self._poll = select.poll()

    def run(self) -> Verdict:
        """Do it all, and judge."""
        setting = self._setting
        with Ledger(self._home) as ledger:
            for pool, limit in LIMITS.items():
                ledger.set_limit(pool, limit)
        begin = time.monotonic()
        dues = {"kill": setting.kill_every_s, "stop": setting.stop_every_s, "limit": setting.limits_every_s}
        next_at = {what: begin + self._delay(every) for what, every in dues.items() if every}
        checked = start_at = begin
        if setting.waiters:
            self._start_crowd()
        while self._goes_on(begin):
            if setting.until_fault and time.monotonic() > checked + 1:
                checked = time.monotonic()
                if self._verdict().faults:
                    break
            now = time.monotonic()
            if len(self._drivers) < setting.drivers and now >= start_at:
                self._start_driver()
                start_at = now + (self._delay(setting.restart_s) if self._next_seed > setting.drivers else 0)
            self._continue_stopped(now)
            for what in [what for what, at in next_at.items() if at <= now]:
                next_at[what] = now + self._delay(dues[what])
                {"kill": self._kill, "stop": self._stop, "limit": self._change_limit}[what]()
            times = [*next_at.values(), *(at for at, *_ in self._stopped), now + 0.5]
            times += [start_at] if len(self._drivers) < setting.drivers else []
            self._reap(max(0.0, min(times) - now))
        self._end()
        return self._judge()

    def _goes_on(self, begin: float) -> bool:
        self._read_diary()
        setting, now = self._setting, time.monotonic()
        if now > max(self._granted_at, begin) + HANGS_S:
            self._diary.note("error", f"nobody was granted anything for {HANGS_S:g} seconds")
            return False
        return now < begin + setting.seconds or self._killed < setting.kills or self._granted < setting.grants

    def _read_diary(self) -> None:
        for entry in self._reader.read():
            if entry.kind == "grant":
                self._granted, self._granted_at = self._granted + 1, time.monotonic()
            self._note_holders(entry)

    def _note_holders(self, entry: Entry) -> None:
        """Remember which processes hold something, by the diary."""
        if entry.kind == "begin":
            self._steps[entry.pid] = None
        elif entry.kind == "keep":
            self._steps[int(entry.words[1])] = None
        elif entry.kind == "end":
            self._steps.pop(entry.pid, None)

    def close(self) -> None:
        """Remove everything."""
        self._reader.close()
        shutil.rmtree(self.folder)

    def _delay(self, every_s: float) -> float:
        return self._random.uniform(0, 2 * every_s)

    # --- drivers -----------------------------------------------------------------------------------------------------

    def _start_driver(self) -> None:
        self._next_seed += 1
        seed = self._setting.seed * 100_000 + self._next_seed
        points = ""
        if self._random.random() < self._setting.crash:
            armed = self._random.sample(POINTS, 3)
            points = self._setting.crash_at or ",".join(
                f"{name}:{self._random.choice((0.01, 0.05, 0.25))}" for name in armed
            )
        pid = os.fork()
        if not pid:
            if points:
                crash_points.arm(f"{points}@{self._diary.path}")
            main(self._home, self._diary, self._setting.plan, seed)
        pidfd = os.pidfd_open(pid)
        self._drivers[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    def _reap(self, wait_s: float) -> None:
        for pidfd, _ in self._poll.poll(wait_s * 1000):
            self._poll.unregister(pidfd)
            mine = self._drivers if pidfd in self._drivers else self._helpers
            os.waitpid(mine.pop(pidfd), 0)
            os.close(pidfd)

    def _start_crowd(self) -> None:
        """A run of which very many claims wait, for a pool that is paused and one that is open."""
        with Ledger(self._home) as ledger:
            ledger.set_limit("closed", 0)
        pid = os.fork()
        if not pid:
            crowd(self._home, self._diary, self._setting.waiters)
        pidfd = os.pidfd_open(pid)
        self._drivers[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    # --- what is done to them ----------------------------------------------------------------------------------------

    def _victim(self) -> tuple[int, int, bool] | None:
        """Somebody of ours: pidfd, pid, and whether the descriptor is to be closed after use."""
        self._read_diary()
        if self._random.random() < 0.5 and self._steps:
            pid = self._random.choice(list(self._steps))
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._steps.pop(pid)
                return None
            # Whoever has this pid now is pinned by the descriptor.
            if self._is_ours(pid) and _is_alive(pidfd):
                return pidfd, pid, True
            os.close(pidfd)
            self._steps.pop(pid)
            return None
        if not self._drivers:
            return None
        pidfd = self._random.choice(list(self._drivers))
        return pidfd, self._drivers[pidfd], False

    def _is_ours(self, pid: int) -> bool:
        """Whether that process was started for this torture: all of them are of this session."""
        return _session(pid) == os.getpid()

    def _kill(self) -> None:
        found = self._victim()
        if found is None:
            return
        pidfd, pid, close = found
        at = time.monotonic_ns()  # it may die at any time from now on
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        else:
            self._diary.note("kill", pid=pid, at=at)
            self._killed += 1
            self._steps.pop(pid, None)
        if close:
            os.close(pidfd)

    def _stop(self) -> None:
        found = self._victim()
        if found is None:
            return
        pidfd, pid, close = found
        keep = pidfd if close else os.dup(pidfd)
        try:
            signal.pidfd_send_signal(keep, signal.SIGSTOP)
        except ProcessLookupError:
            os.close(keep)
            return
        self._diary.note("stop", pid=pid)
        self._stopped.append((time.monotonic() + self._random.uniform(0.05, self._setting.stop_s), keep, pid))

    def _continue_stopped(self, now: float) -> None:
        for item in [item for item in self._stopped if item[0] <= now]:
            self._stopped.remove(item)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(item[1], signal.SIGCONT)
            os.close(item[1])

    def _change_limit(self) -> None:
        """In a process of its own: whoever is stopped with the lock in its hands is only continued by this one."""
        pool = self._random.choice(["pair", "trio"])
        before, limit = self._limits[pool], self._random.randint(1, 4)
        if self._helpers or limit == before:
            return
        self._limits[pool] = limit
        pid = os.fork()
        if not pid:
            try:
                if limit > before:
                    self._diary.note("limit", pool, limit)
                with Ledger(self._home) as ledger:
                    ledger.set_limit(pool, limit)
                if limit < before:
                    self._diary.note("limit", pool, limit)
            except BaseException as error:
                self._diary.note("error", "limit:", repr(error).replace("\n", " "))
            os._exit(0)
        pidfd = os.pidfd_open(pid)
        self._helpers[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Let everybody end in good order, however many were killed before."""
        self._continue_stopped(float("inf"))
        deadline = time.monotonic() + HANGS_S
        ask_at = 0.0
        while self._drivers or self._helpers:
            if time.monotonic() >= ask_at:  # again, since a signal that comes while a run ends is lost on the next
                for pidfd in self._drivers:
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                ask_at = time.monotonic() + ASK_AGAIN_S
            self._reap(0.5)
            if time.monotonic() > deadline:
                self._diary.note("error", len(self._drivers), "drivers do not end")
                for pidfd in self._drivers:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        while members := [pid for pid in _pids() if pid != os.getpid() and self._is_ours(pid)]:
            for pid in members:  # orphans that end by themselves
                try:
                    pidfd = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(5000)
                os.close(pidfd)
            if time.monotonic() > deadline + HANGS_S:
                self._diary.note("error", "processes", *members, "do not end")
                break

    def _verdict(self) -> Verdict:
        reader = DiaryReader(self._diary.path)
        verdict = judge(self._completed(reader.read()), {**LIMITS, "free": 1 << 30})
        reader.close()
        return verdict

    def _completed(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """The diary, with what its writers could not know."""
        return entries

    def _judge(self) -> Verdict:
        verdict = self._verdict()
        with Ledger(self._home) as ledger:
            # Whoever comes next finds everything that the dead have left, and takes it back.
            (self._home / "runs" / "last").mkdir()
            last = ledger.register("last", self._home / "runs" / "last")
            (verdict.leaked,) = ledger.database.execute("SELECT count(*) FROM claim").fetchone()
            ledger.unregister(last)
            left = [*(self._home / "own").iterdir(), *(self._home / "bell").iterdir(), *ledger.owners()]
            if left:
                verdict.errors.append(f"left behind: {left}")
        connection = sqlite3.connect(self._home / "ledger.db")
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        if integrity != "ok":
            verdict.errors.append(f"integrity: {integrity}")
        return verdict


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _is_alive(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
