"""Stopping what lives, so that its slots may be taken away: the driver of a run, or the processes of one step.

A signal goes through a descriptor of the process (pidfd) that was checked after it was opened, so a pid that is used
again never gets it. What is over is told by the locks of owner and step, as everywhere in the ledger.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from executor.errors import UsageError
from executor.ledger import liveness
from executor.ledger.ledger import Freed
from executor.ledger.named import run_name
from executor.ledger.requests import Lease
from executor.ledger.views import LedgerView
from executor.runs.leftovers import processes_of_claims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from executor.ledger.ledger import Ledger
    from executor.ledger.views import ClaimView, OwnerView

# A driver stops its steps within their grace, 5 s unless it is configured, and then writes down how its run ended.
DRIVER_GRACE_S = 10.0
STEP_GRACE_S = 5.0
ORPHAN_GRACE_S = 5.0

# After SIGKILL only the kernel is left to be waited for. A driver hears of a worker's end within milliseconds.
KILLED_WAIT_S = 5.0
RELEASE_WAIT_S = 2.0

# A worker takes its step's lock within milliseconds after the grant.
BEGIN_WAIT_S = 5.0

# How often locks are looked at meanwhile; a person waits for it.
LOOK_EVERY_S = 0.02


@dataclass(slots=True)
class Stopped:
    """What was stopped, and which claims are gone by that."""

    pids: tuple[int, ...]
    claims: tuple[int, ...]

    def add(self, freed: Freed) -> Freed:
        """The whole outcome, with what had been taken away before."""
        return Freed((*freed.claims, *self.claims), (), self.pids)


def stop_run(ledger: Ledger, run: str) -> Stopped:
    """Stop the drivers of a run and what is left of its steps, and take away what it held.

    Raises:
        UsageError: a process could not be stopped; the text names it.
    """
    pids: list[int] = []
    with LedgerView(ledger.home) as view:
        owners = [owner for owner in view.owners() if owner.run == run]
        before = [claim.claim for claim in view.claims_of(run)]
    with ExitStack() as stack:
        for owner in owners:
            if not liveness.owner_is_alive(ledger.home, owner.id):
                continue
            target = _open(owner.pid, partial(_is_driver, owner), stack)
            if target is None:
                raise UsageError(
                    f"the driver of run {run} lives, but not as process {owner.pid} of this machine (host "
                    f"{owner.host}); end it where it runs"
                )
            pids.append(owner.pid)
            if not _stop([target], partial(_owner_is_dead, ledger.home, owner.id), DRIVER_GRACE_S):
                raise UsageError(f"process {owner.pid}, the driver of run {run}, does not end")
        # Whatever outlived its driver by more than the moment in which the template ends it.
        folders = {owner.folder for owner in owners}
        for folder in sorted(folders):
            pids += _stop_processes(folder, before, ORPHAN_GRACE_S)
    ledger.free(run)
    left = set(_claims_left(ledger, before))
    return Stopped(tuple(pids), tuple(claim for claim in before if claim not in left))


def stop_step(ledger: Ledger, run: str, step: str) -> Stopped:
    """Stop the processes of one step, and take away what it holds and waits for. Its run goes on.

    Raises:
        UsageError: the step runs inside of its driver's process, a process could not be stopped, or the step is about
            to begin and does not; nothing was taken away then.
    """
    with LedgerView(ledger.home) as view:
        claims = [claim for claim in view.claims_of(run) if claim.step == step]
    held = [claim for claim in claims if claim.token is not None]
    _refuse_not_begun(ledger, held)
    pids: list[int] = []
    for folder in sorted({claim.folder for claim in held}):
        _refuse_inside_driver(folder, held)
        pids += _stop_processes(folder, [claim.claim for claim in held], STEP_GRACE_S)
    # Its driver gives back what it held as soon as it hears of the end; a driver that is stopped does not.
    numbers = [claim.claim for claim in held]
    _wait(lambda: not _claims_left(ledger, numbers), RELEASE_WAIT_S)
    ledger.take_away(
        [Lease(claim.claim, claim.token) for claim in held if claim.token is not None],
        [claim.claim for claim in claims if claim.token is None],
    )
    left = set(_claims_left(ledger, [claim.claim for claim in claims]))
    if left:
        raise UsageError(f"step {step!r} of run {run_name(run)} has been granted its slots only now; try again")
    return Stopped(tuple(pids), tuple(claim.claim for claim in claims))


def _refuse_not_begun(ledger: Ledger, held: list[ClaimView]) -> None:
    """Pass when a process works on each of these claims that is still held, or none can begin to any more.

    A worker that has yet to take its step's lock looks at its owner then and not at its claim: it would begin with
    slots that are somebody else's by then.
    """

    def not_begun() -> list[ClaimView]:
        return [
            claim
            for claim in held
            if claim.token is not None
            and ledger.is_held(Lease(claim.claim, claim.token))
            and liveness.owner_is_alive(ledger.home, claim.owner)
            and not liveness.live_steps(claim.folder, [claim.claim])
        ]

    if not _wait(lambda: not not_begun(), BEGIN_WAIT_S):
        claim = held[0]
        raise UsageError(
            f"step {claim.step!r} of run {run_name(claim.run)} holds its slots and no process works on it yet, or any "
            f"more, so there is nothing to stop, and a process that begins later would exceed the limit. If process "
            f"{claim.pid}, which drives the run, or one of its children is stopped: kill -CONT; to stop the whole run: "
            f"executor instance concurrency free {run_name(claim.run)} --force"
        )


def _claims_left(ledger: Ledger, claims: Iterable[int]) -> list[int]:
    with ledger.database.explained():
        there = {seq for (seq,) in ledger.database.execute("SELECT seq FROM claim")}
    return [claim for claim in claims if claim in there]


def _refuse_inside_driver(folder: str, held: list[ClaimView]) -> None:
    drivers = {claim.pid for claim in held if claim.folder == folder}
    inside = [
        process.pid
        for process in processes_of_claims(folder, [claim.claim for claim in held])
        if process.pid in drivers
    ]
    if inside:
        raise UsageError(
            f"step {held[0].step!r} runs inside of process {inside[0]}, which drives its run, so it cannot be stopped "
            f"by itself; to stop the whole run: executor instance concurrency free {run_name(held[0].run)} --force"
        )


# --- processes -------------------------------------------------------------------------------------------------------


def _stop_processes(folder: str, claims: list[int], grace_s: float) -> list[int]:
    """Stop the processes that still work on these claims in this folder of a run; their pids.

    Raises:
        UsageError: they do not end, or cannot be seen from here.
    """
    processes = processes_of_claims(folder, claims)
    with ExitStack() as stack:
        targets = []
        for process in processes:
            is_it = partial(_works_on, process.pid, folder, claims)
            if (target := _open(process.pid, is_it, stack)) is not None:
                targets.append(target)
        if not _stop(targets, lambda: not liveness.live_steps(folder, claims), grace_s):
            names = ", ".join(map(str, processes)) or "a process that cannot be seen from here"
            raise UsageError(f"{names} could not be stopped; nothing was taken away from it")
    return [process.pid for process in processes]


def _works_on(pid: int, folder: str, claims: list[int]) -> bool:
    return any(process.pid == pid for process in processes_of_claims(folder, claims))


def _is_driver(owner: OwnerView) -> bool:
    return liveness.start_time_of(owner.pid) == owner.start_time


def _owner_is_dead(home: Path, owner: str) -> bool:
    return not liveness.owner_is_alive(home, owner)


def _open(pid: int, is_it: Callable[[], bool], stack: ExitStack) -> int | None:
    """A descriptor of a process, if the process that had this pid when it was opened is the one that is meant."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        return None
    stack.callback(os.close, fd)
    return fd if is_it() else None


def _stop(targets: list[int], over: Callable[[], bool], grace_s: float) -> bool:
    """SIGTERM, and SIGKILL after the grace; whether it is over then."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILLED_WAIT_S)):
        if over():
            return True
        for target in targets:
            try:
                signal.pidfd_send_signal(target, number)
            except ProcessLookupError:
                continue
        if number == signal.SIGTERM:
            # One that is stopped (SIGSTOP) would look at the signal only when it goes on.
            for target in targets:
                _continue(target)
        if _wait(over, wait_s):
            return True
    return False


def _continue(target: int) -> None:
    try:
        signal.pidfd_send_signal(target, signal.SIGCONT)
    except ProcessLookupError:
        return


def _wait(over: Callable[[], bool], seconds: float) -> bool:
    """Whether it is over within so many seconds."""
    end = time.monotonic() + seconds
    while not over():
        if time.monotonic() >= end:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
