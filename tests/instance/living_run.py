"""A run as the ledger sees it: a process that is an owner, files claims, and has a process for each that is granted.

``LivingRun`` starts one and knows its pids. Run as a script it is that process: it says what it was granted in one line
of JSON, and ends in good order when its input does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class LivingRun:
    """A run that holds what it can of ``claims``: ``{"step": "load", "pools": {"db": 1}, "priority": 0}``."""

    def __init__(
        self, home: Path, run: str, *claims: dict[str, Any], ignore_term: bool = False, inside: bool = False
    ) -> None:
        """``inside``: the steps run inside of the driver's process, as with the in-process executor."""
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(home), run, json.dumps(claims), str(int(ignore_term)), str(int(inside))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        self.pid = self.process.pid
        self.owner: str = said["owner"]
        self.workers: dict[str, int] = said["workers"]  #: step -> pid

    def kill(self) -> None:
        """SIGKILL for the driver alone."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Whatever is left of it ends."""
        for pid in self.workers.values():
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                os.kill(pid, signal.SIGKILL)
                select.select([descriptor], [], [])  # until it has ended, although nobody may have reaped it
            except ProcessLookupError:
                pass
            finally:
                os.close(descriptor)
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _drive(home: Path, run: str, claims: list[dict[str, Any]], *, ignore_term: bool, inside: bool) -> None:
    from executor.ledger.ledger import Ledger
    from executor.ledger.liveness import take_step_lock
    from executor.ledger.requests import Changes, Request, needs_of
    from executor.runs.home import RunFolder, open_home

    folder = RunFolder(open_home(home) / "runs" / run)
    folder.path.mkdir(exist_ok=True)
    if ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Ledger(home) as ledger:
        owner = ledger.register(run, folder.path)
        requests = [
            Request(
                step=c["step"], attempt=c.get("attempt", 1), needs=needs_of(c["pools"]), priority=c.get("priority", 0)
            )
            for c in claims
        ]
        outcome = ledger.exchange(owner, Changes(request=requests), told=0)
        granted = {lease.claim for lease in outcome.granted}
        workers = {}
        for lane, (claim, request) in enumerate(zip(outcome.filed, requests, strict=True)):
            if claim not in granted:
                continue
            if inside:
                assert take_step_lock(home, owner.id, str(folder.lane_log(lane)), claim) is not None  # kept open
                continue
            told = os.pipe()
            pid = os.fork()
            if pid == 0:
                lock = take_step_lock(home, owner.id, str(folder.lane_log(lane)), claim)
                assert lock is not None
                os.dup2(lock.input_fd, 0)
                for fd in (1, 2):
                    os.dup2(lock.output_fd, fd)
                lock.close()
                os.write(told[1], b"!")
                while True:
                    signal.pause()
            os.read(told[0], 1)
            workers[request.step] = pid
        print(json.dumps({"owner": owner.id, "workers": workers}), flush=True)
        sys.stdin.read()
        for pid in workers.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        ledger.unregister(owner)


if __name__ == "__main__":
    _drive(
        Path(sys.argv[1]),
        sys.argv[2],
        json.loads(sys.argv[3]),
        ignore_term=sys.argv[4] == "1",
        inside=sys.argv[5] == "1",
    )
