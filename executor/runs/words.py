"""How each state of a step, and each status of a run, is shown everywhere: its word, its colour and its sign.

Lines, the live view, tables and summaries all take them from here. Colours have rich's names; ``paint`` writes them
for a terminal without rich, which a driver does not load. Pure.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from executor.scheduler.states import StepState

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shown(NamedTuple):
    """A word, its colour, and one character that stands for it, also in ASCII."""

    word: str
    colour: str
    sign: str
    plain_sign: str


S = StepState

STATES: dict[StepState, Shown] = {
    S.WAITING: Shown("waiting", "bright_black", "·", "."),
    S.READY: Shown("ready", "yellow", "◌", "o"),
    S.CLAIMING: Shown("claiming", "magenta", "◍", "c"),
    S.RUNNING: Shown("running", "cyan", "●", "*"),
    S.BACKOFF: Shown("backoff", "yellow", "↻", "~"),
    S.SUCCEEDED: Shown("succeeded", "green", "✓", "+"),
    S.FAILED: Shown("failed", "red", "✗", "x"),
    S.SKIPPED: Shown("skipped", "bright_black", "»", ">"),
    S.NOT_RUN: Shown("not run", "bright_black", "○", "-"),
    S.CANCELLED: Shown("cancelled", "magenta", "⊘", "/"),
}

#: By the status of a run: it shares the words of steps where it has the same.
RUNS: dict[str, Shown] = {
    "running": STATES[S.RUNNING],
    "succeeded": STATES[S.SUCCEEDED],
    "failed": STATES[S.FAILED],
    "cancelled": STATES[S.CANCELLED],
    "interrupted": Shown("interrupted", "magenta", "⊘", "/"),
}

#: By the status of a run in a list of runs, where there are also some of which nothing but their folder is known.
LISTED: dict[str, Shown] = RUNS | {
    "not begun": Shown("not begun", "bright_black", "○", "-"),
    "unreadable": Shown("unreadable", "yellow", "!", "!"),
}

#: What is worth a second look though nothing has failed: a slow step, a notice.
NOTICE = Shown("notice", "yellow", "!", "!")

# SGR parameters of the colours above (ECMA-48; the bright ones are an extension that every terminal has).
_CODES = {"red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36", "bright_black": "90"}


_BY_WORD = {shown.word: shown for shown in STATES.values()}


def word(text: str) -> Shown:
    """What is shown with a word of the table; any other word is that of something which went well."""
    return _BY_WORD.get(text) or STATES[S.SUCCEEDED]._replace(word=text)


def paint(text: str, shown: Shown, *, colours: bool) -> str:
    """The text in the colour of what is shown, or as it is."""
    return f"\x1b[{_CODES[shown.colour]}m{text}\x1b[0m" if colours else text


def colours_on(fd: int, environ: Mapping[str, str] | None = None) -> bool:
    """Whether to write colours there: to a terminal that has some, unless ``NO_COLOR`` says otherwise."""
    environ = os.environ if environ is None else environ
    return not environ.get("NO_COLOR") and live_terminal(fd, environ)


def live_terminal(fd: int, environ: Mapping[str, str] | None = None) -> bool:
    """Whether that descriptor is a terminal on which lines can be drawn over."""
    environ = os.environ if environ is None else environ
    return environ.get("TERM", "dumb") not in {"dumb", ""} and os.isatty(fd)
