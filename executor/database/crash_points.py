"""Named places where a process can be made to die, so that tests can show that it may die there.

Off unless the environment says ``EXECUTOR_CRASH_POINTS``: ``before-commit:0.05,locked:1@/path/of/log`` kills the
process with SIGKILL at the first of these places in one of twenty passages, at the second in every one. The time, the
pid and the name are appended to the log first, in one write. Without the variable a place costs one comparison.
"""

from __future__ import annotations

import os

VARIABLE = "EXECUTOR_CRASH_POINTS"

#: Every place that can be named.
POINTS = frozenset({
    "lock-file-made",  # creation: ledger.lock is there, the database is not
    "file-made",  # creation: an empty database file is there
    "journal-set",  # creation: it has its journal mode, and no tables
    "schema-half-made",  # creation or upgrade: in the middle of the transaction
    "schema-made",
    "locked",  # the lock is held, the transaction has not begun
    "begun",
    "written",  # the rows are changed, nobody was rung
    "before-commit",  # whoever was granted something was rung, and it is not committed
    "committed",  # and the lock is still held
    "owner-locked",  # an owner has its lock and its bell, and no row
    "owner-files-removed",  # an owner's files are gone, and its row is not
    "owner-probed",  # whoever clears up found an owner dead, and has not looked at its steps
    "step-locked",  # a worker has its step's lock, and has not looked at the owner
    "granted",  # an owner knows that it was granted something, and has started nothing
})  # fmt: skip


class _CrashPoints:
    """The places that are armed in this process, and how likely each is to kill it."""

    def __init__(self, setting: str) -> None:
        names, _, self._log = setting.partition("@")
        self.chances: dict[str, float] = {}
        for item in filter(None, names.split(",")):
            name, _, chance = item.partition(":")
            if name not in POINTS:
                raise ValueError(f"{VARIABLE}: there is no crash point {name!r}; there are {', '.join(sorted(POINTS))}")
            self.chances[name] = float(chance or 1)

    def passed(self, name: str) -> None:
        """Die here, or not."""
        import signal
        import time

        chance = int.from_bytes(os.urandom(4)) / (1 << 32)
        if chance >= self.chances.get(name, 0.0):
            return
        if self._log:
            fd = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(fd, f"\ndied {time.monotonic_ns()} {os.getpid()} {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


_armed: _CrashPoints | None = _CrashPoints(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def arm(setting: str) -> None:
    """Arm these places in this process, as the variable would have done; an empty text disarms all."""
    global _armed  # noqa: PLW0603  (one switch for the whole process)
    _armed = _CrashPoints(setting) if setting else None


def crash_point(name: str) -> None:
    """Die here, if this place is armed."""
    if _armed is not None:
        _armed.passed(name)
