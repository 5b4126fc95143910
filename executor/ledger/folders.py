"""The folders of the ledger in the home folder, and when a missing ledger may be made anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.database.errors import DatabaseLost, DatabaseUnusable
from executor.ledger import liveness

if TYPE_CHECKING:
    from pathlib import Path


def make_folders(home: Path) -> None:
    """Make the folders of lock files and bells, with mode 0700; those that are there are left as they are.

    Raises:
        DatabaseUnusable: they cannot be made.
    """
    for name in ("own", "bell"):
        path = home / name
        try:
            path.mkdir(mode=0o700)
            path.chmod(0o700)  # whatever the umask is
        except FileExistsError:
            continue
        except OSError as error:
            raise DatabaseUnusable(
                f"the folder {path} cannot be made: {error.strerror}; set EXECUTOR_HOME to a folder where you may write"
            ) from error


def refuse_to_make_under_running_work(home: Path) -> None:
    """Pass if nothing is running that a ledger would have to know of.

    Raises:
        DatabaseLost: a run is alive, or a process of a step is; the text names one.
    """
    found = _running_work(home)
    if found:
        raise DatabaseLost(
            f"the ledger in {home} is gone (deleted or emptied), and {found} from before is still running, so a new "
            "one would give away slots that are in use; let it end, or end it, and try again"
        )


def _running_work(home: Path) -> str | None:
    try:
        owners = os.listdir(home / "own")  # noqa: PTH208  (names are all that is needed)
    except FileNotFoundError:
        owners = []
    for name in sorted(owners):
        owner = name.removesuffix(".lock")
        if liveness.owner_is_alive(home, owner):
            return f"the run with the lock file own/{name}"
    try:
        runs = os.listdir(home / "runs")  # noqa: PTH208  (as above)
    except FileNotFoundError:
        return None
    for run in sorted(runs):
        for path in liveness.lane_files(home / "runs" / run):
            if liveness.is_locked_anywhere(path):
                return f"a process of run {run} (it has {path} open)"
    return None
