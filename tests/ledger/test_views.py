"""What people are shown of the ledger."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from executor.database.errors import DatabaseUnusable
from executor.ledger.ledger import Ledger, Owner
from executor.ledger.requests import Changes, Outcome, Request, needs_of
from executor.ledger.views import LedgerView


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "r1").mkdir(parents=True)
    return tmp_path


def ask(ledger: Ledger, owner: Owner, step: str, priority: int = 0, **pools: int) -> Outcome:
    request = Request(step=step, attempt=1, needs=needs_of(pools), priority=priority)
    return ledger.exchange(owner, Changes(request=[request]), told=0)


def test_a_home_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="cannot be opened"), LedgerView(tmp_path):
        pass


def test_pools_show_their_limits_with_their_sources_and_what_is_held_and_waited_for(home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.configure({"api": 2, "closed": 0}, 7)
        ledger.set_limit("database", 1)
        owner = ledger.register("r1", home / "runs" / "r1")
        lease = ask(ledger, owner, "load", database=1, api=2).granted[0]
        ask(ledger, owner, "save", database=1)
        ask(ledger, owner, "other", elsewhere=1)
        with LedgerView(home) as view:
            shown = {p.name: (p.limit, p.source, p.held, p.waiting, p.parked) for p in view.pools()}
        assert shown == {
            "api": (2, "yaml", 2, 0, 0),
            "closed": (0, "yaml", 0, 0, 0),
            "database": (1, "explicit", 1, 1, 0),
            "elsewhere": (7, "default", 1, 0, 0),
        }
        ledger.exchange(owner, Changes(park=[lease]), told=0)
        with LedgerView(home) as view:
            assert {p.name: (p.held, p.waiting, p.parked) for p in view.pools()}["api"] == (0, 0, 1)
        ledger.unregister(owner)


def test_holders_and_waiters_are_named_with_their_reasons(home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("a", 2)
        ledger.set_limit("b", 1)
        ledger.set_limit("off", 0)
        owner = ledger.register("r1", home / "runs" / "r1")
        ask(ledger, owner, "first", a=2)
        ask(ledger, owner, "late", a=1)
        ask(ledger, owner, "soon", a=2, b=1, priority=3)
        ask(ledger, owner, "never", a=3)
        ask(ledger, owner, "paused", off=1)
        with LedgerView(home) as view:
            (holder,) = view.holders("a")
            assert (holder.run, holder.step, holder.attempt, holder.pid) == ("r1", "first", 1, os.getpid())
            assert holder.since == holder.granted_at
            assert view.is_alive(holder)
            assert [wait.view.step for wait in view.waiters("a")] == ["soon", "late", "never"]
            texts = {wait.view.step: str(wait) for wait in view.waiters()}
            assert len(view.claims_of("r1")) == 5
        assert texts == {
            "soon": "step 'soon' of run r1 waits for pool 'a' (2 of 2 held, 2 needed)",
            "late": "step 'late' of run r1 waits for pool 'a' (2 of 2 held), 1 claim before it",
            "never": "step 'never' of run r1 waits for pool 'a', which has 2 slots in all, while the step needs 3",
            "paused": "step 'paused' of run r1 waits for pool 'off', which is paused (limit 0)",
        }
        ledger.unregister(owner)


def test_free_slots_that_are_kept_for_another_claim_are_said_to_be(home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("a", 2)
        owner = ledger.register("r1", home / "runs" / "r1")
        ask(ledger, owner, "first", a=1)
        (wide,) = ask(ledger, owner, "wide", a=2).filed
        ask(ledger, owner, "small", a=1)
        with LedgerView(home) as view:
            (reason,) = next(wait for wait in view.waiters() if wait.view.step == "small").standing.reasons
        assert (reason.cause, reason.reserved_for, reason.ahead) == ("reserved", wide, 1)
        ledger.unregister(owner)


def test_looking_makes_no_log_and_changes_no_byte(home: Path) -> None:
    with Ledger(home) as ledger:
        ledger.set_limit("a", 2)
    before = (home / "ledger.db").read_bytes()
    with LedgerView(home) as view:
        assert [pool.name for pool in view.pools()] == ["a"]
    assert (home / "ledger.db").read_bytes() == before
