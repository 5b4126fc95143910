"""The ledger of pools, for programs and commands: each call opens it, does one thing, and closes it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, UsageError
from executor.instance.stopping import stop_run, stop_step
from executor.ledger.configured import apply_settings, settings_stamp
from executor.ledger.ledger import LEDGER_FILE, Ledger
from executor.ledger.pools import check_pool_name
from executor.ledger.views import LedgerView, PoolView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.ledger.ledger import Freed
    from executor.ledger.pools import PoolLimit
    from executor.ledger.views import ClaimView, WaitView


class PoolLedger:
    """Limits of pools that all runs share, who holds their slots, and who waits for them.

    What is changed counts from the next grant on, also for runs that are going on. ``executor.yaml`` is put in force
    by the first call, and again after it was changed. What the dead have left is taken back by whoever looks at it,
    where that can be done at once. Nothing stays open between two calls.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        #: the settings file that this object has put in force, and the ledger in which
        self._applied: tuple[object, ...] | None = None

    # --- limits ------------------------------------------------------------------------------------------------------

    def set_limit(self, pool: str, limit: int) -> None:
        """Set the limit of a pool, in slots; 0 pauses it. It comes before that of ``executor.yaml`` and the default.

        What is held stays held: a limit below that only stops further grants.

        Raises:
            UsageError: a name with a blank, a limit below 0 or above the largest that is allowed.
        """
        with self._changing() as ledger:
            ledger.set_limit(pool, limit)

    def delete_limit(self, pool: str) -> bool:
        """Delete what ``set_limit`` has set, so that ``executor.yaml`` or the default counts again.

        Gives whether there was such a limit.

        Raises:
            UsageError: a name with a blank.
        """
        with self._changing() as ledger:
            check_pool_name(pool)
            there = ledger.limit(pool).source == "explicit"
            ledger.delete_limit(pool)
        return there

    def limit(self, pool: str) -> PoolLimit:
        """The limit of a pool that is in force, and where it comes from.

        Raises:
            UsageError: a name with a blank.
        """
        with self._changing() as ledger:
            check_pool_name(pool)
            return ledger.limit(pool)

    def limits(self) -> dict[str, PoolLimit]:
        """The limits that were set by name, by a command or in ``executor.yaml``."""
        with self.view() as view:
            return view.limits()

    @property
    def default_limit(self) -> int | None:
        """The limit of every pool that has none of its own; None: unlimited."""
        with self.view() as view:
            return view.default_limit()

    # --- who holds and who waits --------------------------------------------------------------------------------------

    def pools(self) -> list[PoolView]:
        """Every pool that has a limit of its own or is in use: its limit, and what is held and waited for."""
        with self.view() as view:
            return view.pools()

    def pool(self, name: str) -> PoolView:
        """One pool; also one that nobody has used yet.

        Raises:
            UsageError: a name with a blank.
        """
        with self.view() as view:
            return pool_in(view, name)

    def holders(self, pool: str) -> list[ClaimView]:
        """The claims that hold slots of a pool, the longest-held first."""
        with self.view() as view:
            return view.holders(pool)

    def waiters(self, pool: str | None = None) -> list[WaitView]:
        """The claims that wait (for this pool), in the order in which they are looked at, each with its reasons."""
        with self.view() as view:
            return view.waiters(pool)

    @contextmanager
    def view(self, *, as_it_is: bool = False) -> Iterator[LedgerView]:
        """The ledger as it is at one moment, for several looks that must fit together.

        ``as_it_is`` is for those whom limits do not concern: a mistake in the settings file does not stop them, and
        nothing is taken back from the dead before.
        """
        if not as_it_is:
            self._apply()
        elif not (self._home / LEDGER_FILE).exists():
            Ledger(self._home).close()
        with LedgerView(self._home) as view:
            left = set() if as_it_is else {claim.owner for claim in view.left_behind()}
            if not left:
                yield view
                return
        self._take_back(left)
        with LedgerView(self._home) as view:
            yield view

    # --- taking away --------------------------------------------------------------------------------------------------

    def free(self, run: str, step: str | None = None, *, force: bool = False) -> Freed:
        """Take away what a run, or one step of it, holds and waits for, where its processes have ended.

        Nobody has to do this: it happens by itself as soon as somebody wants the slots. What lives is left alone and
        is among ``alive`` in the answer. With ``force`` it is stopped before: the driver of the run and all that is
        left of its steps, or with ``step`` the processes of that step, whose attempt ends by that.

        Args:
            run: the whole id of the run.
            step: the key of one step; all steps without it.
            force: stop what lives.

        Raises:
            UsageError: with ``force``: a process that could not be stopped, or a step inside of its driver's process.
        """
        with Ledger(self._home) as ledger:
            freed = ledger.free(run, step)
            if not force or not freed.alive:
                return freed
            stop = stop_run(ledger, run) if step is None else stop_step(ledger, run, step)
            return stop.add(freed)

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[Ledger]:
        try:
            with Ledger(self._home) as ledger:
                self._apply(ledger)
                yield ledger
        except ValueError as error:  # the ledger's word for what cannot be a name or a limit
            raise UsageError(str(error)) from error

    def _apply(self, ledger: Ledger | None = None) -> None:
        """Put the settings file in force, unless this object has done so since it was changed."""
        stamp = settings_stamp(self._home)
        if ledger is None:
            if self._applied == (stamp, self._born()):
                return
            with Ledger(self._home) as opened:
                self._apply(opened)
        elif self._applied != (stamp, ledger.born()):
            apply_settings(ledger)
            self._applied = stamp, ledger.born()

    def _take_back(self, owners: set[str]) -> None:
        """Take back what the dead have left. Where that cannot be done at once, whoever asks next does it."""
        with suppress(ExecutorError, OSError), Ledger(self._home, timeout_s=0.0) as ledger:
            ledger.try_reap(owners)

    def _born(self) -> str | None:
        """Which ledger it is that is there now; None: there is none."""
        if self._applied is None or not (self._home / LEDGER_FILE).exists():
            return None
        with LedgerView(self._home) as view:
            return view.born()


def pool_in(view: LedgerView, name: str) -> PoolView:
    """One pool of a view; also one that nobody has used yet.

    Raises:
        UsageError: a name with a blank.
    """
    try:
        check_pool_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    found = next((pool for pool in view.pools() if pool.name == name), None)
    if found is not None:
        return found
    limit = view.limit(name)
    return PoolView(name=name, limit=limit.limit, source=limit.source, held=0, claims=0, waiting=0, parked=0)
