"""Bugs that show only when processes are killed, stopped, or meet; each names the invariant that it breaks.

``options`` are those of ``python -m tests.torture`` under which it shows soon.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.torture.planting import Edit

LEDGER = "executor.ledger."
DATABASE = "executor.database."


@dataclass(frozen=True, kw_only=True)
class ProcessMutant:
    """One planted bug."""

    says: str
    breaks: str  #: ids of invariants
    edits: tuple[Edit, ...]
    options: tuple[str, ...] = field(default=("--kill-every", "0.03"))


MUTANTS = [
    ProcessMutant(
        says="of a hundred owners that live, five are taken for dead",
        breaks="I1 I3",
        edits=(
            (
                LEDGER + "liveness",
                "    return bool(probe(owner_file(home, owner), (0,)))",
                "    return os.urandom(1)[0] > 12 and bool(probe(owner_file(home, owner), (0,)))",
            ),
        ),
    ),
    ProcessMutant(
        says="liveness is a lease of 50 ms: an owner that was stopped for longer is dead",
        breaks="I3",
        edits=(
            (
                LEDGER + "liveness",
                "    return bool(probe(owner_file(home, owner), (0,)))",
                (
                    "    import re\n"
                    "    if not probe(owner_file(home, owner), (0,)):\n"
                    "        return False\n"
                    "    for pid in filter(str.isdecimal, os.listdir('/proc')):\n"
                    "        try:\n"
                    "            for fd in os.listdir(f'/proc/{pid}/fd'):\n"
                    "                if os.readlink(f'/proc/{pid}/fd/{fd}').endswith(f'own/{owner}.lock'):\n"
                    "                    return open(f'/proc/{pid}/stat').read().split()[2] != 'T'\n"
                    "        except OSError:\n"
                    "            continue\n"
                    "    return True"
                ),
            ),
        ),
        options=("--kill-every", "0", "--stop-every", "0.05"),
    ),
    ProcessMutant(
        says="a dead owner's slots are taken while a process of the step still works",
        breaks="I4",
        edits=(
            (
                LEDGER + "round",
                "        live = liveness.live_steps(folder, held) if folder and held else {}\n",
                "        live = {}\n",
            ),
        ),
        options=("--kill-every", "0.05", "--hold", "0.05"),
    ),
    ProcessMutant(
        says="a worker does not look whether its owner still lives",
        breaks="I1 I4",
        edits=(
            (
                LEDGER + "liveness",
                "    if owner_is_alive(home, owner):\n        return lock\n    lock.close()",
                "    return lock\n    lock.close()",
            ),
        ),
        options=("--kill-every", "0.05", "--hold", "0.05"),
    ),
    ProcessMutant(
        says="a worker looks at its owner first and takes its step's lock then",
        breaks="I1 I4",
        edits=(
            (
                LEDGER + "liveness",
                "    lock = StepLock(lane_log, claim)\n    if owner_is_alive(home, owner):",
                (
                    "    alive = owner_is_alive(home, owner)\n"
                    "    import time\n    time.sleep(0.003)\n"
                    "    lock = StepLock(lane_log, claim)\n    if alive:"
                ),
            ),
        ),
        options=("--kill-every", "0.05", "--hold", "0.05"),
    ),
    ProcessMutant(
        says="a child that has only the step's input does not keep its slots",
        breaks="I4",
        edits=(
            (
                LEDGER + "liveness",
                "if not (lock_byte(self.output_fd, claim) and lock_byte(self.input_fd, claim)):",
                "if not lock_byte(self.output_fd, claim):",
            ),
        ),
        options=("--kill-every", "0", "--hold", "0.05"),
    ),
    ProcessMutant(
        says="nobody is rung",
        breaks="I16 I17",
        edits=((LEDGER + "round", "                bell.ring(self._home, owner)  #", "                pass  #"),),
        options=("--kill-every", "0", "--lanes", "1"),
    ),
    ProcessMutant(
        says="a bell that is heard while the ledger's lock is taken is forgotten",
        breaks="I17",
        edits=(
            (
                LEDGER + "client",
                "        if outcome is None:\n            if self._busy_since is None:",
                (
                    "        if outcome is None:\n            self._unread = False\n"
                    "            if self._busy_since is None:"
                ),
            ),
        ),
        options=("--kill-every", "0", "--drivers", "8"),
    ),
    ProcessMutant(
        says="the rows are read before the lock is taken",
        breaks="I17",
        edits=(
            (
                LEDGER + "ledger",
                "        transaction = self.database.try_transaction()\n",
                (
                    "        rows = self.database.execute('SELECT seq, token FROM claim WHERE owner = ? '\n"
                    "            'AND token > ? ORDER BY token', (owner.id, told or 0)).fetchall()\n"
                    "        early = [Lease(*row) for row in rows]\n"
                    "        transaction = self.database.try_transaction()\n"
                    "        if not changes and not look and transaction is not None:\n"
                    "            with transaction:\n                pass\n"
                    "            return Outcome(granted=early)\n"
                ),
            ),
        ),
        options=("--kill-every", "0", "--drivers", "8"),
    ),
    ProcessMutant(
        says="the end of another run is not heard",
        breaks="I11 I17",
        edits=(
            (
                LEDGER + "deaths",
                '                named.add(name.removesuffix(".lock"))',
                "                pass",
            ),
        ),
        options=("--pools", "solo", "--kill-every", "0.4", "--restart", "3", "--lanes", "1", "--hold", "0.1"),
    ),
    ProcessMutant(
        says="the end of a process that outlived its run is not heard",
        breaks="I11 I17",
        edits=((LEDGER + "deaths", "                self._listen(path, orphan.owner)", "                pass"),),
        options=("--kill-every", "0.3", "--hold", "2"),
    ),
    ProcessMutant(
        says="SQLite does the waiting, and not for long",
        breaks="I32",
        edits=(
            (
                DATABASE + "sqlite",
                "return Transaction(self, None) if self.lock.try_acquire() else None",
                "return Transaction(self, None)",
            ),
            (DATABASE + "sqlite", "BUSY_TIMEOUT_MS = 1000", "BUSY_TIMEOUT_MS = 0"),
        ),
        options=("--kill-every", "0", "--drivers", "8"),
    ),
    ProcessMutant(
        says="what a transaction has changed is kept when its process is killed in it",
        breaks="I6 I35",
        edits=(
            (DATABASE + "sqlite", '            self.execute("BEGIN IMMEDIATE")\n', "            pass\n"),
            (DATABASE + "sqlite", '                self.execute("COMMIT")\n', "                pass\n"),
        ),
        options=(
            "--kill-every",
            "0",
            "--lanes",
            "1",
            "--crash",
            "1",
            "--crash-at",
            "written:0.05,owner-files-removed:0.1",
        ),
    ),
]


def plant_by_name(says: str) -> None:
    """Plant the bug with this sentence in the present process."""
    from tests.torture.planting import plant

    plant(next(mutant for mutant in MUTANTS if mutant.says == says).edits)
