"""Makes the pictures of the documents out of real runs: ``python docs/pictures.py [NAME ...]``.

``run.svg`` is what the command printed, byte for byte, on a terminal of 110 columns. ``live.svg`` is what stood on the
screen of a real pseudo-terminal while the job below went on. ``stdlib_census.svg`` is the file that the main example
writes. Needs the package and its `dev` extra, and takes as long as the examples.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    import pyte

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 110

# Rich's own frame, without the fonts that it would load from the network.
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px; \
line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: Helvetica, Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(example: str, folder: Path) -> bytes:
    """What ``executor run`` prints for that example, run in ``folder``."""
    command = [sys.executable, "-m", "executor.cli", "run", str(ROOT / "examples" / example)]
    environ = {**os.environ, "EXECUTOR_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, check=True).stdout


#: Something of everything that the live view shows. The steps sleep in the place of work.
NIGHTLY = """
import time
from executor import RetryPolicy, job, multiprocess_executor, op

@op
def load():
    time.sleep(0.5)

@op(tags={"database": "warehouse"})
def query(load):
    rows = bytearray(60_000_000)
    time.sleep(1.0)

@op
def clean(query):
    time.sleep(0.8)

@op(name="clean_5")
def clean_much(query):
    time.sleep(8.0)

@op
def check(query):
    raise ValueError("31 rows have no customer")

@op(retry_policy=RetryPolicy(max_retries=1, delay=20))
def upload(load):
    raise ConnectionError("the bucket did not answer")

@op
def report(rows):
    time.sleep(0.5)

limits = {"max_concurrent": 4, "tag_concurrency_limits": [{"key": "database", "value": "warehouse", "limit": 1}]}

@job(executor_def=multiprocess_executor.configured(limits))
def nightly():
    rows = load()
    upload(rows)
    queries = [query(rows) for _ in range(12)]
    check(queries[3])
    report([clean_much(each) if number == 4 else clean(each) for number, each in enumerate(queries)])
"""


def live(folder: Path) -> Text:
    """What stands on the screen of a terminal while the job above goes on, at the moment when there is most to see."""
    import pyte

    (folder / "nightly.py").write_text(NIGHTLY, encoding="utf-8")
    screen = pyte.Screen(COLUMNS, 24)
    stream = pyte.ByteStream(screen)
    pid, keys = pty.fork()
    if pid == 0:
        os.chdir(folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        environ = {**os.environ, "EXECUTOR_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        words = [sys.executable, "-m", "executor.cli", "run", "nightly.py"]
        os.execve(sys.executable, words, {**environ, "TERM": "xterm-256color"})  # noqa: S606  (as everywhere here)
    best, most = Text(), 0
    while True:
        try:
            data = os.read(keys, 1 << 16)
        except OSError:  # it has ended
            break
        stream.feed(data)
        rows = [row for row in screen.display if row.strip()]
        shown = sum(word in row for row in rows for word in ("slow", "held by", "tried again", " left", "●"))
        if shown >= most:
            best, most = on_screen(screen), shown
    os.waitpid(pid, 0)
    return best


def on_screen(screen: pyte.Screen) -> Text:
    """What stands on a screen, in its colours."""
    text = Text()
    last = max(number for number, row in enumerate(screen.display) if row.strip())
    for number in range(last + 1):
        row = [screen.buffer[number][column] for column in range(screen.columns)]
        for (colour, bold), chars in groupby(row, key=lambda char: (char.fg, char.bold)):
            style = Style(color={"brown": "yellow", "brightblack": "bright_black"}.get(colour, colour), bold=bold)
            text.append("".join(char.data for char in chars), style=style)
        text.rstrip()
        text.append("\n")
    return text


def terminal(printed: Text, command: str) -> str:
    """A picture of a terminal in which ``command`` printed this."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(printed, soft_wrap=False)
    svg = console.export_svg(title=command, code_format=FRAME, unique_id="run")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main(names: list[str]) -> None:
    """Make the pictures of these names, or all."""
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        if not names or "run" in names:
            printed = Text.from_ansi(run("tag_limits.py", there).decode())
            picture = terminal(printed, "executor run examples/tag_limits.py | cat")
            (ROOT / "docs/run.svg").write_text(picture, encoding="utf-8")
        if not names or "live" in names:
            (ROOT / "docs/live.svg").write_text(terminal(live(there), "executor run nightly.py"), encoding="utf-8")
        if not names or "stdlib_census" in names:
            run("stdlib_census.py", there)
            (ROOT / "docs/stdlib_census.svg").write_bytes((there / "census.svg").read_bytes())


if __name__ == "__main__":
    main(sys.argv[1:])
