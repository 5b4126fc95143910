"""What stands in the ledger, for people who look: pools, who holds them, who waits for them and for what.

Everything is read by a connection that cannot write, in one moment; nobody is held up by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from executor.database.ledger_schema import LEDGER
from executor.database.sqlite import LOCK_TIMEOUT_S, Reader
from executor.ledger import liveness
from executor.ledger.claims import AGING_S, Needs, Pool, Waiter
from executor.ledger.ledger import LEDGER_FILE, boot_time_s
from executor.ledger.pools import LimitSource, PoolLimit, in_force, limit_of
from executor.ledger.requests import parse
from executor.ledger.standing import Standing, standings
from executor.workers import hygiene

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """One pool, in numbers."""

    name: str
    limit: int | None  #: None: unlimited
    source: LimitSource
    held: int  #: slots
    claims: int  #: granted claims
    waiting: int  #: claims
    parked: int  #: claims that were granted and handed back until their run has capacity

    @property
    def paused(self) -> bool:
        """Whether its limit is 0."""
        return self.limit == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimView:
    """One claim, and whose it is."""

    claim: int
    run: str
    step: str
    attempt: int
    state: str  #: ``waiting``, ``parked`` or ``granted``
    priority: int
    needs: Needs
    filed_at: float  #: seconds since the epoch
    granted_at: float | None
    token: int | None
    passed: int
    owner: str
    pid: int  #: of the run's driver
    host: str
    folder: str  #: of the run

    @property
    def since(self) -> float:
        """Since when it has been in its state, in seconds since the epoch; a parked one: since when it was filed."""
        return self.filed_at if self.granted_at is None else self.granted_at


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerView:
    """A run that is driven, or was when its process died."""

    id: str
    run: str
    folder: str  #: of the run
    host: str
    pid: int  #: of its driver
    start_time: int  #: of that process, in ticks since boot: tells it from a later one of its pid
    since: float  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitView:
    """A claim that waits, with its place and its reasons."""

    view: ClaimView
    overdue: bool  #: has waited for so long that it comes before all younger ones
    standing: Standing

    def __str__(self) -> str:
        reasons = " and ".join(map(str, self.standing.reasons)) or "the ledger's next change, which will grant it"
        return f"step {self.view.step!r} of run {self.view.run} waits for {reasons}"


class LedgerView:
    """The ledger as it is at one moment: a ``with`` block.

    Raises:
        DatabaseUnusable: there is no ledger in this home folder, or it cannot be read.
        DatabaseBusy: somebody holds its lock and does not go on.
    """

    def __init__(self, home: Path, *, aging_s: float = AGING_S, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """``timeout_s``: how long to wait for the ledger's lock."""
        self._home, self._aging_s = home, aging_s
        self._reader = Reader(home / LEDGER_FILE, LEDGER, descriptors=hygiene, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def pools(self) -> list[PoolView]:
        """Every pool that has a limit of its own or is in use, by name."""
        execute = self._reader.execute
        counts: dict[str, dict[str, tuple[int, int]]] = {}
        for name, state, claims, slots in execute(
            "SELECT need.pool, claim.state, count(*), sum(need.weight) FROM claim "
            "JOIN need ON need.shape = claim.shape GROUP BY need.pool, claim.state"
        ):
            counts.setdefault(name, {})[state] = (claims, slots)
        limits = self.limits()
        default = self.default_limit()
        views = []
        for name in sorted(counts.keys() | limits.keys()):
            limit = limits.get(name) or in_force(name, None, None, default)
            found = counts.get(name, {})
            granted = found.get("granted", (0, 0))
            views.append(
                PoolView(
                    name=name,
                    limit=limit.limit,
                    source=limit.source,
                    held=granted[1],
                    claims=granted[0],
                    waiting=found.get("waiting", (0, 0))[0],
                    parked=found.get("parked", (0, 0))[0],
                )
            )
        return views

    def limits(self) -> dict[str, PoolLimit]:
        """The limits that were set, by a command or in the configuration file; the default is not among them."""
        return {
            name: in_force(name, explicit, yaml, None)
            for name, explicit, yaml in self._reader.execute("SELECT name, explicit, yaml FROM pool")
        }

    def limit(self, pool: str) -> PoolLimit:
        """The limit of a pool that is in force, and where it comes from."""
        return limit_of(self._reader.execute, pool)

    def default_limit(self) -> int | None:
        """The limit of every pool that has none of its own; None: unlimited."""
        (default,) = self._reader.execute("SELECT default_limit FROM about").fetchone()
        return None if default is None else int(default)

    def born(self) -> str:
        """What tells this ledger from one that was there before, or comes after it."""
        (born,) = self._reader.execute("SELECT born FROM about").fetchone()
        return str(born)

    def owners(self) -> list[OwnerView]:
        """Every run that is an owner, the oldest first; one whose driver has died stays until somebody clears up."""
        rows = self._reader.execute(
            "SELECT id, run, folder, host, pid, start_time, since FROM owner ORDER BY since, id"
        )
        return [
            OwnerView(id=id_, run=run, folder=folder, host=host, pid=pid, start_time=start_time, since=since)
            for id_, run, folder, host, pid, start_time, since in rows
        ]

    def runs(self) -> set[str]:
        """The ids of all runs that are owners or have claims."""
        return {run for (run,) in self._reader.execute("SELECT run FROM owner UNION SELECT run FROM claim")}

    def holders(self, pool: str) -> list[ClaimView]:
        """The claims that hold slots of a pool, the longest-held first."""
        return self._claims(
            "claim.state = 'granted' AND claim.shape IN (SELECT shape FROM need WHERE pool = ?) ORDER BY claim.token",
            pool,
        )

    def parked(self, pool: str) -> list[ClaimView]:
        """The claims that were granted slots of a pool and handed them back until their run has capacity."""
        return self._claims(
            "claim.state = 'parked' AND claim.shape IN (SELECT shape FROM need WHERE pool = ?) ORDER BY claim.seq", pool
        )

    def waiters(self, pool: str | None = None) -> list[WaitView]:
        """The claims that wait (for this pool), in the order in which they will be looked at."""
        return [wait for wait in self._waits() if pool is None or any(name == pool for name, _ in wait.view.needs)]

    def claims_of(self, run: str) -> list[ClaimView]:
        """All claims of a run, in the order in which they were filed."""
        return self._claims("claim.run = ? ORDER BY claim.seq", run)

    def left_behind(self) -> list[ClaimView]:
        """Claims of runs that have died, on which no process works: whoever asks next takes them back."""
        found: list[ClaimView] = []
        for (owner,) in self._reader.execute("SELECT DISTINCT owner FROM claim").fetchall():
            if not liveness.owner_is_alive(self._home, owner):
                claims = self._claims("claim.owner = ? ORDER BY claim.seq", owner)
                held = [claim.claim for claim in claims if claim.state == "granted"]
                live = liveness.live_steps(claims[0].folder, held) if held else {}
                found += [claim for claim in claims if claim.claim not in live]
        return found

    def dead_slots(self) -> dict[str, int]:
        """Held slots by pool whose run has died and on which no process works: whoever asks next takes them back."""
        found: dict[str, int] = {}
        for claim in self.left_behind():
            if claim.state == "granted":
                for pool, weight in claim.needs:
                    found[pool] = found.get(pool, 0) + weight
        return found

    def is_alive(self, claim: ClaimView) -> bool:
        """Whether the run of a claim, or a process of its step, lives; if not, it is taken back when it is needed."""
        if liveness.owner_is_alive(self._home, claim.owner):
            return True
        return bool(liveness.live_steps(claim.folder, [claim.claim]))

    # --- for whoever proves that it is in order ----------------------------------------------------------------------

    def check_file(self) -> list[str]:
        """What SQLite says of the file: ``ok`` alone, or what is damaged."""
        return [text for (text,) in self._reader.execute("PRAGMA quick_check")]

    def triggers(self) -> set[str]:
        """The statements that made the triggers, with single blanks."""
        rows = self._reader.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")
        return {" ".join(text.split()) for (text,) in rows}

    def broken_claims(self) -> list[int]:
        """Claims that cannot be: two with one token, a number or token that was never given, no needs."""
        rows = self._reader.execute(
            "SELECT seq FROM claim AS one WHERE seq > (SELECT counter FROM about) "
            "OR token > (SELECT counter FROM about) "
            "OR EXISTS (SELECT 1 FROM claim AS other WHERE other.token = one.token AND other.seq <> one.seq) "
            "OR NOT EXISTS (SELECT 1 FROM need JOIN shape ON shape.id = need.shape WHERE need.shape = one.shape) "
            "ORDER BY seq"
        )
        return [seq for (seq,) in rows]

    def _waits(self) -> list[WaitView]:
        since = boot_time_s() - self._aging_s
        views = {view.claim: view for view in self._claims("claim.state = 'waiting' ORDER BY claim.seq")}
        query = "SELECT seq FROM claim WHERE state = 'waiting' AND filed <= ?"
        late = {seq for (seq,) in self._reader.execute(query, (since,))}
        pools = {view.name: Pool(view.limit, view.held) for view in self.pools()}
        found = standings(
            (
                (Waiter(view.claim, view.owner, view.priority, view.passed), view.needs, view.claim in late)
                for view in views.values()
            ),
            pools,
        )
        return [
            WaitView(view=views[standing.seq], overdue=standing.seq in late, standing=standing) for standing in found
        ]

    def _claims(self, condition: str, *values: Any) -> list[ClaimView]:
        rows = self._reader.execute(
            "SELECT claim.seq, claim.run, claim.step, claim.attempt, claim.state, claim.priority, "  # noqa: S608  (the conditions are constants of this class)
            "shape.needs, claim.filed_at, claim.granted_at, claim.token, claim.passed, claim.owner, "
            "coalesce(owner.pid, 0), coalesce(owner.host, ''), coalesce(owner.folder, '') FROM claim "
            f"JOIN shape ON shape.id = claim.shape LEFT JOIN owner ON owner.id = claim.owner WHERE {condition}",
            values,
        )
        return [
            ClaimView(
                claim=seq,
                run=run,
                step=step,
                attempt=attempt,
                state=state,
                priority=priority,
                needs=parse(needs),
                filed_at=filed_at,
                granted_at=granted_at,
                token=token,
                passed=passed,
                owner=owner,
                pid=pid,
                host=host,
                folder=folder,
            )
            for (
                seq, run, step, attempt, state, priority, needs, filed_at, granted_at, token, passed, owner, pid, host,
                folder,
            ) in rows
        ]  # fmt: skip
