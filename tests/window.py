"""A terminal window for tests: a pseudo-terminal with one command in it, and what a person would see on its screen."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pyte

# Nothing is that slow; it only ends a test that hangs.
DEADLINE_S = 100

CTRL_C, CTRL_Z = b"\x03", b"\x1a"

# What a shell does for job control: the command leads the foreground group, and `fg` is a line on stdin.
SHELL = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "executor.cli", *sys.argv[1:]])
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if os.WIFSTOPPED(status):
        print("shell: stopped", flush=True)
        input()
        os.tcsetpgrp(0, child)
        os.killpg(child, signal.SIGCONT)
    else:
        print("shell: ended with", os.waitstatus_to_exitcode(status), flush=True)
        sys.exit()
"""


class Window:
    """One command in a terminal of its own. Its lines are read only when the test looks."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        columns: int = 100,
        lines: int = 30,
        shell: bool = False,
        program: str | None = None,
        **environ: str,
    ) -> None:
        """The command is ``executor`` with these words; in a ``shell`` it can be paused.

        ``program``: this Python code instead of the command.
        """
        self.said = b""  #: all that was written to the terminal
        self.exit_code: int | None = None
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        code = [sys.executable, "-c", SHELL] if shell else [sys.executable, "-m", "executor.cli"]
        if program is not None:
            code = [sys.executable, "-c", program]
        environ = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "", "LINES": "", **environ}
        del environ["COLUMNS"], environ["LINES"]
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                for signum in (
                    signal.SIGINT,
                    signal.SIGQUIT,
                    signal.SIGHUP,
                ):  # as a terminal has them, whoever runs this
                    signal.signal(signum, signal.SIG_DFL)
                os.chdir(folder)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
                os.execve(code[0], [*code, *words], environ)
            finally:
                os._exit(127)

    @property
    def rows(self) -> list[str]:
        """The lines on the screen, without the blanks at their ends, down to the last one with something on it."""
        rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(self.rows)

    @property
    def cursor_is_shown(self) -> bool:
        return not self._screen.cursor.hidden

    def look(self) -> bool:
        """Wait for something to be written, and put it on the screen. False: the command has ended."""
        ready, _, _ = select.select([self._fd], [], [], DEADLINE_S)
        assert ready, f"nothing more happens on this screen:\n{self.text}"
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:  # what is read of a terminal that nobody has open any more
                raise
            data = b""
        self.said += data
        self._stream.feed(data)
        return bool(data)

    def wait_until(self, seen: Callable[[Window], object]) -> None:
        """Read until this holds of the screen."""
        while not seen(self):
            assert self.look(), f"the command has ended with this screen:\n{self.text}"

    def wait_for(self, *texts: str) -> None:
        """Read until all of these stand on the screen."""
        self.wait_until(lambda window: all(text in window.text for text in texts))

    def end(self) -> int:
        """Read to the end; the exit code of the command."""
        while self.look():
            pass
        return self.wait()

    def wait(self) -> int:
        """Wait for the command to end, without reading; its exit code."""
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_code

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def resize(self, columns: int, lines: int) -> None:
        """As when somebody draws at the corner of the window: the kernel tells the command."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def close(self) -> None:
        """Close the window, and end what is still in it."""
        if self._fd >= 0:
            if self.exit_code is None:
                os.kill(self.pid, signal.SIGKILL)
                self.wait()
            os.close(self._fd)
            self._fd = -1


def gate(folder: Path, name: str) -> Callable[[], None]:
    """A gate at which a step waits (``open(NAME).read()``); what is given back lets it through."""
    path = folder / name
    os.mkfifo(path)

    def open_gate() -> None:
        os.close(os.open(path, os.O_WRONLY))

    return open_gate
