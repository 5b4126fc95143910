"""What does it cost to claim slots from the ledger, alone and among many, and how soon does the next one have them?

``python benchmarks/ledger.py [--rounds 5] [--seconds 2] [--json FILE]``. Every case has a ledger of its own; those of
one table take turns within each round, in an order shuffled anew. Peers: the same SQL statements without the ledger
around them, the same ledger under a blocking ``flock`` and under SQLite's own waiting, a bare ``flock`` and a polled
SQLite row.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import select
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from executor.database import sqlite as database_module
from executor.database.lock import FileLock
from executor.ledger.client import LedgerClient, SlotsGranted
from executor.ledger.ledger import Ledger, Owner
from executor.ledger.requests import Changes, Outcome, Request, needs_of

Figures = dict[str, float]

THINK_S = 0.0005
POLL_S = 0.01


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


# --- claims ----------------------------------------------------------------------------------------------------------


def one_pair(ledger: Ledger, owner: Owner, changes: Changes) -> None:
    """Claim a slot and give it back, as a driver does: the lock is tried, and tried again after 1 to 2 ms."""
    outcome = exchange(ledger, owner, changes)
    exchange(ledger, owner, Changes(release=outcome.granted))


def exchange(ledger: Ledger, owner: Owner, changes: Changes) -> Outcome:
    while True:
        outcome = ledger.try_exchange(owner, changes, told=None)
        if outcome is not None:
            return outcome
        time.sleep(0.001 * (1 + random.random()))


def wait_in_the_kernel(lock: FileLock, *, shared: bool = False) -> bool:
    fcntl.flock(lock.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    return True


LOCKS: dict[str, Callable[[], None]] = {
    "tried, 1-2 ms back-off": lambda: None,
    "blocking flock": lambda: setattr(FileLock, "try_acquire", wait_in_the_kernel),
    "SQLite's own waiting": lambda: (
        setattr(FileLock, "try_acquire", lambda *_, **__: True),
        setattr(database_module, "BUSY_TIMEOUT_MS", 60_000),
    )[0],
}


def contention(home: Path, *, processes: int, think_s: float, lock: str, seconds: float) -> Figures:
    """Claim and release in a pool that has room for all."""
    Ledger(home).close()
    begin, end = os.pipe(), os.pipe()
    pids = []
    for number in range(processes):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        LOCKS[lock]()
        folder = home / "runs" / str(number)
        folder.mkdir(parents=True)
        ledger = Ledger(home)
        owner = ledger.register(str(number), folder)
        ledger.set_limit("pool", 100)
        changes = Changes(request=[Request(step="step", attempt=1, needs=needs_of({"pool": 1}))])
        os.write(end[1], b"!")
        os.read(begin[0], 1)
        times = []
        until = time.perf_counter() + seconds
        while (before := time.perf_counter()) < until:
            one_pair(ledger, owner, changes)
            times.append(time.perf_counter() - before)
            if think_s:
                time.sleep(think_s)
        (home / f"times-{number}").write_text(json.dumps(times))
        os._exit(0)
    for _ in pids:
        os.read(end[0], 1)
    os.write(begin[1], b"!" * processes)
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a process of the benchmark failed")
    for fd in (*begin, *end):
        os.close(fd)
    each = [json.loads((home / f"times-{number}").read_text()) for number in range(processes)]
    times = [value for values in each for value in values]
    return {
        "pairs/s": len(times) / seconds,
        "p50 us": quantile(times, 0.5) * 1e6,
        "p99 us": quantile(times, 0.99) * 1e6,
        "p99.9 us": quantile(times, 0.999) * 1e6,
        "max ms": max(times) * 1e3,
        "slowest/fastest": min(map(len, each)) / max(map(len, each)),
    }


def alone(home: Path, *, waiters: int, pairs: int = 2000) -> Figures:
    """One process; others wait for another pool."""
    (home / "runs" / "r").mkdir(parents=True)
    with Ledger(home) as ledger:
        owner = ledger.register("r", home / "runs" / "r")
        ledger.set_limit("pool", 1)
        ledger.set_limit("crowded", 1)
        crowd = Request(step="step", attempt=1, needs=needs_of({"crowded": 1}))
        for _ in range(0, waiters, 1000):
            ledger.exchange(owner, Changes(request=[crowd] * 1000), told=None)
        changes = Changes(request=[Request(step="step", attempt=1, needs=needs_of({"pool": 1}))])
        claims, releases = [], []
        for _ in range(pairs):
            begin = time.perf_counter()
            outcome = ledger.exchange(owner, changes, told=None)
            middle = time.perf_counter()
            ledger.exchange(owner, Changes(release=outcome.granted), told=None)
            claims.append(middle - begin)
            releases.append(time.perf_counter() - middle)
        ledger.unregister(owner)
    return times_of(claims, releases)


def bare_sql(home: Path, *, pairs: int = 2000) -> Figures:
    """The statements that a claim and a release consist of, on the same tables, without lock, checks or decisions."""
    (home / "runs" / "r").mkdir(parents=True)
    with Ledger(home) as ledger:
        ledger.set_limit("pool", 1)
        owner = ledger.register("r", home / "runs" / "r")
        one_pair(ledger, owner, Changes(request=[Request(step="step", attempt=1, needs=needs_of({"pool": 1}))]))
        ledger.unregister(owner)
    connection = sqlite3.connect(home / "ledger.db", isolation_level=None)
    execute = connection.execute
    execute("PRAGMA synchronous = NORMAL")
    claims, releases = [], []
    for number in range(pairs):
        begin = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        execute(
            "SELECT counter, default_limit, EXISTS (SELECT 1 FROM owner WHERE id = ?) FROM about", ("o",)
        ).fetchone()
        execute("SELECT id FROM shape WHERE needs = ?", ('[["pool",1]]',)).fetchone()
        execute(
            "SELECT shape.id, shape.needs FROM need JOIN shape ON shape.id = need.shape WHERE need.pool = ? "
            "AND EXISTS (SELECT 1 FROM claim WHERE claim.shape = need.shape AND claim.state = 'waiting')",
            ("pool",),
        ).fetchall()
        execute(
            "SELECT slots, CASE WHEN slots IS NULL THEN 0 ELSE (SELECT coalesce(sum(weight * (SELECT count(*) FROM "
            "claim WHERE claim.shape = need.shape AND claim.state = 'granted')), 0) FROM need WHERE pool = ?1) END "
            "FROM (SELECT coalesce((SELECT coalesce(explicit, yaml) FROM pool WHERE name = ?1), ?2) AS slots)",
            ("pool", None),
        ).fetchone()
        execute(
            "INSERT INTO claim (seq, owner, run, step, attempt, priority, shape, state, token, filed, filed_at, "
            "granted_at) VALUES (?, 'o', 'r', 'step', 1, 0, 1, 'granted', ?, 1.0, 1.0, 1.0)",
            (number, number),
        )
        execute("UPDATE about SET counter = ?", (number,))
        execute("COMMIT")
        middle = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        execute(
            "SELECT counter, default_limit, EXISTS (SELECT 1 FROM owner WHERE id = ?) FROM about", ("o",)
        ).fetchone()
        execute(
            "DELETE FROM claim WHERE seq = ? AND token = ? "
            "RETURNING seq, (SELECT needs FROM shape WHERE shape.id = claim.shape)",
            (number, number),
        ).fetchall()
        execute(
            "SELECT shape.id, shape.needs FROM need JOIN shape ON shape.id = need.shape WHERE need.pool = ? "
            "AND EXISTS (SELECT 1 FROM claim WHERE claim.shape = need.shape AND claim.state = 'waiting')",
            ("pool",),
        ).fetchall()
        execute("COMMIT")
        claims.append(middle - begin)
        releases.append(time.perf_counter() - middle)
    connection.close()
    return times_of(claims, releases)


def times_of(claims: list[float], releases: list[float]) -> Figures:
    return {
        "claim p50 us": quantile(claims, 0.5) * 1e6,
        "claim p99 us": quantile(claims, 0.99) * 1e6,
        "release p50 us": quantile(releases, 0.5) * 1e6,
        "release p99 us": quantile(releases, 0.99) * 1e6,
    }


# --- hand-over -------------------------------------------------------------------------------------------------------


def handover(home: Path, *, player: Callable[[Path, int, int], list[tuple[float, float]]], turns: int = 200) -> Figures:
    """Two processes pass one slot to and fro: from one's giving it back to the other's having it."""
    Ledger(home).close()
    with Ledger(home) as ledger:
        ledger.set_limit("pool", 1)
    pids = []
    for number in range(2):
        pid = os.fork()
        if not pid:
            times = player(home, number, turns)
            (home / f"times-{number}").write_text(json.dumps(times))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a process of the benchmark failed")
    turns_of = [
        (begin, end, number) for number in range(2) for begin, end in json.loads((home / f"times-{number}").read_text())
    ]
    turns_of.sort()
    lags = [after[0] - before[1] for before, after in pairwise(turns_of) if before[2] != after[2]]
    return {
        "p50 ms": quantile(lags, 0.5) * 1e3,
        "p99 ms": quantile(lags, 0.99) * 1e3,
        "max ms": max(lags) * 1e3,
        "hand-overs": len(lags),
    }


HOLD_S = 0.002


def by_ledger(home: Path, number: int, turns: int) -> list[tuple[float, float]]:
    folder = home / "runs" / str(number)
    folder.mkdir(parents=True)
    client = LedgerClient(Ledger(home), str(number), folder)
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    request = Request(step="step", attempt=1, needs=needs_of({"pool": 1}))
    times = []
    ticket = client.request(request)
    for _ in range(turns):
        client.flush()
        while not client.news:
            due = client.wake_at
            poll.poll(None if due is None else max(0.0, due - time.monotonic()) * 1000)
            client.on_ready()
            client.tick()
            client.flush()
        begin = time.perf_counter()
        assert isinstance(client.news.pop(), SlotsGranted)
        time.sleep(HOLD_S)
        end = time.perf_counter()
        client.release(ticket)
        ticket = client.request(request)
        times.append((begin, end))
    client.withdraw(ticket)
    client.flush()
    client.close()
    return times


def by_flock(home: Path, number: int, turns: int) -> list[tuple[float, float]]:  # noqa: ARG001  (as the others)
    fd = os.open(home / "slot", os.O_RDWR | os.O_CREAT)
    times = []
    for _ in range(turns):
        fcntl.flock(fd, fcntl.LOCK_EX)
        begin = time.perf_counter()
        time.sleep(HOLD_S)
        times.append((begin, time.perf_counter()))
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(HOLD_S / 2)  # or the other would never have it: a bare lock knows no queue
    return times


def by_polling(home: Path, number: int, turns: int) -> list[tuple[float, float]]:
    connection = sqlite3.connect(home / "row.db", isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS slot (id INTEGER PRIMARY KEY, holder INTEGER)")
    connection.execute("INSERT OR IGNORE INTO slot VALUES (1, NULL)")
    times = []
    for _ in range(turns):
        while not connection.execute("UPDATE slot SET holder = ? WHERE holder IS NULL", (number,)).rowcount:
            time.sleep(POLL_S)
        begin = time.perf_counter()
        time.sleep(HOLD_S)
        times.append((begin, time.perf_counter()))
        connection.execute("UPDATE slot SET holder = NULL")
        time.sleep(HOLD_S / 2)
    return times


# --- tables ----------------------------------------------------------------------------------------------------------

Case = Callable[[Path], Figures]


def cases(seconds: float) -> dict[str, dict[str, Case]]:
    tables: dict[str, dict[str, Case]] = {
        "one process: a claim and its release": {
            "ledger": lambda home: alone(home, waiters=0),
            "ledger, 1,000 wait elsewhere": lambda home: alone(home, waiters=1000),
            "ledger, 10,000 wait elsewhere": lambda home: alone(home, waiters=10_000),
            "the same SQL alone": bare_sql,
        },
        "one slot, two processes: given back -> the other has it": {
            "ledger": lambda home: handover(home, player=by_ledger),
            "bare flock": lambda home: handover(home, player=by_flock),
            f"SQLite row, polled every {POLL_S * 1e3:g} ms": lambda home: handover(home, player=by_polling),
        },
    }
    for think_s in (0.0, THINK_S):
        table = tables[f"claim and release, {think_s * 1e3:g} ms between"] = {}
        for count in (1, 2, 4, 8):
            for lock in LOCKS:
                table[f"{count} processes, {lock}"] = lambda home, count=count, lock=lock, think_s=think_s: contention(
                    home, processes=count, think_s=think_s, lock=lock, seconds=seconds
                )
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case with several processes")
    parser.add_argument("--only", default="", help="tables whose name contains this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tables = {name: table for name, table in cases(options.seconds).items() if options.only in name}
    found: dict[str, dict[str, list[Figures]]] = {}
    load = os.getloadavg()[0]
    for number in range(options.rounds):
        for name, table in tables.items():
            for case in random.sample(list(table), len(table)):
                home = Path(tempfile.mkdtemp(prefix="executor-benchmark-"))
                try:
                    found.setdefault(name, {}).setdefault(case, []).append(table[case](home))
                finally:
                    shutil.rmtree(home)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(f"medians of {options.rounds} rounds; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} CPUs")
    for name, table in tables.items():
        heads = list(next(iter(found[name].values()))[0])
        print(f"\n{name}\n\n|  | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
        for case in table:
            medians = [statistics.median(figures[head] for figures in found[name][case]) for head in heads]
            cells = [f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in medians]
            print(f"| {case} | {' | '.join(cells)} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
