"""The ledger of pools as programs see it: limits, their sources, who holds and who waits."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from living_run import LivingRun

from executor import ConfigError, Instance, UsageError
from executor.instance.pool_ledger import PoolLedger

RUN_A = "aaaaaaaa-0000-4000-8000-000000000000"
RUN_B = "bbbbbbbb-0000-4000-8000-000000000000"


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance.get(tmp_path / "home")


@pytest.fixture
def ledger(instance: Instance) -> PoolLedger:
    return instance.ledger


def write_settings(instance: Instance, text: str) -> None:
    """The file in one step, with a time of change of its own even if the clock did not move."""
    part = instance.home / "part"
    part.write_text(text)
    part.rename(instance.home / "executor.yaml")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, what obeys a signal has the time to do so."""
    from executor.instance import stopping

    for name in ("DRIVER_GRACE_S", "STEP_GRACE_S", "ORPHAN_GRACE_S", "KILLED_WAIT_S"):
        monkeypatch.setattr(stopping, name, 60.0)


# --- limits ----------------------------------------------------------------------------------------------------------


def test_what_a_command_sets_comes_before_the_file_and_that_before_the_default(
    instance: Instance, ledger: PoolLedger
) -> None:
    assert (ledger.limit("db").limit, ledger.limit("db").source) == (None, "unlimited")
    write_settings(instance, "concurrency: {pools: {default_limit: 7}}")
    assert (ledger.limit("db").limit, ledger.limit("db").source) == (7, "default")
    write_settings(instance, "concurrency: {pools: {default_limit: 7, limits: {db: 3}}}")
    assert (ledger.limit("db").limit, ledger.limit("db").source) == (3, "yaml")
    ledger.set_limit("db", 0)
    assert (ledger.limit("db").limit, ledger.limit("db").source) == (0, "explicit")
    assert ledger.pool("db").paused
    assert {name: limit.limit for name, limit in ledger.limits().items()} == {"db": 0}
    assert ledger.default_limit == 7
    assert ledger.delete_limit("db")
    assert not ledger.delete_limit("db")
    assert ledger.limit("db").limit == 3
    (instance.home / "executor.yaml").unlink()
    assert ledger.limit("db").source == "unlimited"
    assert ledger.default_limit is None


def test_a_file_with_mistakes_changes_nothing(instance: Instance, ledger: PoolLedger) -> None:
    write_settings(instance, "concurrency: {pools: {limits: {db: 3}}}")
    ledger.pools()
    write_settings(instance, "concurrency: {pools: {limits: {db: many}}}")
    with pytest.raises(ConfigError, match=r"executor\.yaml:1:36: 'many' is not a whole number"):
        ledger.pools()
    write_settings(instance, "concurrency: {pools: {limits: {db: 3, api: 1}}}")
    assert [pool.name for pool in ledger.pools()] == ["api", "db"]


def test_a_file_that_did_not_change_is_put_in_force_once(
    instance: Instance, ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from executor.instance import pool_ledger

    applied = []
    real = pool_ledger.apply_settings
    monkeypatch.setattr(pool_ledger, "apply_settings", lambda opened: applied.append(real(opened)))
    write_settings(instance, "concurrency: {pools: {default_limit: 7}}")
    for _ in range(3):
        ledger.pools()
        ledger.limit("db")
    assert len(applied) == 1
    write_settings(instance, "concurrency: {pools: {default_limit: 8}}")
    ledger.pools()
    assert len(applied) == 2


def test_a_ledger_that_was_made_anew_has_the_limits_of_the_file_too(instance: Instance, ledger: PoolLedger) -> None:
    write_settings(instance, "concurrency: {pools: {default_limit: 7}}")
    assert ledger.limit("db").limit == 7
    for path in instance.home.glob("ledger.db*"):
        path.unlink()
    assert ledger.default_limit == 7
    for path in instance.home.glob("ledger.db*"):
        path.unlink()
    assert ledger.limit("db").limit == 7


def test_a_file_that_changed_while_its_reader_waited_for_the_lock_is_read_again(
    instance: Instance, ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or older limits would come in force after newer ones."""
    from executor.ledger import configured

    read = configured.read_instance_settings
    later = ["concurrency: {pools: {default_limit: 8}}"]

    def read_and_wait(home: Path) -> object:
        found = read(home)
        if later:
            write_settings(instance, later.pop())
        return found

    write_settings(instance, "concurrency: {pools: {default_limit: 7}}")
    monkeypatch.setattr(configured, "read_instance_settings", read_and_wait)
    assert ledger.limit("db").limit == 8


@pytest.mark.parametrize(
    ("pool", "limit", "said"),
    [
        ("two words", 1, "a name is one word, without blanks"),
        ("", 1, "a name is one word"),
        ("db", -1, "cannot be -1: give 0 to pause it"),
        ("db", 1001, "cannot be 1001: 1000 is the most"),
        ("db", 1.5, "cannot be 1.5: it is a whole number"),
        ("db", True, "cannot be True: it is a whole number"),
        ("db", "2", "cannot be '2': it is a whole number"),
    ],
)
def test_a_name_or_a_limit_that_cannot_be_is_refused(ledger: PoolLedger, pool: str, limit: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ledger.set_limit(pool, limit)
    assert ledger.pools() == []


def test_larger_pools_can_be_allowed(ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_MAX_POOL_LIMIT", "64000")
    ledger.set_limit("megabytes", 64000)
    assert ledger.limit("megabytes").limit == 64000
    monkeypatch.setenv("EXECUTOR_MAX_POOL_LIMIT", "lots")
    with pytest.raises(ConfigError, match="EXECUTOR_MAX_POOL_LIMIT: 'lots' is not a whole number"):
        ledger.set_limit("megabytes", 1)


def test_a_name_with_a_blank_is_refused_by_every_call(ledger: PoolLedger) -> None:
    for call in (ledger.pool, ledger.limit, ledger.delete_limit):
        with pytest.raises(UsageError, match="without blanks"):
            call("two words")


def test_it_can_be_used_by_a_forked_child(ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ledger.set_limit("db", 2)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert ledger.limit("db").limit == 2


# --- who holds and who waits -----------------------------------------------------------------------------------------


def test_holders_and_waiters_are_those_of_all_runs(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 2)
    with (
        LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 2}}) as holds,
        LivingRun(
            instance.home,
            RUN_B,
            {"step": "late", "pools": {"db": 1}},
            {"step": "soon", "pools": {"db": 1}, "priority": 3},
        ),
    ):
        (holder,) = ledger.holders("db")
        assert (holder.run, holder.step, holder.pid) == (RUN_A, "load", holds.pid)
        assert [wait.view.step for wait in ledger.waiters("db")] == ["soon", "late"]
        pool = ledger.pool("db")
        assert (pool.held, pool.claims, pool.waiting) == (2, 1, 2)
        assert ledger.waiters("other") == []


def test_whoever_looks_takes_back_what_the_dead_hold_and_wait_for(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    holds = LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}})
    LivingRun(instance.home, RUN_B, {"step": "next", "pools": {"db": 1}}).end()
    pool = ledger.pool("db")
    assert (pool.held, pool.waiting) == (1, 0)
    holds.end()
    assert ledger.holders("db") == []
    assert instance.event_log_storage.get_concurrency_infos(["db"])["db"].claimed_slots == []


def test_what_outlived_its_run_keeps_its_slots_although_somebody_looks(instance: Instance, ledger: PoolLedger) -> None:
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        run.kill()
        assert [claim.step for claim in ledger.holders("db")] == ["load"]


def test_where_the_lock_is_not_to_be_had_at_once_it_is_shown_what_stands_there(
    instance: Instance, ledger: PoolLedger
) -> None:
    assert ledger.pools() == []  # the settings are in force
    LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}).end()
    with (instance.home / "ledger.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as others who look: whoever wants to write would have to wait
        assert [claim.step for claim in ledger.holders("db")] == ["load"]
    assert ledger.holders("db") == []


# --- taking away -----------------------------------------------------------------------------------------------------


def test_what_lives_is_not_freed(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}):
        freed = ledger.free(RUN_A)
        assert (len(freed.claims), len(freed.alive)) == (0, 1)
        assert ledger.pool("db").held == 1


def test_what_has_died_is_freed(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    run = LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}, {"step": "next", "pools": {"db": 1}})
    run.end()
    assert len(ledger.free(RUN_A).claims) == 2
    assert ledger.pool("db").held == 0
    assert ledger.free(RUN_A) == ledger.free("no such run")


def test_a_step_that_outlived_its_run_is_not_freed_but_by_force(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        run.kill()
        freed = ledger.free(RUN_A)
        assert (len(freed.claims), len(freed.alive)) == (0, 1)
        freed = ledger.free(RUN_A, force=True)
        assert (len(freed.claims), freed.alive, freed.stopped) == (1, (), (run.workers["load"],))
        assert gone(run.workers["load"])
        assert ledger.pool("db").held == 0


@pytest.mark.parametrize("stubborn", [False, True])
def test_force_stops_the_driver_and_what_is_left_of_its_steps(
    instance: Instance, ledger: PoolLedger, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from executor.instance import stopping

    if stubborn:
        monkeypatch.setattr(stopping, "DRIVER_GRACE_S", 0.2)
        monkeypatch.setattr(stopping, "ORPHAN_GRACE_S", 0.2)
    ledger.set_limit("db", 1)
    with LivingRun(
        instance.home,
        RUN_A,
        {"step": "load", "pools": {"db": 1}},
        {"step": "next", "pools": {"db": 1}},
        ignore_term=stubborn,
    ) as run:
        freed = ledger.free(RUN_A, force=True)
        assert freed.stopped == (run.pid, run.workers["load"])
        assert len(freed.claims) == 2
        assert run.process.wait() == -(signal.SIGKILL if stubborn else signal.SIGTERM)
        assert gone(run.workers["load"])
        assert ledger.pool("db").held == ledger.pool("db").waiting == 0


def test_a_driver_that_is_stopped_can_be_freed_by_force(instance: Instance, ledger: PoolLedger) -> None:
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        os.kill(run.pid, signal.SIGSTOP)
        assert run.pid in ledger.free(RUN_A, force=True).stopped


def test_force_on_one_step_stops_that_step_alone(
    instance: Instance, ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from executor.instance import stopping

    monkeypatch.setattr(stopping, "RELEASE_WAIT_S", 0.1)  # this driver never gives anything back
    ledger.set_limit("db", 2)
    with LivingRun(
        instance.home,
        RUN_A,
        {"step": "load", "pools": {"db": 1}},
        {"step": "save", "pools": {"db": 1}},
        {"step": "next", "pools": {"db": 1}},
    ) as run:
        freed = ledger.free(RUN_A, "load", force=True)
        assert freed.stopped == (run.workers["load"],)
        assert gone(run.workers["load"])
        assert not gone(run.workers["save"])
        assert run.process.poll() is None
        # The slot went to the next one in the same transaction.
        assert [claim.step for claim in ledger.holders("db")] == ["save", "next"]


def test_a_step_inside_of_its_drivers_process_cannot_be_stopped_by_itself(
    instance: Instance, ledger: PoolLedger
) -> None:
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}, inside=True) as run:
        with pytest.raises(UsageError, match=f"step 'load' runs inside of process {run.pid}, which drives its run"):
            ledger.free(RUN_A, "load", force=True)
        assert run.process.poll() is None
        assert ledger.pool("db").held == 1
        assert ledger.free(RUN_A, force=True).stopped == (run.pid,)
        assert ledger.pool("db").held == 0


def test_a_claim_that_waits_can_be_taken_away_by_force(instance: Instance, ledger: PoolLedger) -> None:
    ledger.set_limit("db", 1)
    with LivingRun(
        instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}, {"step": "next", "pools": {"db": 1}}
    ) as run:
        freed = ledger.free(RUN_A, "next", force=True)
        assert (len(freed.claims), freed.stopped) == (1, ())
        assert not gone(run.workers["load"])
        assert (ledger.pool("db").held, ledger.pool("db").waiting) == (1, 0)


def test_a_step_that_was_granted_its_slots_and_has_not_begun_is_left_alone_by_force(
    instance: Instance, ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker looks at its owner when it begins, not at its claim, so the limit would be exceeded then."""
    from executor.instance import stopping
    from executor.ledger.ledger import Ledger
    from executor.ledger.requests import Changes, Request

    monkeypatch.setattr(stopping, "BEGIN_WAIT_S", 0.1)
    ledger.set_limit("db", 1)
    folder = instance.home / "runs" / RUN_A
    folder.mkdir(parents=True)
    with Ledger(instance.home) as opened:
        owner = opened.register(RUN_A, folder)
        opened.exchange(owner, Changes(request=[Request(step="load", attempt=1, needs=(("db", 1),))]), told=0)
        with pytest.raises(UsageError, match=f"step 'load' of run {RUN_A[:8]} holds its slots and no process works on"):
            ledger.free(RUN_A, "load", force=True)
        assert ledger.pool("db").held == 1
        opened.unregister(owner)


def test_a_pid_that_belongs_to_another_process_now_is_never_signalled(
    instance: Instance, ledger: PoolLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from executor.ledger import liveness

    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        monkeypatch.setattr(liveness, "start_time_of", lambda pid: time.monotonic_ns())
        with pytest.raises(UsageError, match=f"lives, but not as process {run.pid}"):
            ledger.free(RUN_A, force=True)
        assert run.process.poll() is None
