"""Starts and ends the live view of a run: a process of its own, which the driver never waits for while it drives."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.runs.home import RunFolder

# What runs in it. Only the package's own folder is added to the path, and last: neither the user's current folder nor
# a module of theirs that has the name of one of ours may get in the way.
_CODE = """\
import sys
root in sys.path or sys.path.append(root)
from executor.cli.live import main
main()
"""


class Viewer:
    """The live view of one run on the terminal behind ``fd``. Safe to close twice."""

    def __init__(self, folder: RunFolder, fd: int) -> None:
        root = str(Path(__file__).resolve().parents[2])
        self._pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", f"root = {root!r}\n{_CODE}", str(folder.path), "1"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, fd, 1),
            ],
            setsigmask=[signal.SIGINT],  # which is for the run, from the first moment on
        )

    def close(self) -> None:
        """Let it say what it has not said yet, take its lines away, and end; wait for that."""
        pid, self._pid = self._pid, 0
        if not pid:
            return
        with suppress(ProcessLookupError, ChildProcessError):  # somebody waits for any child of this process
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
            os.waitpid(pid, 0)
