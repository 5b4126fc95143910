"""The table of the index of runs: what the folders of the runs say, so that a question over all runs reads one file.

The folders are the truth. A row that is missing or old costs a look into one folder; nothing is lost with the file.
"""

from __future__ import annotations

from executor.database.schema import Schema

TABLES = (
    """
    CREATE TABLE run (
        run_id TEXT PRIMARY KEY,
        job TEXT,                       -- NULL: its driver died before it began, or its history cannot be read
        status TEXT NOT NULL,
        tags TEXT NOT NULL,             -- JSON: {"key": "value"}
        parent TEXT,                    -- the run that it was resumed from
        made_at REAL NOT NULL,          -- seconds since the epoch: of its folder, which gives the order of runs
        started_at REAL,                -- seconds since the epoch
        duration_s REAL,                -- by the run's own clock, which stands still while the run does
        steps INTEGER,
        size_bytes INTEGER              -- of its folder when it had ended
    ) WITHOUT ROWID
    """,
    "CREATE INDEX run_by_age ON run (made_at)",
)

INDEX = Schema(
    name="index of runs",
    application_id=0x45584849,  # "EXHI"
    version=1,
    create=TABLES,
)
