"""What a run does next: told events, answers with commands. Pure: time comes in as ``now``, chance in the events.

``now`` is in seconds, on a clock that never goes back, and that the driver may stop while it is stopped itself.

What an event causes is decided at once and in a fixed order: first what it means for other steps, in plan order; then
the due times that have come; then which steps start, in the order of ``order.py``. So the same events at the same times
always give the same commands, which is how a history is replayed.

When several things stand in the way of a step, the first that becomes certain decides: it is NOT_RUN as soon as one
step that it reads from has failed, was cancelled or was not run, and SKIPPED as soon as an output that it cannot do
without was left out, whatever its other upstream steps do later.

The *status* of a step is decided by the event that ends its attempt. Its *slot*, which is what it counts against
max_concurrent and its tag limits, is free when its processes are gone: with that event, or with a later ``SlotFreed``.
What it holds of pools is released then too.

A step that wants slots of pools asks for them when it could start under every limit of the run. If they are granted it
starts. If it has to wait for them it counts against no limit meanwhile; so when they are granted later and the run has
no room any more, it hands them back at once and keeps its claim. Until the ledger has answered, the room is kept: the
order would mean nothing if every step without pools could overtake while a free pool is being asked.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Literal

from executor.scheduler.claims import Claims
from executor.scheduler.commands import Command, Record, StartStep, StopStep
from executor.scheduler.deadlines import DueTimes
from executor.scheduler.events import (
    CancelRequested,
    SlotFreed,
    SlotsGranted,
    SlotsWaiting,
    StepCancelled,
    StepFailed,
    StepNotRun,
    StepReturned,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepWillRetry,
    Woke,
)
from executor.scheduler.held import held_back
from executor.scheduler.limits import bind
from executor.scheduler.order import start_order
from executor.scheduler.outcomes import StepError
from executor.scheduler.ready import ReadyQueue
from executor.scheduler.retries import NO_CHANCE, Backoff, retry_delay_s
from executor.scheduler.skips import LeftOut
from executor.scheduler.states import MOVES, StepState
from executor.scheduler.waits import DIGITS, RETRY, WaitClock, Waited
from executor.scheduler.why import LimitUse, Why, full_limits, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from executor.plan.plan import Plan
    from executor.scheduler.events import StepReused, Told
    from executor.scheduler.held import HeldBack
    from executor.scheduler.limits import Limits

Status = Literal["succeeded", "failed", "cancelled"]

WAITING, READY, CLAIMING = StepState.WAITING, StepState.READY, StepState.CLAIMING
RUNNING, BACKOFF = StepState.RUNNING, StepState.BACKOFF
SUCCEEDED, FAILED, SKIPPED = StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED
NOT_RUN, CANCELLED = StepState.NOT_RUN, StepState.CANCELLED


class Scheduler:
    """One run of a plan: which steps may start, which must stop, and how each ended.

    ``start`` once, then ``handle`` for every event, and also when ``wake_at`` has come (``Woke``), until ``finished``.
    With ``retries=False`` every failure is final. ``expected_s`` maps keys to the seconds that steps are expected to
    take, and only changes the order. ``run_priority`` is added to the priority of each step's claim. A step costs the
    same however many there are, but for the logarithm of a heap.
    """

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        *,
        retries: bool = True,
        expected_s: Mapping[str, float] | None = None,
        run_priority: int = 0,
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._retries = retries
        self._bound = bind(limits, plan)
        self._keys = [step.key for step in plan.steps]
        self._timeouts = [step.timeout_s for step in plan.steps]
        self._states = [WAITING] * len(plan)
        self._counts = dict.fromkeys(StepState, 0)
        self._counts[WAITING] = len(plan)
        self._attempts = [0] * len(plan)  #: the number of the attempt that runs or was the last; 0: none yet
        self._pending = [len(above) for above in plan.upstream]  #: upstream steps that still stand in the way
        self._clock = WaitClock(self._bound)
        self._ready = ReadyQueue(self._bound, limits.max_concurrent, start_order(plan, expected_s), self._clock)
        self._claims = Claims(plan, self._bound, run_priority) if self._bound.wanted else None  #: None: no pools
        self._due = DueTimes()
        self._holders: dict[int, int] = {}  #: step -> the attempt whose slot is not free
        self._stopping: dict[int, Literal["timed_out", "cancelled"]] = {}  #: running steps that were told to stop
        self._backoffs: dict[int, Backoff] = {}
        self._retry_waits: dict[int, float] = {}  #: seconds of the backoff that a step which is ready came from
        self._because: dict[int, str] = {}  #: of skipped and not-run steps
        self._left_out: LeftOut | None = None  #: made when the first output is left out
        self._cancelled = False

    # --- what a driver calls -----------------------------------------------------------------------------------------

    def start(self, now: float, reused: Sequence[StepReused] = ()) -> list[Command]:
        """Begin the run; call it once, first. ``reused`` are its steps that succeeded in an earlier run."""
        commands: list[Command] = []
        self._clock.advance(now, idle=False)
        for event in reused:
            self._move(self._index(event.key), SUCCEEDED)
        for event in reused:  # only now: none of them is made ready by another
            self._skip_below(self._index(event.key), event.missing, now, commands)
        for index, pending in enumerate(self._pending):
            if not pending and self._states[index] is WAITING:
                self._make_ready(index, now)
        self._start_ready(now, commands)
        return commands

    def handle(self, event: Told, now: float) -> list[Command]:
        """What to do now that this has happened. An event about an attempt that is over changes nothing.

        Raises:
            ValueError: the event names a step that the plan does not have.
        """
        commands: list[Command] = []
        self._clock.advance(now, idle=self._ready.room > 0)
        match event:
            case StepSucceeded():
                self._on_succeeded(event, now, commands)
            case StepStarted():
                self._index(event.key)  # the scheduler knows it already
            case StepFailed():
                self._on_failed(event, now, commands)
            case StepReturned():
                self._on_returned(event, now, commands)
            case SlotFreed():
                self._on_slot_freed(event, now, commands)
            case SlotsGranted():
                self._on_granted(event, now, commands)
            case SlotsWaiting():
                index = self._index(event.key)
                if self._claims is not None and self._claims.wait(index, event, now) == "asked":
                    self._ready.wait(index)
            case CancelRequested():
                self._on_cancel(event, commands)
            case Woke():
                pass
        if now >= self._due.at:
            self._on_due(now, commands)
        self._start_ready(now, commands)
        return commands

    @property
    def finished(self) -> bool:
        """Whether every step has ended, every slot is free again, and every claim was released or withdrawn."""
        counts = self._counts
        return not (self._holders or counts[WAITING] or counts[READY] or counts[CLAIMING] or counts[BACKOFF])

    @property
    def wake_at(self) -> float | None:
        """When to tell ``Woke`` if nothing else happens before; None: only an event changes anything."""
        return None if self._due.at == inf else self._due.at

    @property
    def status(self) -> Status | None:
        """How the run ended; None while it has not."""
        if not self.finished:
            return None
        counts = self._counts
        short: Status = "cancelled" if self._cancelled else "failed"
        return "succeeded" if counts[SUCCEEDED] + counts[SKIPPED] == len(self._keys) else short

    def state(self, key: str) -> StepState:
        """Where the step stands. Raises ``ValueError`` for a key that the plan does not have."""
        return self._states[self._index(key)]

    def attempt(self, key: str) -> int:
        """The number of the step's attempt that runs or was the last; 0 before the first."""
        return self._attempts[self._index(key)]

    def counts(self) -> dict[StepState, int]:
        """How many steps are in each state."""
        return dict(self._counts)

    def held_back(self) -> list[HeldBack]:
        """Which limits hold ready steps back; claims that wait are not among them. See ``held.py``."""
        return held_back(self._bound, self._limits.max_concurrent, self._ready, self._holders, self._keys)

    def why(self, key: str, now: float) -> Why:
        """What the step waits for, or why it will not run. For people: it may look at every step."""
        index = self._index(key)
        state = self._states[index]
        claims = self._claims if state is READY or state is CLAIMING else None
        full: tuple[LimitUse, ...] = ()
        if state is READY:
            holders = sorted([*self._holders, *(claims.asked if claims else ())])
            full = full_limits(self._bound, self._limits.max_concurrent, self._keys, holders, index)
        return Why(
            key=key,
            state=state,
            attempt=self._attempts[index],
            full=full,
            ahead=self._ready.ahead(index) if state is READY else 0,
            wanted=claims.wants(index) if claims else (),
            claim=claims.why(index, now) if claims else None,
            claims_before=claims.waiting_like(index) if claims and state is READY and not full else 0,
            upstream=unfinished(self._plan, self._states, index) if state is WAITING else (),
            retry_in_s=max(0.0, self._backoffs[index].due_at - now) if state is BACKOFF else None,
            lingering=state is not RUNNING and index in self._holders,
            stopping=self._stopping.get(index),
            because=self._because.get(index),
        )

    # --- what each event means ---------------------------------------------------------------------------------------

    def _on_succeeded(self, event: StepSucceeded, now: float, commands: list[Command]) -> None:
        index = self._running(event)
        if index is None:
            return
        if self._stopping.get(index) == "timed_out":
            # It was told that its time is over: whatever it still reports, and whenever, the outcome is the same.
            message = f"the step succeeded after it was stopped for its timeout of {self._timeouts[index]:g} s"
            late = StepError("timed_out", message)
            failed = StepFailed(event.key, event.attempt, late, NO_CHANCE, event.facts, event.freed)
            self._on_failed(failed, now, commands)
            return
        self._end(index, event.freed, commands)
        self._move(index, SUCCEEDED)
        if event.missing:
            self._skip_below(index, event.missing, now, commands)
        else:
            self._resolve_below(index, now)

    def _on_failed(self, event: StepFailed, now: float, commands: list[Command]) -> None:
        index = self._running(event)
        if index is None:
            self._on_refused(event, commands)
            return
        cancelled = event.error.kind == "cancelled" or self._stopping.get(index) == "cancelled"
        self._end(index, event.freed, commands)
        delay_s = None
        if self._retries and not cancelled:
            delay_s = retry_delay_s(self._plan.steps[index].retry, event.error, event.attempt, event.chance)
        if delay_s is None:
            self._move(index, CANCELLED if cancelled else FAILED)
            self._not_run_below([index], commands)
            return
        commands.append(Record(StepWillRetry(event.key, event.attempt + 1, delay_s)))
        if event.freed and delay_s <= 0:
            self._make_ready(index, now)
            return
        self._move(index, BACKOFF)
        self._backoffs[index] = Backoff(since=now, due_at=now + delay_s)
        if event.freed:
            self._due.set(index, now + delay_s)

    def _on_refused(self, event: StepFailed, commands: list[Command]) -> None:
        """An attempt failed that waits for slots: nobody can grant them any more."""
        index, claims = self._index(event.key), self._claims
        if claims is None or self._states[index] is not CLAIMING or event.attempt != self._attempts[index] + 1:
            return
        commands += self._withdraw(index, claims)
        self._attempts[index] += 1
        self._move(index, FAILED)
        self._not_run_below([index], commands)

    def _on_returned(self, event: StepReturned, now: float, commands: list[Command]) -> None:
        index = self._running(event)
        if index is None:
            return
        cancelled = self._stopping.get(index) == "cancelled"
        self._end(index, True, commands)
        self._attempts[index] -= 1
        if cancelled:
            self._cancel_waiting(index, commands)
            self._not_run_below([index], commands)
        else:
            self._make_ready(index, now)

    def _on_slot_freed(self, event: SlotFreed, now: float, commands: list[Command]) -> None:
        index = self._index(event.key)
        if self._holders.get(index) != event.attempt or self._states[index] is RUNNING:
            return
        self._free(index, commands)
        backoff = self._backoffs.get(index)
        if backoff is None:
            return
        if backoff.due_at <= now:
            self._end_backoff(index, now)
        else:
            self._due.set(index, backoff.due_at)

    def _on_granted(self, event: SlotsGranted, now: float, commands: list[Command]) -> None:
        index, claims = self._index(event.key), self._claims
        stood = None if claims is None else claims.grant(index, event.attempt, event.token, now)
        if claims is None or stood is None:
            return
        giving_way = [] if stood == "asked" else self._ready.grant(index, claims.asked)
        if giving_way is None:
            commands.append(claims.hand_back(index))
            self._make_ready(index, now)
            return
        for other in giving_way:
            claims.give_way(other)
        started = self._begin(index, claims.hold(index), now)
        started.token = event.token
        commands.append(started)

    def _on_cancel(self, event: CancelRequested, commands: list[Command]) -> None:
        if event.keys:
            indexes: Iterable[int] = sorted({self._index(key) for key in event.keys})
        elif self._cancelled:
            indexes = sorted(self._holders)  # nothing else is left to cancel
        else:
            self._cancelled = True
            indexes = range(len(self._keys))
        waiting = []
        for index in indexes:
            state = self._states[index]
            if state is RUNNING:
                self._stop_cancelled(index, event.kill, commands)
            elif MOVES[state]:
                waiting.append(index)
        for index in waiting:
            self._cancel_waiting(index, commands)
        if event.keys:
            self._not_run_below(waiting, commands)
        elif waiting:
            self._ready.clear()

    def _on_due(self, now: float, commands: list[Command]) -> None:
        for index in self._due.pop(now):
            if self._states[index] is BACKOFF:
                self._end_backoff(index, now)
            else:
                self._stopping[index] = "timed_out"
                commands.append(StopStep(self._keys[index], self._attempts[index], "timed_out"))

    # --- how steps move ----------------------------------------------------------------------------------------------

    def _move(self, index: int, state: StepState) -> None:
        """Let a step stand in another state: the only place where that happens."""
        states, counts = self._states, self._counts
        before = states[index]
        if state not in MOVES[before]:
            move = f"from {before.value} to {state.value}"
            raise RuntimeError(f"step {self._keys[index]!r} cannot go {move}; this is a bug in the scheduler")
        states[index] = state
        counts[before] -= 1
        counts[state] += 1

    def _make_ready(self, index: int, now: float) -> None:
        self._move(index, READY)
        self._clock.ready(index, now)
        self._ready.add(index)

    def _start_ready(self, now: float, commands: list[Command]) -> None:
        """Start every step that may start, or ask for its slots, in order."""
        take, claims = self._ready.take, self._claims
        while (index := take()) is not None:
            waited = self._clock.waited(index, now)
            if claims is not None and claims.wants(index):
                self._move(index, CLAIMING)
                commands.append(claims.ask(index, self._attempts[index] + 1, waited, now))
            else:
                commands.append(self._begin(index, waited, now))

    def _begin(self, index: int, waited: Waited, now: float) -> StartStep:
        """Start a step that has its share of every limit."""
        self._move(index, RUNNING)
        attempt = self._attempts[index] = self._holders[index] = self._attempts[index] + 1
        timeout_s = self._timeouts[index]
        if timeout_s is not None:
            self._due.set(index, now + timeout_s)
        if self._retry_waits:
            waited = self._retry_wait(index) + waited
        return StartStep(self._keys[index], attempt, waited)

    def _end(self, index: int, freed: bool, commands: list[Command]) -> None:
        """An attempt is over: nothing is due for it any more, and its slot is free if its processes are gone."""
        self._stopping.pop(index, None)
        if self._timeouts[index] is not None:
            self._due.clear(index)
        if freed:
            self._free(index, commands)

    def _free(self, index: int, commands: list[Command]) -> None:
        del self._holders[index]
        self._ready.release(index)
        if self._claims is not None and self._claims.wants(index):
            commands.append(self._claims.release(index))

    def _end_backoff(self, index: int, now: float) -> None:
        self._retry_waits[index] = now - self._backoffs.pop(index).since
        self._make_ready(index, now)

    def _retry_wait(self, index: int) -> Waited:
        seconds = round(self._retry_waits.pop(index, 0.0), DIGITS)
        return ((RETRY, seconds),) if seconds > 0 else ()

    def _stop_cancelled(self, index: int, kill: bool, commands: list[Command]) -> None:
        """Stop a running step because somebody asked; a second time only to kill it."""
        if kill or self._stopping.get(index) != "cancelled":
            self._stopping[index] = "cancelled"
            self._due.clear(index)
            commands.append(StopStep(self._keys[index], self._attempts[index], "cancelled", kill))

    def _cancel_waiting(self, index: int, commands: list[Command]) -> None:
        """End a step that is not with a worker, or not any more."""
        state = self._states[index]
        if state is READY:
            self._ready.discard(index)
        # A claim of any other state is held by processes that have not ended, and released when they have.
        if self._claims is not None and (state is CLAIMING or state is READY):
            commands += self._withdraw(index, self._claims)
        if self._backoffs.pop(index, None):
            self._due.clear(index)
        self._move(index, CANCELLED)
        commands.append(Record(StepCancelled(self._keys[index])))

    def _withdraw(self, index: int, claims: Claims) -> list[Command]:
        """Let a step have no claim any more, and no share of the limits if it had one for the asking."""
        if index in claims.asked:
            self._ready.release(index)
        elif self._states[index] is CLAIMING:
            self._ready.withdraw(index)
        return claims.withdraw(index)

    # --- what one step's end means for those below it ----------------------------------------------------------------

    def _resolve_below(self, index: int, now: float) -> None:
        """One thing less stands in the way of every step below; those with nothing left are ready."""
        pending, states = self._pending, self._states
        for below in self._plan.downstream[index]:
            pending[below] -= 1
            if not pending[below] and states[below] is WAITING:
                self._make_ready(below, now)

    def _skip_below(self, index: int, missing: Iterable[str], now: float, commands: list[Command]) -> None:
        """Skip what cannot do without these outputs of a step, and what cannot do without those steps."""
        if self._left_out is None:
            self._left_out = LeftOut(self._plan)
        # A heap, and edges point to higher indexes: each step is looked at when all that could skip it has been.
        found = sorted(self._left_out.leave_out(index, dict.fromkeys(missing)))
        resolved = [index]
        while found:
            below, source, output = heappop(found)
            if self._states[below] is not WAITING:
                continue
            self._move(below, SKIPPED)
            because = f"{self._keys[source]}.{output}"
            self._because[below] = because
            commands.append(Record(StepSkipped(self._keys[below], because)))
            resolved.append(below)
            for item in self._left_out.leave_out(below, None):
                heappush(found, item)
        for step in resolved:
            self._resolve_below(step, now)

    def _not_run_below(self, indexes: list[int], commands: list[Command]) -> None:
        """Give up every step that waits for one of these, which did not succeed, and so on downwards."""
        found = sorted((below, index) for index in indexes for below in self._plan.downstream[index])
        while found:
            below, above = heappop(found)
            if self._states[below] is not WAITING:
                continue
            self._move(below, NOT_RUN)
            self._because[below] = self._keys[above]
            commands.append(Record(StepNotRun(self._keys[below], self._keys[above])))
            for step in self._plan.downstream[below]:
                heappush(found, (step, below))

    # --- looking things up -------------------------------------------------------------------------------------------

    def _index(self, key: str) -> int:
        try:
            return self._plan.index_of[key]
        except KeyError:
            raise ValueError(f"the plan of job {self._plan.job_name!r} has no step {key!r}") from None

    def _running(self, event: StepSucceeded | StepFailed | StepReturned) -> int | None:
        """The step whose present attempt the event ends; None: that attempt is over already."""
        index = self._index(event.key)
        return index if self._states[index] is RUNNING and self._attempts[index] == event.attempt else None
