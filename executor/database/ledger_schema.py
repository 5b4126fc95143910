"""The tables of the ledger, as SQLite has them: pools, owners, claims, and what claims need.

Claims that need the same share one row of ``shape``, and ``need`` says which slots a shape takes. What is held of a
pool is counted from the granted claims whenever it matters; there is no counter that could drift. A trigger is the
second guard: it undoes any transaction that would grant more than the limit that is in force then.
"""

from __future__ import annotations

import os
import time

from executor.database.schema import Schema

# Numbers of claims and tokens count up from the time when the file is made, so none comes twice, also when the file is
# lost and made again: nobody uses up a million numbers per millisecond.
NUMBERS_PER_MS = 1 << 20

TABLES = (
    """
    CREATE TABLE about (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        born TEXT NOT NULL,             -- differs from file to file
        counter INTEGER NOT NULL,       -- the last number of a claim, and the last token
        default_limit INTEGER CHECK (default_limit >= 0)
    )
    """,
    """
    CREATE TABLE pool (
        name TEXT PRIMARY KEY,
        explicit INTEGER CHECK (explicit >= 0),     -- set by a command
        yaml INTEGER CHECK (yaml >= 0)              -- set in executor.yaml
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE owner (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        folder TEXT NOT NULL,           -- of the run: its lane files carry the step locks
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start_time INTEGER NOT NULL,    -- of the process, in ticks since boot: tells it from a later one of its pid
        since REAL NOT NULL             -- seconds since the epoch, to be shown
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE shape (
        id INTEGER PRIMARY KEY,
        needs TEXT NOT NULL UNIQUE      -- JSON: [["pool", weight], ...] in order of names
    )
    """,
    """
    CREATE TABLE need (
        pool TEXT NOT NULL,
        shape INTEGER NOT NULL,
        weight INTEGER NOT NULL CHECK (weight >= 1),
        PRIMARY KEY (pool, shape)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX need_of_shape ON need (shape)",
    """
    CREATE TABLE claim (
        seq INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        run TEXT NOT NULL,
        step TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        shape INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'parked', 'granted')),
        token INTEGER CHECK ((token IS NOT NULL) = (state = 'granted')),
        passed INTEGER NOT NULL DEFAULT 0,
        closes INTEGER NOT NULL DEFAULT 0,  -- 1: was passed so often that it closes all of its pools
        filed REAL NOT NULL,                -- seconds since boot, for ageing
        filed_at REAL NOT NULL,             -- seconds since the epoch, to be shown
        granted_at REAL
    )
    """,
    "CREATE INDEX claim_of_owner ON claim (owner, token)",
    "CREATE INDEX claim_held ON claim (shape) WHERE state = 'granted'",
    "CREATE INDEX claim_in_line ON claim (shape, closes, priority DESC, seq) WHERE state = 'waiting'",
    "CREATE INDEX claim_by_age ON claim (shape, seq) WHERE state = 'waiting'",
)

# What is held of a pool against its limit, for each pool that the claim needs which has just been granted.
_GUARD = """
    BEGIN
        SELECT RAISE(ABORT, 'granted more slots of a pool than it has')
        WHERE EXISTS (
            SELECT 1
            FROM (
                SELECT mine.pool AS pool, coalesce(
                    (SELECT coalesce(explicit, yaml) FROM pool WHERE name = mine.pool),
                    (SELECT default_limit FROM about)
                ) AS slots
                FROM need AS mine WHERE mine.shape = NEW.shape
            ) AS limits
            WHERE slots IS NOT NULL AND slots < (
                SELECT sum(need.weight * (
                    SELECT count(*) FROM claim AS other WHERE other.shape = need.shape AND other.state = 'granted'
                ))
                FROM need WHERE need.pool = limits.pool
            )
        );
    END
"""

GUARDS = (
    f"CREATE TRIGGER claim_granted AFTER INSERT ON claim WHEN NEW.state = 'granted' {_GUARD}",
    f"""
    CREATE TRIGGER claim_granted_later AFTER UPDATE OF state, shape ON claim WHEN NEW.state = 'granted' {_GUARD}
    """,
)


def _first_rows() -> list[tuple[str, tuple[object, ...]]]:
    born = os.urandom(8).hex()
    return [
        ("INSERT INTO about (id, born, counter) VALUES (1, ?, ?)", (born, time.time_ns() // 10**6 * NUMBERS_PER_MS))
    ]


LEDGER = Schema(
    name="ledger",
    application_id=0x45584C47,  # "EXLG"
    version=1,
    create=TABLES + GUARDS,
    first_rows=_first_rows,
    page_bytes=1024,  # a transaction changes a few bytes on each of six pages, and writes all of them
)
