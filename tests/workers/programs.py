"""Runs jobs in programs of their own, so that a test may kill, stop or interrupt the process that drives them."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from running import KINDS, PATIENCE_S, Mailbox

#: Runs the op that the first word names, beside two quick ones, with the settings of the second, and says how it went.
PROGRAM = """
import json, os, sys
sys.path.insert(0, {tests!r})
import sample_ops as ops
from executor import job
from executor.api import execute_in_process, execute_job

@job
def program():
    getattr(ops, sys.argv[1])()
    ops.one()

config, tags = json.loads(sys.argv[2]), json.loads(sys.argv[3])
if config is None:
    result = execute_in_process(program, tags=tags, raise_on_error=False)
else:
    result = execute_job(program, {{"execution": {{"config": config}}}}, tags=tags)
if "--then-read-a-line" in sys.argv:
    print("read", input())
print(json.dumps([result.status, result.interrupted]), flush=True)
sys.exit(0 if result.success else 3 if result.interrupted else 1)
"""

#: A shell with job control, for one program: runs it in the foreground of its terminal, tells when it stops or ends,
#: and continues it for each line that comes in.
SHELL = """
import os, signal, sys
say, hear = open(sys.argv[1], "w"), open(sys.argv[2])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[3], sys.argv[3:])
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        say.write(f"ended {os.waitstatus_to_exitcode(status)}\\n")
        break
    os.tcsetpgrp(0, os.getpgrp())
    say.write("stopped\\n")
    say.flush()
    hear.readline()
    os.tcsetpgrp(0, pid)
    os.killpg(pid, signal.SIGCONT)
"""


def command(op: str, kind: str, mailbox: Mailbox, folder: Path, *options: str, **settings: Any) -> list[str]:
    """The command line of a program that runs that op in a job."""
    own = KINDS[kind]
    config = None if own is None else {**own, **settings}
    tags = {"mailbox": mailbox.path, "folder": str(folder)}
    script = PROGRAM.format(tests=str(Path(__file__).parent))
    return [sys.executable, "-c", script, op, json.dumps(config), json.dumps(tags), *options]


class Program(subprocess.Popen[str]):
    """A program that is not waited for when a test has failed, which might be for ever."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def start(
    op: str, kind: str, mailbox: Mailbox, *, folder: Path, before: Sequence[str] = (), **settings: Any
) -> Program:
    """A program that runs that op in a job; ``pid`` is its driver's. ``before``: words before its command."""
    return Program(
        [*before, *command(op, kind, mailbox, folder, **settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def result_of(program: subprocess.Popen[str]) -> tuple[int, str, bool]:
    """Exit code of the program, status of its run, and whether it says that it was interrupted."""
    out, _ = program.communicate(timeout=PATIENCE_S)
    status, interrupted = json.loads(out) if out else ("", False)
    return program.returncode, status, interrupted


class Terminal:
    """A program in the foreground of a terminal of its own, with a shell behind it."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.told = Mailbox(folder, "shell-says")
        self._hear = Mailbox(folder, "shell-hears")
        self.shell, self._terminal = pty.fork()
        if not self.shell:
            os.execv(sys.executable, [sys.executable, "-c", SHELL, self.told.path, self._hear.path, *words])
        self._output = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        os.waitpid(self.shell, 0)
        self.told.__exit__()
        self._hear.__exit__()

    def type(self, keys: bytes) -> None:
        """As if somebody typed them."""
        os.write(self._terminal, keys)

    def go_on(self) -> None:
        """What ``fg`` does."""
        with open(self._hear.path, "w") as file:
            file.write("fg\n")

    def close(self) -> None:
        """As if somebody closed the window."""
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def output(self) -> str:
        """All that was shown so far; call it once the program has ended."""
        while select.select([self._terminal], [], [], 0)[0]:
            try:
                self._output += os.read(self._terminal, 4096)
            except OSError:  # the last process of the terminal has ended
                break
        return self._output.decode()
