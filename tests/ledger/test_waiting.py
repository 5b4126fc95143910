"""What is said of a claim that waits: the pool, who holds it, who comes first, and what would help."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.ledger.client import LedgerClient
from executor.ledger.ledger import Ledger
from executor.ledger.requests import Request, needs_of
from executor.ledger.waiting import COUNTED, Wait
from executor.scheduler.events import SlotHolder


class Runs:
    """Runs of one home folder, by name."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._clients: dict[str, LedgerClient] = {}

    def ask(self, run: str, step: str, priority: int = 0, **pools: int) -> tuple[LedgerClient, int]:
        if run not in self._clients:
            folder = self.home / "runs" / run
            folder.mkdir(parents=True)
            self._clients[run] = LedgerClient(Ledger(self.home), run, folder)
        client = self._clients[run]
        request = Request(step=step, attempt=1, needs=needs_of(pools), priority=priority)
        ticket = client.request(request)
        client.flush()
        return client, ticket

    def wait_of(self, run: str, step: str, priority: int = 0, **pools: int) -> Wait | None:
        client, ticket = self.ask(run, step, priority, **pools)
        return client.waiting_for(ticket)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    with Ledger(tmp_path) as ledger:
        for name, limit in {"db": 2, "api": 1, "paused": 0}.items():
            ledger.set_limit(name, limit)
    made = Runs(tmp_path)
    yield made
    made.close()


def test_who_was_granted_waits_for_nothing(runs: Runs) -> None:
    assert runs.wait_of("one", "a", db=1) is None
    assert runs.wait_of("one", "b", unlimited=100) is None


def test_holders_are_named_with_their_run_its_driver_and_since_when(runs: Runs) -> None:
    runs.ask("0123456789", "load", db=1)
    runs.ask("mine", "train", db=1)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert (wait.pools, wait.cause) == (("db",), "full")
    assert re.sub(r"\d\d:\d\d:\d\d", "TIME", wait.reason) == (
        f"2 of 2 slots of pool 'db' are held by step 'load' of run 01234567 (pid {os.getpid()}, since TIME) and step "
        "'train' (since TIME)"
    )
    load, train = wait.held_by
    assert load == SlotHolder("load", "0123456789", os.getpid(), load.since)
    assert train == SlotHolder("train", since=train.since)


def test_of_many_holders_the_first_are_named_and_the_others_counted(runs: Runs) -> None:
    with Ledger(runs.home) as ledger:
        ledger.set_limit("db", 5)
    for number in range(5):
        runs.ask("mine", f"s{number}", db=1)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert "step 's0' (since " in wait.reason
    assert "step 's1' (since " in wait.reason
    assert wait.reason.endswith(" and 3 more")
    assert [holder.step for holder in wait.held_by] == ["s0", "s1", "s2"]


def test_those_who_come_first_are_counted_and_those_who_could_never_fit_are_not(runs: Runs) -> None:
    runs.ask("other", "holds", db=2)
    runs.ask("other", "wide", db=9)
    runs.ask("other", "earlier", db=1)
    runs.ask("other", "urgent", priority=1, db=1)
    runs.ask("other", "later and less urgent", priority=-1, db=1)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert wait.reason.endswith("; 2 claims come before it")


def test_of_very_many_it_is_said_that_they_are_at_least_so_many(runs: Runs) -> None:
    runs.ask("other", "holds", db=2)
    for number in range(COUNTED + 5):
        runs.ask("other", f"s{number}", db=1)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert wait.reason.endswith(f"; at least {COUNTED} claims come before it")


def test_what_a_step_needs_is_said_where_it_is_more_than_one_slot(runs: Runs) -> None:
    runs.ask("other", "holds", db=1)
    wait = runs.wait_of("mine", "score", db=2)
    assert wait is not None
    assert wait.reason.startswith("1 of 2 slots of pool 'db' are held by step 'holds'")
    assert wait.reason.endswith(", and the step needs 2")


def test_free_slots_that_are_kept_for_somebody_are_said_to_be(runs: Runs) -> None:
    runs.ask("other", "holds", db=1)
    runs.ask("other", "wide", db=2)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait == Wait(
        ("db",),
        "reserved",
        f"the free slots of pool 'db' are kept for step 'wide' of run other (pid {os.getpid()}), which comes first",
    )


def test_who_waits_for_another_pool_keeps_nothing_and_is_not_named(runs: Runs) -> None:
    runs.ask("other", "holds", db=1)
    runs.ask("other", "holds the other", api=1)
    runs.ask("other", "could never fit", db=1, paused=1)
    runs.ask("other", "waits for the other", api=1, db=1)
    runs.ask("other", "wide", db=2)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert wait.cause == "reserved"
    assert "are kept for step 'wide' of run other" in wait.reason


def test_who_could_never_fit_in_another_pool_is_not_counted(runs: Runs) -> None:
    runs.ask("other", "holds", db=2)
    runs.ask("other", "could never fit", db=1, paused=1)
    wait = runs.wait_of("mine", "score", db=1)
    assert wait is not None
    assert "before it" not in wait.reason
    with Ledger(runs.home) as ledger:
        ledger.configure({}, 3)
        runs.ask("other", "nor this", db=1, unheard_of=4)
        runs.ask("other", "but this", db=1, unheard_of=3)
    wait = runs.wait_of("mine", "late", db=1)
    assert wait is not None
    assert wait.reason.endswith("; 2 claims come before it")


def test_a_paused_pool_and_one_that_is_too_small_say_which_command_helps(runs: Runs) -> None:
    runs.ask("other", "holds", api=1)
    wait = runs.wait_of("mine", "score", api=1, db=3, paused=1)
    assert wait is not None
    assert wait.pools == ("api", "db", "paused")
    assert wait.cause == "unsatisfiable"
    assert "the step needs 3 slots of pool 'db', which has 2 in all; to raise its limit: " in wait.reason
    assert wait.reason.endswith(
        "pool 'paused' is paused (limit 0) until somebody raises it: executor instance concurrency set paused 1"
    )


def test_a_name_that_means_something_to_a_shell_is_quoted_in_the_command(runs: Runs) -> None:
    with Ledger(runs.home) as ledger:
        ledger.set_limit("a;b", 0)
    wait = runs.wait_of("mine", "score", **{"a;b": 1})
    assert wait is not None
    assert wait.reason.endswith("executor instance concurrency set 'a;b' 1")


def test_a_claim_that_is_parked_or_gone_waits_for_nothing(runs: Runs) -> None:
    client, ticket = runs.ask("mine", "score", db=1)
    client.park(ticket)
    client.flush()
    assert client.waiting_for(ticket) is None
