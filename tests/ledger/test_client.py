"""A run's side of the ledger: nothing blocks, what comes is heard, and nothing is found by the look once a second."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from executor.database import lock
from executor.ledger import client as client_module
from executor.ledger import ledger as ledger_module
from executor.ledger import liveness, watch
from executor.ledger.bell import ring
from executor.ledger.client import LedgerClient
from executor.ledger.deaths import LAST_PROBE_S
from executor.ledger.ledger import Ledger
from executor.ledger.liveness import StepLock, owner_file
from executor.ledger.news import LedgerTrouble, News, RequestGone, SlotsGranted, SlotsLost
from executor.ledger.requests import Lease, Request, needs_of
from tests.by_force import take_away
from tests.forked import fork, wait

#: Ends a wait for what does not come. Nothing is told by how soon it came.
PATIENCE_S = 60.0


class Clock:
    """The time of a client whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Ledger(tmp_path) as ledger:
        ledger.set_limit("a", 1)
    return tmp_path


def new_client(home: Path, run: str, *, clock: Callable[[], float] = time.monotonic, **options: object) -> LedgerClient:
    folder = home / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    return LedgerClient(Ledger(home, **options), run, folder, clock=clock)  # type: ignore[arg-type]


@pytest.fixture
def mine(home: Path) -> Iterator[LedgerClient]:
    made = new_client(home, "mine")
    yield made
    made.close()


@pytest.fixture
def theirs(home: Path) -> Iterator[LedgerClient]:
    made = new_client(home, "theirs")
    yield made
    made.close()


def ask(client: LedgerClient, **pools: int) -> int:
    ticket = client.request(Request(step="s", attempt=1, needs=needs_of(pools or {"a": 1})))
    client.flush()
    return ticket


def news(client: LedgerClient) -> list[News]:
    found = client.news[:]
    client.news.clear()
    return found


def leases(client: LedgerClient) -> list[Lease]:
    return [item.lease for item in news(client) if isinstance(item, SlotsGranted)]


def hears(client: LedgerClient) -> bool:
    """Whether there is something to hear: a bell or a notice, since no timer makes a descriptor readable."""
    return bool(select.select([client], [], [], 0)[0])


def wait_for_news(client: LedgerClient) -> list[News]:
    """As a driver's loop does."""
    poll = select.poll()
    poll.register(client.fileno(), select.POLLIN)
    deadline = time.monotonic() + PATIENCE_S
    while not client.news:
        due = min(deadline, client.wake_at or deadline)
        if poll.poll(max(0.0, due - time.monotonic()) * 1000):
            client.on_ready()
        client.tick()
        client.flush()
        assert time.monotonic() < deadline, "nothing was heard"
    return news(client)


def test_what_is_free_is_granted_at_once(mine: LedgerClient) -> None:
    ticket = ask(mine)
    (granted,) = news(mine)
    assert isinstance(granted, SlotsGranted)
    assert granted.ticket == ticket
    assert granted.lease.claim == mine.number_of(ticket)
    assert mine.is_held(granted.lease)
    assert not mine.waiting
    assert mine.wake_at is None


def test_what_is_given_back_goes_to_the_next_who_hears_of_it(mine: LedgerClient, theirs: LedgerClient) -> None:
    first = ask(theirs)
    ask(mine)
    assert leases(mine) == []
    assert mine.waiting
    theirs.release(first)
    theirs.flush()
    (granted,) = wait_for_news(mine)
    assert isinstance(granted, SlotsGranted)
    assert mine.saved_by_timer == 0


def test_a_parked_claim_lets_others_go_first_and_comes_back_to_its_place(
    mine: LedgerClient, theirs: LedgerClient
) -> None:
    ticket = ask(mine)
    other = ask(theirs)
    (before,) = leases(mine)
    mine.park(ticket)
    mine.flush()
    wait_for_news(theirs)
    last = ask(theirs)
    mine.resume(ticket)
    mine.flush()
    assert mine.waiting
    theirs.release(other)
    theirs.flush()
    (after,) = wait_for_news(mine)
    assert isinstance(after, SlotsGranted)
    assert (after.ticket, after.lease.claim) == (ticket, before.claim)
    assert after.lease.token > before.token
    theirs.withdraw(last)


def test_what_was_withdrawn_is_never_granted(mine: LedgerClient, theirs: LedgerClient) -> None:
    first = ask(theirs)
    ticket = ask(mine)
    mine.withdraw(ticket)
    mine.flush()
    theirs.release(first)
    theirs.flush()
    assert not mine.owner.bell.heard()
    ask(theirs)
    assert len(leases(theirs)) == 2


def test_what_was_granted_while_it_was_withdrawn_is_given_back_at_once(
    mine: LedgerClient, theirs: LedgerClient
) -> None:
    first = ask(theirs)
    ticket = ask(mine)
    theirs.release(first)
    theirs.flush()  # grants it, and nobody has heard of that yet
    mine.withdraw(ticket)
    mine.flush()
    assert news(mine) == []
    leases(theirs)
    ask(theirs)
    assert len(leases(theirs)) == 1, "the slot is free"


def test_a_request_that_was_not_sent_can_be_withdrawn(mine: LedgerClient) -> None:
    first = mine.request(Request(step="s", attempt=1, needs=(("a", 1),)))
    second = mine.request(Request(step="s", attempt=1, needs=(("a", 1),)))
    mine.withdraw(first)
    mine.flush()
    assert [item.ticket for item in news(mine) if isinstance(item, SlotsGranted)] == [second]


def test_the_lock_in_other_hands_holds_nobody_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried for less than a millisecond, never waited for, and tried again in a millisecond or two."""
    clock = Clock()
    client = new_client(home, "mine", clock=clock)
    flock, asked, slept = fcntl.flock, [], []

    def count(fd: int, how: int) -> None:
        asked.append(how)
        flock(fd, how)

    with Ledger(home) as other, other.database.transaction():
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", count)
            patch.setattr(time, "sleep", slept.append)
            ask(client)
        assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB] * lock.TRIES
        assert sum(slept) < 0.001
        assert news(client) == []
        assert client.wake_at is not None
        assert client_module.RETRY_S <= client.wake_at - clock.now <= 2 * client_module.RETRY_S
        clock.now += 0.25
        assert client.blocked_s == 0.25
        assert client.blocked_by == os.getpid()
    client.flush()
    assert len(leases(client)) == 1
    assert client.blocked_s == 0
    assert client.blocked_by is None
    client.close()


def test_a_bell_heard_while_the_lock_is_taken_is_acted_on_later(mine: LedgerClient, home: Path) -> None:
    with Ledger(home) as other:
        other.set_limit("a", 0)
        ask(mine)
        with other.database.transaction():
            ring(home, mine.owner.id)
            mine.on_ready()
            mine.flush()
            assert news(mine) == []
        other.set_limit("a", 1)
    assert len(wait_for_news(mine)) == 1
    assert mine.saved_by_timer == 0


def test_what_was_granted_is_heard_while_somebody_else_has_the_lock(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    first = ask(theirs)
    ticket = ask(mine)
    theirs.release(first)
    theirs.flush()
    with Ledger(home) as other, other.database.transaction():
        mine.on_ready()
        mine.flush()
        (granted,) = news(mine)
        assert isinstance(granted, SlotsGranted)
        assert granted.ticket == ticket
    assert mine.is_held(granted.lease)
    assert not mine.waiting


def test_a_bell_that_was_about_two_grants_of_which_one_was_not_committed_yet_is_not_over_with_the_first(
    mine: LedgerClient, theirs: LedgerClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 1)
    first, second = ask(theirs, a=1), ask(theirs, b=1)
    ask(mine, a=1)
    ask(mine, b=1)
    theirs.release(first)
    theirs.flush()
    mine.on_ready()
    theirs.release(second)
    theirs.flush()
    read = Ledger.granted_after
    # as if this ring had been heard together with the first one, before its commit
    assert mine.owner.bell.heard()
    monkeypatch.setattr(Ledger, "granted_after", lambda *words: read(*words)[:1])
    mine.flush()
    assert len(news(mine)) == 1
    assert mine.wake_at is not None
    assert mine.wake_at <= time.monotonic()  # the rows are to be read again at once
    assert len(wait_for_news(mine)) == 1
    assert mine.saved_by_timer == 0


def test_a_grant_that_is_committed_right_after_its_bell_is_heard_needs_no_transaction_of_who_is_rung(
    mine: LedgerClient, theirs: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = ask(theirs)
    ask(mine)
    theirs.release(ticket)
    theirs.flush()
    mine.on_ready()
    read, looks = Ledger.granted_after, []

    def committed_at_the_third_look(*words: object) -> list[Lease]:
        looks.append(words)
        return read(*words) if len(looks) > 2 else []  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "granted_after", committed_at_the_third_look)
    before = mine.exchanges
    mine.flush()
    assert len(leases(mine)) == 1
    assert mine.exchanges == before
    assert len(looks) == 3


def test_a_bell_is_over_with_the_grant_of_the_only_claim_that_waited(mine: LedgerClient, theirs: LedgerClient) -> None:
    """No other grant can be on its way to a run that waits for nothing else."""
    ticket = ask(theirs)
    ask(mine)
    theirs.release(ticket)
    theirs.flush()
    mine.on_ready()
    assert not mine.quiet
    before = mine.exchanges
    mine.flush()
    assert len(leases(mine)) == 1
    assert mine.quiet
    mine.flush()
    assert mine.exchanges == before


def test_a_limit_raised_by_a_command_is_heard_at_once(mine: LedgerClient, home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("a", 0)
        ask(mine)
        assert news(mine) == []
        ledger.set_limit("a", 2)
    assert hears(mine)
    assert len(wait_for_news(mine)) == 1
    assert mine.saved_by_timer == 0


def test_a_run_that_waits_does_nothing_until_the_look_once_a_second(home: Path, theirs: LedgerClient) -> None:
    clock = Clock()
    client = new_client(home, "mine", clock=clock)
    ask(theirs)
    ask(client)
    begun = clock.now
    woken = pass_time_until(client, clock, begun + 2 * LAST_PROBE_S)
    assert woken <= 16  # whoever was there when it began to listen is looked at again for a while
    for _ in range(3):
        assert client.wake_at is not None
        assert client.wake_at - clock.now >= client_module.SAFETY_S * 0.9
        assert not hears(client)
        assert pass_time_until(client, clock, client.wake_at) == 1
    assert news(client) == []
    assert client.saved_by_timer == 0
    client.close()


def pass_time_until(client: LedgerClient, clock: Clock, end: float) -> int:
    """Wake the client whenever it wants to be woken, on its own clock; how often that was."""
    woken = 0
    while client.wake_at is not None and client.wake_at <= end:
        clock.now = client.wake_at
        client.tick()
        client.flush()
        woken += 1
    return woken


def one_who_has_waited(home: Path, clock: Clock) -> LedgerClient:
    """A client that waits for the pool ``a``, which another holds, for so long that it suspects nobody any more."""
    client = new_client(home, "mine", clock=clock)
    ask(client)
    pass_time_until(client, clock, clock.now + 2 * LAST_PROBE_S)
    return client


def drop_lock_without_notice(client: LedgerClient) -> None:
    """As the kernel does it a moment after it gave notice that the file is closed."""
    unlock = liveness._FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)
    fcntl.fcntl(client.owner.lock_fd, liveness.F_OFD_SETLK, unlock)


def test_a_holder_that_ended_just_as_listening_began_is_found_although_no_notice_comes(
    home: Path, theirs: LedgerClient
) -> None:
    """Its notice came before there was anybody to hear it, and its lock was dropped after it was looked at."""
    clock = Clock()
    client = new_client(home, "mine", clock=clock)
    client._safety_at = float("inf")  # so that nothing else can help
    ask(theirs)
    ask(client)
    drop_lock_without_notice(theirs)
    assert not hears(client)
    pass_time_until(client, clock, clock.now + 0.5)
    assert len(news(client)) == 1
    client.close()


def test_a_holder_that_needs_long_to_drop_its_lock_after_the_notice_is_looked_at_until_then(
    home: Path, theirs: LedgerClient
) -> None:
    clock = Clock()
    ask(theirs)
    client = one_who_has_waited(home, clock)
    client._safety_at = float("inf")
    os.close(os.open(owner_file(home, theirs.owner.id), os.O_WRONLY))
    assert hears(client)
    client.on_ready()
    pass_time_until(client, clock, clock.now + 0.9)
    assert news(client) == []
    drop_lock_without_notice(theirs)
    pass_time_until(client, clock, clock.now + 0.9)
    assert len(news(client)) == 1
    client.close()


def test_what_the_look_once_a_second_finds_of_somebody_who_was_heard_of_is_not_counted(
    home: Path, theirs: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notice was heard, and the lock is dropped between the probe that followed and the look."""
    clock = Clock()
    ask(theirs)
    client = one_who_has_waited(home, clock)
    os.close(os.open(owner_file(home, theirs.owner.id), os.O_WRONLY))
    just_before_the_look(monkeypatch, partial(drop_lock_without_notice, theirs))
    client._safety_at = clock.now
    client.tick()
    assert len(news(client)) == 1
    assert client.saved_by_timer == 0
    client.close()


def just_before_the_look(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let this happen while the ledger's lock is waited for, after all was heard that there was to hear."""
    exchange = Ledger.try_exchange

    def look(*words: object, **options: object) -> object:
        happens()
        return exchange(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "try_exchange", look)


def test_what_the_look_once_a_second_finds_of_somebody_who_ends_in_that_moment_is_not_counted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its notice is there to be read after the look, which has made the ledger forget whom it names."""
    clock = Clock()
    pid = hold_and_wait_to_be_killed(home)
    client = one_who_has_waited(home, clock)

    def killed_now() -> None:
        os.kill(pid, signal.SIGKILL)
        wait(pid)

    just_before_the_look(monkeypatch, killed_now)
    client._safety_at = clock.now
    client.tick()
    assert len(news(client)) == 1
    assert client.saved_by_timer == 0
    client.close()


def test_what_the_look_once_a_second_finds_of_somebody_who_was_not_heard_of_is_counted(
    home: Path, theirs: LedgerClient
) -> None:
    clock = Clock()
    ask(theirs)
    client = one_who_has_waited(home, clock)
    drop_lock_without_notice(theirs)
    client._safety_at = clock.now
    client.tick()
    assert len(news(client)) == 1
    assert client.saved_by_timer == 1
    client.close()


def hold_and_wait_to_be_killed(home: Path) -> int:
    """A process whose run holds the pool ``a``; its pid."""
    told = os.pipe()

    def hold() -> None:
        client = new_client(home, "killed")
        ask(client)
        assert leases(client)
        os.write(told[1], b"!")
        signal.pause()

    pid = fork(hold)
    os.read(told[0], 1)
    for fd in told:
        os.close(fd)
    return pid


def test_the_death_of_a_run_is_heard_by_who_waits_for_it(mine: LedgerClient, home: Path) -> None:
    pid = hold_and_wait_to_be_killed(home)
    ask(mine)
    assert leases(mine) == []
    ended = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([mine, ended], [], [], PATIENCE_S)
    os.close(ended)
    assert hears(mine), "the notice comes before the process is gone"
    assert len(wait_for_news(mine)) == 1
    assert wait(pid) == -signal.SIGKILL
    assert mine.saved_by_timer == 0


def test_a_run_that_died_before_anybody_waited_is_found_by_the_first_who_does(mine: LedgerClient, home: Path) -> None:
    pid = hold_and_wait_to_be_killed(home)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    ask(mine)
    assert len(leases(mine)) == 1


class Outliving:
    """A driver that can be killed, whose steps, one for each of some pools, work on until they are told to end."""

    def __init__(self, home: Path, *pools: str) -> None:
        self._ends = {pool: os.pipe() for pool in pools}
        begun = os.pipe()

        def step(pool: str, lane: int, lease: Lease) -> None:
            for _, end in self._ends.values():
                os.close(end)
            lock = StepLock(str(home / "runs" / "killed" / f"lane-{lane}.log"), lease.claim)
            assert lock.output_fd
            os.write(begun[1], os.getpid().to_bytes(4, "little"))
            os.read(self._ends[pool][0], 1)

        def drive() -> None:
            client = new_client(home, "killed")
            for lane, pool in enumerate(pools):
                ask(client, **{pool: 1})
                (lease,) = leases(client)
                fork(partial(step, pool, lane, lease))
            signal.pause()

        self._driver = fork(drive)
        self.pids = [int.from_bytes(os.read(begun[0], 4), "little") for _ in pools]  #: of the steps
        for fd in begun:
            os.close(fd)

    def kill_driver(self) -> None:
        os.kill(self._driver, signal.SIGKILL)
        wait(self._driver)

    def end(self, pool: str) -> None:
        for fd in self._ends.pop(pool):
            os.close(fd)


def test_a_process_that_outlived_its_run_keeps_the_slots_and_its_end_is_heard(mine: LedgerClient, home: Path) -> None:
    theirs = Outliving(home, "a")
    theirs.kill_driver()
    ask(mine)
    assert leases(mine) == []
    assert mine.waiting
    mine._safety_at = float("inf")  # so that nothing but a notice can help
    theirs.end("a")
    assert len(wait_for_news(mine)) == 1


def test_a_process_that_outlived_its_run_and_whose_folder_was_removed_keeps_the_slots(
    mine: LedgerClient, home: Path
) -> None:
    theirs = Outliving(home, "a")
    theirs.kill_driver()
    shutil.rmtree(home / "runs" / "killed")
    ask(mine)
    assert leases(mine) == []
    assert mine.waiting
    theirs.end("a")
    assert len(wait_for_news(mine)) == 1  # at the look once a second: nobody gives notice of a file without a name
    assert mine.saved_by_timer == 0


def test_of_a_holder_whose_driver_died_the_process_that_lives_is_named(mine: LedgerClient, home: Path) -> None:
    theirs = Outliving(home, "a")
    theirs.kill_driver()
    ticket = ask(mine)
    wait = mine.waiting_for(ticket)
    assert wait is not None
    (holder,) = wait.held_by
    assert (holder.step, holder.run, holder.pid, holder.outlived) == ("s", "killed", theirs.pids[0], True)
    named = f"step 's' of run killed (its driver died, pid {holder.pid} of the step lives, since "
    assert wait.reason.startswith(f"1 of 1 slots of pool 'a' are held by {named}")
    theirs.end("a")
    wait_for_news(mine)


def hear_of_the_death(client: LedgerClient) -> None:
    """As a driver's loop does, until it knows of what a dead run has left."""
    deadline = time.monotonic() + PATIENCE_S
    while client._deaths is None or not client._deaths._orphans:
        if select.select([client], [], [], 0.01)[0]:
            client.on_ready()
        client.tick()
        client.flush()
        assert time.monotonic() < deadline, "nothing was heard"


def test_a_process_that_outlived_its_run_while_its_pool_was_not_waited_for_is_heard_by_who_waits_for_it_again(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 1)
    ask(theirs, b=1)
    killed = Outliving(home, "a")
    ask(mine, b=1)
    ticket = ask(mine, a=1)
    mine.withdraw(ticket)
    mine.flush()
    mine._safety_at = float("inf")  # so that nothing but a notice can help
    killed.kill_driver()
    hear_of_the_death(mine)
    ask(mine, a=1)
    assert leases(mine) == []
    killed.end("a")
    assert len(wait_for_news(mine)) == 1


def test_a_process_that_outlived_its_run_while_a_claim_of_its_pool_was_parked_is_heard_when_that_waits_again(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 1)
    ask(theirs, b=1)
    before = ask(theirs, a=1)
    ask(mine, b=1)
    ticket = ask(mine, a=1)
    theirs.release(before)
    theirs.flush()
    wait_for_news(mine)
    mine.park(ticket)
    mine.flush()
    killed = Outliving(home, "a")
    mine._safety_at = float("inf")  # so that nothing but a notice can help
    killed.kill_driver()
    hear_of_the_death(mine)
    mine.resume(ticket)
    mine.flush()
    assert leases(mine) == []
    killed.end("a")
    assert len(wait_for_news(mine)) == 1


def test_of_a_dead_run_s_processes_also_those_in_pools_that_nobody_waits_for_yet_are_heard(
    mine: LedgerClient, home: Path
) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 1)
    killed = Outliving(home, "a", "b")
    ticket = ask(mine, b=1)
    ask(mine, a=1)
    mine.withdraw(ticket)
    mine.flush()
    mine._safety_at = float("inf")  # so that nothing but a notice can help
    killed.kill_driver()
    hear_of_the_death(mine)
    ask(mine, b=1)
    assert leases(mine) == []
    killed.end("b")
    assert len(wait_for_news(mine)) == 1
    killed.end("a")
    assert len(wait_for_news(mine)) == 1


def test_without_notices_of_the_kernel_the_look_once_a_second_finds_the_dead_and_is_not_counted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watch.CloseWatch, "__init__", refuse)
    monkeypatch.setattr(client_module, "SAFETY_S", 0.05)
    client = new_client(home, "mine")
    pid = hold_and_wait_to_be_killed(home)
    ask(client)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert len(wait_for_news(client)) == 1
    assert client.saved_by_timer == 0
    client.close()


def test_what_a_lost_bell_was_about_is_found_once_a_second_and_counted(
    home: Path, theirs: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SAFETY_S", 0.05)
    client = new_client(home, "mine")
    first = ask(theirs)
    ask(client)
    theirs.release(first)
    theirs.flush()
    assert client.owner.bell.heard()  # somebody else takes it
    assert len(wait_for_news(client)) == 1
    assert client.saved_by_timer == 1
    client.close()


def test_a_bell_too_many_does_no_harm(mine: LedgerClient, theirs: LedgerClient, home: Path) -> None:
    ask(theirs)
    ask(mine)
    with (home / "bell" / mine.owner.id).open("wb") as file:
        file.write(b"garbage\n" * 100)
    for _ in range(3):
        ring(home, mine.owner.id)
        mine.on_ready()
        mine.flush()
    assert news(mine) == []
    assert mine.waiting


def test_a_claim_that_becomes_overdue_is_looked_at_then(
    home: Path, theirs: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before one of higher priority that keeps the free slot for itself."""
    clock = Clock()
    monkeypatch.setattr(ledger_module, "boot_time_s", clock)
    with Ledger(home) as ledger:
        ledger.set_limit("a", 3)
    holding, ending = ask(theirs, a=2), ask(theirs)
    client = new_client(home, "mine", clock=clock, aging_s=9.5)
    ask(client)
    overdue_at = clock.now + 9.5
    wide = theirs.request(Request(step="wide", attempt=1, needs=(("a", 2),), priority=5))
    theirs.flush()
    theirs.release(ending)
    theirs.flush()
    while clock.now < overdue_at:
        assert news(client) == []
        assert client.wake_at is not None
        assert clock.now < client.wake_at <= overdue_at
        clock.now = client.wake_at
        client.tick()
        client.flush()
    assert len(leases(client)) == 1
    assert client.saved_by_timer == 0
    theirs.withdraw(wide)
    theirs.release(holding)
    client.close()


def test_who_waits_gets_ready_and_has_the_slots_that_are_given_back_first(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 2)
    ticket = ask(mine, a=1, b=1)
    (lease,) = leases(mine)
    assert not mine.release_first(ticket, 0), "nobody waits"
    other = ask(mine)
    assert not mine.release_first(ticket, 0), "nobody else waits"
    mine.withdraw(other)
    mine.flush()
    waits = ask(theirs, b=2)
    assert not mine.release_first(ticket, 1), "a claim of priority 1 would come before theirs"
    assert mine.is_held(lease)
    theirs.on_ready()
    assert theirs.get_ready()
    assert not theirs.get_ready(), "it is told once"
    assert mine.release_first(ticket, 0)
    assert not mine.pending
    (granted,) = wait_for_news(theirs)
    assert isinstance(granted, SlotsGranted)
    assert granted.ticket == waits
    assert not mine.is_held(lease)


def test_an_announcement_is_no_reason_to_ask_the_ledger(mine: LedgerClient, theirs: LedgerClient, home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("b", 0)
    ticket = ask(mine)
    ask(theirs, a=1, b=1)
    before = theirs.exchanges
    assert not mine.release_first(ticket, 0), "nobody is granted anything, since b is paused"
    theirs.on_ready()
    assert theirs.owner.bell.announced
    theirs.flush()
    assert (theirs.exchanges, news(theirs)) == (before, [])


def test_an_announcement_of_what_is_not_waited_for_any_more_is_nothing_to_get_ready_for(
    mine: LedgerClient, theirs: LedgerClient
) -> None:
    held = ask(mine)
    ticket = ask(theirs)
    assert not mine.release_first(held, 1)
    theirs.withdraw(ticket)
    theirs.on_ready()
    assert not theirs.get_ready()


def test_slots_that_others_would_take_before_a_claim_of_a_higher_priority_are_not_given_back_first(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    """Who waits for the pool itself has that priority; but its grant lets in one of a lower one elsewhere."""
    others = new_client(home, "others")
    with Ledger(home) as ledger:
        ledger.set_limit("b", 2)
    held = mine.request(Request(step="held", attempt=1, needs=needs_of({"a": 1}), priority=5))
    mine.flush()
    theirs.request(Request(step="wide", attempt=1, needs=needs_of({"a": 1, "b": 1}), priority=5))
    theirs.flush()
    with Ledger(home) as ledger:
        ledger.database.execute("UPDATE claim SET passed = 16, closes = 1 WHERE step = 'wide'")
        others.request(Request(step="low", attempt=1, needs=needs_of({"b": 1}), priority=0))
        others.flush()
        assert others.waiting
        others.request(Request(step="first in a line", attempt=1, needs=needs_of({"a": 1}), priority=5))
        others.flush()
    assert not mine.release_first(held, 5)
    assert mine.release_first(held, 0)
    assert not others.get_ready() or len(wait_for_news(others)) == 1
    others.close()


def test_while_others_have_the_lock_slots_are_not_given_back_first(
    mine: LedgerClient, theirs: LedgerClient, home: Path
) -> None:
    ticket = ask(mine)
    (lease,) = leases(mine)
    ask(theirs)
    with Ledger(home) as other, other.database.transaction():
        assert not mine.release_first(ticket, 0)
    assert not mine.pending
    assert mine.is_held(lease)


def test_slots_that_were_taken_by_force_are_not_given_back_first(
    mine: LedgerClient, theirs: LedgerClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = ask(mine)
    (lease,) = leases(mine)
    ask(theirs)
    announce = Ledger.announce
    monkeypatch.setattr(Ledger, "announce", lambda *words: announce(*words) and bool(take_away(home, "mine")))
    assert not mine.release_first(ticket, 0)
    assert not mine.is_held(lease)


def test_slots_that_were_taken_away_by_force_are_told_when_they_are_given_back(mine: LedgerClient, home: Path) -> None:
    ticket = ask(mine)
    (lease,) = leases(mine)
    take_away(home, "mine")
    assert not mine.is_held(lease)
    mine.release(ticket)
    mine.flush()
    assert news(mine) == [SlotsLost(lease)]


def test_a_waiting_request_that_was_removed_by_force_is_told(
    mine: LedgerClient, theirs: LedgerClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SAFETY_S", 0.05)
    ask(theirs)
    ticket = ask(mine)
    take_away(home, "mine")
    assert wait_for_news(mine) == [RequestGone(ticket)]


def test_a_full_disk_is_told_once_and_the_wishes_are_sent_when_there_is_room(
    mine: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FULL_S", 0.01)
    execute = mine._ledger.database.execute
    execute("PRAGMA max_page_count = 1").fetchall()
    step = "s" * 100_000
    mine.request(Request(step=step, attempt=1, needs=(("a", 1),)))
    mine.flush()
    (trouble,) = wait_for_news(mine)
    assert isinstance(trouble, LedgerTrouble)
    assert "nothing was changed" in trouble.message
    assert mine.wake_at is not None
    execute("PRAGMA max_page_count = 1000000").fetchall()
    (granted,) = wait_for_news(mine)
    assert isinstance(granted, SlotsGranted)


def test_nothing_is_left_open_by_a_client_that_was_closed(home: Path, theirs: LedgerClient) -> None:
    ask(theirs)
    counts = []
    for _ in range(3):
        client = new_client(home, "mine")
        ask(client)
        client.close()
        counts.append(len(os.listdir("/proc/self/fd")))
    # SQLite keeps the descriptor of a file that another connection of the process has locked, and uses it again.
    assert counts[0] == counts[1] == counts[2]


def test_a_forked_child_has_none_of_a_client_s_descriptors(mine: LedgerClient, theirs: LedgerClient) -> None:
    ask(theirs)
    ask(mine)

    def look() -> None:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_there(fd)]
        left = [name for name in names if "/own/" in name or "/bell/" in name or "inotify" in name or "epoll" in name]
        assert not left, left
        assert not [name for name in names if name.endswith("ledger.lock")]

    assert wait(fork(look)) == 0


def _is_there(fd: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True


@pytest.mark.parametrize("act", [lambda c: c.on_ready(), lambda c: c.tick(), lambda c: c.flush()])
def test_a_client_with_nothing_to_do_does_nothing(mine: LedgerClient, act: Callable[[LedgerClient], None]) -> None:
    changes = mine._ledger.database.execute("SELECT total_changes()").fetchone()
    act(mine)
    assert mine._ledger.database.execute("SELECT total_changes()").fetchone() == changes
    assert mine.news == []


def test_slots_are_given_back_when_the_last_process_that_carries_the_step_s_lock_has_ended(
    mine: LedgerClient, theirs: LedgerClient
) -> None:
    lane = f"{theirs.owner.folder}/lane-0.log"
    ticket = ask(theirs)
    (lease,) = leases(theirs)
    begun, end = os.pipe(), os.pipe()

    def work() -> None:
        StepLock(lane, lease.claim)
        os.write(begun[1], b"!")
        os.read(end[0], 1)

    pid = fork(work)
    os.read(begun[0], 1)
    assert not theirs.release(ticket, [lane, lane.replace(".log", ".in")])
    theirs.flush()
    ask(mine)
    assert leases(mine) == []
    os.write(end[1], b"!")
    wait(pid)
    poll = select.poll()
    poll.register(theirs.fileno(), select.POLLIN)
    assert poll.poll(10_000), "the end of the process was not heard of"
    deadline = time.monotonic() + 10
    while not (granted := leases(mine)):
        theirs.on_ready()
        theirs.tick()
        theirs.flush()
        mine.on_ready()
        mine.flush()
        assert time.monotonic() < deadline
    assert len(granted) == 1
    for fd in (*begun, *end):
        os.close(fd)


def test_a_run_that_ends_leaves_the_slots_of_what_works_on_to_that(mine: LedgerClient, theirs: LedgerClient) -> None:
    lane = f"{theirs.owner.folder}/lane-0.log"
    ticket = ask(theirs)
    (lease,) = leases(theirs)
    lock = StepLock(lane, lease.claim)
    assert not theirs.release(ticket, [lane])
    theirs.close()
    theirs.close()
    ask(mine)
    assert leases(mine) == []
    lock.close()
    assert len(wait_for_news(mine)) == 1
    assert mine.saved_by_timer == 0


def test_a_process_without_descriptors_is_told_and_tries_again(
    mine: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "try_exchange", too_many_files)
        ask(mine)
        (trouble,) = news(mine)
        assert isinstance(trouble, LedgerTrouble)
        assert "Too many open files" in trouble.message
        assert mine.pending
    assert len(wait_for_news(mine)) == 1


def too_many_files(*_: object, **__: object) -> None:
    raise OSError(24, "Too many open files")
