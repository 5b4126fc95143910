"""Why the steps of a run are not running, and what would end that: while it goes on, and afterwards from its history.

The run's own scheduler is made again from the history and asked; for what waits in the ledger, the ledger is looked at
as it is now. Afterwards the history tells what each step had waited for.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.errors import ExecutorError, UsageError, did_you_mean
from executor.ledger.liveness import owner_is_alive
from executor.ledger.named import holder_text, step_name, time_text
from executor.ledger.views import LedgerView
from executor.runs.leftovers import processes_of_claims
from executor.runs.replay import replay
from executor.runs.report import seconds_text
from executor.runs.result import read_result
from executor.runs.waits import SHOWN_S, Wait, waits_of, waits_text
from executor.scheduler.events import RunStarted, SlotHolder, StepStarted
from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.ledger.standing import Reason
    from executor.ledger.views import ClaimView, WaitView
    from executor.runs.home import RunFolder
    from executor.runs.result import RunResult, RunStatus
    from executor.scheduler.scheduler import Scheduler
    from executor.scheduler.why import Why

# Who only looks does not wait longer for somebody who holds the ledger's lock and does not go on.
LOOK_S = 1.0

# More are counted.
HOLDERS_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A limit that a step waits for."""

    name: str  #: ``max_concurrent``, ``tag database=warehouse``, ``pool database``
    cause: str  #: ``full``, or of a pool: ``reserved``, ``paused``, ``unsatisfiable``
    limit: int
    used: int
    needed: int = 1  #: slots that the step needs of it
    held_by: tuple[SlotHolder, ...] = ()
    place: int | None = None  #: of its claim among those that wait for this pool, from 1
    first: SlotHolder | None = None  #: whom the free slots of a pool are kept for

    @property
    def pool(self) -> str | None:
        """The pool; None for a limit of the run itself."""
        return self.name.removeprefix("pool ") if self.place is not None else None

    def __str__(self) -> str:
        match self.cause:
            case "paused":
                return f"pool {self.pool!r} is paused (limit 0)"
            case "unsatisfiable":
                in_all = f"{self.limit} slot{'s' if self.limit > 1 else ''} in all"
                return f"pool {self.pool!r} has {in_all}, and the step needs {self.needed}"
            case "reserved":
                first = "another" if self.first is None else holder_text(self.first)
                return f"the free slots of pool {self.pool!r} are kept for {first}, which comes first"
        name = self.name if self.pool is None else f"pool {self.pool!r}"
        text = f"{name} is full ({self.used} of {self.limit}{_held_by(self.held_by)})"
        if self.needed > 1:
            text += f", and the step needs {self.needed}"
        if self.place is not None and self.place > 1:
            text += f"; its claim is number {self.place} of those that wait"
        return text

    @property
    def ends(self) -> str:
        """What would end it."""
        if self.pool is None:
            return self._an_end
        raised = f"executor instance concurrency set {shlex.quote(self.pool)}"
        if self.cause in {"paused", "unsatisfiable"}:
            return f"somebody raises the limit: {raised} {self.needed}"
        if self.cause == "reserved":
            return f"{'that' if self.first is None else step_name(self.first)} has been granted its slots"
        more = f"somebody raises the limit: {raised} {self.limit + self.needed}"
        if self.held_by and all(holder.encloses for holder in self.held_by):
            return more  # these hold on until this run ends
        text = self._an_end
        if self.place is not None and self.place > 1:
            text += " and those before it have had their turn"
        return f"{text}, or {more}"

    @property
    def _an_end(self) -> str:
        """Whose end makes room."""
        if len(self.held_by) == 1:
            return f"{step_name(self.held_by[0])} ends"
        name = self.name if self.pool is None else f"pool {self.pool!r}"
        if self.needed > 1:
            return f"enough of those that hold {name} have ended"
        return f"one of the {len(self.held_by)} that hold {name} ends" if self.held_by else "a slot is free"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWhy:
    """Why one step is not running, or what it had waited for."""

    key: str
    state: StepState
    attempt: int  #: number of the attempt that runs or was the last; 0: none yet
    text: str  #: one sentence
    ends: str = ""  #: what would end it, as a clause after "until"; empty: nothing can, or nothing need
    blockers: tuple[Blocker, ...] = ()  #: the limits in its way
    upstream: tuple[tuple[str, StepState], ...] = ()  #: steps that it waits for
    retry_in_s: float | None = None
    waited: tuple[Wait, ...] = ()  #: what its attempts had waited for before they started


#: On its way and not running; first those about which something can be done.
_ON_THE_WAY = (StepState.CLAIMING, StepState.READY, StepState.BACKOFF, StepState.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWhy:
    """Why the steps of a run are not running."""

    run_id: str
    job: str
    status: RunStatus
    at_s: float  #: seconds since the run began
    steps: dict[str, StepWhy] = field(default_factory=dict)  #: those that were asked for, and those that do not run
    left_out: int = 0  #: further steps that do not run
    counts: Mapping[StepState, int] = field(default_factory=dict)  #: of all steps


def why(folder: RunFolder, step: str | None = None, *, most: int | None = None) -> RunWhy:
    """Why the steps of a run are not running, or one of them; of a run that is over, what its steps had waited for.

    Args:
        folder: of the run.
        step: the key of the one that is asked for, whatever it does.
        most: how many are explained, since each costs a look at all steps that are ready; None: all.

    Raises:
        UsageError: the run has no history, or no step of that key.
        HistoryUnreadable: its history is damaged.
    """
    result = read_result(folder)
    timeline = result.timeline
    started = timeline[0][1] if timeline else None
    if not isinstance(started, RunStarted):
        raise UsageError(f"run {folder.run_id} has no first event: its driver died before it began")
    if step is not None and step not in result.plan.index_of:
        raise UsageError(f"run {folder.run_id} has no step {step!r}{did_you_mean(step, result.plan.index_of)}")
    last = timeline[-1][0]
    alive = result.status == "running"
    now = max(last, time.time() - started.at) if alive else last
    scheduler = replay(folder, until_s=last)
    explainer = _Explainer(result, scheduler, started, now)
    keys = [step] if step is not None else explainer.telling([each.key for each in result.plan.steps])
    left_out = keys[most:] if most is not None else []
    keys = keys[:most]
    if alive and any(scheduler.state(key) is StepState.CLAIMING for key in keys):
        explainer.look_into_ledger()
    return RunWhy(
        run_id=folder.run_id,
        job=started.job,
        status=result.status,
        at_s=now,
        steps={key: explainer.explain(key) for key in keys},
        left_out=len(left_out),
        counts=scheduler.counts(),
    )


class _Explainer:
    """Explains the steps of one run at one moment."""

    def __init__(self, result: RunResult, scheduler: Scheduler, started: RunStarted, now: float) -> None:
        self._run, self._folder = result.run_id, result.folder
        self._alive = result.status == "running"
        self._over = result.status
        self._scheduler, self._now, self._began = scheduler, now, started.at
        self._pid = started.pid  #: of the driver
        self._waited = waits_of(result.timeline, result.plan)
        self._starts: dict[str, tuple[int, float]] = {}  #: step -> pid and time of its last start
        for t, event in result.timeline:
            if isinstance(event, StepStarted):
                self._starts[event.key] = event.pid, t
        self._waits: dict[str, WaitView] = {}  #: step -> its claim in the ledger
        self._holders: dict[str, list[ClaimView]] = {}  #: by pool
        self._claims: dict[int, ClaimView] = {}  #: those that wait, by their numbers
        self._named: dict[int, SlotHolder] = {}  #: by their claims' numbers

    def telling(self, keys: Sequence[str]) -> list[str]:
        """Those of these steps of which there is something to tell: that do not run, did not succeed, or had to wait.

        While the run goes on, first those on their way.
        """
        found = [
            (key, state)
            for key in keys
            if (state := self._scheduler.state(key)) is not StepState.RUNNING or not self._alive
            if state is not StepState.SUCCEEDED or any(wait.seconds >= SHOWN_S for wait in self._waited.get(key, ()))
        ]
        if self._alive:
            found.sort(key=lambda each: _ON_THE_WAY.index(each[1]) if each[1] in _ON_THE_WAY else len(_ON_THE_WAY))
        return [key for key, _ in found]

    def look_into_ledger(self) -> None:
        """Read how the claims of the run stand. Where the ledger cannot be read, the history must do."""
        try:
            with LedgerView(self._folder.home, timeout_s=LOOK_S) as view:
                waits = view.waiters()
                mine = [wait for wait in waits if wait.view.run == self._run]
                self._waits = {wait.view.step: wait for wait in mine}
                self._claims = {wait.view.claim: wait.view for wait in waits}
                pools = {reason.pool for wait in mine for reason in wait.standing.reasons}
                self._holders = {pool: view.holders(pool) for pool in pools}
        except ExecutorError:
            return

    def explain(self, key: str) -> StepWhy:
        """One step."""
        why = self._scheduler.why(key, self._now)
        waited = self._waited.get(key, ())
        blockers = self._blockers(why)
        text, ends = self._said(why, blockers, waited)
        return StepWhy(
            key=key,
            state=why.state,
            attempt=why.attempt,
            text=text,
            ends=ends if self._alive else "",
            blockers=blockers,
            upstream=why.upstream,
            retry_in_s=why.retry_in_s,
            waited=waited,
        )

    def _said(self, why: Why, blockers: tuple[Blocker, ...], waited: tuple[Wait, ...]) -> tuple[str, str]:
        """The sentence of a step, and what would end its wait."""
        sentence = str(why).removeprefix(f"step {why.key!r} ")
        ends = "; and ".join(dict.fromkeys(blocker.ends for blocker in blockers))
        match why.state:
            case StepState.WAITING:
                ends = "they have succeeded" if len(why.upstream) > 1 else "it has succeeded"
            case StepState.READY if why.full:
                sentence = "is ready: " + " and ".join(map(str, blockers))
                if why.ahead:
                    sentence += f"; {why.ahead} ready step{'s are' if why.ahead > 1 else ' is'} before it"
                if why.claim is not None:
                    sentence += "; its claim of slots is parked, and keeps its place"
            case StepState.CLAIMING if blockers and why.claim is not None:
                slots = " and ".join(f"{count} of pool {pool!r}" for pool, count in why.wanted)
                sentence = f"has waited {seconds_text(why.claim.waited_s)} for slots ({slots}): "
                sentence += " and ".join(map(str, blockers))
            case StepState.BACKOFF:
                at = time_text(self._began + self._now + (why.retry_in_s or 0.0))
                ends = f"{at}" if why.retry_in_s else "the processes of its last attempt have ended"
            case StepState.RUNNING:
                pid, since = self._starts.get(why.key, (0, self._now))
                sentence += f" for {seconds_text(self._now - since)}" + (f" as pid {pid}" if pid else "")
        if why.lingering:
            ends = "the processes of its last attempt have ended"
        if not self._alive and why.state in {*_ON_THE_WAY, StepState.RUNNING}:
            if self._over == "interrupted":  # when it died is not known, but that it was later than its last event
                sentence = sentence.replace("has waited ", "has waited at least ", 1)
            sentence += f" (when the run was {self._over})"
            if why.state is StepState.CLAIMING:
                return sentence, ends  # what it had waited for is the same
        if said := waits_text(waited):
            before = "; before that it had waited" if why.state is not StepState.SUCCEEDED else "; it had waited"
            sentence += f"{before} {said}"
        return sentence, ends

    def _blockers(self, why: Why) -> tuple[Blocker, ...]:
        if why.state is StepState.CLAIMING:
            wait = self._waits.get(why.key)
            return tuple(self._pool_blocker(reason) for reason in wait.standing.reasons) if wait is not None else ()
        return tuple(
            Blocker(
                name=use.name,
                cause="full",
                limit=use.limit,
                used=use.used,
                held_by=tuple(self._own_holder(key) for key in use.held_by),
            )
            for use in why.full
        )

    def _own_holder(self, key: str) -> SlotHolder:
        pid, since = self._starts.get(key, (0, None))
        return SlotHolder(key, pid=pid, since=None if since is None else self._began + since)

    def _pool_blocker(self, reason: Reason) -> Blocker:
        first = self._claims.get(reason.reserved_for) if reason.reserved_for is not None else None
        return Blocker(
            name=f"pool {reason.pool}",
            cause=reason.cause,
            limit=reason.limit,
            used=reason.held,
            needed=reason.weight,
            held_by=tuple(self._holder(claim) for claim in self._holders.get(reason.pool, ())),
            place=reason.ahead + 1,
            first=self._holder(first) if first is not None else None,
        )

    def _holder(self, claim: ClaimView) -> SlotHolder:
        found = self._named.get(claim.claim)
        if found is None:
            run = "" if claim.run == self._run else claim.run
            lives = owner_is_alive(self._folder.home, claim.owner)
            processes = processes_of_claims(claim.folder, [claim.claim]) if claim.state == "granted" else []
            pid = processes[0].pid if processes else claim.pid if lives else 0
            inside = any(process.pid == self._pid for process in processes)
            found = SlotHolder(claim.step, run, pid, claim.granted_at, outlived=not lives, encloses=inside)
            self._named[claim.claim] = found
        return found


def _held_by(holders: tuple[SlotHolder, ...]) -> str:
    if not holders:
        return ""
    named = ", ".join(map(holder_text, holders[:HOLDERS_NAMED]))
    more = len(holders) - HOLDERS_NAMED
    return f", held by {named}" + (f" and {more} more" if more > 0 else "")
