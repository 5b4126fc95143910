"""A ledger that grants whatever it is told to, in any order and as late as it likes, and is strict about commands.

It knows no limits of pools: a run must do the right thing whoever else holds slots. What it has to say is kept until
somebody delivers it, so grants may arrive when the step was cancelled, or when the run has no room any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.scheduler.commands import (
    ClaimSlots,
    HandBackSlots,
    LedgerCommand,
    ReleaseSlots,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import SlotsGranted, SlotsWaiting

if TYPE_CHECKING:
    from executor.scheduler.events import WaitCause


@dataclass
class Claim:
    attempt: int
    state: str = "waiting"  #: or parked, or granted
    token: int = 0
    started: bool = False


class FakeLedger:
    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}
        self.undelivered: list[SlotsGranted | SlotsWaiting] = []
        self.last_token = 0

    def waiting(self) -> list[str]:
        """Keys of the steps whose claims could be granted."""
        return [key for key, claim in self.claims.items() if claim.state == "waiting"]

    def grant(self, key: str) -> None:
        claim = self.claims[key]
        self.last_token += 1
        claim.state, claim.token = "granted", self.last_token
        self.undelivered.append(SlotsGranted(key, claim.attempt, claim.token))

    def block(self, key: str, pools: tuple[str, ...] = (), cause: WaitCause = "full") -> None:
        self.undelivered.append(SlotsWaiting(key, self.claims[key].attempt, pools, cause))

    def start(self, key: str, attempt: int, token: int | None) -> None:
        """An attempt of a step with pools starts."""
        claim = self.claims[key]
        assert (claim.state, claim.attempt, claim.token) == ("granted", attempt, token), f"{key} starts without a grant"
        assert not claim.started, f"{key} starts twice by one grant"
        claim.started = True

    def perform(self, command: LedgerCommand, lives: bool) -> None:
        """Do as a run says. ``lives``: processes of the step have not ended."""
        claim = self.claims.get(command.key)
        if isinstance(command, ClaimSlots):
            assert claim is None, f"{command} comes while there is {claim}"
            assert list(command.pools) == sorted(command.pools)
            self.claims[command.key] = Claim(command.attempt)
            return
        assert claim is not None, f"{command} is about no claim"
        assert claim.attempt == command.attempt, f"{command} is about {claim}"
        assert not lives, f"{command} comes while processes of the step live"
        if isinstance(command, UnparkClaim):
            assert claim.state == "parked", f"{command} is about {claim}"
            claim.state = "waiting"
        elif isinstance(command, HandBackSlots):
            assert (claim.state, claim.started, claim.token) == ("granted", False, command.token)
            claim.state = "parked"
        elif isinstance(command, ReleaseSlots):
            assert (claim.state, claim.started, claim.token) == ("granted", True, command.token)
            del self.claims[command.key]
        else:
            assert isinstance(command, WithdrawClaim)
            assert not claim.started, f"{command} takes the slots of a step that has started"
            del self.claims[command.key]
