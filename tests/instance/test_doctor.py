"""``doctor``: a ledger in order is said to be; each thing that is not is found, with what to do."""

from __future__ import annotations

import errno
import os
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from living_run import LivingRun

from executor import Instance
from executor.config.storage import StorageSettings
from executor.database.errors import DatabaseFull
from executor.instance import doctor, trial
from executor.instance.doctor import examine
from executor.ledger.ledger import Ledger
from executor.ledger.proof import Finding
from executor.ledger.views import LedgerView
from executor.runs.home import make_run
from executor.runs.memory import make_memory_folder
from tests.forked import fork, wait

GIB = 1 << 30
RUN_A = "aaaaaaaa-0000-4000-8000-000000000000"
RUN_B = "bbbbbbbb-0000-4000-8000-000000000000"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Instance.get(tmp_path / "home").home


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trial, and without waiting for the second look: for what is never mended."""
    monkeypatch.setattr(doctor, "try_folder", lambda home: iter(()))
    monkeypatch.setattr(doctor, "SECOND_LOOK_S", 0.0)


def wrong(home: Path) -> list[Finding]:
    """What is not in order, or is worth a note."""
    return [finding for finding in examine(home) if finding.level != "ok"]


# --- in order --------------------------------------------------------------------------------------------------------


def test_an_empty_home_is_in_order_and_nothing_is_left_in_it(home: Path) -> None:
    before = sorted(os.listdir(home))
    found = list(examine(home))
    assert {finding.level for finding in found} == {"ok"}
    assert [finding.name for finding in found] == [
        *("versions", "SQLite", "home", "file system", "machine", "inotify", "settings"),
        *["trial"] * 4,
        "ledger",
        "index of runs",
        "runs",
        "memory",
    ]
    assert found[-4].text == "there is no ledger yet; the first run makes it"
    assert sorted(os.listdir(home)) == before


def test_the_machine_is_told_with_what_runs_may_use_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (1.25, 2.0, 3.0))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * GIB, total=16 * GIB))
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=20 * GIB))
    monkeypatch.setattr(doctor, "usable_cpus", lambda: 8)
    monkeypatch.setattr(doctor, "usable_memory", lambda: 16 * GIB)
    whole = "8 CPUs; load 1.2; 3.0 GiB of 16.0 GiB of memory available; 20.0 GiB of room in the home folder"
    assert machine(home) == Finding(name="machine", level="ok", text=whole)
    monkeypatch.setattr(doctor, "usable_cpus", lambda: 2)
    monkeypatch.setattr(doctor, "usable_memory", lambda: 4 * GIB)
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=GIB // 8))
    found = machine(home)
    assert found.text.startswith("8 CPUs, of which runs may use 2; load 1.2; 3.0 GiB of 16.0 GiB of memory available, ")
    assert "of which runs may use 4.0 GiB (cgroup); 128 MiB of room in the home folder, which is little" in found.text
    assert (found.level, found.fix) == ("note", "executor runs prune, or set EXECUTOR_HOME to a folder on another disk")


def machine(home: Path) -> Finding:
    (found,) = [finding for finding in examine(home) if finding.name == "machine"]
    return found


def test_a_ledger_in_use_is_in_order(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    with (
        LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}),
        LivingRun(home, RUN_B, {"step": "next", "pools": {"db": 1}}),
    ):
        found = list(examine(home))
    assert wrong_of(found) == []
    texts = [finding.text for finding in found]
    assert "2 runs and 1 lease, none without a living owner" in texts
    assert "1 pool, none above its limit" in texts


def wrong_of(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level != "ok"]


def test_the_version_of_sqlite_says_whether_its_bug_concerns_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sqlite_version", lambda: ("3.40.1", True))
    assert "SQLite 3.40.1 has the WAL-reset bug" in doctor._sqlite().text
    assert "it does not concern the ledger" in doctor._sqlite().text
    monkeypatch.setattr(doctor, "sqlite_version", lambda: ("3.51.3", False))
    assert doctor._sqlite().text == "SQLite 3.51.3, without the WAL-reset bug"


# --- the place and the settings --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_network_file_system_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "file_system_of", lambda path: "nfs4")
    (finding,) = wrong(home)
    assert finding.is_problem
    assert finding.text.startswith("the home folder is on a file system of kind nfs4")
    assert "EXECUTOR_HOME" in finding.fix


def test_a_home_that_others_may_write_into_is_a_problem_and_the_last_word(home: Path) -> None:
    home.chmod(0o777)
    (finding,) = wrong(home)
    assert finding.is_problem
    assert "chmod go-w" in finding.text


@pytest.mark.usefixtures("quick")
def test_what_is_wrong_in_the_settings_is_told_beside_the_rest(home: Path) -> None:
    (home / "executor.yaml").write_text("concurrency: {pools: {default_limit: x, limts: {}}}\ntelemetry: {}\n")
    found = wrong(home)
    assert [(finding.name, finding.level) for finding in found] == [("settings", "problem")] * 2
    (home / "executor.yaml").write_text("concurrency: {runs: {max_concurrent_runs: 3}}\ntelemetry: {}\n")
    found = list(examine(home))
    assert [(finding.name, finding.level) for finding in wrong_of(found)] == [("settings", "note")]
    assert any(finding.text.endswith("has no mistakes; not used by this version: telemetry") for finding in found)


@pytest.mark.usefixtures("quick")
def test_a_kernel_without_notices_is_a_note(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(doctor, "CloseWatch", none_left)
    (finding,) = wrong(home)
    assert (finding.level, finding.name) == ("note", "inotify")
    assert "fs.inotify.max_user_instances" in finding.fix


# --- the trial -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (("liveness", "owner_is_alive", lambda home, owner: False), "a lock that another process holds is not seen"),
        (("bell", "ring", lambda home, owner: False), "a FIFO that another process reads cannot be written"),
    ],
)
def test_a_file_system_on_which_something_does_not_work_is_found_by_trying(
    home: Path, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, str, object], said: str
) -> None:
    module, name, instead = broken
    monkeypatch.setattr(getattr(trial, module), name, instead)
    problems = [finding for finding in trial.try_folder(home) if finding.is_problem]
    assert len(problems) == 1
    assert said in problems[0].text
    assert list(home.glob("trial-*")) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), DatabaseFull("it is full")])
def test_a_full_disk_asks_for_room_on_it(home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(trial, "Ledger", full)
    (problem,) = trial.try_folder(home)
    assert str(error) in problem.text
    assert problem.fix.startswith("make room on the disk of the home folder")


def test_locks_that_do_not_exclude_are_found_by_trying(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from executor.database.lock import FileLock

    monkeypatch.setattr(FileLock, "acquire", lambda self, timeout_s, shared=False: None)
    monkeypatch.setattr(FileLock, "release", lambda self: None)
    (problem,) = [finding for finding in trial.try_folder(home) if finding.is_problem]
    assert "two processes held one lock at the same time" in problem.text


def test_a_second_process_that_fails_is_told_with_its_last_words(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_CRASH_POINTS", "no such point")
    (problem,) = trial.try_folder(home)
    assert "the second process failed: ValueError: EXECUTOR_CRASH_POINTS" in problem.text


# --- the ledger ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_what_a_dead_run_left_is_a_note_while_nobody_waits_for_it(home: Path) -> None:
    LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}).end()
    (finding,) = wrong(home)
    assert (finding.level, finding.name) == ("note", "owners")
    assert "has died and left 1 claim; the next who needs it, or the next run, takes it back" in finding.text


@pytest.mark.usefixtures("quick")
def test_what_a_dead_run_left_is_a_problem_if_those_who_wait_do_not_take_it(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    dead = LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}})
    with LivingRun(home, RUN_B, {"step": "next", "pools": {"db": 1}}):  # which listens to nobody
        dead.end()
        problems = [finding for finding in examine(home) if finding.is_problem]
    assert len(problems) == 1
    assert "has died, and those who wait for pool 'db' have not taken its slots back" in problems[0].text
    assert problems[0].fix == "executor instance concurrency free aaaaaaaa"


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
@pytest.mark.usefixtures("quick")
def test_a_ledger_that_may_only_be_read_is_a_problem(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    path = home / "ledger.db"
    path.chmod(0o444)
    for each in (home, *home.rglob("*")):
        os.chown(each, 65534, 65534)
    for parent in list(home.parents)[:-2]:
        parent.chmod(0o755)

    def use() -> None:
        os.setuid(65534)
        problems = [finding for finding in examine(home) if finding.is_problem]
        assert [finding.fix for finding in problems] == [f"chmod u+w {path}"]
        assert "may only be read by you" in problems[0].text

    assert wait(fork(use)) == 0


@pytest.mark.usefixtures("quick")
def test_a_step_that_outlived_its_run_is_a_note_with_what_to_do(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        run.kill()
        (finding,) = wrong(home)
    assert finding.level == "note"
    assert "a process of step 'load' has outlived run aaaaaaaa" in finding.text
    assert finding.fix == "to end it: executor instance concurrency free aaaaaaaa --force"


@pytest.mark.usefixtures("quick")
def test_a_limit_below_what_is_held_is_a_note(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 2}}):
        Instance.get(home).ledger.set_limit("db", 1)
        (finding,) = wrong(home)
    assert (finding.level, finding.name) == ("note", "limits")
    assert "2 slots of pool 'db' are held and its limit is 1: it was lowered after they were granted" in finding.text


@pytest.mark.usefixtures("quick")
def test_a_run_whose_bell_is_gone_is_a_problem(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        bell = home / "bell" / run.owner
        bell.unlink()
        (gone,) = wrong(home)
        os.mkfifo(bell)
        (unread,) = wrong(home)
        bell.unlink()
        bell.write_text("")
        (no_bell,) = wrong(home)
    for finding in (gone, unread, no_bell):
        assert finding.is_problem
        assert "its bell is gone" in finding.text


@pytest.mark.usefixtures("quick")
def test_a_lock_file_without_a_row_is_a_note_or_a_problem_if_it_is_locked(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        (home / "own" / "0123.lock").touch()
        (stray,) = wrong(home)
        assert (stray.level, stray.name) == ("note", "locks")
        (home / "own" / "0123.lock").unlink()
        with Ledger(home) as ledger:
            ledger.database.execute("DELETE FROM claim")
            ledger.database.execute("DELETE FROM owner")
        (unknown,) = wrong(home)
        assert unknown.is_problem
        assert f"own/{run.owner}.lock, and the ledger does not know it" in unknown.text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["DROP TRIGGER claim_granted"], "the triggers that undo a grant above a limit are missing"),
        (["UPDATE claim SET token = (SELECT max(token) FROM claim) WHERE token > 0"], "have a token twice"),
        (["UPDATE about SET counter = 1"], "one that was never given"),
        (["DELETE FROM need"], "no needs"),
        (
            ["UPDATE claim SET owner = 'nobody' WHERE step = 'load'"],
            "the claim of step 'load' of run aaaaaaaa has no owner",
        ),
        (["UPDATE claim SET state = 'waiting', token = NULL WHERE step = 'load'"], "waits, and nothing is in its way"),
    ],
)
def test_rows_that_cannot_be_are_found(home: Path, statements: list[str], said: str) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}, {"step": "save", "pools": {"db": 1}}):
        with Ledger(home) as ledger:
            for statement in statements:
                ledger.database.execute(statement)
        problems = [finding for finding in examine(home) if finding.is_problem]
    assert said in " ".join(finding.text for finding in problems)


@pytest.mark.usefixtures("quick")
def test_a_damaged_file_is_a_problem(home: Path) -> None:
    with Ledger(home):
        pass
    (home / "ledger.db").write_bytes(b"no database" * 1000)
    (finding,) = wrong(home)
    assert finding.is_problem
    assert "is damaged" in finding.text


@pytest.mark.usefixtures("quick")
def test_somebody_who_holds_the_lock_and_does_not_go_on_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LedgerView", partial(LedgerView, timeout_s=0.0))
    with Ledger(home) as ledger:
        ledger.database.lock.acquire(10.0)
        (finding,) = wrong(home)
        ledger.database.lock.release()
    assert finding.is_problem
    assert f"process {os.getpid()} holds it and does not go on" in finding.text


def test_a_problem_that_is_gone_at_a_second_look_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "try_folder", lambda home: iter(()))
    with Ledger(home):
        pass
    (home / "own" / "stray.lock").touch()
    looks: list[str] = []

    def prove(path: Path, view: object) -> list[Finding]:
        looks.append("look")
        return [Finding(name="x", level="problem" if len(looks) == 1 else "ok", text="x")]

    slept: list[float] = []
    monkeypatch.setattr(doctor, "prove", prove)
    monkeypatch.setattr(doctor.time, "sleep", slept.append)
    assert wrong(home) == []
    assert (len(looks), slept) == (2, [doctor.SECOND_LOOK_S])


def test_looking_changes_no_byte_of_the_ledger(home: Path) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}).end()
    files = ("ledger.db", "ledger.db-wal")  # the second is there, since nobody was left to close it
    before = [(home / name).read_bytes() for name in files]
    list(examine(home))
    assert [(home / name).read_bytes() for name in files] == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_a_ledger_that_was_deleted_or_emptied_under_running_work_is_a_problem(home: Path, how: str) -> None:
    Instance.get(home).ledger.set_limit("db", 1)
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}):
        if how == "deleted":
            for path in home.glob("ledger.db*"):
                path.unlink()
        else:
            os.truncate(home / "ledger.db", 0)
        (found,) = [finding for finding in examine(home) if finding.is_problem]
    assert "is gone (deleted or emptied), and the run with the lock file own/" in found.text


@pytest.mark.usefixtures("quick")
def test_a_run_that_lives_and_has_lost_its_lock_file_is_not_said_to_have_died(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        (home / "own" / f"{run.owner}.lock").unlink()
        (found,) = [finding for finding in examine(home) if finding.name in {"locks", "owners"} and finding.is_problem]
    assert f"run {RUN_A[:8]} (pid {run.pid}) lives, and its lock file own/{run.owner}.lock was removed" in found.text


@pytest.mark.usefixtures("quick")
def test_a_log_that_was_removed_under_running_work_is_a_problem_with_a_sentence(home: Path) -> None:
    """Whatever SQLite meets first: that a page is not there, or that it is not what it should be."""
    Instance.get(home).ledger.set_limit("db", 1)
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}):
        (home / "ledger.db-wal").unlink()
        found = [finding for finding in examine(home) if finding.is_problem]
    assert found
    assert not any("Make room" in finding.text for finding in found)


def test_a_run_that_is_stopped_lives(home: Path) -> None:
    with LivingRun(home, RUN_A, {"step": "load", "pools": {"db": 1}}) as run:
        os.kill(run.pid, signal.SIGSTOP)
        assert wrong_of(list(examine(home))) == []


# --- what runs leave behind ------------------------------------------------------------------------------------------


def of(home: Path, name: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in examine(home) if finding.name == name]


def test_what_runs_have_on_the_disk_is_told_with_the_room_that_is_left(
    home: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = make_run(home)
    (lock.folder.values / "value").write_bytes(b"x" * (3 << 20))
    ((level, text),) = of(home, "runs")
    assert level == "ok"
    assert text.startswith("1 run with 3 MiB, and room for ")

    disk = os.statvfs(home)
    full = SimpleNamespace(**{name: getattr(disk, name) for name in dir(disk) if name.startswith("f_")})
    full.f_bavail, full.f_frsize, full.f_files, full.f_favail = 10, 4096, 1000, 500
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    ((level, text),) = of(home, "runs")
    assert (level, "the disk is full but for what is kept for histories" in text) == ("problem", True)
    full.f_bavail, full.f_favail = disk.f_blocks, 0
    ((level, text),) = of(home, "runs")
    assert (level, "no inode left" in text) == ("problem", True)
    lock.release()


def test_values_that_a_dead_run_has_left_in_memory_are_a_note(home: Path, quick: None, tmp_path: Path) -> None:
    shm = tmp_path / "shm"
    shm.mkdir()
    (home / "executor.yaml").write_text(f"storage: {{values: memory, memory_folder: {shm}}}")
    assert of(home, "memory") == [("ok", f"no values in {shm}; none was left by a run that died")]
    lock = make_run(home)
    held = make_memory_folder(StorageSettings(values="memory", memory_folder=str(shm)), lock.folder, keep_all=False)
    assert held is not None
    (held.path / "value").write_bytes(b"x" * (2 << 20))
    assert of(home, "memory") == [("ok", f"2 MiB of values in {shm}, of 1 run; none was left by a run that died")]
    lock.release()  # as the kernel does it when its driver dies
    text = f"run {lock.folder.run_id[:8]} has died and left 2 MiB of values in {held.path}; the next run moves them"
    assert of(home, "memory") == [("note", f"{text} to its folder")]
    assert of(Instance.get(tmp_path / "other").home, "memory") == [
        ("ok", "no values in /dev/shm; none was left by a run that died")
    ]
    held.settle(lambda _: False)
