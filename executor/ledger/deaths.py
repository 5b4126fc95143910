"""Hears of the end of those who hold what a run waits for: other runs, and processes that outlived theirs.

A notice comes when a file is closed, a few microseconds before the locks on it are dropped. So whoever is named in one
is probed at once, and again after 50 microseconds, after 100, and so on, for more than a second in all: a busy machine
may take the processor from a process that is about to drop them. And whoever is there when we begin to listen may be
between the two just then, so that no notice of it comes any more: all of them are probed again for a while as well.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from executor.ledger import liveness
from executor.ledger.watch import CloseWatch

if TYPE_CHECKING:
    from collections.abc import Iterable, KeysView

    from executor.ledger.ledger import Ledger
    from executor.ledger.requests import Orphan

# The kernel drops the locks in the same call that sends the notice; 19 us in the median, later on a busy machine.
FIRST_PROBE_S = 50e-6
LAST_PROBE_S = 1.0

# Most of those who are there when we begin to listen live on.
FIRST_PROBE_OF_ALL_S = 0.001

# Waits up to this length are slept, since epoll can wait for no less than a millisecond; longer ones are not.
SLEPT_S = 500e-6


class _Suspect:
    """Somebody who may have ended; it is looked at again at ``next_at`` on the driver's clock."""

    __slots__ = ("next_at", "wait_s")

    def __init__(self, next_at: float, wait_s: float) -> None:
        self.next_at, self.wait_s = next_at, wait_s


class DeathWatch:
    """Watches the folder of owners, and the lane files of orphans that were named to it.

    Where the kernel has no watch left for us, it hears nothing, and the driver's look once a second takes its place.
    """

    def __init__(self, ledger: Ledger, owner: str, epoll: select.epoll, now: float) -> None:
        self._ledger, self._owner, self._epoll = ledger, owner, epoll
        self._suspects: dict[str, _Suspect] = {}  #: owners
        self._orphans: dict[str, dict[int, tuple[str, ...]]] = {}  #: owner -> claim -> files
        self._owner_of_watch: dict[int, set[str]] = {}
        self._watch: CloseWatch | None = None
        self.hears_all = False  #: False: not everything could be watched, or notices were dropped
        try:
            self._watch = CloseWatch()
            self._own = self._watch.add(str(ledger.home / "own"), folder=True)
            self.hears_all = self._own is not None
            epoll.register(self._watch.fileno(), select.EPOLLIN)
        except OSError:  # the user's inotify instances are used up
            self._own = None
        else:
            for other in ledger.owners():
                if other != owner:
                    self._suspects[other] = _Suspect(now + FIRST_PROBE_OF_ALL_S, FIRST_PROBE_OF_ALL_S)

    @property
    def suspects(self) -> KeysView[str]:
        """The owners that may have ended, and are looked at again soon."""
        return self._suspects.keys()

    @property
    def wake_at(self) -> float | None:
        """When to look at the suspects again; None: there are none."""
        return min((suspect.next_at for suspect in self._suspects.values()), default=None)

    def notices(self, now: float) -> set[str]:
        """Take note of what was closed; the owners who are named in it, those included who are gone by now."""
        named: set[str] = set()
        for watch, name in () if self._watch is None else self._watch.read():
            if watch == -1:  # notices were dropped: anybody may have ended
                self.hears_all = False
                named.update(self._ledger.owners(), self._orphans)
            elif watch == self._own:
                named.add(name.removesuffix(".lock"))
            else:
                named |= self._owner_of_watch.get(watch, set())
        named.discard(self._owner)
        for owner in named:
            if owner in self._orphans or self._ledger.knows(owner):
                self._suspect(owner, now)
        return named

    def heard(self, now: float) -> set[str]:
        """Take note of what was closed; the owners that are to be reaped for it."""
        self.notices(now)
        return self.look_again(now)

    def watch_orphans(self, orphans: Iterable[Orphan], now: float) -> set[str]:
        """Listen for the end of all of these; the owners of some that have ended meanwhile.

        Whatever pools they hold: what the run waits for may be another one later, and nobody names them again then.
        """
        for orphan in orphans:
            if not orphan.files:  # they were removed, so nobody gives notice of them
                self.hears_all = False
                continue
            claims = self._orphans.setdefault(orphan.owner, {})
            if orphan.claim in claims:
                continue
            claims[orphan.claim] = orphan.files
            for path in orphan.files:
                self._listen(path, orphan.owner)
            self._suspect(orphan.owner, now)
        return self.look_again(now)

    def look_again(self, now: float) -> set[str]:
        """The owners among the suspects that are to be reaped now; those who live on are forgotten after a while."""
        found: set[str] = set()
        while True:
            due = [owner for owner, suspect in self._suspects.items() if suspect.next_at <= now]
            shortest = LAST_PROBE_S
            for owner in due:
                suspect = self._suspects[owner]
                if self._has_ended(owner):
                    del self._suspects[owner]
                    found.add(owner)
                elif suspect.wait_s > LAST_PROBE_S:
                    del self._suspects[owner]
                else:
                    suspect.next_at = now + suspect.wait_s
                    shortest = min(shortest, suspect.wait_s)
                    suspect.wait_s *= 2
            if shortest > SLEPT_S:
                return found
            time.sleep(shortest)
            now += shortest

    def close(self) -> None:
        """Hear nothing more."""
        if self._watch is not None:
            if self._watch.fileno() >= 0:
                self._epoll.unregister(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _suspect(self, owner: str, now: float) -> None:
        self._suspects[owner] = _Suspect(now, FIRST_PROBE_S)

    def _listen(self, path: str, owner: str) -> None:
        if self._watch is None:
            return
        try:
            watch = self._watch.add(path)
        except OSError:  # the user's watches are used up
            self.hears_all = False
            return
        if watch is not None:
            self._owner_of_watch.setdefault(watch, set()).add(owner)

    def _has_ended(self, owner: str) -> bool:
        """Whether there is something to take from this owner that it was not known to have left."""
        if liveness.owner_is_alive(self._ledger.home, owner):
            return False
        claims = self._orphans.get(owner)
        if not claims:
            self._orphans.pop(owner, None)
            return True
        ended = [claim for claim, files in claims.items() if not any(liveness.probe(path, (claim,)) for path in files)]
        for claim in ended:
            del claims[claim]
        return bool(ended)
