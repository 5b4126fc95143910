"""Whether a ledger is in order: what stands in it, against the locks and bells of those that it names.

Reads only. What is found is *ok*, a *note* (as it may be after a death, and mended by whoever needs it), or a
*problem*.
"""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from executor.database.ledger_schema import GUARDS
from executor.ledger import bell, liveness
from executor.ledger.named import run_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.ledger.views import ClaimView, LedgerView, OwnerView

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str  #: what was looked at, in a word or two
    level: Level
    text: str
    fix: str = ""  #: what to do; empty where nothing is to be done

    @property
    def is_problem(self) -> bool:
        """Whether something is wrong that does not mend itself."""
        return self.level == "problem"


def prove(home: Path, view: LedgerView) -> list[Finding]:
    """Everything that can be said of the ledger of a home folder, seen at one moment."""
    return [
        *_file(view),
        *_sums(view),
        *_numbers(view),
        *_owners(home, view),
        *_strays(home, view),
        *_waits(home, view),
    ]


def _file(view: LedgerView) -> Iterator[Finding]:
    said = view.check_file()
    if said == ["ok"]:
        yield Finding(name="ledger file", level="ok", text="ledger.db is sound")
    else:
        yield Finding(
            name="ledger file",
            level="problem",
            text=f"ledger.db is damaged: {'; '.join(said[:3])}",
            fix="let the runs on this machine end, remove ledger.db* in the home folder, and set your limits again",
        )
    if view.triggers() == {" ".join(guard.split()) for guard in GUARDS}:
        yield Finding(name="guard", level="ok", text="no transaction can grant more of a pool than its limit")
    else:
        yield Finding(
            name="guard",
            level="problem",
            text="the triggers that undo a grant above a limit are missing or were changed",
            fix="let the runs on this machine end, remove ledger.db* in the home folder, and set your limits again",
        )


def _sums(view: LedgerView) -> Iterator[Finding]:
    pools = view.pools()
    over = [pool for pool in pools if pool.limit is not None and pool.held > pool.limit]
    for pool in over:
        yield Finding(
            name="limits",
            level="note",
            text=f"{pool.held} slots of pool {pool.name!r} are held and its limit is {pool.limit}: it was lowered "
            "after they were granted; further claims wait",
        )
    if not over:
        yield Finding(name="limits", level="ok", text=f"{counted(len(pools), 'pool')}, none above its limit")


def _numbers(view: LedgerView) -> Iterator[Finding]:
    if broken := view.broken_claims():
        yield Finding(
            name="claims",
            level="problem",
            text=f"claims {', '.join(map(str, broken[:5]))} have a token twice, one that was never given, or no needs",
            fix="let the runs on this machine end, remove ledger.db* in the home folder, and set your limits again",
        )
    else:
        yield Finding(name="claims", level="ok", text="every lease has a token of its own, and every claim its needs")


# --- owners, their locks and their bells -----------------------------------------------------------------------------


def _owners(home: Path, view: LedgerView) -> Iterator[Finding]:
    owners = view.owners()
    living = {owner.id for owner in owners if liveness.owner_is_alive(home, owner.id)}
    waited_for = {
        pool for wait in view.waiters() if wait.view.owner in living for pool, _ in wait.view.needs
    }  # by runs that live
    for owner in owners:
        claims = [claim for claim in view.claims_of(owner.run) if claim.owner == owner.id]
        if owner.id in living:
            yield from _living(home, owner)
        else:
            yield from _dead(home, owner, claims, waited_for)
    held = sum(claim.state == "granted" for owner in owners for claim in view.claims_of(owner.run))
    if len(living) == len(owners):
        text = f"{counted(len(owners), 'run')} and {counted(held, 'lease')}, none without a living owner"
        yield Finding(name="owners", level="ok", text=text)
    known = {owner.id for owner in owners}
    lost = [claim for run in sorted(view.runs()) for claim in view.claims_of(run) if claim.owner not in known]
    for claim in lost:
        yield Finding(
            name="owners",
            level="problem",
            text=f"the claim of step {claim.step!r} of run {run_name(claim.run)} has no owner",
            fix=f"executor instance concurrency free {run_name(claim.run)} --force",
        )


def _living(home: Path, owner: OwnerView) -> Iterator[Finding]:
    who = f"run {run_name(owner.run)} (pid {owner.pid})"
    started = liveness.start_time_of(owner.pid)
    if started != owner.start_time:
        yield Finding(
            name="owners",
            level="note",
            text=f"{who} lives, and is not this machine's process {owner.pid}: it is in another container (host "
            f"{owner.host})",
        )
    if not _is_heard(home, owner.id):
        yield Finding(
            name="bells",
            level="problem",
            text=f"{who} lives and its bell is gone, so it would not be told of a grant at once",
            fix=f"start that run again; to stop it: executor instance concurrency free {run_name(owner.run)} --force",
        )


def _dead(home: Path, owner: OwnerView, claims: list[ClaimView], waited_for: set[str]) -> Iterator[Finding]:
    who = f"run {run_name(owner.run)} (pid {owner.pid})"
    if _lost_its_lock(home, owner):
        yield Finding(
            name="locks",
            level="problem",
            text=f"{who} lives, and its lock file own/{owner.id}.lock was removed, so others take it for dead",
            fix="end that run and start it again",
        )
        return
    held = [claim for claim in claims if claim.state == "granted"]
    outlived = liveness.live_steps(owner.folder, [claim.claim for claim in held])
    for claim in held:
        if claim.claim in outlived:
            yield Finding(
                name="owners",
                level="note",
                text=f"a process of step {claim.step!r} has outlived {who}; its slots stay taken until it ends",
                fix=f"to end it: executor instance concurrency free {run_name(owner.run)} --force",
            )
    left = [claim for claim in claims if claim.claim not in outlived]
    wanted = sorted({pool for claim in left for pool, _ in claim.needs if claim.state == "granted"} & waited_for)
    if wanted:
        yield Finding(
            name="owners",
            level="problem",
            text=f"{who} has died, and those who wait for pool {wanted[0]!r} have not taken its slots back",
            fix=f"executor instance concurrency free {run_name(owner.run)}",
        )
    elif not outlived:
        what = counted(len(left), "claim") if left else "nothing but its row"
        yield Finding(
            name="owners",
            level="note",
            text=f"{who} has died and left {what}; the next who needs it, or the next run, takes it back",
        )


def _lost_its_lock(home: Path, owner: OwnerView) -> bool:
    """Whether the process of an owner lives, and its lock file is not there."""
    if owner.host != socket.gethostname() or liveness.start_time_of(owner.pid) != owner.start_time:
        return False
    return not os.path.exists(liveness.owner_file(home, owner.id))  # noqa: PTH110  (a path as text)


def _is_heard(home: Path, owner: str) -> bool:
    """Whether somebody would hear this bell. It is not rung."""
    path = bell.bell_file(home, owner)
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116  (a path as text)
            return False
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def _strays(home: Path, view: LedgerView) -> Iterator[Finding]:
    known = {owner.id for owner in view.owners()}
    try:
        names = sorted(os.listdir(home / "own"))  # noqa: PTH208  (names are all that is needed)
    except FileNotFoundError:
        names = []
    for owner in [name.removesuffix(".lock") for name in names]:
        if owner in known:
            continue
        if liveness.owner_is_alive(home, owner):
            yield Finding(
                name="locks",
                level="problem",
                text=f"a run that lives has the lock file own/{owner}.lock, and the ledger does not know it",
                fix="end that run and start it again",
            )
        else:
            yield Finding(
                name="locks",
                level="note",
                text=f"own/{owner}.lock was left by a process that died while it began; the next run removes it",
            )


def _waits(home: Path, view: LedgerView) -> Iterator[Finding]:
    for wait in view.waiters():
        if not wait.standing.reasons and liveness.owner_is_alive(home, wait.view.owner):
            pool, _ = wait.view.needs[0]
            yield Finding(
                name="waits",
                level="problem",
                text=f"step {wait.view.step!r} of run {run_name(wait.view.run)} waits, and nothing is in its way",
                fix=f"set the limit of pool {pool!r} again, as it is",
            )


def counted(number: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"
