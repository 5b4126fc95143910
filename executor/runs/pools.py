"""How a run joins the ledger of pools before its first step, and what is said of its pools then.

Every run that is being driven is an owner, whether its steps use pools or not. One whose steps do cannot go on without
the ledger; any other says that it is not there, and goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.errors import ExecutorError, UnmetRequirement
from executor.ledger.client import LedgerClient
from executor.ledger.configured import apply_settings
from executor.ledger.ledger import Ledger
from executor.ledger.waiting import limit_command

if TYPE_CHECKING:
    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder
    from executor.workers.clock import RunClock

# A run that uses no pool is not held up for longer by somebody who holds the ledger's lock and does not go on.
PATIENCE_S = 1.0

# And one that does waits so long, and then says who it is.
LONG_PATIENCE_S = 10.0

NAMES_SHOWN = 8


def join_ledger(plan: Plan, folder: RunFolder, owner: str, clock: RunClock) -> tuple[LedgerClient | None, list[str]]:
    """The run as an owner in the ledger of its home folder, and what a person should know of its pools.

    What the settings file of the home folder says of pools is put in force for everybody.

    Args:
        plan: of the run.
        folder: of the run; the ledger is that of its home folder.
        owner: the name that its workers know, from ``liveness.new_owner``.
        clock: of the run.

    Returns:
        None for the client where no step uses pools and the ledger cannot be had.

    Raises:
        UnmetRequirement: a step wants more slots of a pool than its limit has.
        ExecutorError: a step uses pools and the ledger cannot be had; the text says why.
    """
    patience_s = LONG_PATIENCE_S if uses_pools(plan) else PATIENCE_S
    try:
        ledger = Ledger(folder.home, timeout_s=patience_s)
        try:
            apply_settings(ledger)
            notices = _check_limits(plan, ledger)
            client = LedgerClient(ledger, folder.run_id, folder.path, owner=owner, clock=clock, timeout_s=patience_s)
        except BaseException:
            ledger.close()
            raise
    except (ExecutorError, OSError) as error:
        if uses_pools(plan):
            raise
        text = "no step of this run uses pools, so it goes on without the ledger of pools, which cannot be used"
        return None, [f"{text}: {error}"]
    return client, notices


def leave_ledger(client: LedgerClient) -> str | None:
    """End a run's part in the ledger: what it holds is free, as soon as no process works on it any more.

    A sentence if the ledger could not be told. Safe to call twice.
    """
    try:
        client.close(timeout_s=PATIENCE_S)
    except (ExecutorError, OSError) as error:
        return f"the ledger of pools could not be told that this run is over, and will find out by itself: {error}"
    return None


def uses_pools(plan: Plan) -> bool:
    """Whether any step of the plan wants slots of a pool."""
    return any(step.pools for step in plan.steps)


def _check_limits(plan: Plan, ledger: Ledger) -> list[str]:
    """A sentence for the pools without a limit. Raises ``UnmetRequirement`` where a step could never start."""
    wanted = {(pool, slots): step.key for step in reversed(plan.steps) for pool, slots in step.pools.items()}
    limits = {pool: ledger.limit(pool).limit for pool in sorted({pool for pool, _ in wanted})}
    problems = []
    for (pool, slots), key in sorted(wanted.items()):
        limit = limits[pool]
        if limit is not None and 0 < limit < slots:
            problems.append(
                f"step {key!r} wants {slots} slots of pool {pool!r}, whose limit is {limit}: it would wait for ever; "
                f"take fewer, or raise the limit: {limit_command(pool, slots)}"
            )
    if problems:
        raise UnmetRequirement("\n".join(problems))
    free = [pool for pool, limit in limits.items() if limit is None]
    if not free:
        return []
    names = ", ".join(map(repr, free[:NAMES_SHOWN])) + (", ..." if len(free) > NAMES_SHOWN else "")
    what = f"pools {names} have no limit, so they hold" if len(free) > 1 else f"pool {names} has no limit, so it holds"
    return [f"{what} nobody back; to set one: {limit_command(free[0], 1)}"]
