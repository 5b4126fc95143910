"""Makes the pictures of the documents out of real runs: ``python docs/pictures.py``.

``run.svg`` is what the command printed, byte for byte, on a terminal of 110 columns. ``stdlib_census.svg`` is the file
that the main example writes. Needs the package to be installed, and takes as long as the two examples.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

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


def terminal(printed: bytes, command: str) -> str:
    """A picture of a terminal in which ``command`` printed this."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(printed.decode()), soft_wrap=False)
    return console.export_svg(title=command, code_format=FRAME, unique_id="run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        picture = terminal(run("tag_limits.py", there), "executor run examples/tag_limits.py")
        (ROOT / "docs/run.svg").write_text(re.sub(r"[ \t]+$", "", picture, flags=re.MULTILINE), encoding="utf-8")
        run("stdlib_census.py", there)
        (ROOT / "docs/stdlib_census.svg").write_bytes((there / "census.svg").read_bytes())
