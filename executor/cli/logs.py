"""``executor logs``: what the steps of a run wrote, also while they write it."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING

import click

from executor.cli.options import OK
from executor.cli.text import run_text
from executor.runs.changes import Changes
from executor.runs.history import HistoryReader
from executor.runs.home import find_run, home_folder
from executor.runs.logs import LogPieces
from executor.runs.report import printable
from executor.runs.result import read_result
from executor.scheduler.events import RunEnded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.runs.home import RunFolder
    from executor.runs.logs import Piece
    from executor.runs.steps import StepResult

EPILOG = """\b
Examples:
  executor logs last
  executor logs 7f3a12cd train
  executor logs last train --attempt 1
  executor logs last -f
"""

# The driver writes the end of an attempt down some milliseconds after it; what its lane's log had so long before
# belongs to it. So what is followed is shown this much late, and not as the next attempt's.
LATE_S = 0.1
CHUNK_BYTES = 1 << 20


@click.command(epilog=EPILOG, short_help="Print what the steps of a run wrote; -f goes on until the run ends.")
@click.argument("run")
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is still to be written, until the run ends.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Only this attempt.")
def logs(run: str, step: str | None, follow: bool, attempt: int | None) -> int:
    """Print what the steps of RUN, or one STEP of it, wrote to stdout and stderr, in the order in which they ended.

    With several steps or attempts a line before each names it. On a terminal, control characters are shown escaped. RUN
    may be shortened to what is unambiguous; `last` is the newest.
    """
    folder = find_run(home_folder(), run)
    result = read_result(folder)
    if step is not None:
        result.step(step)
    printer = _Printer(folder, step, attempt)
    if follow:
        status = _follow(folder, printer)
        if step is None:
            click.echo(f"run {run_text(folder.run_id)} {status}", err=True)
        result = read_result(folder)
    else:
        pieces = LogPieces()
        printer.print(pieces.add(result.events, {}))
        printer.print(pieces.add([], _sizes(folder, pieces.lanes)))
    if not printer.printed and step is not None:
        click.echo(_nothing(folder, result.step(step), attempt), err=True)
    elif not printer.printed:
        click.echo(f"no step of run {run_text(folder.run_id)} wrote anything that was kept", err=True)
    return OK


def _follow(folder: RunFolder, printer: _Printer) -> str:
    """Print what is there and what comes, until the run has ended; how it did."""
    pieces, reader, sizes = LogPieces(), HistoryReader(folder.events), dict[int, int]()
    with Changes(folder) as changes:
        while True:
            alive = folder.is_alive()  # first: what a driver wrote before it died is read then
            events = [event for _, event in reader.read_new()]
            ended = bool(events) and isinstance(events[-1], RunEnded)
            printer.print(pieces.add(events, sizes))
            if ended or not alive:
                printer.print(pieces.add([], _sizes(folder, pieces.lanes)))  # of what was cut off
                return read_result(folder).status
            before, sizes = sizes, _sizes(folder, pieces.lanes)
            if sizes == before:
                changes.wait()
            else:
                time.sleep(LATE_S)


def _sizes(folder: RunFolder, lanes: Iterable[int]) -> dict[int, int]:
    found = {}
    for lane in lanes:
        try:
            found[lane] = folder.lane_log(lane).stat().st_size
        except FileNotFoundError:
            continue
    return found


class _Printer:
    """Prints pieces of the steps that are asked for, each under its name where it is not clear."""

    def __init__(self, folder: RunFolder, step: str | None, attempt: int | None) -> None:
        self._folder, self._step, self._attempt = folder, step, attempt
        self._shown: tuple[str, int] | None = None
        self._new_line = True
        self.printed = False
        escaped = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if escaped else None

    def print(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if self._step not in {None, piece.key} or self._attempt not in {None, piece.attempt}:
                continue
            self._name(piece)
            with open(self._folder.lane_log(piece.lane), "rb") as log:
                log.seek(piece.begin)
                left = piece.end - piece.begin
                while left > 0 and (data := log.read(min(left, CHUNK_BYTES))):
                    left -= len(data)
                    self._write(data)
            self.printed = True
        sys.stdout.flush()

    def _name(self, piece: Piece) -> None:
        """Say whose the piece is, unless it is the only one that can be meant, or the last was its."""
        who = (piece.key, piece.attempt)
        if who != self._shown and (self._step is None or piece.attempt > 1 or self._shown is not None):
            line = "" if self._new_line else "\n"
            click.echo(f"{line}== {printable(piece.key)}, attempt {piece.attempt} ==")
            self._new_line = True
        self._shown = who

    def _write(self, data: bytes) -> None:
        self._new_line = data.endswith(b"\n")
        if self._decoder is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            return
        text = self._decoder.decode(data).replace("\r\n", "\n").replace("\r", "\n")
        sys.stdout.write("\n".join(printable(line.expandtabs()) for line in text.split("\n")))


def _nothing(folder: RunFolder, step: StepResult, attempt: int | None) -> str:
    """Why nothing of a step can be shown."""
    key = printable(step.key)
    if step.reused_from is not None:
        return f"step {key} ran in an earlier run: executor logs {run_text(step.reused_from)} {key}"
    if not step.attempts:
        return f"step {key} {printable(step.explain())}, so it wrote nothing"
    if step.attempts[-1].facts.lane < 0:
        return f"step {key} ran inside of its driver's process, and wrote where that wrote; nothing of it was kept"
    return f"step {key} of run {run_text(folder.run_id)} wrote nothing" + (
        "" if attempt is None else " in that attempt"
    )
