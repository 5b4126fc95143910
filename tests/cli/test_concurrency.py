"""``executor instance concurrency``: what each command prints, and what it ends with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from executor.cli.root import run_command
from executor.ledger.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "instance"))  # test folders are no packages here

from living_run import LivingRun

RUN_A = "aaaaaaaa-0000-4000-8000-000000000000"
RUN_B = "bbbbbbbb-0000-4000-8000-000000000000"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def concurrency(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs one command: its exit code, and what it printed on stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = run_command(["instance", "concurrency", *words])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, what obeys a signal has the time to do so."""
    from executor.instance import stopping

    for name in ("DRIVER_GRACE_S", "STEP_GRACE_S", "ORPHAN_GRACE_S", "KILLED_WAIT_S"):
        monkeypatch.setattr(stopping, name, 60.0)


def masked(text: str) -> str:
    """Times, durations and pids as they differ from run to run."""
    text = re.sub(r"since (\d\d\d\d-\d\d-\d\d )?\d\d:\d\d:\d\d \([^)]*\)", "since TIME", text)
    return re.sub(r"pid \d+", "pid N", text)


# --- as Dagster prints it --------------------------------------------------------------------------------------------


def test_what_dagster_prints_is_printed_in_the_same_words(concurrency: Command) -> None:
    nothing = "No concurrency limits set. Run `executor instance concurrency set <key> <limit>` to set limits.\n"
    assert concurrency("get", "--all") == (0, nothing, "")
    assert concurrency("set", "database", "1") == (0, "Set concurrency limit for database to 1.\n", "")
    assert concurrency("get", "database") == (0, '"database": 0 / 1 slots occupied\n', "")
    assert concurrency("set", "api", "0") == (0, "Set concurrency limit for api to 0.\n", "")
    assert concurrency("get", "--all") == (
        0,
        'Concurrency limits:\n"api": 0 / 0 slots occupied\n"database": 0 / 1 slots occupied\n',
        "",
    )
    code, out, err = concurrency("get")
    assert (code, out) == (2, "")
    assert err.endswith(
        "Error: Must either specify a key argument or the `--all` option. Run `executor instance concurrency get "
        "--help` for more info.\n"
    )


def test_a_pool_without_a_limit_prints_what_dagster_does_and_says_on_stderr_what_it_means(concurrency: Command) -> None:
    concurrency("set", "database", "1")
    assert concurrency("get", "datbase") == (
        0,
        '"datbase": 0 / 0 slots occupied\n',
        "notice: pool 'datbase' has no limit; did you mean 'database'?\n",
    )


def test_occupied_slots_are_counted(concurrency: Command, own_home: Path) -> None:
    concurrency("set", "database", "3")
    with LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 2}}):
        assert concurrency("get", "database")[1] == '"database": 2 / 3 slots occupied\n'


# --- set and delete --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "two words", "1"], "a pool cannot be named 'two words': a name is one word, without blanks"),
        (["get", "two words"], "a pool cannot be named 'two words': a name is one word, without blanks"),
        (
            ["set", "database", "many"],
            (
                "the limit of pool 'database' cannot be 'many': give a whole number of slots, 0 to pause it; to have "
                "none: executor instance concurrency delete database"
            ),
        ),
        (
            ["set", "database", "-1"],
            (
                "the limit of pool 'database' cannot be -1: give 0 to pause it, 1 or more to admit as many, or delete "
                "the limit"
            ),
        ),
        (
            ["set", "database", "1001"],
            (
                "the limit of pool 'database' cannot be 1001: 1000 is the most; delete the limit to have none, or set "
                "EXECUTOR_MAX_POOL_LIMIT where slots stand for something small"
            ),
        ),
    ],
)
def test_a_name_or_limit_that_is_wrong_ends_with_2_and_changes_nothing(
    concurrency: Command, words: list[str], said: str
) -> None:
    assert concurrency(*words) == (2, "", f"Error: {said}\n")
    assert json.loads(concurrency("list", "--json")[1])["pools"] == []


def test_a_new_name_that_is_near_to_a_known_one_is_noticed(concurrency: Command) -> None:
    concurrency("set", "database", "1")
    assert concurrency("set", "databse", "1")[2] == "notice: pool 'databse' is new here; did you mean 'database'?\n"
    assert concurrency("set", "databse", "2")[2] == ""


def test_a_limit_below_what_is_held_says_that_it_stays_held(concurrency: Command, own_home: Path) -> None:
    with LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 2}}):
        assert concurrency("set", "database", "1") == (
            0,
            "Set concurrency limit for database to 1.\n",
            "notice: 2 slots of pool 'database' are held; they stay held, and further claims wait\n",
        )
    with LivingRun(own_home, RUN_B, {"step": "load", "pools": {"database": 1}}):
        assert concurrency("set", "database", "0")[2] == (
            "notice: 1 slot of pool 'database' is held; it stays held, and further claims wait\n"
        )


def test_deleting_a_limit_says_what_counts_then(concurrency: Command, own_home: Path) -> None:
    concurrency("set", "database", "1")
    assert concurrency("delete", "database") == (
        0,
        "Deleted the concurrency limit for database; it is unlimited now.\n",
        "",
    )
    concurrency("set", "database", "1")
    (own_home / "executor.yaml").write_text("concurrency: {pools: {default_limit: 4, limits: {api: 2}}}")
    assert concurrency("delete", "database")[1] == (
        "Deleted the concurrency limit for database; it is 4 (default) now.\n"
    )
    assert (
        concurrency("delete", "api")[1]
        == "No command has set a concurrency limit for api; it is 2 (executor.yaml) now.\n"
    )
    concurrency("set", "database", "1")
    assert concurrency("delete", "databas")[2] == "notice: there is no such limit; did you mean 'database'?\n"
    deleted = json.loads(concurrency("delete", "database", "--json")[1])
    assert (deleted["deleted"], deleted["limit"], deleted["source"]) == (True, 4, "default")


# --- list and show ---------------------------------------------------------------------------------------------------


def test_the_list_has_every_pool_with_its_limit_and_where_it_comes_from(concurrency: Command, own_home: Path) -> None:
    assert concurrency("list")[1].startswith("No concurrency limits set.")
    own_home.joinpath("executor.yaml").write_text("concurrency: {pools: {limits: {api: 2, off: 0}}}")
    concurrency("set", "database", "1")
    with LivingRun(
        own_home,
        RUN_A,
        {"step": "load", "pools": {"database": 1, "free": 3}},
        {"step": "next", "pools": {"database": 1, "api": 1}},
    ):
        assert concurrency("list") == (
            0,
            (
                "pool      limit       set by         held  waiting  parked\n"
                "api       2           executor.yaml  0     1        0\n"
                "database  1           command        1     1        0\n"
                "free      unlimited   -              3     0        0\n"
                "off       0 (paused)  executor.yaml  0     0        0\n"
            ),
            "",
        )
        listed = json.loads(concurrency("list", "--json")[1])
    assert listed["default_limit"] is None
    assert listed["pools"][1] == {
        "pool": "database",
        "limit": 1,
        "source": "explicit",
        "paused": False,
        "held": 1,
        "claims": 1,
        "waiting": 1,
        "parked": 0,
        "held_by_dead": 0,
    }
    own_home.joinpath("executor.yaml").write_text("concurrency: {pools: {default_limit: 3}}")
    assert concurrency("list")[1].endswith("every other pool: 3 (default of executor.yaml)\n")


def test_showing_a_pool_names_who_holds_and_who_waits_in_their_order(concurrency: Command, own_home: Path) -> None:
    concurrency("set", "database", "2")
    assert concurrency("show", "database")[1] == (
        "pool database: 0 of 2 slots held, limit set by command\nheld by nobody\nnobody waits\n"
    )
    with (
        LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 2}}) as holds,
        LivingRun(
            own_home,
            RUN_B,
            {"step": "late", "pools": {"database": 1}},
            {"step": "soon", "pools": {"database": 2}, "priority": 3, "attempt": 2},
            {"step": "never", "pools": {"database": 3}},
        ),
    ):
        code, out, err = concurrency("show", "database")
        assert (code, err) == (0, "")
        assert f"pid {holds.workers['load']}" in out
        assert masked(out) == (
            "pool database: 2 of 2 slots held, limit set by command\n"
            "held by:\n"
            "  run aaaaaaaa, step load, attempt 1, 2 slots, pid N, since TIME\n"
            "waiting, in this order:\n"
            "  1. run bbbbbbbb, step soon, attempt 2, 2 slots, priority 3, since TIME, waits for pool 'database' "
            "(2 of 2 held, 2 needed)\n"
            "  2. run bbbbbbbb, step late, attempt 1, 1 slot, priority 0, since TIME, waits for pool 'database' "
            "(2 of 2 held), 1 claim before it\n"
            "  3. run bbbbbbbb, step never, attempt 1, 3 slots, priority 0, since TIME, waits for pool 'database', "
            "which has 2 slots in all, while the step needs 3\n"
        )
        shown = json.loads(concurrency("show", "database", "--json")[1])
    (holder,) = shown["holders"]
    assert (holder["run"], holder["step"], holder["slots"], holder["alive"]) == (RUN_A, "load", 2, True)
    assert (holder["pids"], holder["driver_pid"]) == ([holds.workers["load"]], holds.pid)
    assert [waiter["step"] for waiter in shown["waiters"]] == ["soon", "late", "never"]
    (reason,) = shown["waiters"][2]["waits_for"]
    assert (reason["pool"], reason["cause"], reason["weight"], reason["limit"]) == ("database", "unsatisfiable", 3, 2)


@pytest.mark.parametrize("look", [("get", "database"), ("list",), ("show", "database")])
def test_what_a_dead_run_held_is_taken_back_by_whoever_looks(
    concurrency: Command, own_home: Path, look: tuple[str, ...]
) -> None:
    concurrency("set", "database", "1")
    nobody = concurrency(*look)
    LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}).end()
    assert concurrency(*look) == nobody


def test_looking_gives_what_a_dead_run_held_to_whoever_waits(concurrency: Command, own_home: Path) -> None:
    concurrency("set", "database", "1")
    holds = LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}})
    with LivingRun(own_home, RUN_B, {"step": "next", "pools": {"database": 1}}):  # it never looks by itself
        holds.end()
        assert concurrency("get", "database") == (0, '"database": 1 / 1 slots occupied\n', "")
        (holder,) = json.loads(concurrency("show", "database", "--json")[1])["holders"]
    assert (holder["run"], holder["step"]) == (RUN_B, "next")


def test_what_a_dead_run_holds_is_said_to_be_so_where_the_ledger_cannot_be_written_at_once(
    concurrency: Command, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "try_reap", lambda *_: False)  # as while somebody else writes
    with LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}) as run:
        run.end()
        out = concurrency("show", "database")[1]
        got, listed = concurrency("get", "database"), concurrency("list")
        data = json.loads(concurrency("get", "database", "--json")[1])
    assert got[1] == '"database": 1 / 0 slots occupied\n'  # as Dagster prints it
    note = "notice: 1 slot of pool 'database' is held by a run that has died; whoever asks next takes it back\n"
    assert got[2].endswith(note)
    assert listed[2] == note
    assert (data["held"], data["held_by_dead"]) == (1, 1)
    assert masked(out).splitlines()[2] == (
        "  run aaaaaaaa, step load, attempt 1, 1 slot, driver pid N, since TIME; its run has died, and whoever asks "
        "next takes this back"
    )
    assert out.startswith("pool database: unlimited\n")


# --- free ------------------------------------------------------------------------------------------------------------


def test_what_a_dead_run_has_left_is_freed(concurrency: Command, own_home: Path) -> None:
    LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 2, "api": 1}}).end()
    assert concurrency("free", "aaaa") == (
        0,
        "freed step load of run aaaaaaaa, which held 1 slot of pool api and 2 slots of pool database\n",
        "",
    )
    assert concurrency("free", "aaaa") == (0, "run aaaaaaaa has left nothing behind\n", "")


def test_of_a_step_that_outlived_its_driver_the_living_process_is_named(concurrency: Command, own_home: Path) -> None:
    with LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}) as run:
        run.kill()
        code, _, err = concurrency("free", "aaaa")
    assert code == 2
    assert f"not freed: its driver died, and process {run.workers['load']} of step load lives; to stop that" in err
    assert str(run.pid) not in err


def test_what_lives_is_not_freed_but_by_force(concurrency: Command, own_home: Path) -> None:
    concurrency("set", "database", "1")
    with LivingRun(
        own_home, RUN_A, {"step": "load", "pools": {"database": 1}}, {"step": "next", "pools": {"database": 1}}
    ) as run:
        code, out, err = concurrency("free", "aaaa", "load")
        assert (code, out) == (2, "")
        assert err == (
            f"Error: 1 claim of run aaaaaaaa not freed: process {run.pid}, which drives it, lives, or a process of the "
            "step does; to stop that and free them then: executor instance concurrency free aaaaaaaa load --force\n"
        )
        assert run.process.poll() is None
        code, out, err = concurrency("free", "aaaa", "--force")
        assert (code, err) == (0, "")
        assert out == (
            f"stopped process {run.pid}\n"
            f"stopped process {run.workers['load']}\n"
            "freed step load of run aaaaaaaa, which held 1 slot of pool database\n"
            "freed step next of run aaaaaaaa, which waited for 1 slot of pool database\n"
        )


def test_what_was_freed_can_be_had_as_json(concurrency: Command, own_home: Path) -> None:
    LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}).end()
    freed = json.loads(concurrency("free", "last", "load", "--json")[1])
    assert (freed["run"], freed["alive"], freed["stopped_pids"]) == (RUN_A, [], [])
    assert [(claim["step"], claim["pools"]) for claim in freed["freed"]] == [("load", {"database": 1})]


def test_a_run_or_step_that_is_not_there_ends_with_2(concurrency: Command, own_home: Path) -> None:
    assert concurrency("free", "cccc")[0] == 2
    LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}).end()
    assert concurrency("free", "aaaa", "laod") == (
        2,
        "",
        "Error: step 'laod' of run aaaaaaaa holds nothing and waits for nothing; did you mean 'load'?\n",
    )


# --- the settings file -----------------------------------------------------------------------------------------------


def test_a_mistake_in_the_file_ends_every_command_about_limits_with_its_line(
    concurrency: Command, own_home: Path
) -> None:
    own_home.mkdir(mode=0o700)
    own_home.joinpath("executor.yaml").write_text("concurrency:\n  pools:\n    defualt_limit: 1\n")
    said = (
        f"Error: {own_home}/executor.yaml:3:5: unknown key 'defualt_limit' under concurrency.pools; did you mean "
        "'default_limit'?\n"
    )
    for words in (["list"], ["get", "--all"], ["set", "database", "1"], ["show", "database"], ["delete", "database"]):
        assert concurrency(*words) == (2, "", said)


def test_a_mistake_in_the_file_is_not_in_the_way_of_freeing(concurrency: Command, own_home: Path) -> None:
    LivingRun(own_home, RUN_A, {"step": "load", "pools": {"database": 1}}).end()
    own_home.joinpath("executor.yaml").write_text("concurrency: 4\n")
    assert concurrency("free", "aaaa")[0] == 0
    (own_home / "runs" / RUN_B).mkdir()
    for path in own_home.glob("ledger.db*"):
        path.unlink()
    assert concurrency("free", RUN_B) == (0, "run bbbbbbbb has left nothing behind\n", "")


def test_what_has_no_effect_is_noticed_on_stderr(concurrency: Command, own_home: Path) -> None:
    own_home.mkdir(mode=0o700)
    own_home.joinpath("executor.yaml").write_text("concurrency:\n  runs:\n    max_concurrent_runs: 15\n")
    code, out, err = concurrency("get", "--all")
    assert code == 0
    assert out.startswith("No concurrency limits set.")
    assert err.startswith(f"notice: {own_home}/executor.yaml:3:5: concurrency.runs.max_concurrent_runs has no effect")


def test_help_has_examples(concurrency: Command) -> None:
    for command in ("set", "get", "list", "show", "delete", "free"):
        code, out, _ = concurrency(command, "--help")
        assert code == 0
        assert f"executor instance concurrency {command} " in out.partition("Examples:")[2]
        assert "Exit codes:" in out
