"""A ledger of pools for runs that are not made: answers a scheduler's claims in order of priority, then of age. Pure.

It is the rule of the real ledger without what needs time to matter: nobody waits so long, or is passed so often, that
the order changes for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.commands import ClaimSlots, HandBackSlots, ReleaseSlots, UnparkClaim, WithdrawClaim
from executor.scheduler.events import SlotsGranted, SlotsWaiting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.plan.plan import Plan
    from executor.scheduler.commands import Command, LedgerCommand, Wanted


#: What the ledger has to say of a claim.
Answer = SlotsGranted | SlotsWaiting


LEDGER_COMMANDS = (ClaimSlots, HandBackSlots, UnparkClaim, WithdrawClaim, ReleaseSlots)


class _Claim(NamedTuple):
    """Sorts in the order in which claims are looked at."""

    before: int  #: the priority, negated
    number: int
    run: str
    key: str
    attempt: int
    pools: Wanted


class SimulatedLedger:
    """Who holds and who waits for slots of pools with these limits; a pool without one is unlimited."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.held = dict.fromkeys(limits, 0)
        self._claims: dict[tuple[str, str], _Claim] = {}  #: of a run and a step
        self._waiting: set[tuple[str, str]] = set()
        self._granted: set[tuple[str, str]] = set()
        self._number = 0
        self._token = 0

    def exchange(self, commands: Iterable[Command], run: str = "") -> list[tuple[str, Answer]]:
        """Do what a run commands, and grant what is then free: what is to be told, each with the run that is to know.

        Grants come in their order, for whatever run; then, for every claim that was asked here and waits, that it does.
        """
        mine = [command for command in commands if isinstance(command, LEDGER_COMMANDS)]
        if not mine:
            return []
        for command in mine:
            self._perform(command, run)
        asked = {
            (run, command.key): command.attempt for command in mine if isinstance(command, ClaimSlots | UnparkClaim)
        }
        granted, blocked = self._grant()
        waiting = [
            (run, SlotsWaiting(name[1], attempt, blocked[name])) for name, attempt in asked.items() if name in blocked
        ]
        return [*granted, *waiting]

    def _perform(self, command: LedgerCommand, run: str) -> None:
        name = (run, command.key)
        match command:
            case ClaimSlots(key, attempt, pools, priority):
                self._number += 1
                self._claims[name] = _Claim(-priority, self._number, run, key, attempt, pools)
                self._waiting.add(name)
            case UnparkClaim():
                self._waiting.add(name)
            case HandBackSlots():
                self._give_back(name)
            case WithdrawClaim() | ReleaseSlots():
                self._give_back(name)
                self._waiting.discard(name)
                self._claims.pop(name, None)

    def _give_back(self, name: tuple[str, str]) -> None:
        if name in self._granted:
            self._granted.remove(name)
            for pool, slots in self._claims[name].pools:
                if pool in self.held:
                    self.held[pool] -= slots

    def _grant(self) -> tuple[list[tuple[str, Answer]], dict[tuple[str, str], tuple[str, ...]]]:
        """Who of those who wait is granted slots, and which pools are in the way of the others.

        Who does not fit keeps the pools that lack room for him from all who come later, unless no release can help.
        """
        kept: set[str] = set()
        granted: list[tuple[str, Answer]] = []
        blocked = {}
        for claim in sorted(self._claims[name] for name in self._waiting):
            name = (claim.run, claim.key)
            limited = [(pool, slots) for pool, slots in claim.pools if pool in self.limits]
            lacking = [pool for pool, slots in limited if self.held[pool] + slots > self.limits[pool]]
            in_the_way = tuple(pool for pool, _ in limited if pool in lacking or pool in kept)
            if in_the_way:
                blocked[name] = in_the_way
                if all(slots <= self.limits[pool] for pool, slots in limited):
                    kept.update(lacking)
                continue
            for pool, slots in limited:
                self.held[pool] += slots
            self._token += 1
            self._waiting.remove(name)
            self._granted.add(name)
            granted.append((claim.run, SlotsGranted(claim.key, claim.attempt, self._token)))
        return granted, blocked


def check_satisfiable(plan: Plan, limits: Mapping[str, int]) -> None:
    """Make sure that every step of the plan can have its slots some time.

    Raises:
        ValueError: a step wants more slots of a pool than its limit has; raise the limit, or lower the step's slots.
    """
    for step in plan.steps:
        for pool, slots in step.pools.items():
            limit = limits.get(pool, slots)
            if slots > limit:
                raise ValueError(
                    f"step {step.key!r} wants {slots} slot{'s' if slots > 1 else ''} of pool {pool!r}, whose limit is "
                    f"{limit}; it would wait for ever"
                )
