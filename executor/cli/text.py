"""How the commands write tables, times and runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.ledger.named import run_name, time_text
from executor.runs.report import printable, seconds_text
from executor.runs.words import paint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.runs.words import Shown


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, keep: int | None = None, shown: Sequence[Shown] = ()
) -> list[str]:
    """The lines of a table: columns as wide as they must be.

    ``keep``: of the columns after so many, those in which nothing stands are left out. ``shown``: of each row, the
    state that stands in its second column, to be written in its colour.
    """
    always = len(head) if keep is None else keep
    kept = [column for column in range(len(head)) if column < always or any(row[column] for row in rows)]
    lines = [[head[column] for column in kept], *[[printable(row[column]) for column in kept] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(kept))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    for line, state in zip(padded[1:], shown, strict=False):
        line[1] = line[1].replace(line[1].rstrip(), paint(line[1].rstrip(), state, colours=True))
    return ["  ".join(line).rstrip() for line in padded]


def run_text(run: str) -> str:
    """A run's id as far as it is shown to people; commands take it."""
    return printable(run_name(run))


def since_text(at: float, now: float | None = None) -> str:
    """Since when something is so, and for how long: ``since 12:03:04 (38.0 s)``."""
    present = time.time() if now is None else now
    return f"since {time_text(at, present)} ({seconds_text(max(0.0, present - at))})"


def slots_text(count: int) -> str:
    """``1 slot``, ``2 slots``."""
    return f"{count} slot{'' if count == 1 else 's'}"
