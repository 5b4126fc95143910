"""A driver without an engine: files claims at random, starts a worker for each that is granted, and gives them back.

Its workers take the step's lock as a real one does, hold their slots for some milliseconds, and may leave a child that
holds them longer. Everything may be killed or stopped at any time.
"""

from __future__ import annotations

import os
import random
import select
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from executor.database.errors import DatabaseBusy, DatabaseLost
from executor.ledger.client import LedgerClient
from executor.ledger.ledger import Ledger
from executor.ledger.liveness import live_steps, take_step_lock
from executor.ledger.news import LedgerTrouble, News, RequestGone, SlotsGranted, SlotsLost
from executor.ledger.requests import Changes, Lease, Outcome, Request, needs_of
from tests.torture.diary import Diary

# A process that was left by a worker is looked at so often; a real driver is told by its template.
LOOK_AGAIN_S = 0.002


class Plan:
    """What the drivers of one torture do; all numbers of time in seconds."""

    def __init__(
        self,
        *,
        needs: list[dict[str, int]],
        hold_s: float = 0.004,
        think_s: float = 0.002,
        start_s: float = 0.001,
        children: float = 0.1,
        parks: float = 0.05,
        withdraw_every_s: float = 0.0,
        leaves: float = 0.0,
        lanes: int = 3,
        priorities: tuple[int, ...] = (0, 0, 0, 1),
    ) -> None:
        self.needs = [needs_of(pools) for pools in needs]
        self.hold_s, self.think_s = hold_s, think_s
        self.start_s = start_s  #: before a worker takes its lock
        self.children = children  #: how often a worker leaves a child behind
        self.parks = parks  #: how often a grant is handed back
        self.withdraw_every_s = withdraw_every_s  #: on average, a claim that waits is withdrawn; 0: never
        self.leaves = leaves  #: how often a driver ends in good order while its workers run
        self.lanes = lanes  #: claims and steps of a driver at once
        self.priorities = priorities


class Client(LedgerClient):
    """Remembers what its last transaction has brought, to tell what the timer has found."""

    brought: Outcome | None = None

    def _try(self, changes: Changes, *, look: bool, outranks: int | None = None) -> Outcome | None:
        self.brought = super()._try(changes, look=look, outranks=outranks)
        return self.brought


class Driver:
    """One run, in a process of its own."""

    def __init__(self, home: Path, diary: Diary, plan: Plan, seed: int) -> None:
        self._home, self._diary, self._plan = home, diary, plan
        self._random = random.Random(seed)
        run = f"{os.getpid()}-{seed}"
        self._folder = home / "runs" / run
        self._folder.mkdir(parents=True)
        self._client = Client(Ledger(home), run, self._folder)
        self._owner = self._client.owner.id
        self._waiting: dict[int, bool] = {}  #: ticket -> whether its number is in the diary
        self._asked: dict[int, tuple[int, Request]] = {}  #: ticket -> when
        self._workers: dict[int, tuple[int, int, Lease, int]] = {}  #: pidfd -> pid, ticket, lease, lane
        self._lingering: list[tuple[int, Lease, int]] = []
        self._parked: list[tuple[float, int]] = []
        self._lanes = list(range(plan.lanes))
        self._next_at = self._withdraw_at = 0.0
        self._stopping = False
        self._poll = select.poll()
        self._poll.register(self._client.fileno(), select.POLLIN)
        signal.signal(signal.SIGTERM, self._on_term)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._poll.register(self._wake_read, select.POLLIN)

    def _on_term(self, *_: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Until it is told to stop, and its workers have ended."""
        client = self._client
        while True:
            now = time.monotonic()
            self._think(now)
            client.flush()
            self._take_news()
            self._note_numbers()
            if self._stopping and not (self._workers or self._lingering):
                break
            if self._random.random() < self._plan.leaves:
                break
            if self._changes_its_mind(now):
                continue
            dues = [client.wake_at, self._next_at if self._has_room() and not self._stopping else None]
            dues += [at for at, _ in self._parked[:1]]
            dues += [self._withdraw_at] if self._waiting and self._plan.withdraw_every_s else []
            dues += [now + LOOK_AGAIN_S] if self._lingering else []
            due = min((due for due in dues if due is not None), default=now + 1)
            for fd, _ in self._poll.poll(max(0.0, (due - time.monotonic()) * 1000)):
                if fd == client.fileno():
                    client.on_ready()
                elif fd == self._wake_read:
                    os.read(fd, 100)
                else:
                    self._worker_ended(fd)
            self._look_at_lingering()
            saved = client.saved_by_timer
            client.tick()
            if client.saved_by_timer > saved:
                self._diary.note("saved", *str(client.brought).split())
        client.close()

    def _think(self, now: float) -> None:
        while self._parked and (self._parked[0][0] <= now or self._stopping):
            ticket = self._parked.pop(0)[1]
            if self._stopping:
                self._client.withdraw(ticket)
            else:
                self._client.resume(ticket)
                self._waiting[ticket] = True
        if self._stopping:
            for ticket in list(self._waiting):
                del self._waiting[ticket]
                self._client.withdraw(ticket)
            return
        if now >= self._next_at and self._has_room():
            needs = self._random.choice(self._plan.needs)
            priority = self._random.choice(self._plan.priorities)
            asked = time.monotonic_ns()
            request = Request(step="s", attempt=1, needs=needs, priority=priority)
            ticket = self._client.request(request)
            self._waiting[ticket] = False
            self._asked[ticket] = asked, request
            self._next_at = now + self._random.uniform(0, 2 * self._plan.think_s)

    def _changes_its_mind(self, now: float) -> bool:
        """Wait no longer for something; called when all news were taken, so that was not granted."""
        every_s = self._plan.withdraw_every_s
        if not every_s or not self._waiting or now < self._withdraw_at:
            return False
        self._withdraw_at = now + self._random.uniform(0, 2 * every_s)
        self._client.withdraw(self._waiting.popitem()[0])
        return True

    def _has_room(self) -> bool:
        return len(self._waiting) + len(self._workers) + len(self._parked) + len(self._lingering) < self._plan.lanes

    def _note_numbers(self) -> None:
        for ticket, noted in self._waiting.items():
            if not noted and (number := self._client.number_of(ticket)) is not None:
                self._note_filed(ticket, number)
                self._waiting[ticket] = True

    def _note_filed(self, ticket: int, number: int) -> None:
        asked, request = self._asked.pop(ticket)
        needs = ",".join(f"{pool}:{weight}" for pool, weight in request.needs)
        self._diary.note("file", number, needs, request.priority, at=asked)

    def _take_news(self) -> None:
        while self._client.news:  # until there is none: what is granted must not be withdrawn
            news = self._client.news[:]
            self._client.news.clear()
            for item in news:
                self._take(item)
            self._client.flush()

    def _take(self, item: News) -> None:
        match item:
            case SlotsGranted(ticket, lease):
                if not self._waiting.pop(ticket):
                    self._note_filed(ticket, lease.claim)
                self._diary.note("grant", lease.claim, lease.token)
                if self._random.random() < self._plan.parks or not self._lanes:
                    self._diary.note("park", lease.claim)
                    self._client.park(ticket)
                    self._parked.append((time.monotonic() + 0.005, ticket))
                else:
                    self._start(ticket, lease)
            case SlotsLost(lease):
                self._diary.note("lost", lease.claim)
            case RequestGone(ticket):
                self._diary.note("error", "request", ticket, "is gone")
            case LedgerTrouble(message):
                self._diary.note("error", message.replace("\n", " "))

    def _start(self, ticket: int, lease: Lease) -> None:
        lane = self._lanes.pop()
        seed = self._random.getrandbits(32)
        pid = os.fork()
        if not pid:
            work(self._home, self._owner, f"{self._folder}/lane-{lane}.log", lease, self._diary, self._plan, seed)
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = (pid, ticket, lease, lane)
        self._poll.register(pidfd, select.POLLIN)

    def _worker_ended(self, pidfd: int) -> None:
        pid, ticket, lease, lane = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)
        self._lingering.append((ticket, lease, lane))

    def _look_at_lingering(self) -> None:
        left = []
        for ticket, lease, lane in self._lingering:
            if live_steps(self._folder, [lease.claim]):
                left.append((ticket, lease, lane))
            else:
                self._diary.note("free", lease.claim)
                first = not self._parked and self._random.random() < 0.5
                if not (first and self._client.release_first(ticket, max(self._plan.priorities))):
                    self._client.release(ticket)
                self._lanes.append(lane)
        self._lingering = left


def work(home: Path, owner: str, lane: str, lease: Lease, diary: Diary, plan: Plan, seed: int) -> NoReturn:
    """The whole life of a worker."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        chance = random.Random(seed)
        time.sleep(chance.uniform(0, 2 * plan.start_s))
        lock = take_step_lock(home, owner, lane, lease.claim)
        if lock is None:
            diary.note("late", lease.claim)
            os._exit(3)
        for fd, number in ((lock.input_fd, 0), (lock.output_fd, 1), (lock.output_fd, 2)):
            os.dup2(fd, number)
        lock.close()
        diary.note("begin", lease.claim)
        time.sleep(chance.uniform(0, 2 * plan.hold_s))
        if chance.random() < plan.children:
            child = os.fork()
            if not child:
                diary.note("keep", lease.claim, os.getpid())
                if chance.random() < 0.5:  # as capture_output=True does: only the input is left
                    null = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(null, 1)
                    os.dup2(null, 2)
                time.sleep(chance.uniform(0, 4 * plan.hold_s))
                diary.note("end", lease.claim)
                os._exit(0)
            diary.note("keep", lease.claim, child)
        diary.note("end", lease.claim)
    except BaseException:
        diary.note("error", "worker:", traceback.format_exc().replace("\n", " | "))
    os._exit(0)


def main(home: Path, diary: Diary, plan: Plan, seed: int) -> NoReturn:
    """The whole life of a driver; to be called in a forked process."""
    code = 1
    try:
        Driver(home, diary, plan, seed).run()
        code = 0
    except (DatabaseLost, DatabaseBusy) as error:
        with suppress(OSError):
            diary.note("error", "driver:", str(error).replace("\n", " "))
    except BaseException:
        diary.note("error", "driver:", traceback.format_exc().replace("\n", " | "))
    os._exit(code)


def crowd(home: Path, diary: Diary, count: int) -> NoReturn:
    """The life of a run that only waits, with many claims; it ends when it is told to."""
    code = 1
    try:
        folder = home / "runs" / f"crowd-{os.getpid()}"
        folder.mkdir(parents=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        client = LedgerClient(Ledger(home), "crowd", folder)
        for _ in range(count):
            client.request(Request(step="s", attempt=1, needs=needs_of({"closed": 1})))
        while client.wake_at is not None or client.waiting:
            client.flush()
            if signal.sigtimedwait([signal.SIGTERM], 0.5) is not None:
                break
            client.tick()
        client.close()
        code = 0
    except BaseException:
        diary.note("error", "crowd:", traceback.format_exc().replace("\n", " | "))
    os._exit(code)
