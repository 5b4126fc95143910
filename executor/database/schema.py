"""What stands in a database file: who it belongs to, which version of its tables, and how they come to be.

A new file becomes valid in one step, so whoever dies while making it leaves nothing that a second maker would trip on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from executor.database.crash_points import crash_point
from executor.database.errors import DatabaseUnusable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of one kind of database file, in their present version."""

    name: str  #: for people: ``ledger``
    application_id: int  #: stands in the file's header, so that no other program's file is taken for ours
    version: int  #: 1 or more
    create: tuple[str, ...]  #: statements that make everything in an empty file
    #: statements that fill the first rows, with their values; asked once, when a file is made
    first_rows: Callable[[], list[tuple[str, tuple[object, ...]]]] = field(default=list)
    page_bytes: int = 4096  #: of a new file: what is read and written at once
    upgrades: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  #: version -> statements to the next one


def version_of(connection: sqlite3.Connection, schema: Schema, path: str) -> int:
    """The version of the tables in an open file; 0: it is new, or its maker died before it was valid.

    Raises:
        DatabaseUnusable: it is another program's, or from a later version of this package.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not version and not application_id and not tables:
        return 0
    if application_id != schema.application_id:
        raise DatabaseUnusable(
            f"{path} is a database of another program, not a {schema.name}; move it away, or set EXECUTOR_HOME to "
            "another folder"
        )
    if version > schema.version:
        raise DatabaseUnusable(
            f"{path} was written by a later version of executor (its tables have version {version}, this one knows "
            f"{schema.version}); install that version here, or set EXECUTOR_HOME to another folder"
        )
    return int(version)


def make_or_upgrade(connection: sqlite3.Connection, schema: Schema, version: int) -> None:
    """Bring the tables of an open file from ``version`` to the present one, in one transaction.

    The caller holds the file's lock.
    """
    connection.execute("BEGIN IMMEDIATE")
    if version == 0:
        half = len(schema.create) // 2
        for number, statement in enumerate(schema.create):
            connection.execute(statement)
            if number == half:
                crash_point("schema-half-made")
        for statement, values in schema.first_rows():
            connection.execute(statement, values)
        connection.execute(f"PRAGMA application_id = {schema.application_id:d}")
    else:
        for old in range(version, schema.version):
            for statement in schema.upgrades[old]:
                connection.execute(statement)
                crash_point("schema-half-made")
    connection.execute(f"PRAGMA user_version = {schema.version:d}")
    connection.execute("COMMIT")
    crash_point("schema-made")
