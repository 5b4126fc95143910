"""Whether a folder can hold a ledger, found out by trying: two processes share one there, and one of them is killed.

Run as a module it is the second process: it holds a slot, and says what it sees.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Self

from executor.database.errors import DatabaseFull
from executor.errors import ExecutorError
from executor.ledger import bell, liveness
from executor.ledger.ledger import Ledger
from executor.ledger.proof import Finding
from executor.ledger.requests import Changes, Request
from executor.ledger.watch import CloseWatch
from executor.outputs.writer import NO_ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator

# A Python starts in a tenth of a second; this ends what hangs.
PATIENCE_S = 30.0

NEEDS = (("trial", 1),)

_MAKE_ROOM = "make room on the disk of the home folder, or set EXECUTOR_HOME to a folder on another one"
_ELSEWHERE = "set EXECUTOR_HOME to a folder on a local disk of this machine, such as one in /var/tmp"


class _Unfit(Exception):
    """The folder cannot hold a ledger; the text says what did not work."""


def try_folder(home: Path) -> Iterator[Finding]:
    """What came of it, one finding after the other; it ends with the first that is a problem.

    A folder ``trial-...`` is made in ``home`` and removed again.
    """
    try:
        with TemporaryDirectory(prefix="trial-", dir=home) as name:
            for text in _try(Path(name)):
                yield Finding(name="trial", level="ok", text=text)
    except (_Unfit, ExecutorError, OSError) as error:
        yield Finding(
            name="trial",
            level="problem",
            text=f"two processes cannot share a ledger here: {error}",
            fix=_MAKE_ROOM if _is_full(error) else _ELSEWHERE,
        )


def _is_full(error: Exception) -> bool:
    full = isinstance(error, OSError) and error.errno in NO_ROOM
    return full or isinstance(error, DatabaseFull)


def _try(folder: Path) -> Iterator[str]:
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(folder))
        ledger.set_limit("trial", 1)
        other = stack.enter_context(_Other(folder))
        owner = other.hear("owner")
        if not liveness.owner_is_alive(folder, owner):
            raise _Unfit("a lock that another process holds is not seen (fcntl, F_OFD_GETLK)")
        ledger.database.lock.acquire(PATIENCE_S)
        try:
            other.tell("lock")
            if other.hear("lock") != "taken":
                raise _Unfit("two processes held one lock at the same time (flock)")
        finally:
            ledger.database.lock.release()
        yield "two processes see each other's locks, and write one database in turn"

        me = ledger.register("trial", folder)
        stack.callback(ledger.unregister, me)
        asked = ledger.exchange(me, Changes(request=[Request(step="trial", attempt=1, needs=NEEDS)]), told=0)
        if asked.granted:
            raise _Unfit("a slot was granted twice: what one process wrote, another did not read")
        if not bell.ring(folder, owner):
            raise _Unfit("a FIFO that another process reads cannot be written")
        other.tell("bell")
        if other.hear("bell") != "rung":
            raise _Unfit("a bell (FIFO) was rung and not heard")
        yield "one is told by a bell (FIFO) what the other has granted"

        watch = _watch(folder, stack)
        other.kill()
        if watch is not None:
            if not select.select([watch.fileno()], [], [], PATIENCE_S)[0]:
                raise _Unfit("the kernel did not say that a process has ended (inotify)")
            yield "the end of a process is told at once (inotify)"
        granted = ledger.exchange(me, Changes(), told=0, look=True).granted
        if len(granted) != 1:
            raise _Unfit("the slot of a process that was killed was not freed")
        yield "the slot of a killed process is free at once"


def _watch(folder: Path, stack: ExitStack) -> CloseWatch | None:
    """A watch on those who end; None where the kernel has none left, which is told by ``doctor`` apart."""
    try:
        watch = CloseWatch()
    except OSError:
        return None
    stack.callback(watch.close)
    watch.add(str(folder / "own"), folder=True)
    return watch


class _Other:
    """The second process."""

    def __init__(self, folder: Path) -> None:
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "executor.instance.trial", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, word: str) -> None:
        """Say something to it."""
        stdin: IO[str] | None = self._process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):  # why it has ended is told where it is listened to
                stdin.write(f"{word}\n")
                stdin.flush()

    def hear(self, about: str) -> str:
        """What it says next, which is to be about this."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  (a pipe was asked for)
        line = stdout.readline() if select.select([stdout], [], [], PATIENCE_S)[0] else ""
        word, _, said = line.strip().partition(" ")
        if word != about:
            self._process.kill()
            trouble = self._process.communicate()[1].strip().splitlines()
            raise _Unfit(f"the second process failed: {trouble[-1] if trouble else 'it does not answer'}")
        return said

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _second(folder: Path) -> None:
    """What the second process does, until it is killed."""
    with Ledger(folder) as ledger:
        owner = ledger.register("second", folder)
        ledger.exchange(owner, Changes(request=[Request(step="trial", attempt=1, needs=NEEDS)]), told=0)
        print(f"owner {owner.id}", flush=True)
        for line in sys.stdin:
            if line == "lock\n":
                print("lock", "free" if ledger.database.lock.try_acquire() else "taken", flush=True)
            elif line == "bell\n":
                rung = select.select([owner.bell.fileno()], [], [], PATIENCE_S)[0] and owner.bell.heard()
                print("bell", "rung" if rung else "silent", flush=True)


if __name__ == "__main__":
    _second(Path(sys.argv[1]))
