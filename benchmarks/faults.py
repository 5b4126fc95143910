"""How much memory a worker process touches: page faults of a step that does nothing, and of a bare fork beside it.

A fork shares all pages with its parent, and each that is written to is copied when it is: that is most of what a
one-shot worker costs. Unlike a time, the number hardly depends on what else the machine does. Counted by ``wait4``.

    python benchmarks/faults.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from executor import job, op

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable


@op
def nothing() -> int:
    """The step."""
    return 0


def of_bare_forks(times: int) -> list[int]:
    """Minor page faults of children that end at once, of this process."""
    found = []
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        found.append(os.wait4(pid, 0)[2].ru_minflt)
    return found


def of_workers(times: int) -> list[int]:
    """Those of the workers of a run with so many steps, each in a process of its own, as its template counts them."""
    reading, writing = os.pipe()
    wait4: Callable[[int, int], tuple[int, int, resource.struct_rusage]] = os.wait4

    def counted(pid: int, options: int) -> tuple[int, int, resource.struct_rusage]:
        gone = wait4(pid, options)
        os.write(writing, f"{gone[2].ru_minflt}\n".encode())
        return gone

    @job
    def steps() -> None:
        for number in range(times):
            nothing.alias(f"nothing_{number}")()

    os.wait4 = counted  # type: ignore[assignment]  # the template is forked from here, and calls it for each worker
    try:
        with tempfile.TemporaryDirectory() as home:
            config = {"execution": {"config": {"start_method": "fork", "max_concurrent": 1}}}
            result = steps.execute(config, home=home)
    finally:
        os.wait4 = wait4
        os.close(writing)
    if not result.success:
        raise SystemExit("the run failed")
    with open(reading, encoding="ascii") as file:
        return [int(line) for line in file]


def main() -> None:
    """Print the table."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--times", type=int, default=200, help="processes of each kind (200)")
    times = made.parse_args().times
    for name, found in (("a bare fork that ends at once", of_bare_forks(times)), ("a worker", of_workers(times))):
        middle, least, most = statistics.median(found), min(found), max(found)
        print(f"{name}: {middle:g} page faults (median of {len(found)}; {least} to {most})")


if __name__ == "__main__":
    main()
