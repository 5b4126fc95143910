"""The ledger in one process and in several: owners, what the dead leave, limits, tokens, and a file that is missing."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import pytest

import executor
from executor.database import crash_points
from executor.database.errors import DatabaseLost, DatabaseUnusable
from executor.ledger import bell, liveness
from executor.ledger.ledger import Ledger, Owner, OwnerLost
from executor.ledger.liveness import StepLock
from executor.ledger.requests import Changes, Lease, Outcome, Request, needs_of
from tests.forked import fork, wait


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for run in ("r1", "r2", "r3"):
        (tmp_path / "runs" / run).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with Ledger(home) as opened:
        opened.set_limit("a", 1)
        yield opened


@pytest.fixture
def owner(ledger: Ledger) -> Iterator[Owner]:
    registered = ledger.register("r1", ledger.home / "runs" / "r1")
    yield registered
    ledger.unregister(registered)


@pytest.fixture
def other(ledger: Ledger) -> Iterator[Owner]:
    registered = ledger.register("r2", ledger.home / "runs" / "r2")
    yield registered
    ledger.unregister(registered)


def ask(ledger: Ledger, owner: Owner, *, priority: int = 0, **pools: int) -> Outcome:
    request = Request(step="s", attempt=1, needs=needs_of(pools or {"a": 1}), priority=priority)
    return ledger.exchange(owner, Changes(request=[request]), told=0)


def claims(ledger: Ledger) -> int:
    (count,) = ledger.database.execute("SELECT count(*) FROM claim").fetchone()
    return int(count)


def dead_owner(home: Path, run: str = "r3", *, asks: int = 1, point: str = "") -> str:
    """The id of an owner whose process was killed after it asked for the pool ``a``."""
    told = os.pipe()

    def live_and_die() -> None:
        ledger = Ledger(home)
        owner = ledger.register(run, home / "runs" / run)
        os.write(told[1], owner.id.encode())
        for _ in range(asks):
            crash_points.arm(point)
            ask(ledger, owner)
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(live_and_die)) == -signal.SIGKILL
    owner = os.read(told[0], 100).decode()
    os.close(told[0])
    os.close(told[1])
    return owner


# --- owners ----------------------------------------------------------------------------------------------------------


def test_an_owner_that_ends_in_good_order_leaves_nothing(home: Path, ledger: Ledger) -> None:
    owner = ledger.register("r1", home / "runs" / "r1")
    assert ledger.owners() == [owner.id]
    ask(ledger, owner)
    ask(ledger, owner)
    ledger.unregister(owner)
    assert ledger.owners() == []
    assert claims(ledger) == 0
    assert list((home / "own").iterdir()) == list((home / "bell").iterdir()) == []


def test_two_runs_of_one_process_are_two_owners(ledger: Ledger, owner: Owner, other: Owner) -> None:
    (lease,) = ask(ledger, owner).granted
    assert ask(ledger, other).granted == []
    ledger.exchange(owner, Changes(release=[lease]), told=0)
    assert other.bell.heard()
    assert not owner.bell.heard()
    assert len(ledger.exchange(other, Changes(), told=0).granted) == 1


def test_slots_of_a_dead_owner_go_to_whoever_looks(home: Path, ledger: Ledger, owner: Owner) -> None:
    dead_owner(home)
    request = Request(step="s", attempt=1, needs=(("a", 1),))
    assert ledger.exchange(owner, Changes(request=[request]), told=0).granted == []
    outcome = ledger.exchange(owner, Changes(), told=0, look=True)
    assert len(outcome.granted) == len(outcome.freed) == 1
    assert ledger.owners() == [owner.id]
    assert [path.name for path in (home / "own").iterdir()] == [f"{owner.id}.lock"]


def test_what_the_dead_left_is_gone_when_the_next_run_begins(home: Path, ledger: Ledger) -> None:
    dead_owner(home, asks=3)
    assert claims(ledger) == 3
    owner = ledger.register("r1", home / "runs" / "r1")
    assert claims(ledger) == 0
    assert len(list((home / "own").iterdir())) == len(list((home / "bell").iterdir())) == 1
    ledger.unregister(owner)


@pytest.mark.parametrize("point", ["owner-locked", "written", "before-commit"])
def test_an_owner_that_died_while_it_registered_leaves_nothing(home: Path, ledger: Ledger, point: str) -> None:
    def die() -> None:
        crash_points.arm(point)
        Ledger(home).register("r1", home / "runs" / "r1")

    wait(fork(die))
    owner = ledger.register("r2", home / "runs" / "r2")
    assert ledger.owners() == [owner.id]
    assert len(list((home / "own").iterdir())) == len(list((home / "bell").iterdir())) == 1
    ledger.unregister(owner)
    assert list((home / "own").iterdir()) == list((home / "bell").iterdir()) == []


@pytest.mark.parametrize("point", ["owner-probed", "owner-files-removed", "before-commit", "committed"])
def test_whoever_dies_while_clearing_up_leaves_the_rest_to_the_next(home: Path, ledger: Ledger, point: str) -> None:
    dead_owner(home)

    def clear_up() -> None:
        crash_points.arm(point)
        with Ledger(home) as mine:
            mine.register("r2", home / "runs" / "r2")

    assert wait(fork(clear_up)) == -signal.SIGKILL
    owner = ledger.register("r1", home / "runs" / "r1")
    assert claims(ledger) == 0
    assert len(ask(ledger, owner).granted) == 1
    ledger.unregister(owner)


def test_slots_stay_taken_while_a_process_of_the_step_lives(home: Path, ledger: Ledger, owner: Owner) -> None:
    dead = dead_owner(home)
    (claim,) = [seq for (seq,) in ledger.database.execute("SELECT seq FROM claim")]
    lock = StepLock(str(home / "runs" / "r3" / "lane-4.log"), claim)
    ask(ledger, owner)
    outcome = ledger.exchange(owner, Changes(), told=0, look=True)
    assert outcome.granted == outcome.freed == []
    (orphan,) = outcome.orphans
    assert (orphan.claim, orphan.owner, orphan.pools) == (claim, dead, ("a",))
    assert {Path(path).name for path in orphan.files} == {"lane-4.log", "lane-4.in"}
    lock.close()
    assert len(ledger.exchange(owner, Changes(reap={dead}), told=0).granted) == 1


def test_an_owner_that_ends_before_its_steps_leaves_their_slots_taken(home: Path, ledger: Ledger, owner: Owner) -> None:
    leaving = ledger.register("r2", home / "runs" / "r2")
    (lease,) = ask(ledger, leaving).granted
    lock = StepLock(str(home / "runs" / "r2" / "lane-0.log"), lease.claim)
    ledger.unregister(leaving)
    ask(ledger, owner)
    assert ledger.exchange(owner, Changes(), told=0, look=True).granted == []
    lock.close()
    assert len(ledger.exchange(owner, Changes(), told=0, look=True).granted) == 1


def test_a_worker_that_takes_its_lock_when_its_owner_has_just_ended_begins_nothing(
    home: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the steps and the end of the transaction its slots go to others."""
    owner = ledger.register("r1", home)
    ((claim, _),) = ask(ledger, owner, a=1).granted
    late: list[StepLock | None] = []
    look = liveness.live_steps

    def look_and_be_late(folder: str, wanted: Iterable[int]) -> dict[int, list[str]]:
        found = look(folder, wanted)
        late.append(liveness.take_step_lock(home, owner.id, str(home / "lane-0.log"), claim))
        return found

    monkeypatch.setattr(liveness, "live_steps", look_and_be_late)
    ledger.unregister(owner)
    assert late == [None]


def test_a_living_owner_whose_lock_file_was_removed_is_told_so(home: Path, ledger: Ledger) -> None:
    owner = ledger.register("r1", home / "runs" / "r1")
    (home / "own" / f"{owner.id}.lock").unlink()
    ledger.unregister(ledger.register("r2", home / "runs" / "r2"))
    with pytest.raises(OwnerLost, match="run r1 can claim no slots any more"):
        ask(ledger, owner)
    ledger.unregister(owner)


# --- what is granted -------------------------------------------------------------------------------------------------


def test_all_slots_of_a_claim_are_granted_or_none(ledger: Ledger, owner: Owner, other: Owner) -> None:
    ledger.set_limit("b", 1)
    (lease,) = ask(ledger, other, b=1).granted
    assert ask(ledger, owner, a=1, b=1).granted == []
    first = ask(ledger, other, a=1).granted[-1]
    assert first != lease
    assert ledger.exchange(other, Changes(release=[lease]), told=0).gave == 0
    assert ledger.exchange(other, Changes(release=[first]), told=0).gave == 1


@pytest.mark.parametrize("point", ["locked", "begun", "written", "before-commit", "committed"])
def test_a_claim_of_two_pools_is_never_half_granted_whoever_dies_when(home: Path, ledger: Ledger, point: str) -> None:
    ledger.set_limit("b", 1)
    owner = ledger.register("r1", home / "runs" / "r1")
    waiter = ledger.register("r2", home / "runs" / "r2")
    (lease,) = ask(ledger, owner, a=1).granted
    ask(ledger, waiter, a=1, b=1)

    def release_and_die() -> None:
        with Ledger(home) as mine:
            crash_points.arm(point)
            mine.exchange(owner, Changes(release=[lease]), told=0)

    assert wait(fork(release_and_die)) == -signal.SIGKILL
    rows = ledger.database.execute("SELECT owner, state, token IS NULL FROM claim ORDER BY seq").fetchall()
    before = [(owner.id, "granted", 0), (waiter.id, "waiting", 1)]
    assert rows == ([(waiter.id, "granted", 0)] if point == "committed" else before)
    for each in (waiter, owner):
        ledger.unregister(each)


@pytest.mark.parametrize("point", ["before-commit", "committed"])
def test_whoever_is_granted_is_rung_also_by_one_who_dies_right_after(home: Path, ledger: Ledger, point: str) -> None:
    ledger.set_limit("a", 0)
    owner = ledger.register("r1", home / "runs" / "r1")
    ask(ledger, owner)

    def raise_limit_and_die() -> None:
        with Ledger(home) as mine:
            crash_points.arm(point)
            mine.set_limit("a", 1)

    assert wait(fork(raise_limit_and_die)) == -signal.SIGKILL
    assert owner.bell.heard()
    granted = ledger.exchange(owner, Changes(), told=0).granted
    assert len(granted) == (1 if point == "committed" else 0)
    ledger.unregister(owner)


def test_nobody_is_rung_who_was_granted_nothing(ledger: Ledger, owner: Owner, other: Owner) -> None:
    (lease,) = ask(ledger, owner).granted
    ask(ledger, owner)
    ask(ledger, other)
    ledger.exchange(owner, Changes(release=[lease]), told=0)
    assert not other.bell.heard()
    assert not owner.bell.heard(), "who grants to himself knows it"


def test_finish_and_the_next_claim_in_one_exchange_are_not_overtaken(
    ledger: Ledger, owner: Owner, other: Owner
) -> None:
    """A chain of one run keeps its slot against a claim of lower priority that waits."""
    (lease,) = ask(ledger, owner, priority=1).granted
    ask(ledger, other)
    request = Request(step="next", attempt=1, needs=(("a", 1),), priority=1)
    (granted,) = ledger.exchange(owner, Changes(release=[lease], request=[request]), told=lease.token).granted
    assert granted.claim > lease.claim


def test_a_parked_claim_keeps_its_place(ledger: Ledger, owner: Owner, other: Owner) -> None:
    (mine,) = ask(ledger, owner).granted
    ask(ledger, other)
    (theirs,) = ledger.exchange(owner, Changes(park=[mine]), told=0).granted or [None]
    assert theirs is None
    (lease,) = ledger.exchange(other, Changes(), told=0).granted
    ask(ledger, other)
    ledger.exchange(owner, Changes(resume=[mine.claim]), told=mine.token)
    ledger.exchange(other, Changes(release=[lease]), told=lease.token)
    assert [granted.claim for granted in ledger.exchange(owner, Changes(), told=mine.token).granted] == [mine.claim]


def test_a_lease_that_was_taken_away_can_neither_be_released_nor_published(ledger: Ledger, owner: Owner) -> None:
    (lease,) = ask(ledger, owner).granted
    assert ledger.is_held(lease)
    assert ledger.free("r1").alive == (lease.claim,)
    assert ledger.free("r1", "other").alive == ()
    assert ledger.take_away([lease]) == [lease.claim]
    assert not ledger.is_held(lease)
    assert ledger.exchange(owner, Changes(release=[lease]), told=0).lost == [lease]
    assert ledger.exchange(owner, Changes(park=[lease]), told=0).lost == [lease]


def test_what_was_granted_since_it_was_looked_at_is_not_taken_away(ledger: Ledger, owner: Owner) -> None:
    (first,) = ask(ledger, owner).granted
    again = ledger.exchange(owner, Changes(park=[first], resume=[first.claim]), told=first.token)
    (second,) = again.granted
    assert ledger.take_away([first], [first.claim]) == []
    assert ledger.is_held(second)
    assert ledger.take_away([second]) == [second.claim]


def test_free_takes_from_the_dead_what_they_held(home: Path, ledger: Ledger) -> None:
    dead_owner(home, asks=2)
    freed = ledger.free("r3")
    assert (len(freed.claims), freed.alive) == (2, ())
    assert claims(ledger) == 0


def test_the_database_itself_refuses_to_grant_over_a_limit(ledger: Ledger, owner: Owner) -> None:
    import sqlite3

    ask(ledger, owner)
    ask(ledger, owner)
    with (
        pytest.raises(sqlite3.IntegrityError, match="granted more slots of a pool than it has"),
        ledger.database.transaction() as transaction,
    ):
        transaction.execute("UPDATE claim SET state = 'granted', token = 9 WHERE state = 'waiting'")
    assert ledger.database.execute("SELECT count(*) FROM claim WHERE state = 'granted'").fetchone() == (1,)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_limit_set_by_command_beats_the_file_which_beats_the_default(ledger: Ledger) -> None:
    def shown() -> tuple[int | None, str]:
        limit = ledger.limit("p")
        return limit.limit, limit.source

    assert shown() == (None, "unlimited")
    ledger.configure({}, 5)
    assert shown() == (5, "default")
    ledger.configure({"p": 3}, 5)
    assert shown() == (3, "yaml")
    ledger.set_limit("p", 0)
    assert shown() == (0, "explicit")
    assert ledger.limit("p").paused
    ledger.delete_limit("p")
    assert shown() == (3, "yaml")
    ledger.configure({}, None)
    assert shown() == (None, "unlimited")


def test_limits_that_are_in_force_already_need_no_lock(ledger: Ledger) -> None:
    """So they do not stop who may only read, or looks while another changes something."""
    ledger.configure({"p": 3}, 5)
    with (ledger.home / "ledger.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ledger.configure({"p": 3}, 5)
        assert not ledger.configure({"p": 3}, 5, if_still=lambda: False)


def test_lowering_a_limit_takes_nothing_away_and_lets_nobody_in(ledger: Ledger, owner: Owner) -> None:
    ledger.set_limit("a", 3)
    leases = [ask(ledger, owner).granted[-1] for _ in range(3)]
    ledger.set_limit("a", 1)
    assert all(map(ledger.is_held, leases))
    ask(ledger, owner)
    assert ledger.exchange(owner, Changes(release=leases[:2]), told=leases[2].token).granted == []
    assert len(ledger.exchange(owner, Changes(release=leases[2:]), told=leases[2].token).granted) == 1


@pytest.mark.parametrize(("name", "limit"), [("a b", 1), ("", 1), ("a", -1), ("a", 1 << 40)])
def test_a_limit_that_cannot_be_is_refused(ledger: Ledger, name: str, limit: int) -> None:
    with pytest.raises(ValueError, match="pool"):
        ledger.set_limit(name, limit)


def test_names_are_data_whatever_is_in_them(ledger: Ledger, owner: Owner) -> None:
    name = "x'\";--\\%\u2603"
    ledger.set_limit(name, 1)
    assert len(ask(ledger, owner, **{name: 1}).granted) == 1
    assert ask(ledger, owner, **{name: 1}).granted[1:] == []


# --- many ------------------------------------------------------------------------------------------------------------


class Work:
    """How many instructions of SQLite's machine the statements in a block take: the same on every machine.

    Each row that is visited takes some, whether it is read into Python, counted or passed over.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._connection = ledger.database._connection
        self.done = 0

    def __enter__(self) -> Self:
        self._connection.set_progress_handler(self._count, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_progress_handler(None, 0)

    def _count(self) -> int:
        self.done += 1
        return 0


def let_wait(ledger: Ledger, owner: Owner, count: int) -> None:
    """So many more claims for a slot of the pool ``a``, which is taken."""
    request = Request(step="s", attempt=1, needs=(("a", 1),))
    ledger.exchange(owner, Changes(request=[request] * count), told=0)


def test_ten_thousand_that_wait_elsewhere_do_not_slow_a_claim(ledger: Ledger, owner: Owner, other: Owner) -> None:
    def work_of_a_claim() -> int:
        with Work(ledger) as work:
            (lease,) = ask(ledger, owner, b=1).granted
            ledger.exchange(owner, Changes(release=[lease]), told=lease.token)
        return work.done

    ledger.set_limit("b", 1)
    ask(ledger, other)
    let_wait(ledger, other, 1)
    work_of_a_claim()  # the first of its kind has more to write down
    few = work_of_a_claim()
    let_wait(ledger, other, 9_999)
    assert claims(ledger) == 10_001
    assert 0 < work_of_a_claim() <= few


def test_ten_thousand_that_wait_for_one_pool_do_not_slow_its_hand_over(
    ledger: Ledger, owner: Owner, other: Owner
) -> None:
    def work_of_a_hand_over(lease: Lease) -> int:
        with Work(ledger) as work:
            ledger.exchange(owner, Changes(release=[lease]), told=lease.token)
        return work.done

    def holder() -> Lease:
        return Lease(*ledger.database.execute("SELECT seq, token FROM claim WHERE token > 0").fetchone())

    ask(ledger, owner)
    let_wait(ledger, owner, 10)
    few = work_of_a_hand_over(holder())
    let_wait(ledger, owner, 10_000)
    for _ in range(20):
        assert 0 < work_of_a_hand_over(holder()) <= few
    assert claims(ledger) == 10_011 - 21


# --- the file --------------------------------------------------------------------------------------------------------


def remove(home: Path) -> None:
    for path in home.glob("ledger.db*"):
        path.unlink()


def test_a_ledger_that_was_deleted_is_not_made_anew_while_a_run_lives(home: Path, ledger: Ledger) -> None:
    owner = ledger.register("r1", home / "runs" / "r1")
    remove(home)
    with pytest.raises(DatabaseLost, match=f"own/{owner.id}"):
        Ledger(home)
    with pytest.raises(DatabaseLost, match="was deleted while it was in use"):
        ask(ledger, owner)
    assert not (home / "ledger.db").exists()
    with pytest.raises(DatabaseLost):
        ledger.unregister(owner)  # it is dead then all the same
    with Ledger(home) as made:
        assert made.owners() == []
    remove(home)


def test_a_ledger_that_was_deleted_is_not_made_anew_while_a_process_of_a_step_lives(home: Path) -> None:
    Ledger(home).close()
    lock = StepLock(str(home / "runs" / "r1" / "lane-0.log"), 5)
    remove(home)
    with pytest.raises(DatabaseLost, match="a process of run r1"):
        Ledger(home)
    lock.close()
    Ledger(home).close()


def test_an_emptied_ledger_is_not_filled_anew_while_a_run_lives(home: Path, ledger: Ledger) -> None:
    owner = ledger.register("r1", home / "runs" / "r1")
    os.truncate(home / "ledger.db", 0)
    with pytest.raises(DatabaseLost):
        Ledger(home)
    assert (home / "ledger.db").stat().st_size == 0
    with pytest.raises(DatabaseLost, match="was truncated"):
        ask(ledger, owner)
    with pytest.raises(DatabaseLost):
        ledger.unregister(owner)


def test_an_older_copy_of_the_ledger_gives_nothing_away_while_a_run_lives_that_it_does_not_know(home: Path) -> None:
    Ledger(home).close()
    copy = (home / "ledger.db").read_bytes()
    told, end = os.pipe(), os.pipe()

    def live() -> None:
        os.close(end[1])
        owner = Ledger(home).register("r1", home / "runs" / "r1")
        os.write(told[1], owner.id.encode())
        os.read(end[0], 1)
        os._exit(0)

    pid = fork(live)
    owner = os.read(told[0], 100).decode()
    remove(home)
    (home / "ledger.db").write_bytes(copy)
    with Ledger(home) as ledger:
        with pytest.raises(DatabaseLost, match=f"knows nothing of the run with the lock file own/{owner}.lock"):
            ledger.register("r2", home / "runs" / "r2")
        for fd in (*told, *end):
            os.close(fd)
        assert wait(pid) == 0
        ledger.unregister(ledger.register("r2", home / "runs" / "r2"))
        assert list((home / "own").iterdir()) == []


def test_numbers_and_tokens_never_come_twice_also_when_the_ledger_is_made_anew(home: Path) -> None:
    last = 0
    for _ in range(3):
        with Ledger(home) as ledger:
            owner = ledger.register("r1", home / "runs" / "r1")
            (lease,) = ask(ledger, owner).granted
            assert lease.claim > last
            assert lease.token > last
            last = max(lease)
            ledger.unregister(owner)
        remove(home)


def test_a_network_file_system_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from executor.database import place

    monkeypatch.setattr(place, "file_system_of", lambda _: "nfs4")
    with pytest.raises(DatabaseUnusable, match="nfs4"):
        Ledger(home)


def test_several_that_make_one_ledger_at_once_use_the_same(home: Path) -> None:
    def use() -> None:
        with Ledger(home) as mine:
            run = home / "runs" / str(os.getpid())
            run.mkdir()
            owner = mine.register("r", run)
            ask(mine, owner)
            mine.unregister(owner)

    pids = [fork(use) for _ in range(6)]
    assert [wait(pid) for pid in pids] == [0] * 6
    with Ledger(home) as ledger:
        assert ledger.owners() == []
        assert claims(ledger) == 0


def test_a_forked_child_neither_uses_nor_ends_its_parent_s_owner(home: Path, ledger: Ledger, owner: Owner) -> None:
    from executor.database.errors import Forked

    def use() -> None:
        with pytest.raises(Forked):
            ask(ledger, owner)
        ledger.close()

    assert wait(fork(use)) == 0
    assert len(ask(ledger, owner).granted) == 1
    assert bell.ring(home, owner.id)


def test_no_statement_has_numbered_placeholders_which_early_releases_of_python_3_12_warn_of() -> None:
    package = Path(executor.__file__).parent
    files = [path for folder in ("database", "ledger", "runs") for path in (package / folder).glob("*.py")]
    assert [path.name for path in files if re.search(r"= \?[0-9]|\(\?[0-9]", path.read_text())] == []
