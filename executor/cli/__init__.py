"""The command ``executor``: one file per family of commands. Nothing here is imported by programs."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command with the arguments of this process, and end with its exit code."""
    try:
        sys.exit(_main())
    except KeyboardInterrupt:  # while this was imported, or when all was done
        print("interrupted", file=sys.stderr)
        sys.exit(3)


def _main() -> int:
    from executor.workers.streams import fill_streams

    fill_streams()  # before anything is opened, which would stand in the place of a stream that is closed
    if os.getpid() == 1:
        from executor.cli.init import split_from_init

        split_from_init()
    from executor.cli.root import run_command

    return run_command(sys.argv[1:])
