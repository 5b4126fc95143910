"""Bugs planted in the scheduler, one in each of its rules, to show that the tests would find them.

Each is a replacement in the source of one module, and a sentence that says what goes wrong. ``load`` makes a
``Scheduler`` class with the bug in it, out of fresh copies of the modules; the real ones are left alone.
"""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from executor.scheduler.ready import ReadyQueue
    from executor.scheduler.scheduler import Scheduler

# In the order of their imports. Events, commands and states are values, and stay the same in every copy.
MODULES = ["limits", "deadlines", "retries", "skips", "waits", "claims", "ready", "order", "scheduler"]


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    says: str
    module: str
    old: str
    new: str


MUTANTS = [
    # --- limits
    Mutant(
        says="max_concurrent admits one step more",
        module="ready",
        old="self.room = max_concurrent ",
        new="self.room = max_concurrent + 1 ",
    ),
    Mutant(
        says="max_concurrent is not looked at",
        module="ready",
        old="while heads and self.room:",
        new="while heads:",
    ),
    Mutant(
        says="a tag limit admits one step more",
        module="ready",
        old="if self.used[counter] >= self._capacity[counter]:\n                return counter",
        new="if self.used[counter] > self._capacity[counter]:\n                return counter",
    ),
    Mutant(
        says="only the first of a step's tag limits is looked at",
        module="ready",
        old="full = self._full(counters) if counters else None",
        new="full = self._full(counters[:1]) if counters else None",
    ),
    Mutant(
        says="a step's tags are not counted when it starts",
        module="ready",
        old="        used[counter] += 1",
        new="        used[counter] += 0",
    ),
    Mutant(
        says="a counter is not freed when a step ends",
        module="ready",
        old="self.used[counter] -= 1",
        new="self.used[counter] -= 0",
    ),
    Mutant(
        says="only one of a step's counters is freed when it ends",
        module="ready",
        old="                self.used[counter] -= 1\n",
        new="                self.used[counter] -= 1\n                break\n",
    ),
    Mutant(
        says="max_concurrent is not freed when a step ends",
        module="ready",
        old="self.room += 1",
        new="self.room += 0",
    ),
    Mutant(
        says="the slot is free with the result, although its processes live on",
        module="scheduler",
        old="        if freed:\n            self._free(index, commands)",
        new="        self._free(index, commands)",
    ),
    Mutant(
        says="a slot that is freed later stays taken",
        module="scheduler",
        old="        self._free(index, commands)\n        backoff = ",
        new="        backoff = ",
    ),
    Mutant(
        says="a slot is freed by word of an attempt that does not hold it",
        module="scheduler",
        old="if self._holders.get(index) != event.attempt or self._states[index] is RUNNING:",
        new="if index not in self._holders:",
    ),
    # --- parked queues
    Mutant(
        says="a queue that is parked on a limit is never opened again",
        module="ready",
        old="                    heappush(self._heads, rank)\n                    break",
        new="                    break",
    ),
    Mutant(
        says="a limit that is freed opens no queue",
        module="ready",
        old="                self.used[counter] -= 1\n            self._open_next(counters)",
        new="                self.used[counter] -= 1",
    ),
    Mutant(
        says="when a queue turns out to be blocked elsewhere, the next on its limit is not opened",
        module="ready",
        old="                heappush(self._parked[full], rank)\n                self._open_next(counters)",
        new="                heappush(self._parked[full], rank)",
    ),
    Mutant(
        says="a better step that joins a parked queue is overlooked while the limit has room",
        module="ready",
        old="if limit != OPEN and self.used[limit] < self._capacity[limit]:",
        new="if False:",
    ),
    Mutant(
        says="a better step that joins a parked queue is not announced",
        module="ready",
        old="heappush(self._heads if limit == OPEN else self._parked[limit], self._queues[signature][0])",
        new="if limit == OPEN:\n            heappush(self._heads, self._queues[signature][0])",
    ),
    Mutant(
        says="a stale entry among the parked opens a queue that is parked elsewhere",
        module="ready",
        old="if self._parked_on[signature] == counter and queue and queue[0] == rank:",
        new="if queue and queue[0] == rank:",
    ),
    Mutant(
        says="the queue behind a step that started is lost",
        module="ready",
        old="                heapreplace(heads, queue[0])",
        new="                heappop(heads)",
    ),
    Mutant(
        says="the queue behind a cancelled step is lost",
        module="ready",
        old="            if queue:\n                self._announce(signature)\n",
        new="",
    ),
    Mutant(
        says="the room that was kept for a cancelled step is offered to nobody",
        module="ready",
        old="            self._open_next(self._signatures[signature])",
        new="            pass",
    ),
    Mutant(
        says="a step that was cancelled while it waited starts all the same",
        module="ready",
        old="            if self._gone:\n                self._drop_gone(queue)\n",
        new="",
    ),
    # --- order
    Mutant(
        says="priority is ignored",
        module="order",
        old="if len(set(priorities)) > 1:",
        new="if False:",
    ),
    Mutant(
        says="the lower priority comes first",
        module="order",
        old="order.sort(key=priorities.__getitem__, reverse=True)",
        new="order.sort(key=priorities.__getitem__)",
    ),
    Mutant(
        says="the longest remaining path is ignored",
        module="order",
        old="order = sorted(range(len(plan)), key=remaining.__getitem__, reverse=True)",
        new="order = list(range(len(plan)))",
    ),
    Mutant(
        says="expected durations are ignored",
        module="order",
        old="durations(plan, expected_s)",
        new="durations(plan)",
    ),
    Mutant(
        says="of equal steps the later comes first",
        module="order",
        old="order = sorted(range(len(plan)),",
        new="order = sorted(range(len(plan) - 1, -1, -1),",
    ),
    Mutant(
        says="the newest step in a queue comes first",
        module="ready",
        old="        heappush(queue, rank)\n",
        new="        queue.insert(0, rank)\n",
    ),
    # --- what is above and below
    Mutant(
        says="a step starts when the first of its upstream steps is done",
        module="scheduler",
        old="if not pending[below] and states[below] is WAITING:",
        new="if states[below] is WAITING:",
    ),
    Mutant(
        says="an edge that two inputs share counts twice",
        module="scheduler",
        old="[len(above) for above in plan.upstream]",
        new="[sum(len(item.sources) for item in step.inputs) for step in plan.steps]",
    ),
    Mutant(
        says="a failure is not told further than one step down",
        module="scheduler",
        old="                heappush(found, (step, below))",
        new="                pass",
    ),
    Mutant(
        says="what is below a failure is run",
        module="scheduler",
        old="            self._not_run_below([index], commands)\n            return",
        new="            self._resolve_below(index, now)\n            return",
    ),
    Mutant(
        says="what is below a cancelled step waits for ever",
        module="scheduler",
        old="        if event.keys:\n            self._not_run_below(waiting, commands)\n        elif waiting:",
        new="        if not event.keys and waiting:",
    ),
    Mutant(
        says="what reads a left-out output is run",
        module="scheduler",
        old="        if event.missing:",
        new="        if False:",
    ),
    Mutant(
        says="a skipped step leaves none of its outputs out",
        module="scheduler",
        old="self._left_out.leave_out(below, None)",
        new="self._left_out.leave_out(below, ())",
    ),
    Mutant(
        says="a fan-in is skipped when one of its sources was left out",
        module="skips",
        old="if item.fan_in and item.sources else None",
        new="if False else None",
    ),
    Mutant(
        says="a fan-in is never skipped",
        module="skips",
        old="if fan_in.left == 0:",
        new="if fan_in.left < 0:",
    ),
    Mutant(
        says="what a skipped step does not skip never becomes ready",
        module="scheduler",
        old="            resolved.append(below)\n",
        new="",
    ),
    # --- retries
    Mutant(
        says="a step is tried once too often",
        module="retries",
        old="attempt > policy.max_retries",
        new="attempt > policy.max_retries + 1",
    ),
    Mutant(
        says="a step is tried again too early",
        module="scheduler",
        old="self._due.set(index, now + delay_s)",
        new="self._due.set(index, now + delay_s / 2)",
    ),
    Mutant(
        says="a retry does not wait for the slot of the attempt before it",
        module="scheduler",
        old="        if event.freed and delay_s <= 0:",
        new="        if delay_s <= 0:",
    ),
    Mutant(
        says="a retry that was due before its slot was freed is forgotten",
        module="scheduler",
        old="        if backoff.due_at <= now:\n            self._end_backoff(index, now)\n        else:",
        new="        if backoff.due_at > now:",
    ),
    Mutant(
        says="the delay counts from when the slot was freed",
        module="scheduler",
        old="            self._due.set(index, backoff.due_at)",
        new="            self._due.set(index, now + backoff.due_at - backoff.since)",
    ),
    Mutant(
        says="retries=False is not followed",
        module="scheduler",
        old="if self._retries and not cancelled:",
        new="if not cancelled:",
    ),
    Mutant(
        says="allow_retries=False is not followed",
        module="retries",
        old='if not error.allow_retries or error.kind == "cancelled":',
        new='if error.kind == "cancelled":',
    ),
    Mutant(
        says="the policy goes on where RetryRequested has had enough",
        module="retries",
        old='if error.kind == "retry_requested":',
        new='if error.kind == "retry_requested" and attempt <= (error.max_retries or 0):',
    ),
    Mutant(
        says="an attempt that was returned counts as one",
        module="scheduler",
        old="        self._attempts[index] -= 1\n",
        new="",
    ),
    # --- timeouts
    Mutant(
        says="a timeout is never noticed",
        module="scheduler",
        old="        if now >= self._due.at:",
        new="        if False:",
    ),
    Mutant(
        says="the deadline of a step that ended stops its next attempt",
        module="scheduler",
        old="        if self._timeouts[index] is not None:\n            self._due.clear(index)\n",
        new="",
    ),
    Mutant(
        says="a success after the deadline counts",
        module="scheduler",
        old='        if self._stopping.get(index) == "timed_out":',
        new="        if False:",
    ),
    Mutant(
        says="a due time that was replaced is still kept",
        module="deadlines",
        old="while heap and due.get(heap[0][1]) != heap[0][0]:",
        new="while heap and heap[0][1] not in due:",
    ),
    # --- cancellation
    Mutant(
        says="ready steps start after the run was cancelled",
        module="scheduler",
        old="            elif MOVES[state]:",
        new="            elif MOVES[state] and state is not READY:",
    ),
    Mutant(
        says="a cancelled step is tried again",
        module="scheduler",
        old="if self._retries and not cancelled:",
        new="if self._retries:",
    ),
    Mutant(
        says="a step that was returned after its cancellation starts again",
        module="scheduler",
        old='        cancelled = self._stopping.get(index) == "cancelled"\n',
        new="        cancelled = False\n",
    ),
    Mutant(
        says="running steps are not told to stop",
        module="scheduler",
        old='commands.append(StopStep(self._keys[index], self._attempts[index], "cancelled", kill))',
        new="pass",
    ),
    Mutant(
        says="the second request, to kill, is not passed on",
        module="scheduler",
        old='if kill or self._stopping.get(index) != "cancelled":',
        new='if self._stopping.get(index) != "cancelled":',
    ),
    Mutant(
        says="a cancelled step comes out of its backoff",
        module="scheduler",
        old="        if self._backoffs.pop(index, None):\n            self._due.clear(index)\n",
        new="",
    ),
    Mutant(
        says="a cancelled run counts as failed",
        module="scheduler",
        old='short: Status = "cancelled" if self._cancelled else "failed"',
        new='short: Status = "failed"',
    ),
    # --- once, and the end
    Mutant(
        says="an event about an attempt that is over counts",
        module="scheduler",
        old="return index if self._states[index] is RUNNING and self._attempts[index] == event.attempt else None",
        new="return index if self._states[index] is RUNNING else None",
    ),
    Mutant(
        says="a step is handed out twice",
        module="ready",
        old="            heappop(queue)\n",
        new="            if index % 2:\n                heappop(queue)\n",
    ),
    Mutant(
        says="the run is finished while a slot is not free",
        module="scheduler",
        old="return not (self._holders or counts[WAITING]",
        new="return not (counts[RUNNING] or counts[WAITING]",
    ),
    Mutant(
        says="a run with a skipped step counts as failed",
        module="scheduler",
        old='"succeeded" if counts[SUCCEEDED] + counts[SKIPPED] == len(self._keys) else short',
        new='"succeeded" if counts[SUCCEEDED] == len(self._keys) else short',
    ),
    # --- claims: how many wait
    Mutant(
        says="one claim more waits than may",
        module="ready",
        old="scarce = self._scarce(counters, claims)",
        new="scarce = self._scarce(counters, claims - 1)",
    ),
    Mutant(
        says="no claim more waits than could start",
        module="ready",
        old="scarce = self._scarce(counters, claims)",
        new="scarce = self._scarce(counters, claims + 1)",
    ),
    Mutant(
        says="claims are bounded by max_concurrent alone",
        module="ready",
        old="            if self._capacity[counter] - self.used[counter] < least:",
        new="            if False:",
    ),
    Mutant(
        says="claims that want different slots are counted together",
        module="limits",
        old="(tuple(sorted(counters)), tuple(sorted(step.pools.items())), step.priority)",
        new="(tuple(sorted(counters)), ((min(step.pools), 1),), step.priority)",
    ),
    Mutant(
        says="claims of low priority are counted against an urgent one",
        module="limits",
        old="tuple(sorted(step.pools.items())), step.priority)",
        new="tuple(sorted(step.pools.items())), 0)",
    ),
    Mutant(
        says="a claim that waits is not counted",
        module="ready",
        old="self._claims[self._signature_of[index]] += 1",
        new="self._claims[self._signature_of[index]] += 0",
    ),
    Mutant(
        says="a claim that waits no longer is still counted",
        module="ready",
        old="self._claims[signature] -= 1",
        new="self._claims[signature] -= 0",
    ),
    Mutant(
        says="a crowded queue is not opened when max_concurrent has room",
        module="ready",
        old="            self._open_crowds(ROOM, self.room)\n",
        new="",
    ),
    Mutant(
        says="a crowded queue is not opened when its tag limit has room",
        module="ready",
        old="                self._open_crowds(counter, self._capacity[counter] - self.used[counter])",
        new="                pass",
    ),
    Mutant(
        says="a crowded queue is not opened when one of its claims waits no longer",
        module="ready",
        old="        if where is not None:",
        new="        if False:",
    ),
    Mutant(
        says="when a queue turns out to be crowded, the next on its limit is not opened",
        module="ready",
        old="                    self._crowd(signature, scarce, claims)\n                    self._open_next(counters)",
        new="                    self._crowd(signature, scarce, claims)",
    ),
    Mutant(
        says="the steps of a crowded queue are lost when it is opened",
        module="ready",
        old="        if queue:\n            heappush(self._heads, queue[0])",
        new="        pass",
    ),
    # --- claims: what they take of the run's limits
    Mutant(
        says="a step with pools starts without asking",
        module="scheduler",
        old="if claims is not None and claims.wants(index):\n                self._move",
        new="if False:\n                self._move",
    ),
    Mutant(
        says="a claim that waits keeps its share of the limits",
        module="ready",
        old="        self.release(index)\n",
        new="",
    ),
    Mutant(
        says="the room of a claim is not kept while the ledger is asked",
        module="scheduler",
        old="                commands.append(claims.ask(index, self._attempts[index] + 1, waited, now))",
        new="                commands.append(claims.ask(index, self._attempts[index] + 1, waited, now))\n"
        "                self._ready.wait(index)",
    ),
    Mutant(
        says="a grant does not look at max_concurrent",
        module="ready",
        old="giving = [] if self.room and self._full(counters) is None",
        new="giving = [] if self._full(counters) is None",
    ),
    Mutant(
        says="a grant does not look at the tag limits",
        module="ready",
        old="giving = [] if self.room and self._full(counters) is None",
        new="giving = [] if self.room",
    ),
    Mutant(
        says="a step that starts by a late grant counts against no tag limit",
        module="ready",
        old="        self._count(counters)\n        return giving",
        new="        return giving",
    ),
    Mutant(
        says="a step that starts by a late grant does not count against max_concurrent",
        module="ready",
        old="        self.room -= 1\n        self._count",
        new="        self._count",
    ),
    Mutant(
        says="a grant that finds the run full starts the step",
        module="ready",
        old="return giving if room and all(left.values()) else None",
        new="return giving",
    ),
    Mutant(
        says="nobody who is asked gives way to a grant",
        module="scheduler",
        old="self._ready.grant(index, claims.asked)",
        new="self._ready.grant(index, ())",
    ),
    Mutant(
        says="those who are asked give way although it does not help",
        module="ready",
        old="                continue  # it is in nobody's way",
        new="                pass",
    ),
    Mutant(
        says="the first in the order gives way, not the last",
        module="ready",
        old="sorted(asked, key=self._rank.__getitem__, reverse=True)",
        new="sorted(asked, key=self._rank.__getitem__)",
    ),
    Mutant(
        says="who gave way still has the room that is kept for a question",
        module="claims",
        old="        self.asked.remove(index)",
        new="        pass",
    ),
    Mutant(
        says="a grant for which room was kept takes room again",
        module="scheduler",
        old='[] if stood == "asked" else self._ready.grant(index, claims.asked)',
        new="self._ready.grant(index, claims.asked)",
    ),
    # --- claims: what the ledger is told, and what it says
    Mutant(
        says="slots are not handed back",
        module="scheduler",
        old="            commands.append(claims.hand_back(index))",
        new="            claims.hand_back(index)",
    ),
    Mutant(
        says="a parked claim loses its place",
        module="claims",
        old="        if claim is None:\n            claim = self._claims[index]",
        new='        if claim is None or claim.stands == "parked":\n            claim = self._claims[index]',
    ),
    Mutant(
        says="a grant that was told before counts again",
        module="claims",
        old="if claim is None or token <= self._tokens.get(index, -1):",
        new="if claim is None:",
    ),
    Mutant(
        says="only the tokens of the present claim are remembered",
        module="claims",
        old="if claim is None or token <= self._tokens.get(index, -1):",
        new="if claim is None or token <= claim.token:",
    ),
    Mutant(
        says="a parked claim is granted",
        module="claims",
        old='claim.stands in ("asked", "waiting")',
        new='claim.stands != "held"',
    ),
    Mutant(
        says="slots are not released at the end",
        module="scheduler",
        old="            commands.append(self._claims.release(index))",
        new="            self._claims.release(index)",
    ),
    Mutant(
        says="slots are released after others are asked for",
        module="scheduler",
        old="        self._start_ready(now, commands)\n        return commands\n\n    @property",
        new="        self._start_ready(now, commands)\n"
        '        commands.sort(key=lambda command: "Release" in type(command).__name__)\n'
        "        return commands\n\n    @property",
    ),
    Mutant(
        says="a step starts without the token of its grant",
        module="scheduler",
        old="        started.token = event.token\n",
        new="",
    ),
    Mutant(
        says="the run's priority is not that of its claims",
        module="claims",
        old="priority = self._run_priority + self._priority[index]",
        new="priority = self._priority[index]",
    ),
    Mutant(
        says="the claim of a cancelled step is not withdrawn",
        module="scheduler",
        old="            commands += self._withdraw(index, self._claims)\n        if self._backoffs",
        new="            self._withdraw(index, self._claims)\n        if self._backoffs",
    ),
    Mutant(
        says="a cancelled step withdraws what its processes hold",
        module="scheduler",
        old="if self._claims is not None and (state is CLAIMING or state is READY):",
        new="if self._claims is not None:",
    ),
    Mutant(
        says="the room that was kept for a cancelled claim stays taken",
        module="scheduler",
        old="            self._ready.release(index)\n",
        new="            pass\n",
    ),
    Mutant(
        says="a cancelled claim is still counted among those that wait",
        module="scheduler",
        old="            self._ready.withdraw(index)\n",
        new="            pass\n",
    ),
    Mutant(
        says="a step whose slots nobody can grant any more waits for them",
        module="scheduler",
        old="            self._on_refused(event, commands)\n",
        new="",
    ),
    Mutant(
        says="what was said of an earlier attempt fails the one that waits for slots",
        module="scheduler",
        old=" is not CLAIMING or event.attempt != self._attempts[index] + 1:",
        new=" is not CLAIMING:",
    ),
    Mutant(
        says="the run is finished while a claim waits",
        module="scheduler",
        old=" or counts[CLAIMING]",
        new="",
    ),
    # --- waits by cause
    Mutant(
        says="the wait for slots is not counted",
        module="claims",
        old="claim.waited_s.get(cause, 0.0) + now - claim.since",
        new="claim.waited_s.get(cause, 0.0)",
    ),
    Mutant(
        says="what is in the way now is counted for the time before",
        module="claims",
        old="        self._count(index, claim, now)\n        claim.blockers, claim.cause, claim.reason ="
        " tuple(event.pools), event.cause, event.reason\n",
        new="        claim.blockers, claim.cause, claim.reason = tuple(event.pools), event.cause, event.reason\n"
        "        self._count(index, claim, now)\n",
    ),
    Mutant(
        says="the wait before the slots were asked for is forgotten",
        module="claims",
        old="        for cause, seconds in waited:\n",
        new="        for cause, seconds in ():\n",
    ),
    Mutant(
        says="the waits from before it was parked are forgotten",
        module="claims",
        old='            claim.stands = "asked"\n',
        new='            claim.stands = "asked"\n            claim.waited_s.clear()\n',
    ),
    Mutant(
        says="the wait behind claims for the same slots is nobody's",
        module="waits",
        old="        if pool_cause is not None:\n            causes.append",
        new="        if False:\n            causes.append",
    ),
    Mutant(
        says="a full tag limit is counted as a wait for pools as well",
        module="waits",
        old="return self._clear[counters].read(self._idle_s) if counters else self._idle_s",
        new="return self._idle_s",
    ),
    Mutant(
        says="the second of two full tag limits counts as a wait for pools",
        module="waits",
        old="        if not self._full:\n            self._seconds += idle_s",
        new="        if True:\n            self._seconds += idle_s",
    ),
    Mutant(
        says="a tag limit's clock runs while max_concurrent is full",
        module="scheduler",
        old="self._clock.advance(now, idle=self._ready.room > 0)",
        new="self._clock.advance(now, idle=True)",
    ),
    Mutant(
        says="the wait of an earlier attempt is counted again",
        module="waits",
        old="        self._ready_at[index] = now\n",
        new="        self._ready_at[index] = self._ready_at[index] or now\n",
    ),
    Mutant(
        says="a tag limit's clock is not stopped when the limit is freed",
        module="ready",
        old="                    self._clock.freed(counter)",
        new="                    pass",
    ),
    Mutant(
        says="the backoff is not among the waits",
        module="scheduler",
        old="waited = self._retry_wait(index) + waited",
        new="self._retry_waits.clear()",
    ),
]


class Loaded(NamedTuple):
    """The classes under test, out of one set of copies."""

    scheduler: type[Scheduler]
    queue: type[ReadyQueue]


def load(mutant: Mutant | None) -> Loaded:
    """The scheduler with this bug in it; None: a copy without one.

    Raises:
        ValueError: what the mutant replaces does not stand in the source exactly once.
    """
    with _modules_put_back():
        for name in MODULES:
            full = f"executor.scheduler.{name}"
            spec = find_spec(full)
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text(encoding="utf-8")
            if mutant is not None and mutant.module == name:
                if source.count(mutant.old) != 1:
                    raise ValueError(f"{mutant.old!r} stands {source.count(mutant.old)} times in {name}.py, not once")
                source = source.replace(mutant.old, mutant.new)
            module = types.ModuleType(full)
            sys.modules[full] = module
            exec(compile(source, spec.origin, "exec"), module.__dict__)
        return Loaded(
            sys.modules["executor.scheduler.scheduler"].Scheduler, sys.modules["executor.scheduler.ready"].ReadyQueue
        )


@contextmanager
def _modules_put_back() -> Iterator[None]:
    kept = {name: module for name, module in sys.modules.items() if name.startswith("executor.scheduler")}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith("executor.scheduler")]:
            del sys.modules[name]
        sys.modules.update(kept)
