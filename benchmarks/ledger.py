"""What does it cost to claim slots from the ledger, alone and among many, and how soon does the next one have them?

Every case has a ledger of its own. Peers: the same SQL statements without the ledger around them, the same ledger under
a blocking ``flock`` and under SQLite's own waiting, a bare ``flock`` and a polled SQLite row.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import sqlite3
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import harness
from harness import (
    Case,
    Figures,
    Results,
    Target,
    median,
    parse,
    parser,
    ratios,
    report,
    run_rounds,
    target_table,
)

from executor.database import sqlite as database_module
from executor.database.lock import FileLock
from executor.ledger.client import LedgerClient
from executor.ledger.ledger import Ledger, Owner
from executor.ledger.news import SlotsGranted
from executor.ledger.requests import Changes, Outcome, Request, needs_of

if TYPE_CHECKING:
    from collections.abc import Callable

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
        time.sleep(0.001 * (1 + random.random()))  # as the client of a run: by chance, so that two do not keep step


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
                time.sleep(think_s)  # a run that does other things between two claims
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
    _make_polled_slot(home)
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
    if not lags:  # one was over before the other began
        return {"hand-overs": 0.0}
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
        time.sleep(HOLD_S)  # the work that the slot is held for
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
        time.sleep(HOLD_S)  # the work that the slot is held for
        times.append((begin, time.perf_counter()))
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(HOLD_S / 2)  # or the other would never have it: a bare lock knows no queue
    return times


def _make_polled_slot(home: Path) -> None:
    """The table of ``by_polling``, before there are two: whoever changes the journal's mode must be alone."""
    connection = sqlite3.connect(home / "row.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE slot (id INTEGER PRIMARY KEY, holder INTEGER)")
    connection.execute("INSERT INTO slot VALUES (1, NULL)")
    connection.close()


def by_polling(home: Path, number: int, turns: int) -> list[tuple[float, float]]:
    connection = sqlite3.connect(home / "row.db", isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous = NORMAL")
    times = []
    for _ in range(turns):
        while not connection.execute("UPDATE slot SET holder = ? WHERE holder IS NULL", (number,)).rowcount:
            time.sleep(POLL_S)  # this peer is one that polls
        begin = time.perf_counter()
        time.sleep(HOLD_S)  # the work that the slot is held for
        times.append((begin, time.perf_counter()))
        connection.execute("UPDATE slot SET holder = NULL")
        time.sleep(HOLD_S / 2)  # as above
    return times


# --- tables ----------------------------------------------------------------------------------------------------------

ALONE = "one process: a claim and its release"
HANDOVER = "one slot, two processes: given back -> the other has it"
LEDGER, BARE_SQL, CROWDED = "ledger", "the same SQL alone", "ledger, 10,000 wait elsewhere"
PROCESSES = (1, 2, 4, 8)

#: What is wanted, as ratios: of a claim to the SQL in it, of a claim behind a crowd to one without, and between the
#: process that got the most and the one that got the least.
CLAIM_AT_MOST = 3.0
CROWD_AT_MOST = 1.1
FAIRNESS_AT_MOST = 1.5


def contention_group(think_s: float) -> str:
    return f"claim and release, {think_s * 1e3:g} ms between"


def contention_name(count: int, lock: str) -> str:
    return f"{count} process{'es' if count > 1 else ''}, {lock}"


def cases(seconds: float, pairs: int) -> list[Case]:
    made = [
        Case(group=ALONE, name=name, measure=measure)
        for name, measure in {
            LEDGER: lambda home: alone(home, waiters=0, pairs=pairs),
            "ledger, 1,000 wait elsewhere": lambda home: alone(home, waiters=1000, pairs=pairs),
            CROWDED: lambda home: alone(home, waiters=10_000, pairs=pairs),
            BARE_SQL: lambda home: bare_sql(home, pairs=pairs),
        }.items()
    ]
    turns = max(10, pairs // 10)
    made += [
        Case(group=HANDOVER, name=name, measure=lambda home, player=player: handover(home, player=player, turns=turns))
        for name, player in {
            LEDGER: by_ledger,
            "bare flock": by_flock,
            f"SQLite row, polled every {POLL_S * 1e3:g} ms": by_polling,
        }.items()
    ]
    for think_s in (0.0, THINK_S):
        for count in PROCESSES:
            for lock in LOCKS:
                made.append(
                    Case(
                        group=contention_group(think_s),
                        name=contention_name(count, lock),
                        measure=lambda home, count=count, lock=lock, think_s=think_s: contention(
                            home, processes=count, think_s=think_s, lock=lock, seconds=seconds
                        ),
                    )
                )
    return made


def section(results: Results, group: str) -> str:
    """The medians of every figure of every case of a group."""
    names = [name for found, name in results.figures if found == group]
    heads = next(
        (list(figures) for name in names for figures in results.figures[group, name] if figures is not None), []
    )
    lines = [f"### {group[:1].upper()}{group[1:]} (medians)", "", f"| | {' | '.join(heads)} |"]
    lines.append("|---|" + "---:|" * len(heads))
    for name in names:
        cells = [harness.number(median(results.samples(group, name, head))) for head in heads]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def targets(results: Results) -> list[Target]:
    claims = {name: results.samples(ALONE, name, "claim p50 us") for name in (LEDGER, BARE_SQL, CROWDED)}
    crowd = results.samples(ALONE, CROWDED, "claim p99 us")
    quiet = results.samples(ALONE, LEDGER, "claim p99 us")
    wanted = [
        Target(
            what="a claim, p50 / the same SQL alone",
            found=ratios(claims[LEDGER], claims[BARE_SQL]),
            at_most=CLAIM_AT_MOST,
        ),
        Target(
            what="a claim, p50, 10,000 waiting elsewhere / nobody",
            found=ratios(claims[CROWDED], claims[LEDGER]),
            at_most=CROWD_AT_MOST,
        ),
        Target(what="a claim, p99, 10,000 waiting elsewhere / nobody", found=ratios(crowd, quiet), at_most=2.0),
    ]
    lock = next(iter(LOCKS))
    for count in PROCESSES[1:]:
        shares = results.samples(contention_group(THINK_S), contention_name(count, lock), "slowest/fastest")
        wanted.append(
            Target(
                what=f"{count} processes, {THINK_S * 1e3:g} ms between: fastest / slowest",
                found=[1 / share for share in shares if share],
                at_most=FAIRNESS_AT_MOST,
            )
        )
    return wanted


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__ or "")
    made.add_argument("--seconds", type=float, help="of each case with several processes (2)")
    made.add_argument("--only", default="", help="tables whose name contains this")
    options = parse(made, arguments)
    seconds = options.seconds or (0.1 if options.quick else 2.0)
    chosen = [case for case in cases(seconds, 100 if options.quick else 2000) if options.only in case.group]
    results = run_rounds(chosen, options)
    sections = [section(results, group) for group in dict.fromkeys(case.group for case in chosen)]
    sections.append(f"### Targets\n\n{target_table(targets(results))}")
    sections.append(f"SQLite {sqlite3.sqlite_version}.")
    return report("ledger", sections, results, options, [])


if __name__ == "__main__":
    sys.exit(main())
