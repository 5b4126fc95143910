"""``why``: what each step of a run waits for while it goes on, and what it had waited for afterwards."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from written_run import WrittenRun, step

from executor import Instance, RetryPolicy, UsageError
from executor.config.settings import TagLimit
from executor.ledger.ledger import Ledger
from executor.ledger.requests import Changes, Request, needs_of
from executor.runs import why as why_module
from executor.runs.why import why
from executor.scheduler.commands import ClaimSlots
from executor.scheduler.events import CancelRequested, SlotHolder, SlotsGranted, SlotsWaiting, StepFailed, StepSucceeded
from executor.scheduler.outcomes import StepError
from executor.scheduler.states import StepState

sys.path.insert(0, str(Path(__file__).parents[1] / "instance"))  # test folders are no packages here

from living_run import LivingRun

RUN_A = "aaaaaaaa-0000-4000-8000-000000000000"
BOOM = StepError("exception", "boom")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Instance.get(tmp_path / "home").home


def masked(text: str) -> str:
    text = re.sub(r"\d\d:\d\d:\d\d", "TIME", re.sub(r"\d\d\d\d-\d\d-\d\d ", "", text))
    return re.sub(r"pid \d+", "pid N", re.sub(r"\b\d+\.\d s\b|\b\d min \d\d s\b", "N s", text))


def texts(run: WrittenRun) -> dict[str, str]:
    return {key: masked(each.text) for key, each in why(run.folder).steps.items()}


def ask_ledger(ledger: Ledger, run: WrittenRun, commands: list[object]) -> None:
    """File the claims that the run's scheduler asks for, as its driver would."""
    owner = ledger.register(run.run_id, run.folder.path)
    requests = [
        Request(
            step=command.key, attempt=command.attempt, needs=needs_of(dict(command.pools)), priority=command.priority
        )
        for command in commands
        if isinstance(command, ClaimSlots)
    ]
    ledger.exchange(owner, Changes(request=requests), told=0)


def test_a_claim_whose_run_was_cut_off_had_waited_at_least_as_long_as_is_known(home: Path) -> None:
    with WrittenRun(home, step("train", pools={"db": 1})) as run:
        run.tell(SlotsWaiting("train", 1, ("db",), "full", "it was full then"), 1.0)
        run.die(1.0)
        (text,) = texts(run).values()
    assert text.startswith("has waited at least N s for 1 slot")
    assert "before that" not in text


def test_where_somebody_holds_the_lock_of_the_ledger_the_history_must_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why_module, "LOOK_S", 0.0)
    with WrittenRun(home, step("train", pools={"db": 1})) as run, Ledger(home) as ledger:
        run.tell(SlotsWaiting("train", 1, ("db",), "full", "it was full then"), 1.0)
        with ledger.database.transaction():
            assert "it was full then" in why(run.folder, "train").steps["train"].text


# --- while it goes on ------------------------------------------------------------------------------------------------


def test_a_step_names_the_full_limits_of_its_run_and_who_holds_them(home: Path) -> None:
    limit = TagLimit(key="db", value="x", limit=1)
    with WrittenRun(
        home,
        step("a", tags={"db": "x"}),
        step("b"),
        step("c", tags={"db": "x"}),
        step("d", "a"),
        at_once=2,
        tags=(limit,),
    ) as run:
        told = why(run.folder)
        waits = told.steps["c"]
        assert masked(waits.text) == (
            "is ready: max_concurrent is full (2 of 2, held by step 'a' (pid N, since TIME), step 'b' (pid N, since "
            "TIME)) and tag db=x is full (1 of 1, held by step 'a' (pid N, since TIME))"
        )
        assert waits.ends == "one of the 2 that hold max_concurrent ends; and step 'a' ends"
        assert [(blocker.name, blocker.used, blocker.limit, blocker.pool) for blocker in waits.blockers] == [
            ("max_concurrent", 2, 2, None),
            ("tag db=x", 1, 1, None),
        ]
        (holder,) = waits.blockers[1].held_by
        assert (holder.step, holder.run, holder.pid, holder.since) == ("a", "", run.pids["a"], run.began)
        assert told.steps["d"].text == "waits for 'a' (running)"
        assert told.steps["d"].ends == "it has succeeded"
        assert list(told.steps) == ["c", "d"]
        runs = why(run.folder, "a").steps["a"]
        assert masked(runs.text) == "is running (attempt 1) for N s as pid N"
        assert runs.ends == ""
        assert (told.status, told.job, told.run_id) == ("running", "nightly", run.run_id)
        assert {state.value: count for state, count in told.counts.items() if count} == {
            "ready": 1,
            "running": 2,
            "waiting": 1,
        }
        assert told.at_s >= 100


def test_a_step_between_two_attempts_says_when_the_next_may_start(home: Path) -> None:
    with WrittenRun(home, step("a", retry=RetryPolicy(max_retries=1, delay=1000.0))) as run:
        run.tell(StepFailed("a", 1, BOOM), 5.0)
        told = why(run.folder).steps["a"]
        assert told.state is StepState.BACKOFF
        assert told.retry_in_s is not None
        assert 0 < told.retry_in_s <= 905
        assert masked(told.ends) == "TIME"


def test_what_will_not_run_says_why_and_nothing_ends_it(home: Path) -> None:
    with WrittenRun(home, step("bad"), step("below", "bad"), step("never"), step("last", "never"), at_once=1) as run:
        run.tell(CancelRequested(("never",)), 1.0)
        run.tell(StepFailed("bad", 1, BOOM), 2.0)
        told = why(run.folder).steps
        assert {key: each.text for key, each in told.items()} == {
            "bad": "failed in attempt 1",
            "below": "was not run, because 'bad' did not succeed",
            "never": "was cancelled",
            "last": "was not run, because 'never' did not succeed",
        }
        assert {each.ends for each in told.values()} == {""}


def test_a_claim_says_who_holds_its_pool_and_what_would_end_that(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    with (
        LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}, {"step": "first", "pools": {"db": 1}}) as other,
        WrittenRun(home, step("train", pools={"db": 1})) as run,
        Ledger(home) as ledger,
    ):
        ask_ledger(ledger, run, run.commands)
        run.tell(SlotsWaiting("train", 1, ("db",), "full", "it was full then"), 1.0)
        told = why(run.folder, "train").steps["train"]
        assert masked(told.text) == (
            "has waited N s for slots (1 of pool 'db'): pool 'db' is full (1 of 1, held by step 'load' of run aaaaaaaa "
            "(pid N, since TIME)); its claim is number 2 of those that wait"
        )
        assert told.ends == (
            "step 'load' of run aaaaaaaa ends and those before it have had their turn, or somebody raises the limit: "
            "executor instance concurrency set db 2"
        )
        (blocker,) = told.blockers
        assert (blocker.pool, blocker.cause, blocker.place, blocker.needed) == ("db", "full", 2, 1)
        (holder,) = blocker.held_by
        assert (holder.run, holder.step, holder.pid) == (RUN_A, "load", other.workers["load"])


@pytest.mark.parametrize(
    ("limit", "needs", "said", "ends"),
    [
        (0, 1, "pool 'db' is paused (limit 0)", "somebody raises the limit: executor instance concurrency set db 1"),
        (
            2,
            3,
            "pool 'db' has 2 slots in all, and the step needs 3",
            "somebody raises the limit: executor instance concurrency set db 3",
        ),
    ],
)
def test_a_claim_that_no_end_of_a_step_can_help_says_what_to_set(
    home: Path, limit: int, needs: int, said: str, ends: str
) -> None:
    Instance.get(home).ledger.set_limit("db", limit)
    with WrittenRun(home, step("train", pools={"db": needs})) as run, Ledger(home) as ledger:
        ask_ledger(ledger, run, run.commands)
        run.tell(SlotsWaiting("train", 1, ("db",)), 1.0)
        told = why(run.folder).steps["train"]
        assert told.text.endswith(f": {said}")
        assert told.ends == ends


def test_a_claim_behind_one_that_slots_are_kept_for_names_that(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 2)
    with (
        LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}, {"step": "wide", "pools": {"db": 2}}),
        WrittenRun(home, step("train", pools={"db": 1})) as run,
        Ledger(home) as ledger,
    ):
        ask_ledger(ledger, run, run.commands)
        run.tell(SlotsWaiting("train", 1, ("db",)), 1.0)
        told = why(run.folder).steps["train"]
        assert masked(told.text).endswith(
            ": the free slots of pool 'db' are kept for step 'wide' of run aaaaaaaa (pid N), which comes first"
        )
        assert told.ends == "step 'wide' of run aaaaaaaa has been granted its slots"


def test_without_a_ledger_the_history_must_do(home: Path) -> None:
    with WrittenRun(home, step("train", pools={"db": 1})) as run:
        run.tell(SlotsWaiting("train", 1, ("db",), "full", "1 of 1 slots are held by step 'load' of run 7f3a"), 1.0)
        (home / "ledger.db").unlink(missing_ok=True)
        told = why(run.folder).steps["train"]
        assert masked(told.text) == (
            "has waited N s for 1 slot of pool 'db': 1 of 1 slots are held by step 'load' of run 7f3a"
        )
        assert told.ends == ""


def test_a_step_that_was_asked_for_by_name_is_the_only_one(home: Path) -> None:
    with WrittenRun(home, step("a"), step("b")) as run:
        assert list(why(run.folder, "b").steps) == ["b"]
        with pytest.raises(UsageError, match=r"has no step 'aa'; did you mean 'a'\?"):
            why(run.folder, "aa")


def test_of_many_steps_as_many_are_explained_as_are_asked_for(home: Path) -> None:
    with WrittenRun(home, step("a"), *[step(f"w{n}", "a") for n in range(3)], step("r"), at_once=1) as run:
        told = why(run.folder, most=2)
        assert (list(told.steps), told.left_out) == (["r", "w0"], 2)
        assert list(why(run.folder).steps) == ["r", "w0", "w1", "w2"]


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_after_the_run_each_step_says_what_it_had_waited_for_and_who_held_it(home: Path) -> None:
    with WrittenRun(home, step("train", pools={"database": 1}), step("big"), at_once=1) as run:
        # "big" waits for room while the ledger is asked, and runs when it has said no.
        holder = SlotHolder("load", "7f3a12cd-0", 77)
        run.tell(SlotsWaiting("train", 1, ("database",), "full", "1 of 1 slots are held", (holder,)), 0.0)
        run.tell(SlotsGranted("train", 1, 5), 38.0)
        run.tell(StepSucceeded("big", 1), 41.2)
        run.tell(SlotsGranted("train", 1, 6), 41.2)
        run.tell(StepSucceeded("train", 1), 50.0)
        run.end(50.0)
        told = why(run.folder)
        assert told.status == "succeeded"
        assert told.at_s == 50.0
        assert told.steps["train"].text == (
            "succeeded in attempt 1; it had waited 41.2 s: 38.0 s pool database (held by step 'load' of run 7f3a12cd "
            "(pid 77)), 3.2 s max_concurrent"
        )
        assert [(wait.cause, wait.seconds) for wait in told.steps["train"].waited] == [
            ("pool database", 38.0),
            ("max_concurrent", 3.2),
        ]
        assert list(told.steps) == ["train"]
        assert why(run.folder, "big").steps["big"].text == "succeeded in attempt 1"


def test_after_a_run_that_was_cut_off_each_step_says_where_it_stood(home: Path) -> None:
    with WrittenRun(home, step("a"), step("b", "a"), step("c"), at_once=1) as run:
        run.die(3.0)
        assert texts(run) == {
            "a": "is running (attempt 1) for N s as pid N (when the run was interrupted)",
            "b": "waits for 'a' (running) (when the run was interrupted)",
            "c": "is ready: max_concurrent is full (1 of 1, held by step 'a' (pid N, since TIME)) (when the run was "
            "interrupted)",
        }
        assert {each.ends for each in why(run.folder).steps.values()} == {""}
