"""The ledger of pools under the names and with the values that Dagster has for it.

Two things differ. Here nothing has to be freed by hand, so what lives is not freed. And a slot cannot be claimed by a
call: a claim lives as long as the process that holds it, so it is made by a step (``@op(pool=...)``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from executor.errors import UsageError
from executor.instance.pool_ledger import pool_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.instance.instance import Instance
    from executor.ledger.views import ClaimView, LedgerView


@dataclass(frozen=True, slots=True)
class PoolLimit:
    """A limit that is in force."""

    name: str
    limit: int
    from_default: bool


@dataclass(frozen=True, slots=True)
class ClaimedSlotInfo:
    """One slot that is held, and by whom."""

    run_id: str
    step_key: str


@dataclass(frozen=True, slots=True)
class PendingStepInfo:
    """A step that has a claim, waiting or granted."""

    run_id: str
    step_key: str
    enqueued_timestamp: datetime
    assigned_timestamp: datetime | None  #: when it was granted; None: it waits
    priority: int


@dataclass(frozen=True, slots=True)
class ConcurrencyKeyInfo:
    """One pool."""

    concurrency_key: str
    slot_count: int  #: its limit; 0 also for a pool without one, as in Dagster (see ``limit``)
    claimed_slots: list[ClaimedSlotInfo]  #: one for each slot that is held
    pending_steps: list[PendingStepInfo]  #: also those that hold slots, which come first
    limit: int | None  #: None: unlimited
    using_default_limit: bool

    @property
    def active_slot_count(self) -> int:
        """Slots that are held."""
        return len(self.claimed_slots)

    @property
    def active_run_ids(self) -> set[str]:
        """Runs that hold slots."""
        return {slot.run_id for slot in self.claimed_slots}

    @property
    def pending_step_count(self) -> int:
        """Steps that wait."""
        return len([step for step in self.pending_steps if step.assigned_timestamp is None])

    @property
    def pending_run_ids(self) -> set[str]:
        """Runs whose steps wait."""
        return {step.run_id for step in self.pending_steps if step.assigned_timestamp is None}

    @property
    def assigned_step_count(self) -> int:
        """Steps that hold slots."""
        return len(self.pending_steps) - self.pending_step_count

    @property
    def assigned_run_ids(self) -> set[str]:
        """Runs whose steps hold slots."""
        return {step.run_id for step in self.pending_steps if step.assigned_timestamp is not None}


class ConcurrencySlotStatus(Enum):
    """How the claim of a step stands."""

    BLOCKED = "BLOCKED"
    CLAIMED = "CLAIMED"


@dataclass(frozen=True, slots=True)
class ConcurrencyClaimStatus:
    """The claim of one step on a pool. Where it has none, everything but the key is empty, and it is blocked."""

    concurrency_key: str
    slot_status: ConcurrencySlotStatus
    priority: int | None = None
    assigned_timestamp: datetime | None = None  #: when it was granted; None: it waits
    enqueued_timestamp: datetime | None = None
    sleep_interval: float | None = None  #: nobody has to ask again: a step begins when it is granted its slots

    @property
    def is_claimed(self) -> bool:
        """Whether it holds its slots."""
        return self.slot_status is ConcurrencySlotStatus.CLAIMED

    @property
    def is_assigned(self) -> bool:
        """The same: what is granted is held from that moment."""
        return self.assigned_timestamp is not None


class EventLogStorage:
    """What Dagster's ``instance.event_log_storage`` offers for pools; a *concurrency key* is a pool."""

    supports_global_concurrency_limits = True

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._ledger = instance.ledger

    def set_concurrency_slots(self, concurrency_key: str, num: int) -> None:
        """Set the limit of a pool; 0 pauses it.

        Raises:
            UsageError: a name with a blank, a limit below 0 or above the largest that is allowed.
        """
        self._ledger.set_limit(concurrency_key, num)

    def delete_concurrency_limit(self, concurrency_key: str) -> None:
        """Delete the limit of a pool, so that ``executor.yaml`` or the default counts again."""
        self._ledger.delete_limit(concurrency_key)

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:  # noqa: ARG002  (as in Dagster)
        """Whether the pool has a default to fall back on. It is in force by itself: there is nothing to initialize."""
        return self._ledger.default_limit is not None

    def get_concurrency_keys(self) -> set[str]:
        """The pools that have a limit, of their own or (once they are in use) by default."""
        return {pool.name for pool in self._ledger.pools() if pool.limit is not None}

    def get_pool_limits(self) -> list[PoolLimit]:
        """The limits that are in force, by name."""
        return [
            PoolLimit(pool.name, pool.limit, pool.source == "default")
            for pool in self._ledger.pools()
            if pool.limit is not None
        ]

    def get_concurrency_info(self, concurrency_key: str) -> ConcurrencyKeyInfo:
        """One pool: its limit, who holds its slots, and who waits. Raises ``UsageError`` for a name with a blank."""
        with self._ledger.view() as view:
            return _info(view, concurrency_key)

    def get_concurrency_infos(self, concurrency_keys: Iterable[str]) -> dict[str, ConcurrencyKeyInfo]:
        """Several pools at one moment, by name."""
        with self._ledger.view() as view:
            return {key: _info(view, key) for key in concurrency_keys}

    def check_concurrency_claim(self, concurrency_key: str, run_id: str, step_key: str) -> ConcurrencyClaimStatus:
        """How the claim of a step on a pool stands. Raises ``UsageError`` for a name with a blank."""
        for step in self.get_concurrency_info(concurrency_key).pending_steps:
            if (step.run_id, step.step_key) == (run_id, step_key):
                granted = step.assigned_timestamp
                status = ConcurrencySlotStatus.BLOCKED if granted is None else ConcurrencySlotStatus.CLAIMED
                return ConcurrencyClaimStatus(concurrency_key, status, step.priority, granted, step.enqueued_timestamp)
        return ConcurrencyClaimStatus(concurrency_key, ConcurrencySlotStatus.BLOCKED)

    def claim_concurrency_slot(
        self,
        concurrency_key: str,
        run_id: str,
        step_key: str,
        priority: int | None = None,  # noqa: ARG002  (as in Dagster)
    ) -> NoReturn:
        """Not here: a claim lives as long as the process that holds it, and a call has none. Raises ``UsageError``."""
        raise UsageError(
            f"a slot of pool {concurrency_key!r} cannot be claimed for step {step_key!r} of run {run_id} by a call: it "
            "would be nobody's when the caller dies. A step claims the slots that it needs, and gives them back: write "
            "@op(pool=...) or @asset(pool=...)"
        )

    def get_concurrency_run_ids(self) -> set[str]:
        """The runs that have claims, waiting or granted."""
        with self._ledger.view() as view:
            return {run for run in view.runs() if view.claims_of(run)}

    def free_concurrency_slots_for_run(self, run_id: str) -> None:
        """Take away what a run holds, if it has ended.

        Raises:
            UsageError: it lives; ``instance.ledger.free(run_id, force=True)`` stops it.
        """
        self._free(run_id, None)

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> None:
        """Take away what a step holds, if its run and its processes have ended.

        Raises:
            UsageError: they live; ``instance.ledger.free(run_id, step_key, force=True)`` stops them.
        """
        self._free(run_id, step_key)

    def _free(self, run: str, step: str | None) -> None:
        if self._ledger.free(run, step).alive:
            what = f"run {run}" if step is None else f"step {step!r} of run {run}"
            raise UsageError(f"{what} lives, so its slots are in use; instance.ledger.free(..., force=True) stops it")


def _info(view: LedgerView, key: str) -> ConcurrencyKeyInfo:
    pool = pool_in(view, key)
    holders = view.holders(key)
    waiting = [*(wait.view for wait in view.waiters(key)), *view.parked(key)]
    return ConcurrencyKeyInfo(
        concurrency_key=key,
        slot_count=pool.limit or 0,
        claimed_slots=[
            ClaimedSlotInfo(claim.run, claim.step) for claim in holders for _ in range(dict(claim.needs)[key])
        ],
        pending_steps=[_pending(claim) for claim in (*holders, *waiting)],
        limit=pool.limit,
        using_default_limit=pool.source == "default",
    )


def _pending(claim: ClaimView) -> PendingStepInfo:
    granted = None if claim.granted_at is None else datetime.fromtimestamp(claim.granted_at, UTC)
    return PendingStepInfo(claim.run, claim.step, datetime.fromtimestamp(claim.filed_at, UTC), granted, claim.priority)
