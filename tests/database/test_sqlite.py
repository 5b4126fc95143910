"""One SQLite file that many processes write to: transactions, and what can go wrong with the file."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executor.database import crash_points
from executor.database.errors import DatabaseBusy, DatabaseFull, DatabaseLost, DatabaseUnusable, Forked
from executor.database.schema import Schema
from executor.database.sqlite import LOG_BYTES, Database, Reader
from executor.workers import hygiene
from tests.forked import fork, wait

SCHEMA = Schema(
    name="list",
    application_id=77,
    version=1,
    create=("CREATE TABLE item (name TEXT)", "CREATE TABLE more (name TEXT)"),
    first_rows=lambda: [("INSERT INTO item VALUES (?)", ("first",))],
)


def open_it(path: Path, schema: Schema = SCHEMA, **options: object) -> Database:
    return Database(path, schema, descriptors=hygiene, **options)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = open_it(path)
    yield opened
    opened.close()


def names(database: Database) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM item")]


def add(database: Database, name: str) -> None:
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO item VALUES (?)", (name,))


def test_a_new_file_has_its_tables_and_first_rows_and_is_for_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        database = open_it(path)
    finally:
        os.umask(before)
    assert names(database) == ["first"]
    for file in (path, path.with_suffix(".lock"), Path(f"{path}-wal")):
        assert file.stat().st_mode & 0o777 == 0o600
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (1,)
    assert database.execute("PRAGMA mmap_size").fetchone() in {None, (0,)}
    assert database.execute("PRAGMA busy_timeout").fetchone() == (1000,)
    database.close()


def test_a_new_file_has_pages_of_the_size_that_its_schema_wants_and_a_log_of_the_usual_length(path: Path) -> None:
    for number, page_bytes in enumerate((4096, 1024)):
        database = open_it(path.with_name(f"{number}.db"), dataclasses.replace(SCHEMA, page_bytes=page_bytes))
        (found,) = database.execute("PRAGMA page_size").fetchone()
        (pages,) = database.execute("PRAGMA wal_autocheckpoint").fetchone()
        assert (found, found * pages) == (page_bytes, LOG_BYTES)
        database.close()


def test_what_raises_is_undone_and_lets_go_of_the_lock(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as transaction:
            transaction.execute("INSERT INTO item VALUES ('lost')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(database) == ["first"]
    add(database, "kept")
    assert names(database) == ["first", "kept"]


def test_a_transaction_is_refused_without_waiting_while_somebody_has_the_lock(database: Database, path: Path) -> None:
    other = open_it(path)
    with other.transaction():
        assert database.try_transaction() is None
    transaction = database.try_transaction()
    assert transaction is not None
    with transaction:
        transaction.execute("INSERT INTO item VALUES ('mine')")
    assert names(other) == ["first", "mine"]
    other.close()


def test_a_holder_of_the_lock_that_does_not_go_on_is_named(database: Database, path: Path) -> None:
    def hold() -> None:
        with open_it(path).transaction():
            os.kill(os.getpid(), signal.SIGSTOP)

    pid = fork(hold)
    os.waitpid(pid, os.WUNTRACED)
    with pytest.raises(DatabaseBusy, match=f"process {pid} holds it") as raised, database.transaction(timeout_s=0.05):
        pass
    assert raised.value.pid == pid == database.lock.holder()
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    add(database, "after its death")
    assert database.lock.holder() is None


def test_many_processes_write_at_once_and_nobody_ever_meets_a_locked_database(path: Path) -> None:
    def write() -> None:
        database = open_it(path)
        for number in range(50):
            add(database, str(number))
        database.close()

    pids = [fork(write) for _ in range(4)]
    assert [wait(pid) for pid in pids] == [0] * 4
    database = open_it(path)
    assert len(names(database)) == 201
    database.close()


@pytest.mark.parametrize("point", ["locked", "begun", "before-commit", "committed"])
def test_whoever_dies_in_a_transaction_leaves_all_of_it_or_nothing(path: Path, point: str) -> None:
    def die() -> None:
        database = open_it(path)
        crash_points.arm(point)
        add(database, "maybe")

    database = open_it(path)
    assert wait(fork(die)) == -signal.SIGKILL
    assert names(database) == (["first", "maybe"] if point == "committed" else ["first"])
    add(database, "next")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize("point", ["lock-file-made", "file-made", "journal-set", "schema-half-made", "schema-made"])
def test_whoever_dies_while_making_the_file_leaves_nothing_in_the_way(path: Path, point: str) -> None:
    def die() -> None:
        crash_points.arm(point)
        open_it(path)

    assert wait(fork(die)) == -signal.SIGKILL
    asked: list[bool] = []
    database = open_it(path, before_making=lambda: asked.append(True))
    assert names(database) == ["first"]
    assert asked == ([] if point == "schema-made" else [True])
    database.close()


def test_of_several_that_make_the_file_at_once_one_does_and_all_use_it(path: Path) -> None:
    def make() -> None:
        database = open_it(path)
        add(database, "mine")
        database.close()

    pids = [fork(make) for _ in range(6)]
    assert [wait(pid) for pid in pids] == [0] * 6
    database = open_it(path)
    assert names(database) == ["first", *["mine"] * 6]
    database.close()


# --- versions --------------------------------------------------------------------------------------------------------

NEXT = Schema(
    name="list",
    application_id=77,
    version=3,
    create=SCHEMA.create,
    upgrades={1: ("ALTER TABLE item ADD COLUMN size INTEGER",), 2: ("UPDATE item SET size = 5", "DROP TABLE more")},
)


def test_an_older_file_is_brought_to_the_present_version(path: Path) -> None:
    open_it(path).close()
    database = open_it(path, NEXT)
    assert database.execute("SELECT * FROM item").fetchall() == [("first", 5)]
    assert database.execute("PRAGMA user_version").fetchone() == (3,)
    database.close()


def test_whoever_dies_while_upgrading_leaves_the_older_version(path: Path) -> None:
    open_it(path).close()

    def die() -> None:
        crash_points.arm("schema-half-made")
        open_it(path, NEXT)

    assert wait(fork(die)) == -signal.SIGKILL
    database = open_it(path)
    assert database.execute("SELECT * FROM item").fetchall() == [("first",)]
    database.close()


def test_a_file_of_a_later_version_is_refused_and_left_alone(path: Path) -> None:
    open_it(path).close()
    open_it(path, NEXT).close()
    before = path.read_bytes()
    with pytest.raises(
        DatabaseUnusable, match=r"later version of executor \(its tables have version 3, this one knows 1\)"
    ):
        open_it(path)
    with pytest.raises(DatabaseUnusable, match="later version"), Reader(path, SCHEMA, descriptors=hygiene):
        pass
    assert path.read_bytes() == before


def test_a_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE precious (thing TEXT)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="another program"):
        open_it(path)
    assert path.read_bytes() == before


def test_what_is_no_database_at_all_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("dear diary " * 500)
    with pytest.raises(DatabaseUnusable, match="is damaged"):
        open_it(path)
    assert path.read_text() == "dear diary " * 500


def test_a_look_that_fails_leaves_nothing_open(path: Path) -> None:
    open_it(path).close()
    open_it(path, NEXT).close()
    reader = Reader(path, SCHEMA, descriptors=hygiene)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(DatabaseUnusable), reader:
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- the file under running work -------------------------------------------------------------------------------------


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    open_it(other).close()
    other.replace(path)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.unlink(), "was deleted"),
        (replace, "was replaced by another file"),
        (lambda path: os.truncate(path, 0), "was truncated"),
        (lambda path: os.truncate(path, 4096), "was truncated"),
        (lambda path: Path(f"{path}-wal").unlink(), "was deleted"),
    ],
    ids=["deleted", "replaced", "emptied", "cut short", "log deleted"],
)
def test_harm_done_to_the_file_in_use_is_noticed_and_nothing_new_put_there(
    path: Path, harm: Callable[[Path], None], says: str
) -> None:
    database = open_it(path)
    add(database, "before")
    add(database, "again")
    database.execute("PRAGMA wal_checkpoint").fetchall()  # so that the file has grown to its size
    add(database, "and again")
    harm(path)
    with pytest.raises(DatabaseLost, match=says) as raised, database.transaction():
        pass
    assert "the next run makes a new one" in str(raised.value)
    database.close()


@pytest.mark.parametrize("anew", [False, True], ids=["removed", "made anew"])
def test_a_lock_file_that_was_removed_in_use_is_noticed(path: Path, anew: bool) -> None:
    database = open_it(path)
    add(database, "before")
    path.with_suffix(".lock").unlink()
    if anew:
        open_it(path).close()
    with pytest.raises(DatabaseLost, match=r"lock file .* was removed or replaced while it was in use"):
        add(database, "after")
    database.close()
    with_new_lock = open_it(path)
    assert ("after",) not in with_new_lock.execute("SELECT name FROM item").fetchall()
    with_new_lock.close()


def test_before_a_missing_file_is_made_somebody_is_asked_who_may_forbid_it(path: Path) -> None:
    def forbid() -> None:
        raise DatabaseLost("work is running")

    with pytest.raises(DatabaseLost, match="work is running"):
        open_it(path, before_making=forbid)
    assert not path.exists()
    open_it(path).close()
    open_it(path, before_making=forbid).close()
    os.truncate(path, 0)
    with pytest.raises(DatabaseLost, match="work is running"):
        open_it(path, before_making=forbid)
    assert path.stat().st_size == 0


def test_a_full_disk_changes_nothing_and_passes(database: Database) -> None:
    database.execute("PRAGMA max_page_count = 1").fetchall()
    with pytest.raises(DatabaseFull, match="nothing was changed"), database.transaction() as transaction:
        transaction.execute("INSERT INTO item VALUES (?)", ("x" * 100_000,))
    assert names(database) == ["first"]
    database.execute("PRAGMA max_page_count = 100000").fetchall()
    add(database, "there is room again")
    assert len(names(database)) == 2


def test_a_disk_that_refuses_to_write_changes_nothing_and_passes(path: Path) -> None:
    database = open_it(path)
    add(database, "before")
    limit = Path(f"{path}-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(DatabaseFull, match=r"list\.db cannot be written"):
            add(database, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    add(database, "after")
    assert names(database) == ["first", "before", "after"]
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_file_that_may_only_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "list.db"
    open_it(path).close()
    for parent in [tmp_path, *list(tmp_path.parents)[:-2]]:
        parent.chmod(0o755)
    path.chmod(0o444)
    path.with_suffix(".lock").chmod(0o666)

    def use() -> None:
        os.setuid(65534)
        with pytest.raises(DatabaseUnusable, match=r"read-only|cannot be opened"):
            add(open_it(path), "x")

    assert wait(fork(use)) == 0


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match=r"lock file .* cannot be opened: No such file"):
        open_it(tmp_path / "nowhere" / "list.db")


def test_a_process_without_descriptors_left_says_so(path: Path) -> None:
    open_it(path).close()

    def use() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        with pytest.raises(DatabaseUnusable):
            open_it(path)

    assert wait(fork(use)) == 0


# --- readers ---------------------------------------------------------------------------------------------------------


def test_a_reader_sees_one_state_and_holds_nobody_up(database: Database, path: Path) -> None:
    with Reader(path, SCHEMA, descriptors=hygiene) as reader:
        assert reader.execute("SELECT count(*) FROM item").fetchone() == (1,)
        add(database, "meanwhile")
        assert reader.execute("SELECT count(*) FROM item").fetchone() == (1,)
    with Reader(path, SCHEMA, descriptors=hygiene) as reader:
        assert reader.execute("SELECT count(*) FROM item").fetchone() == (2,)


def test_a_reader_cannot_write(database: Database, path: Path) -> None:
    with (
        Reader(path, SCHEMA, descriptors=hygiene) as reader,
        pytest.raises(DatabaseUnusable, match="read-only"),
    ):
        reader.execute("DELETE FROM item")
    assert names(database) == ["first"]


def test_a_reader_that_comes_after_a_writer_was_killed_sees_what_was_committed(path: Path) -> None:
    def write_and_die() -> None:
        add(open_it(path), "kept")
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(write_and_die)) == -signal.SIGKILL
    with Reader(path, SCHEMA, descriptors=hygiene) as reader:
        assert reader.execute("SELECT count(*) FROM item").fetchone() == (2,)


# --- forks -----------------------------------------------------------------------------------------------------------


def test_a_forked_child_may_not_use_the_connection(database: Database) -> None:
    def use() -> None:
        with pytest.raises(Forked, match=f"opened by process {os.getppid()}"):
            add(database, "from the child")
        with pytest.raises(Forked):
            database.try_transaction()
        database.close()  # does nothing

    assert wait(fork(use)) == 0
    add(database, "from the parent")
    assert names(database) == ["first", "from the parent"]


def test_a_child_forked_in_a_transaction_does_not_keep_the_lock(database: Database, path: Path) -> None:
    begin, end = os.pipe()

    def linger() -> None:
        os.close(end)
        os.read(begin, 1)

    with database.transaction():
        pid = fork(linger)
    other = open_it(path)
    add(other, "the lock is free")
    other.close()
    os.close(end)
    assert wait(pid) == 0
    os.close(begin)


def test_a_forked_child_that_ends_its_interpreter_closes_no_connection(path: Path, tmp_path: Path) -> None:
    """Its parent is dead, so SQLite would take it for the last user of the file, and clear up without our lock."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "import tests.conftest\n"
        "from test_sqlite import open_it, add\n"
        f"database = open_it(Path({str(path)!r}))\n"
        "add(database, 'before')\n"
        "read, write = os.pipe()\n"
        "if os.fork():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.close(write)\n"
        "os.read(read, 1)\n"
        "sys.exit()\n"
    )
    done = subprocess.run([sys.executable, program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert Path(f"{path}-wal").exists(), "the child has closed the file"
    database = open_it(path)
    assert names(database) == ["first", "before"]
    database.close()
