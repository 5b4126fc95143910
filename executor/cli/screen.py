"""A few lines at the bottom of a terminal that are drawn over and over, and lines above them that stay.

What was on the screen before is left where it is. When the window becomes too small for what was drawn, all that is
there is scrolled up and the lines are drawn anew: how a terminal breaks lines that have become too long is not known.
Writes may block: whoever draws is a process that nobody waits for.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
ERASE_LINE_END, ERASE_BELOW = "\x1b[K", "\x1b[J"
HOME = "\x1b[H"

# Of a terminal that does not say how large it is.
COLUMNS, LINES = 80, 24


class ScreenGone(Exception):
    """The terminal is not there any more."""


class Screen:
    """The terminal behind one descriptor."""

    def __init__(self, fd: int, *, colours: bool, encoding: str = "utf-8") -> None:
        self._fd, self._encoding = fd, encoding
        self._console = Console(
            file=io.StringIO(), force_terminal=True, color_system="standard" if colours else None, legacy_windows=False,
            no_color=not colours, width=1000, height=LINES, highlight=False, markup=False, emoji=False,
        )  # fmt: skip
        self._drawn: list[str] = []
        self._widest = 0  #: of the lines that are drawn
        self._hidden = False
        self.columns, self.lines = self._size()

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return COLUMNS, LINES
        return size.columns or COLUMNS, size.lines or LINES

    def measure(self) -> None:
        """Look how large the terminal is now; if what is drawn does not fit any more, draw below it from now on."""
        self.columns, self.lines = self._size()
        if self._drawn and (self._widest >= self.columns or len(self._drawn) >= self.lines):
            self._write("\n" * self.lines + HOME + ERASE_BELOW)
            self._drawn, self._widest = [], 0

    def draw(self, lines: Sequence[Text], above: Sequence[Text] = ()) -> None:
        """Draw these lines where the last ones were, and before them, to stay, those ``above``.

        Raises:
            ScreenGone: the terminal is not there any more.
        """
        drawn = [self._ansi(line) for line in lines]
        if drawn == self._drawn and not above:
            return
        parts = [] if self._hidden else [HIDE_CURSOR]
        self._hidden = True
        parts.append(self._to_the_top())
        parts += [f"{self._ansi(line)}{ERASE_LINE_END}\r\n" for line in above]
        parts += [f"{line}{ERASE_LINE_END}\r\n" for line in drawn]
        if above or len(drawn) < len(self._drawn):
            parts.append(ERASE_BELOW)
        self._drawn, self._widest = drawn, max((cell_len(line.plain) for line in lines), default=0)
        self._write("".join(parts))

    def clear(self, above: Sequence[Text] = ()) -> None:
        """Take away what is drawn; leave ``above``, and the cursor below it."""
        text = self._to_the_top() + (ERASE_BELOW if self._drawn else "")
        text += "".join(f"{self._ansi(line)}\r\n" for line in above)
        self._drawn, self._widest = [], 0
        self._write(text + self._shown_cursor())

    def leave(self) -> None:
        """Leave what is drawn as it is, for somebody else who writes below it; the next lines are drawn there."""
        self._drawn, self._widest = [], 0
        with suppress(ScreenGone):
            self._write(self._shown_cursor())

    def _shown_cursor(self) -> str:
        hidden, self._hidden = self._hidden, False
        return SHOW_CURSOR if hidden else ""

    def _to_the_top(self) -> str:
        return f"\x1b[{len(self._drawn)}A\r" if self._drawn else ""

    def _ansi(self, line: Text) -> str:
        file = self._console.file
        assert isinstance(file, io.StringIO)  # noqa: S101  (for mypy)
        file.seek(0)
        file.truncate()
        self._console.print(line, end="", soft_wrap=True)
        return file.getvalue()

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as error:
                raise ScreenGone from error
