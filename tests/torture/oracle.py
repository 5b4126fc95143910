"""Judges a torture by its diary alone: who held what from when to when, in which order, and how long others waited.

A claim is held from when a process of its step says so until the last of its processes ends: by its own word, or at the
moment just before it was killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.torture.diary import Entry

Needs = tuple[tuple[str, int], ...]


#: When processes of each pid were killed, in order: a long torture uses pids again.
Deaths = dict[int, list[int]]


# The time of a kill is taken before it is sent, and a busy machine may do other things in between.
SENT_WITHIN_NS = 500_000_000

# Nothing that a torture starts for a step lives for so long, on any machine. Who had its pid later was another: what
# outlives its step for too long is killed by the engine, of which the diary knows nothing.
LIVES_NS = 30_000_000_000


def death_after(died: Deaths, pid: int, at: int, lives_ns: float = float("inf")) -> int:
    """When the process that had this pid at a moment was killed; 0: it was not, or later than it can have lived."""
    death = next((death for death in died.get(pid, ()) if death > at - SENT_WITHIN_NS), 0)
    return death if death < at + lives_ns else 0


@dataclass
class Hold:
    """What the diary says of one claim."""

    claim: int
    needs: Needs = ()
    priority: int = 0
    filed: int = 0  #: when the driver asked for it
    token: int = 0  #: of its last grant
    granted: int = 0  #: when the driver was told of that
    driver: int = 0
    freed: int = 0  #: when its driver gave it back; 0: it did not
    begin: int = 0
    pids: dict[int, int | None] = field(default_factory=dict)  #: process of the step -> its end
    worker: int = 0
    above: tuple[int, ...] = ()  #: processes with whose death the worker ends at the latest
    parked: bool = False

    @property
    def end(self) -> int:
        return max((end for end in self.pids.values() if end is not None), default=self.begin)


@dataclass
class Verdict:
    """Figures that must be 0, and figures to be reported."""

    kills: int = 0  #: from outside
    crashes: int = 0  #: at named points
    stops: int = 0
    grants: int = 0
    steps: int = 0  #: that began
    too_late: int = 0  #: workers that found their owner dead and began nothing
    over_limit: int = 0
    repeated_tokens: int = 0
    order_violations: int = 0
    twice: int = 0  #: claims that two workers began
    lost: int = 0  #: leases that were not held any more when they were given back
    saved_by_timer: int = 0
    leaked: int = 0  #: claims left in the ledger after everybody has ended
    errors: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  #: of moments over a limit
    after_release_ms: list[float] = field(default_factory=list)  #: from giving back to the next owner's knowing it
    after_death_ms: list[float] = field(default_factory=list)  #: from the last death of owner and processes to that
    waits_ms: list[float] = field(default_factory=list)  #: from filed to begun

    def figures(self) -> dict[str, object]:
        """The table."""
        return {
            "kills": self.kills,
            "deaths at named points": self.crashes,
            "stops": self.stops,
            "grants": self.grants,
            "steps begun": self.steps,
            "workers too late (owner dead)": self.too_late,
            "moments over a limit": self.over_limit,
            "slots leaked": self.leaked,
            "order violations": self.order_violations,
            "tokens repeated": self.repeated_tokens,
            "leases lost": self.lost,
            "wake-ups lost (saved by timer)": self.saved_by_timer,
            "slot given back -> next run told, ms p50/p99/max": spread(self.after_release_ms),
            "holder dead -> next run told, ms p50/p99/max": spread(self.after_death_ms),
            "filed -> begun, ms p50/p99/max": spread(self.waits_ms),
        }

    @property
    def faults(self) -> list[str]:
        """What must not be, in words."""
        named = {
            "moments over a limit": self.over_limit,
            "tokens that came twice or went back": self.repeated_tokens,
            "order violations": self.order_violations,
            "claims begun twice": self.twice,
            "leases lost by their living owners": self.lost,
            "wake-ups lost (found by the timer)": self.saved_by_timer,
            "slots leaked": self.leaked,
        }
        return [f"{count} {name}" for name, count in named.items() if count] + self.errors + self.details


def spread(values: list[float]) -> str:
    """Median, 99th percentile, largest, and how many there were."""
    if not values:
        return "none"
    values = sorted(values)
    shown = (values[len(values) // 2], values[min(len(values) - 1, int(len(values) * 0.99))], values[-1])
    return " / ".join(f"{value:.2f}" for value in shown) + f"  (of {len(values)})"


def parse_needs(text: str) -> Needs:
    return tuple((pool, int(weight)) for pool, _, weight in (item.partition(":") for item in text.split(",")))


def judge(entries: Iterable[Entry], limits: dict[str, int]) -> Verdict:
    """The verdict on a diary; ``limits`` are those that were in force at its begin."""
    verdict = Verdict()
    holds: dict[int, Hold] = {}
    died: Deaths = {}
    changes: dict[str, list[tuple[int, int]]] = {pool: [(0, limit)] for pool, limit in limits.items()}
    for kind, at, pid, words in sorted(entries, key=lambda entry: entry.at):
        claim = int(words[0]) if words and words[0].isdigit() else 0
        match kind:
            case "file":
                hold = holds.setdefault(claim, Hold(claim))
                hold.filed, hold.needs, hold.priority = at, parse_needs(words[1]), int(words[2])
                hold.driver = pid
            case "grant":
                verdict.grants += 1
                holds[claim].token, holds[claim].granted = int(words[1]), at
            case "park":
                holds[claim].parked = True
            case "begin":
                hold = holds[claim]
                verdict.steps += 1
                verdict.twice += bool(hold.pids)
                hold.begin = at
                hold.pids[pid] = None
                hold.worker, hold.above = pid, tuple(map(int, words[1:]))
            case "keep":
                holds[claim].pids[int(words[1])] = None
            case "free":
                holds[claim].freed = at
            case "end":
                holds[claim].pids[pid] = at
            case "late":
                verdict.too_late += 1
            case "kill":
                verdict.kills += 1
                died.setdefault(pid, []).append(at)
            case "died":
                verdict.crashes += 1
                died.setdefault(pid, []).append(at)
            case "stop":
                verdict.stops += 1
            case "limit":
                changes.setdefault(words[0], []).append((at, int(words[1])))
            case "lost":
                verdict.lost += 1
            case "saved":
                verdict.saved_by_timer += 1
                verdict.details.append(" ".join(("saved by the timer:", *words)))
            case "error":
                verdict.errors.append(" ".join(words))
    for hold in holds.values():
        for pid, end in hold.pids.items():
            if end is None:
                enders = (pid, *hold.above) if pid == hold.worker else (pid,)
                deaths = [death for one in enders if (death := death_after(died, one, hold.begin, LIVES_NS))]
                hold.pids[pid] = max(hold.begin, min(deaths, default=hold.begin))
    held = sorted((hold for hold in holds.values() if hold.pids), key=lambda hold: hold.begin)
    moments = over_limit(held, changes)
    verdict.over_limit = len(moments)
    verdict.details += moments
    verdict.order_violations = count_inversions(holds.values())
    tokens = [hold.token for hold in holds.values() if hold.token]
    verdict.repeated_tokens = len(tokens) - len(set(tokens))
    measure(verdict, [hold for hold in holds.values() if hold.token], died, limits)
    return verdict


def over_limit(held: list[Hold], changes: dict[str, list[tuple[int, int]]]) -> list[str]:
    """The steps that began while their pool had no room for them, by the largest limit since they were asked for."""
    over = []
    running: dict[str, list[tuple[Hold, int]]] = {}
    for hold in held:
        for pool, weight in hold.needs:
            now = running[pool] = [(other, w) for other, w in running.get(pool, []) if other.end > hold.begin]
            now.append((hold, weight))
            before = [limit for at, limit in changes.get(pool, []) if at <= hold.filed]
            since = [limit for at, limit in changes.get(pool, []) if hold.filed < at <= hold.begin]
            limit = max([*before[-1:], *since])
            if sum(w for _, w in now) > limit:
                others = ", ".join(f"claim {other.claim} weight {w} until {other.end}" for other, w in now)
                over.append(f"pool {pool}, limit {limit}, when claim {hold.claim} began at {hold.begin}: {others}")
    return over


def count_inversions(holds: Iterable[Hold]) -> int:
    """Claims that were granted before one that needs the same, is of no lower priority and was filed earlier."""
    groups: dict[Needs, list[Hold]] = {}
    for hold in holds:
        if hold.token and not hold.parked:
            groups.setdefault(hold.needs, []).append(hold)
    found = 0
    for group in groups.values():
        earliest: dict[int, int] = {}  #: priority -> smallest number among those granted later
        for hold in sorted(group, key=lambda hold: -hold.token):
            found += any(number < hold.claim for priority, number in earliest.items() if priority >= hold.priority)
            earliest[hold.priority] = min(earliest.get(hold.priority, hold.claim), hold.claim)
    return found


def measure(verdict: Verdict, granted: list[Hold], died: Deaths, limits: dict[str, int]) -> None:
    """How long a slot of a pool of one was free before the driver of the next claim, which waited, knew of it."""
    for hold in granted:
        if hold.begin:
            verdict.waits_ms.append((hold.begin - hold.filed) / 1e6)
    for pool, limit in limits.items():
        users = [hold for hold in granted if any(name == pool for name, _ in hold.needs)] if limit == 1 else []
        users.sort(key=lambda hold: hold.token)
        for before, after in pairwise(users):
            if len(after.needs) > 1 or before.parked:
                continue
            lags, free = verdict.after_release_ms, before.freed
            if not free:
                lags, free = verdict.after_death_ms, max(before.end, death_after(died, before.driver, before.begin))
            if after.filed < free < after.granted:
                lags.append((after.granted - free) / 1e6)
