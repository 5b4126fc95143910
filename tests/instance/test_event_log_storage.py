"""The names that users of Dagster know, with the values that Dagster has for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from living_run import LivingRun

from executor import Instance, UsageError
from executor.instance.event_log_storage import ClaimedSlotInfo, ConcurrencySlotStatus, PoolLimit

RUN_A = "aaaaaaaa-0000-4000-8000-000000000000"
RUN_B = "bbbbbbbb-0000-4000-8000-000000000000"


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance.get(tmp_path / "home")


def test_limits_are_set_listed_and_deleted(instance: Instance) -> None:
    storage = instance.event_log_storage
    assert storage.supports_global_concurrency_limits
    storage.set_concurrency_slots("foo", 5)
    storage.set_concurrency_slots("bar", 0)
    assert storage.get_concurrency_keys() == {"foo", "bar"}
    assert storage.get_pool_limits() == [PoolLimit("bar", 0, False), PoolLimit("foo", 5, False)]
    storage.delete_concurrency_limit("foo")
    assert storage.get_concurrency_keys() == {"bar"}
    info = storage.get_concurrency_info("foo")
    assert (info.slot_count, info.limit, info.using_default_limit) == (0, None, False)
    for wrong in (-1, 1001):
        with pytest.raises(UsageError):
            storage.set_concurrency_slots("foo", wrong)


def test_a_default_is_in_force_by_itself(instance: Instance) -> None:
    storage = instance.event_log_storage
    assert not storage.initialize_concurrency_limit_to_default("foo")
    (instance.home / "executor.yaml").write_text("concurrency:\n  pools:\n    default_limit: 2\n")
    assert storage.initialize_concurrency_limit_to_default("foo")
    info = storage.get_concurrency_info("foo")
    assert (info.slot_count, info.limit, info.using_default_limit) == (2, 2, True)
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"foo": 1}}):
        assert storage.get_pool_limits() == [PoolLimit("foo", 2, True)]


def test_a_pool_shows_its_slots_and_its_steps(instance: Instance) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots("db", 2)
    before = datetime.now(UTC)
    with (
        LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 2}}),
        LivingRun(instance.home, RUN_B, {"step": "wait", "pools": {"db": 1}, "priority": 3}),
    ):
        info = storage.get_concurrency_info("db")
        assert info.concurrency_key == "db"
        assert (info.slot_count, info.active_slot_count) == (2, 2)
        assert info.claimed_slots == [ClaimedSlotInfo(RUN_A, "load")] * 2
        assert info.active_run_ids == info.assigned_run_ids == {RUN_A}
        assert info.pending_run_ids == {RUN_B}
        assert (info.pending_step_count, info.assigned_step_count) == (1, 1)
        held, waits = info.pending_steps
        assert (held.step_key, waits.step_key, waits.priority, waits.assigned_timestamp) == ("load", "wait", 3, None)
        assert held.assigned_timestamp is not None
        assert before <= held.enqueued_timestamp <= held.assigned_timestamp <= datetime.now(UTC)
        assert storage.get_concurrency_run_ids() == {RUN_A, RUN_B}
        assert storage.get_concurrency_infos(["db"]) == {"db": info}
        claimed = storage.check_concurrency_claim("db", RUN_A, "load")
        assert (claimed.is_claimed, claimed.is_assigned, claimed.priority) == (True, True, 0)
        blocked = storage.check_concurrency_claim("db", RUN_B, "wait")
        assert blocked.slot_status is ConcurrencySlotStatus.BLOCKED
        assert (blocked.is_claimed, blocked.is_assigned, blocked.priority) == (False, False, 3)
        assert blocked.enqueued_timestamp == waits.enqueued_timestamp
        nobody = storage.check_concurrency_claim("db", RUN_B, "nobody")
        assert (nobody.is_claimed, nobody.enqueued_timestamp) == (False, None)


def test_a_slot_cannot_be_claimed_by_a_call_and_it_is_said_how_it_is_claimed(instance: Instance) -> None:
    with pytest.raises(UsageError, match=r"of pool 'db' cannot be claimed .* by a call: .*@op\(pool=\.\.\.\)"):
        instance.event_log_storage.claim_concurrency_slot("db", RUN_A, "load", priority=1)


def test_what_lives_is_not_freed_and_what_died_is(instance: Instance) -> None:
    storage = instance.event_log_storage
    with LivingRun(instance.home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        with pytest.raises(UsageError, match=f"run {RUN_A} lives"):
            storage.free_concurrency_slots_for_run(RUN_A)
        with pytest.raises(UsageError, match="step 'load' of run"):
            storage.free_concurrency_slot_for_step(RUN_A, "load")
        run.end()
        storage.free_concurrency_slot_for_step(RUN_A, "load")
        assert storage.get_concurrency_info("db").claimed_slots == []
        storage.free_concurrency_slots_for_run(RUN_A)
