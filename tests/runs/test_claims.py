"""The claims of one run: what the scheduler commands reaches the ledger, and what the ledger says comes back."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.database.errors import DatabaseBusy, DatabaseFull
from executor.ledger import liveness
from executor.ledger.client import LedgerClient
from executor.ledger.ledger import Ledger
from executor.ledger.liveness import StepLock
from executor.ledger.requests import Request, needs_of
from executor.ledger.waiting import Wait
from executor.runs.claims import LONGEST_LOOK_S, LOOK_AFTER_S, RunClaims
from executor.runs.home import RunFolder, open_home
from executor.runs.pools import leave_ledger
from executor.scheduler.commands import (
    ClaimSlots,
    HandBackSlots,
    LedgerCommand,
    ReleaseSlots,
    UnparkClaim,
    WithdrawClaim,
)
from executor.scheduler.events import RunNotice, SlotsGranted, SlotsWaiting, StepFailed, StepSucceeded
from executor.workers.selector import Selector
from tests.by_force import take_away

DB = (("db", 1),)


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A run without steps: the test is its scheduler."""

    def __init__(self, home: Path, name: str) -> None:
        self.folder = RunFolder(home / "runs" / name)
        self.folder.path.mkdir()
        self.clock, self.selector = Clock(), Selector()
        self.client = LedgerClient(Ledger(home), name, self.folder.path, clock=self.clock)
        self.claims = RunClaims(self.client, self.folder, self.selector)

    def do(self, *commands: LedgerCommand) -> list[object]:
        """What is told after these commands, all in one exchange."""
        for command in commands:
            self.claims.perform(command)
        return self.hear()

    def hear(self) -> list[object]:
        """What is told when the run has looked around."""
        self.selector.wait(0)
        told: list[object] = []
        while news := self.claims.exchange(self.clock.now):
            told += news
        return told

    def ask(self, key: str = "step", pools: tuple[tuple[str, int], ...] = DB, priority: int = 0) -> list[object]:
        return self.do(ClaimSlots(key, 1, pools, priority))

    def token(self, key: str = "step") -> int:
        lease = self.claims.lease(key)
        assert lease is not None
        return lease.token

    def pass_time(self, seconds: float) -> list[object]:
        """What is told when so much time has passed and what is due was done."""
        self.clock.now += seconds
        self.claims.tick()
        return self.hear()

    def close(self) -> None:
        leave_ledger(self.client)
        self.selector.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = open_home(tmp_path / "home")
    with Ledger(path) as ledger:
        ledger.set_limit("db", 1)
    return path


@pytest.fixture
def mine(home: Path) -> Iterator[Run]:
    run = Run(home, "mine")
    yield run
    run.close()


@pytest.fixture
def theirs(home: Path) -> Iterator[Run]:
    run = Run(home, "theirs-and-more")
    yield run
    run.close()


def reason(told: list[object]) -> str:
    (event,) = told
    assert isinstance(event, SlotsWaiting), told
    return event.reason


def test_what_is_free_is_granted_in_the_exchange_that_asks_for_it(mine: Run) -> None:
    before = mine.client.exchanges
    (granted,) = mine.ask()
    assert granted == SlotsGranted("step", 1, mine.token())
    assert mine.client.exchanges == before + 1
    assert mine.hear() == []


def test_while_nothing_happens_nothing_is_asked_of_the_ledger(
    mine: Run, theirs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's loop asks at every turn, also where a step without pools has ended."""
    mine.ask()
    theirs.ask()
    flush, flushed = LedgerClient.flush, []
    monkeypatch.setattr(LedgerClient, "flush", lambda client: flushed.append(client) or flush(client))
    for run in (mine, theirs):
        assert run.hear() == []
    assert flushed == []
    assert theirs.do(WithdrawClaim("step", 1)) == []
    assert set(flushed) == {theirs.client}


def test_what_is_given_back_is_granted_again_in_one_exchange(mine: Run) -> None:
    mine.ask("first")
    before = mine.client.exchanges
    first = mine.token("first")
    (granted,) = mine.do(ReleaseSlots("first", 1, first), ClaimSlots("second", 1, DB, 0))
    assert granted == SlotsGranted("second", 1, mine.token("second"))
    assert mine.token("second") > first
    assert mine.client.exchanges == before + 1


def test_who_has_to_wait_is_told_for_whom_and_how_many_come_first(mine: Run, theirs: Run) -> None:
    theirs.ask("load")
    theirs.ask("train", priority=1)
    (waiting,) = mine.ask()
    assert isinstance(waiting, SlotsWaiting)
    assert (waiting.pools, waiting.cause) == (("db",), "full")
    assert waiting.reason.startswith(
        f"1 of 1 slots of pool 'db' are held by step 'load' of run theirs-a (pid {os.getpid()}, since "
    )
    assert waiting.reason.endswith("; 1 claim comes before it")


def test_grants_are_told_before_waits_and_every_claim_is_answered(mine: Run) -> None:
    told = mine.do(ClaimSlots("a", 1, DB, 0), ClaimSlots("b", 1, DB, 1), ClaimSlots("c", 1, (("free", 1),), 0))
    assert [(type(event), event.key) for event in told] == [  # type: ignore[attr-defined]
        (SlotsGranted, "b"),
        (SlotsGranted, "c"),
        (SlotsWaiting, "a"),
    ]


def test_what_is_granted_is_told_before_it_is_looked_up_what_others_wait_for(
    mine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    look = mine.client.waiting_for

    def waiting_for(ticket: int) -> Wait | None:
        looked_up.append(ticket)
        return look(ticket)

    monkeypatch.setattr(mine.client, "waiting_for", waiting_for)
    for command in (ClaimSlots("a", 1, DB, 0), ClaimSlots("b", 1, DB, 1)):
        mine.claims.perform(command)
    assert mine.claims.exchange(0.0) == [SlotsGranted("b", 1, mine.token("b"))]
    assert looked_up == []
    (waiting,) = mine.claims.exchange(0.0)
    assert isinstance(waiting, SlotsWaiting)
    assert waiting.key == "a"
    assert len(looked_up) == 1


def test_a_claim_that_is_handed_back_keeps_its_place(mine: Run, theirs: Run) -> None:
    mine.ask()
    theirs.ask("first")
    assert mine.do(HandBackSlots("step", 1, mine.token())) == []
    assert theirs.hear() == [SlotsGranted("first", 1, theirs.token("first"))]
    theirs.ask("second")
    assert "held by step 'first'" in reason(mine.do(UnparkClaim("step", 1)))
    theirs.do(ReleaseSlots("first", 1, theirs.token("first")))
    assert mine.hear() == [SlotsGranted("step", 1, mine.token())]


def test_what_was_granted_and_is_withdrawn_before_it_was_told_is_given_back(mine: Run, theirs: Run) -> None:
    theirs.ask()
    mine.ask()
    theirs.do(ReleaseSlots("step", 1, theirs.token()))
    mine.client.on_ready()
    mine.client.flush()  # as the look once a second may do, in the middle of a round of the loop
    assert mine.do(WithdrawClaim("step", 1)) == []
    assert len(theirs.ask("again")) == 1
    assert theirs.claims.lease("again") is not None


def test_while_the_ledger_is_being_written_a_claim_waits_and_who_holds_it_up_for_long_is_named(
    home: Path, mine: Run
) -> None:
    fd = os.open(home / "ledger.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    (waiting,) = mine.ask()
    assert isinstance(waiting, SlotsWaiting)
    assert (waiting.cause, waiting.reason) == ("busy", "the ledger is being written by another process")
    assert mine.claims.pending
    assert mine.pass_time(0.05) == []
    named = reason(mine.pass_time(0.1))
    assert named == (
        f"process {os.getpid()} holds the ledger's lock and does not go on; if it is stopped, continue it with "
        f"kill -CONT {os.getpid()}, or end it with kill -KILL {os.getpid()}"
    )
    assert mine.pass_time(5) == []
    os.close(fd)
    assert mine.pass_time(5) == [SlotsGranted("step", 1, mine.token())]
    assert not mine.claims.pending


def test_a_claim_that_was_not_filed_yet_is_withdrawn_without_a_trace(home: Path, mine: Run) -> None:
    fd = os.open(home / "ledger.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    mine.ask()
    assert mine.do(WithdrawClaim("step", 1)) == []
    os.close(fd)
    assert mine.pass_time(5) == []
    assert mine.client.owner.id in {*os.listdir(home / "bell")}
    with Ledger(home) as ledger:
        assert ledger.waiting_of(mine.client.owner) == set()


def test_a_reason_is_told_again_when_it_has_changed_and_ever_less_often(mine: Run, theirs: Run) -> None:
    theirs.ask("first")
    mine.ask()
    assert mine.pass_time(LOOK_AFTER_S / 2) == []
    assert mine.pass_time(LOOK_AFTER_S) == [], "nothing has changed"
    # Others who come first make a new sentence, each time after a longer while.
    told: list[object] = []
    for number in range(600):
        theirs.ask(f"urgent {number}", priority=1)
        told += mine.pass_time(LOOK_AFTER_S)
    assert 8 <= len(told) <= 20
    assert all(isinstance(event, SlotsWaiting) for event in told)
    assert LONGEST_LOOK_S < 600


def test_a_pool_that_is_paused_or_becomes_too_small_is_told_soon(home: Path, mine: Run, theirs: Run) -> None:
    theirs.ask()
    mine.ask(pools=(("db", 1), ("other", 2)))
    mine.pass_time(1000.0)
    with Ledger(home) as ledger:
        ledger.set_limit("other", 1)
    told = reason(mine.pass_time(LOOK_AFTER_S))
    assert "the step needs 2 slots of pool 'other', which has 1 in all; to raise its limit: " in told
    assert told.startswith("1 of 1 slots of pool 'db' are held")


def test_when_the_disk_is_full_the_run_is_told_once_and_goes_on_by_itself(
    mine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DatabaseFull("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "try_exchange", full)
        notice, waiting = mine.ask()
        assert notice == RunNotice("steps that need slots of pools wait, and go on by themselves: the disk is full")
        assert isinstance(waiting, SlotsWaiting)
        assert (waiting.cause, waiting.reason) == ("busy", "the disk is full")
        assert mine.pass_time(2.0) == []
    assert mine.pass_time(2.0) == [SlotsGranted("step", 1, mine.token())]


# --- by force ---------------------------------------------------------------------------------------------------------


def test_a_claim_that_is_removed_by_force_while_it_waits_is_filed_again(home: Path, mine: Run, theirs: Run) -> None:
    theirs.ask()
    mine.ask()
    take_away(home, "mine")
    told = mine.pass_time(1.5)
    assert told[0] == RunNotice(
        "the claim of step 'step' was removed from the ledger by force; the run is alive, so it was filed again, "
        "behind those that wait"
    )
    assert mine.client.waiting
    theirs.do(ReleaseSlots("step", 1, theirs.token()))
    assert mine.hear() == [SlotsGranted("step", 1, mine.token())]


def test_a_parked_claim_that_is_removed_by_force_is_filed_again_when_there_is_room(
    home: Path, mine: Run, theirs: Run
) -> None:
    mine.ask()
    mine.do(HandBackSlots("step", 1, mine.token()))
    take_away(home, "mine")
    assert reason(mine.do(UnparkClaim("step", 1))) == ""
    notice, granted = mine.pass_time(1.5)
    assert isinstance(notice, RunNotice)
    assert granted == SlotsGranted("step", 1, mine.token())


def test_the_result_of_a_step_whose_slots_were_freed_by_force_does_not_count(
    home: Path, mine: Run, theirs: Run
) -> None:
    mine.ask()
    success = StepSucceeded("step", 1)
    assert mine.claims.checked(success) is success
    token = mine.token()
    take_away(home, "mine")
    failed = mine.claims.checked(success)
    assert isinstance(failed, StepFailed)
    assert (failed.error.kind, failed.error.allow_retries) == ("slots_lost", True)
    assert failed.error.message.startswith("its slots were freed by force while it ran")
    assert mine.do(ReleaseSlots("step", 1, token)) == [], "it was told already"
    assert len(theirs.ask()) == 1


def test_who_waits_has_the_slots_of_a_worker_that_goes_on_before_the_success_is_told(mine: Run, theirs: Run) -> None:
    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    success = StepSucceeded("step", 1)
    assert mine.claims.checked(success) is success
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]
    before = mine.client.exchanges
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == []
    assert mine.client.exchanges == before, "it was given back"
    assert mine.ask() != []


def test_a_run_with_steps_of_a_higher_priority_gives_back_and_asks_in_one_exchange(mine: Run, theirs: Run) -> None:
    """Or else whoever waits would have the slots before the step that comes first."""
    mine.claims._highest_priority = 5
    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    success = StepSucceeded("step", 1)
    assert mine.claims.checked(success) is success
    (granted,) = mine.do(ReleaseSlots("step", 1, mine.token()), ClaimSlots("next", 1, DB, 5))
    assert granted == SlotsGranted("next", 1, mine.token("next"))
    assert theirs.hear() == []


def test_a_parked_claim_of_the_run_has_its_place_before_whoever_came_later(home: Path, mine: Run, theirs: Run) -> None:
    mine.ask("parked")
    mine.do(HandBackSlots("parked", 1, mine.token("parked")))
    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    success = StepSucceeded("step", 1)
    assert mine.claims.checked(success) is success
    (granted,) = mine.do(ReleaseSlots("step", 1, mine.token()), UnparkClaim("parked", 1))
    assert granted == SlotsGranted("parked", 1, mine.token("parked"))
    assert theirs.hear() == []


def test_a_ledger_that_cannot_be_read_for_a_moment_is_not_lost(
    mine: Run, theirs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise DatabaseBusy("ledger.db", 1.0, None)

    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    success = StepSucceeded("step", 1)
    with monkeypatch.context() as patch:
        for name in ("announce", "is_held"):
            patch.setattr(Ledger, name, busy)
        assert mine.claims.checked(success) is success
    assert mine.claims.lost is None
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == []
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]


@pytest.mark.parametrize("lane", [-1, 0])
def test_the_slots_of_a_step_that_is_not_known_to_be_over_are_not_given_back_with_its_success(
    lane: int, mine: Run, theirs: Run
) -> None:
    """It ran in this process, where what it forked has its lock too; or its own process is about to end."""
    mine.ask()
    mine.claims.started("step", lane)
    theirs.ask()
    success = StepSucceeded("step", 1, freed=lane < 0)
    assert mine.claims.checked(success) is success
    assert theirs.hear() == []
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == []
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]


def test_slots_that_were_freed_by_force_make_a_failure_of_a_success_with_which_they_are_given_back(
    home: Path, mine: Run, theirs: Run
) -> None:
    mine.ask()
    mine.claims.started("step", 0)
    take_away(home, "mine")
    theirs.ask()
    assert theirs.claims.lease("step") is not None
    failed = mine.claims.checked(StepSucceeded("step", 1))
    assert isinstance(failed, StepFailed)
    assert failed.error.kind == "slots_lost"
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == [], "it was told already"
    assert theirs.do(ReleaseSlots("step", 1, theirs.token())) == []


def test_slots_that_are_freed_by_force_in_the_moment_of_their_release_make_a_failure_as_well(
    home: Path, mine: Run, theirs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    announce = Ledger.announce
    monkeypatch.setattr(Ledger, "announce", lambda *words: announce(*words) and bool(take_away(home, "mine")))
    failed = mine.claims.checked(StepSucceeded("step", 1))
    assert isinstance(failed, StepFailed)
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == [], "it was told already"


def test_slots_that_cannot_be_given_back_at_once_are_given_back_later(home: Path, mine: Run, theirs: Run) -> None:
    mine.ask()
    mine.claims.started("step", 0)
    theirs.ask()
    success = StepSucceeded("step", 1)
    with Ledger(home) as other, other.database.transaction():
        assert mine.claims.checked(success) is success
        assert mine.do(ReleaseSlots("step", 1, mine.token())) == []
        assert mine.claims.pending
    assert mine.pass_time(1.0) == []
    assert not mine.claims.pending
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]


def test_who_is_told_that_slots_come_in_a_moment_wakes_its_worker(home: Path, mine: Run) -> None:
    woken: list[str] = []
    run = Run(home, "waits")
    run.claims = RunClaims(run.client, run.folder, Selector(), on_announced=lambda: woken.append("woken"))
    mine.ask()
    mine.claims.started("step", 0)
    run.claims.perform(ClaimSlots("step", 1, DB, 0))
    assert len(run.claims.exchange(0.0)) == 1
    mine.claims.checked(StepSucceeded("step", 1))
    run.claims._on_ready()
    assert woken == ["woken"]
    run.close()


def test_slots_of_a_step_that_failed_are_told_to_have_been_freed_by_force(home: Path, mine: Run) -> None:
    mine.ask()
    take_away(home, "mine")
    assert mine.do(ReleaseSlots("step", 1, mine.token())) == [
        RunNotice("the slots of step 'step' had been freed by force while it ran; others may have used them")
    ]


# --- when the ledger is lost ------------------------------------------------------------------------------------------


def lose(home: Path) -> None:
    for path in home.glob("ledger.db*"):
        path.unlink()


def test_when_the_ledger_is_deleted_what_waits_fails_and_what_is_held_goes_on(home: Path, mine: Run) -> None:
    mine.ask("runs")
    mine.ask("waits")
    lose(home)
    notice, failed = mine.do(ClaimSlots("asks", 1, DB, 0))[:2]
    assert isinstance(notice, RunNotice)
    assert notice.message.startswith("no slots of pools can be had any more, so steps that need some fail: ")
    assert isinstance(failed, StepFailed)
    assert failed.error.kind == "slots_lost"
    assert not failed.error.allow_retries
    assert failed.error.message.startswith(
        f"no slots of its pools can be had any more: {home / 'ledger.db'} was deleted"
    )
    assert mine.do(WithdrawClaim("waits", 1), WithdrawClaim("asks", 1)) == []
    success = StepSucceeded("runs", 1)
    assert mine.claims.checked(success) is success
    assert mine.do(ReleaseSlots("runs", 1, mine.token("runs"))) == []
    (refused,) = mine.ask("later")
    assert refused == StepFailed("later", 1, failed.error)
    assert mine.claims.wake_at is None
    assert not mine.claims.pending


def test_a_parked_claim_fails_when_there_is_room_for_it_and_no_ledger(home: Path, mine: Run) -> None:
    mine.ask()
    mine.do(HandBackSlots("step", 1, mine.token()))
    lose(home)
    assert [type(event) for event in mine.ask("other")] == [RunNotice, StepFailed]
    (failed,) = mine.do(UnparkClaim("step", 1))
    assert isinstance(failed, StepFailed)
    assert failed.key == "step"


def test_a_run_that_was_taken_for_dead_claims_nothing_any_more(home: Path, mine: Run, theirs: Run) -> None:
    mine.ask("waits", (("paused", 1),))
    (home / "own" / f"{mine.client.owner.id}.lock").unlink()
    with Ledger(home) as ledger:
        ledger.register("another", home)
    told = mine.ask("asks")
    assert [type(event) for event in told] == [RunNotice, *[StepFailed] * (len(told) - 1)]
    assert "others took it for dead; start the run again" in told[0].message  # type: ignore[attr-defined]


# --- processes that live on -------------------------------------------------------------------------------------------


def test_slots_stay_taken_while_a_process_of_the_step_has_its_lock(home: Path, mine: Run, theirs: Run) -> None:
    mine.ask()
    mine.claims.started("step", 3)
    lease = mine.claims.lease("step")
    assert lease is not None
    lock = StepLock(str(mine.folder.lane_log(3)), lease.claim)
    assert mine.do(ReleaseSlots("step", 1, lease.token)) == []
    assert isinstance(theirs.ask()[0], SlotsWaiting)
    mine.pass_time(10.0)
    assert theirs.hear() == []
    lock.close()
    assert mine.hear() == []
    assert mine.pass_time(10.0) == []
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]


def test_a_claim_of_any_attempt_is_answered_under_the_number_of_that_attempt(mine: Run) -> None:
    mine.ask()
    mine.do(ReleaseSlots("step", 1, mine.token()))
    (granted,) = mine.do(ClaimSlots("step", 2, DB, 0))
    assert granted == SlotsGranted("step", 2, mine.token())


def test_a_claim_reaches_the_ledger_as_the_scheduler_wants_it(mine: Run) -> None:
    mine.ask("k", (("a", 2), ("b", 1)), priority=7)
    assert mine.client._wishes._by_ticket[1].request == Request(
        step="k", attempt=1, needs=needs_of({"a": 2, "b": 1}), priority=7
    )


def test_without_descriptors_slots_stay_taken_until_it_can_be_seen_that_they_are_free(
    mine: Run, theirs: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many_files(*_: object) -> None:
        raise OSError(24, "Too many open files")

    mine.ask()
    mine.claims.started("step", 0)
    with monkeypatch.context() as patch:
        patch.setattr(liveness, "probe", too_many_files)
        assert mine.do(ReleaseSlots("step", 1, mine.token())) == []
        assert mine.pass_time(0.5) == []
    assert isinstance(theirs.ask()[0], SlotsWaiting)
    mine.pass_time(5.0)
    assert theirs.hear() == [SlotsGranted("step", 1, theirs.token())]
