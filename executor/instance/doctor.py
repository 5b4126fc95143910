"""Looks at what limits of pools rest on (home folder, ledger, …), at the machine, and at what runs have left behind."""

from __future__ import annotations

import os
import platform
import shlex
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from executor import __version__
from executor.config.instance_file import read_instance_settings
from executor.config.machine import usable_cpus, usable_memory
from executor.database.place import file_system_of, is_remote
from executor.database.sqlite import sqlite_version
from executor.errors import ConfigError, ExecutorError, UnmetRequirement
from executor.instance.trial import try_folder
from executor.ledger.folders import refuse_to_make_under_running_work
from executor.ledger.ledger import LEDGER_FILE
from executor.ledger.named import run_name
from executor.ledger.proof import Finding, counted, prove
from executor.ledger.views import LedgerView
from executor.ledger.watch import CloseWatch
from executor.outputs.writer import lacks_inodes, room_of
from executor.runs.home import RunFolder, open_home, run_ids
from executor.runs.index import INDEX_FILE, index_problems, rebuild
from executor.runs.memory import in_memory
from executor.runs.report import memory_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Whoever waits takes back what a dead run held within milliseconds, and looks for it once a second in any case. So what
# is still wrong after this long is not on its way to be mended.
SECOND_LOOK_S = 2.5

# The values of a few runs may take so much.
LITTLE_ROOM_BYTES = 256 << 20


def examine(home: Path | None = None, *, repair: bool = False) -> Iterator[Finding]:
    """One finding after the other, of the home folder that runs use where no other is given.

    It is made if it is not there. ``repair`` makes the index of runs anew before it is looked at.
    """
    yield _versions()
    yield _sqlite()
    try:
        path = open_home(home)
    except UnmetRequirement as error:
        yield Finding(name="home", level="problem", text=str(error))
        return
    yield Finding(
        name="home", level="ok", text=f"{path}, mode {stat.S_IMODE(path.stat().st_mode):o}; only you may write there"
    )
    kind = file_system_of(path)
    remote = is_remote(kind)
    yield _place(kind, remote=remote)
    yield _machine(path)
    yield _notices()
    yield from _settings(path)
    if not remote:
        yield from try_folder(path)
    yield from _ledger(path)
    yield _index(path, repair=repair)
    yield from _values(path)


def _versions() -> Finding:
    text = f"executor {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return Finding(name="versions", level="ok", text=text)


def _sqlite() -> Finding:
    version, affected = sqlite_version()
    if not affected:
        return Finding(name="SQLite", level="ok", text=f"SQLite {version}, without the WAL-reset bug")
    return Finding(
        name="SQLite",
        level="ok",
        text=f"SQLite {version} has the WAL-reset bug (mended in 3.44.6, 3.50.7 and 3.51.3), which can damage a "
        "database when a checkpoint races with a commit; it does not concern the ledger, where both happen under "
        "ledger.lock, as long as no other program writes to ledger.db",
    )


def _place(kind: str, *, remote: bool) -> Finding:
    if remote:
        return Finding(
            name="file system",
            level="problem",
            text=f"the home folder is on a file system of kind {kind}, where others may not see this machine's locks",
            fix="set EXECUTOR_HOME to a folder on a local disk of this machine, such as one in /var/tmp",
        )
    return Finding(name="file system", level="ok", text=f"{kind or 'of a kind that cannot be known'}, of this machine")


def _machine(home: Path) -> Finding:
    """What there is for runs: CPUs, memory, and room for their values and histories."""
    import psutil  # it takes longer to load than the rest of this module

    cpus, usable, load = psutil.cpu_count() or 1, usable_cpus(), psutil.getloadavg()[0]
    memory, bound = psutil.virtual_memory(), usable_memory()
    room = psutil.disk_usage(str(home)).free
    said = [
        f"{cpus} CPU{'s' if cpus > 1 else ''}" + (f", of which runs may use {usable}" if usable < cpus else ""),
        f"load {load:.1f}",
        f"{memory_text(memory.available)} of {memory_text(memory.total)} of memory available"
        + (f", of which runs may use {memory_text(bound)} (cgroup)" if bound < memory.total else ""),
        f"{memory_text(room)} of room in the home folder",
    ]
    text = "; ".join(said)
    if room >= LITTLE_ROOM_BYTES:
        return Finding(name="machine", level="ok", text=text)
    fix = "executor runs prune, or set EXECUTOR_HOME to a folder on another disk"
    return Finding(name="machine", level="note", text=f"{text}, which is little: a run ends when it is full", fix=fix)


def _notices() -> Finding:
    try:
        CloseWatch().close()
    except OSError as error:
        return Finding(
            name="inotify",
            level="note",
            text=f"the kernel gives no notices of ends ({error.strerror}), so a run that waits looks once a second",
            fix="as root: sysctl fs.inotify.max_user_instances=1024",
        )
    return Finding(name="inotify", level="ok", text="the kernel gives notices when a process ends")


def _settings(home: Path) -> Iterator[Finding]:
    try:
        settings = read_instance_settings(home)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(name="settings", level="problem", text=problem, fix="correct that line")
        return
    for notice in settings.notices:
        yield Finding(name="settings", level="note", text=notice)
    if settings.file is None:
        yield Finding(name="settings", level="ok", text="there is no executor.yaml")
        return
    ignored = f"; not used by this version: {', '.join(settings.ignored)}" if settings.ignored else ""
    yield Finding(name="settings", level="ok", text=f"{settings.file} has no mistakes{ignored}")


def _ledger(home: Path) -> Iterator[Finding]:
    path = home / LEDGER_FILE
    try:
        if not path.exists() or not path.stat().st_size:
            refuse_to_make_under_running_work(home)
            yield Finding(name="ledger", level="ok", text="there is no ledger yet; the first run makes it")
            return
        if locked := [str(each) for each in sorted(home.glob(f"{LEDGER_FILE}*")) if not os.access(each, os.W_OK)]:
            text = f"{' and '.join(locked)} may only be read by you, so no run with pools can start"
            yield Finding(name="ledger", level="problem", text=text, fix=f"chmod u+w {shlex.join(locked)}")
        found = _look(home)
        if any(finding.is_problem for finding in found):
            time.sleep(SECOND_LOOK_S)  # a death, or a grant, may have been on its way to be noticed
            found = _look(home)
    except ExecutorError as error:
        yield Finding(name="ledger", level="problem", text=str(error))
        return
    yield from found


def _index(home: Path, *, repair: bool) -> Finding:
    name, fix = "index of runs", "executor instance doctor --repair"
    try:
        if repair:
            count = rebuild(home)
            return Finding(name=name, level="ok", text=f"made anew from the folders of {count} runs")
        if not (home / INDEX_FILE).exists():
            return Finding(name=name, level="ok", text="there is none yet; the first run makes it")
        problems = index_problems(home)
    except ExecutorError as error:
        return Finding(name=name, level="problem", text=str(error), fix="" if repair else fix)
    if problems:
        text = "; ".join(problems) + "; what is asked of runs is read from their folders then, which takes longer"
        return Finding(name=name, level="note", text=text, fix=fix)
    return Finding(name=name, level="ok", text="sound, and as the folders of the runs are")


def _values(home: Path) -> Iterator[Finding]:
    """What runs have on the disk and in memory, and whether there is room for more."""
    runs = run_ids(home)
    kept = sum(RunFolder(home / "runs" / run_id).size_bytes() for run_id in runs)
    disk = os.statvfs(home)
    has = f"{counted(len(runs), 'run')} with {memory_text(kept)}"
    room = max(0, room_of(disk))
    fix = "make room on that disk; executor runs prune --dry-run says what would be removed of runs, and why"
    if lacks_inodes(disk):
        text = f"{has}; the file system has no inode left for another file, so no value can be kept"
        yield Finding(name="runs", level="problem", text=text, fix=fix)
    elif not room:
        text = f"{has}; the disk is full but for what is kept for histories, so no large value can be kept"
        yield Finding(name="runs", level="problem", text=text, fix=fix)
    else:
        yield Finding(name="runs", level="ok", text=f"{has}, and room for {memory_text(room)} of values")
    with suppress(ConfigError):  # told above
        root = read_instance_settings(home).storage.memory_folder
        there = [each for each in in_memory(root) if each.run.home == home]
        dead = [each for each in there if not each.run.is_alive()]
        for each in dead:
            text = f"run {run_name(each.run.run_id)} has died and left {memory_text(each.size_bytes)} of values in "
            text += f"{each.path}; the next run moves them to its folder"
            yield Finding(name="memory", level="note", text=text)
        if not dead:
            size = memory_text(sum(each.size_bytes for each in there))
            whose = f"{size} of values in {root}, of {counted(len(there), 'run')}" if there else f"no values in {root}"
            yield Finding(name="memory", level="ok", text=f"{whose}; none was left by a run that died")


def _look(home: Path) -> list[Finding]:
    with LedgerView(home) as view:
        return prove(home, view)
