"""The claims of one run: who waits for slots of pools, who holds some, and for how long what was in the way. Pure.

A step has a claim from when it could start under every limit of the run until its slots are released, or until it is
cancelled before it starts. The claim is *asked* until the ledger has answered; then it *waits* there, or it is *held*:
granted, and started. One that was granted when the run had no room any more is *parked* in the ledger, until it is
asked again. Who is granted what, the ledger decides.

Unaware of limits (``ready.py`` has them) and of the states of steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from executor.scheduler.commands import ClaimSlots, HandBackSlots, ReleaseSlots, UnparkClaim, WithdrawClaim
from executor.scheduler.waits import DIGITS, pool_cause
from executor.scheduler.why import ClaimWait

if TYPE_CHECKING:
    from executor.plan.plan import Plan
    from executor.scheduler.commands import Command, Wanted
    from executor.scheduler.events import SlotsWaiting, WaitCause
    from executor.scheduler.limits import BoundLimits
    from executor.scheduler.waits import Waited


Stands = Literal["asked", "waiting", "parked", "held"]


class _Claim:
    """The claim of one attempt."""

    __slots__ = ("asked_at", "attempt", "blockers", "cause", "reason", "since", "stands", "token", "waited_s")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.stands: Stands = "asked"
        self.token = 0  #: of its latest grant
        self.waited_s: dict[str, float] = {}  #: seconds by cause until ``since``
        self.asked_at = self.since = 0.0  #: when it was last asked; up to when waited_s is told
        self.blockers: tuple[str, ...] = ()  #: the pools in its way, as told
        self.cause: WaitCause = "full"
        self.reason = ""


class Claims:
    """What a run has in the ledger, and the commands that change it.

    The driver performs the commands in their order. So what was told of a claim before a command reached the ledger is
    recognised here: the claim does not wait any more, or the token is none that is new.
    """

    __slots__ = ("_claims", "_keys", "_priority", "_run_priority", "_signature_of", "_tokens", "_wanted", "asked")

    def __init__(self, plan: Plan, bound: BoundLimits, run_priority: int) -> None:
        self._keys = [step.key for step in plan.steps]
        self._priority = [step.priority for step in plan.steps]
        self._run_priority = run_priority
        self._wanted = bound.wanted
        self._signature_of = bound.signature_of
        self.asked: set[int] = set()  #: steps whose claims have no answer yet, and that have a share of the limits
        self._claims: dict[int, _Claim] = {}
        self._tokens: dict[int, int] = {}  #: of steps whose claim was granted: the latest token, also of earlier claims

    def wants(self, index: int) -> Wanted:
        """The slots that a step wants; empty: it starts without any."""
        return self._wanted[self._signature_of[index]]

    def ask(self, index: int, attempt: int, waited: Waited, now: float) -> ClaimSlots | UnparkClaim:
        """Ask for the slots of a step, by a new claim or the one that is parked.

        ``waited`` is what held the step back before.
        """
        claim = self._claims.get(index)
        command: ClaimSlots | UnparkClaim
        if claim is None:
            claim = self._claims[index] = _Claim(attempt)
            priority = self._run_priority + self._priority[index]
            command = ClaimSlots(self._keys[index], attempt, self.wants(index), priority)
        else:
            claim.stands = "asked"
            command = UnparkClaim(self._keys[index], attempt)
        for cause, seconds in waited:
            claim.waited_s[cause] = claim.waited_s.get(cause, 0.0) + seconds
        self.asked.add(index)
        claim.asked_at = claim.since = now
        claim.blockers, claim.cause, claim.reason = (), "full", ""
        return command

    def wait(self, index: int, event: SlotsWaiting, now: float) -> Stands | None:
        """Remember what is in the way of a claim from now on. Gives how it stood; None: it needs no slots now."""
        claim = self._expecting(index, event.attempt)
        if claim is None:
            return None
        self._count(index, claim, now)
        claim.blockers, claim.cause, claim.reason = tuple(event.pools), event.cause, event.reason
        stood, claim.stands = claim.stands, "waiting"
        self.asked.discard(index)
        return stood

    def give_way(self, index: int) -> None:
        """Let a claim wait that was asked: another one was granted, and got the share of its step."""
        self._claims[index].stands = "waiting"
        self.asked.remove(index)

    def grant(self, index: int, attempt: int, token: int, now: float) -> Stands | None:
        """Remember that a claim was granted; ``hold`` or ``hand_back`` is to follow.

        Gives how it stood; None: it needs no slots now, or the grant was told before.
        """
        claim = self._expecting(index, attempt)
        if claim is None or token <= self._tokens.get(index, -1):
            return None
        self._count(index, claim, now)
        claim.token = self._tokens[index] = token
        self.asked.discard(index)
        return claim.stands

    def hold(self, index: int) -> Waited:
        """Keep the slots that were granted: the step starts. Gives what held the attempt back."""
        claim = self._claims[index]
        claim.stands = "held"
        waited = [(cause, round(seconds, DIGITS)) for cause, seconds in claim.waited_s.items()]
        return tuple([cause for cause in waited if cause[1] > 0])

    def hand_back(self, index: int) -> HandBackSlots:
        """Park the claim that was granted."""
        claim = self._claims[index]
        claim.stands = "parked"
        return HandBackSlots(self._keys[index], claim.attempt, claim.token)

    def release(self, index: int) -> ReleaseSlots:
        """Give back what the step holds."""
        claim = self._claims.pop(index)
        return ReleaseSlots(self._keys[index], claim.attempt, claim.token)

    def withdraw(self, index: int) -> list[Command]:
        """Forget the claim of a step that will not start, if it has one."""
        claim = self._claims.pop(index, None)
        self.asked.discard(index)
        return [] if claim is None else [WithdrawClaim(self._keys[index], claim.attempt)]

    def why(self, index: int, now: float) -> ClaimWait | None:
        """How the claim of a step stands that is not running, for people; None: it has none."""
        claim = self._claims.get(index)
        if claim is None:
            return None
        if claim.stands == "parked":
            return ClaimWait(parked=True)
        blockers = claim.blockers or tuple(pool for pool, _ in self.wants(index))
        return ClaimWait(now - claim.asked_at, blockers, claim.cause, claim.reason)

    def waiting_like(self, index: int) -> int:
        """How many claims of steps with the signature of this one wait. O(claims): for people who ask why."""
        signature = self._signature_of[index]
        return sum(
            claim.stands == "waiting" and self._signature_of[other] == signature
            for other, claim in self._claims.items()
        )

    def _expecting(self, index: int, attempt: int) -> _Claim | None:
        """The claim of that attempt, if the ledger has something to say of it."""
        claim = self._claims.get(index)
        if claim is not None and claim.attempt == attempt and claim.stands in ("asked", "waiting"):
            return claim
        return None

    def _count(self, index: int, claim: _Claim, now: float) -> None:
        """Add the time since it was last counted to what was in the way then."""
        cause = pool_cause(claim.blockers or (pool for pool, _ in self.wants(index)))
        claim.waited_s[cause] = claim.waited_s.get(cause, 0.0) + now - claim.since
        claim.since = now
