"""Standard streams of steps; and of a program that has closed them: nothing of ours comes to stand in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from running import KINDS, PATIENCE_S

from executor.workers.streams import LaneStream, flush_output

#: Closes the descriptors of ``argv[1]``, runs a job on a kind of worker, and writes what its step found into a file.
PROGRAM = """
import json, os, subprocess, sys
from executor import job, op

@op
def look():
    subprocess.run(["sh", "-c", "echo said; echo wrong >&2"])
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]

@op
def length(found):
    return len(found)

@job
def looks():
    length(look())

for fd in map(int, sys.argv[1]):
    os.close(fd)
own = json.loads(sys.argv[2])
if own is None:
    result = looks.execute_in_process()
else:
    result = looks.execute({"execution": {"config": own}})
with open(sys.argv[3], "w") as file:
    json.dump([result.success, result.output_for_node("look")], file)
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_run_and_write_to_no_file_of_ours_when_standard_streams_are_closed(
    kind: str, closed: str, tmp_path: Path, home: Path
) -> None:
    script, told = tmp_path / "program.py", tmp_path / "told"
    script.write_text(PROGRAM)
    words = [sys.executable, script, closed, json.dumps(KINDS[kind]), told]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    success, found = json.loads(told.read_text())
    assert success
    if KINDS[kind] is None:
        assert all(found[int(fd)] == os.devnull for fd in closed), found
    else:
        assert found[0] == os.devnull
        assert all(Path(path).name.startswith("lane-") for path in found[1:]), found


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("how", ["", "--start-method forkserver", "--in-process"])
def test_the_command_runs_a_job_when_standard_streams_are_closed(how: str, closed: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "from pathlib import Path\nfrom executor import job, op\n"
        "@op\ndef mark():\n    Path('ran').touch()\n@job\ndef marks():\n    mark()\n"
    )
    command = f"exec {sys.executable} -m executor.cli run jobs.py {how} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, True), done


@pytest.mark.parametrize(
    "write",
    [
        lambda stream: print("said", end="", file=stream),
        lambda stream: [stream.write(letter) for letter in "said"],
        lambda stream: stream.writelines(["sa", "id"]),
        lambda stream: stream.buffer.write(b"said"),
        lambda stream: [stream.buffer.write(b"sa"), stream.flush(), stream.write("id")],
    ],
)
def test_what_a_step_wrote_in_any_way_is_flushed(
    write: Callable[[TextIO], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    with LaneStream(open(path, "wb"), encoding="utf-8", line_buffering=True) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert not stream.used
        for _ in range(2):
            write(stream)
            flush_output()
        assert path.read_text() == "saidsaid"


def test_what_was_written_past_a_stream_that_was_taken_apart_is_its_takers_own(tmp_path: Path) -> None:
    stream = LaneStream((tmp_path / "log").open("wb"), encoding="utf-8", line_buffering=True)
    with stream.detach() as binary:
        binary.write(b"said")
        assert stream.used
    assert (tmp_path / "log").read_text() == "said"
