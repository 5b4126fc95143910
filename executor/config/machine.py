"""How many CPUs this process may use, and so how many steps run at once; its memory; how large a pool may be.

The one place in this folder that reads the machine: the CPU affinity, the cgroup's bounds, environment variables.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from executor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from executor.config.settings import ExecutorSettings

#: The environment variable that sets the default of ``max_concurrent``.
MAX_CONCURRENT_VARIABLE = "EXECUTOR_MAX_CONCURRENT"

#: The environment variable that allows larger pools, for those whose slots are megabytes or the like.
MAX_POOL_LIMIT_VARIABLE = "EXECUTOR_MAX_POOL_LIMIT"

# Dagster's bound: a larger number is mostly a misprint.
MAX_POOL_LIMIT = 1000

#: No Linux has more processes at a time, whatever is set (PID_MAX_LIMIT); so no more steps.
MOST_PROCESSES = 4_194_304

# What the ledger's sums have room for, whatever the variable says.
_POOL_LIMIT_BOUND = (1 << 31) - 1


def worker_count(settings: ExecutorSettings, environ: Mapping[str, str] | None = None) -> int:
    """How many steps may run at once under these settings, 1 or more; reads the machine where they leave it open.

    No more than the processes that this machine can have.

    Raises:
        ConfigError: ``EXECUTOR_MAX_CONCURRENT`` is needed and is not a whole number, 0 or more.
    """
    if settings.in_process:
        return 1
    return min(settings.max_concurrent or default_max_concurrent(environ), _most_processes())


def default_max_concurrent(environ: Mapping[str, str] | None = None) -> int:
    """``EXECUTOR_MAX_CONCURRENT`` where it is set and not 0, else ``usable_cpus()``.

    Raises:
        ConfigError: the variable is not a whole number, 0 or more, or absurdly large.
    """
    return environment_max_concurrent(environ) or usable_cpus()


def environment_max_concurrent(environ: Mapping[str, str] | None = None) -> int | None:
    """``EXECUTOR_MAX_CONCURRENT`` where it is set and not 0, else None.

    Raises:
        ConfigError: the variable is not a whole number, 0 or more.
    """
    text = (os.environ if environ is None else environ).get(MAX_CONCURRENT_VARIABLE, "").strip()
    if text and not (text.isascii() and text.isdigit() and float(text) <= MOST_PROCESSES):
        problem = f"environment variable {MAX_CONCURRENT_VARIABLE}: {text!r} is not a whole number from 0 to "
        problem += f"{MOST_PROCESSES} (no Linux has more processes)"
        raise ConfigError([f"{problem}; correct it, or unset it to use as many steps at once as there are CPUs"])
    return int(text or 0) or None


def largest_pool_limit(environ: Mapping[str, str] | None = None) -> int:
    """The largest limit that a pool may be given: 1000, or what ``EXECUTOR_MAX_POOL_LIMIT`` says.

    Raises:
        ConfigError: the variable is not a whole number, 1 or more.
    """
    text = (os.environ if environ is None else environ).get(MAX_POOL_LIMIT_VARIABLE, "").strip()
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) <= _POOL_LIMIT_BOUND):
        problem = f"environment variable {MAX_POOL_LIMIT_VARIABLE}: {text!r} is not a whole number from 1 to "
        raise ConfigError([f"{problem}{_POOL_LIMIT_BOUND}; correct it, or unset it for {MAX_POOL_LIMIT}"])
    return int(text) if text else MAX_POOL_LIMIT


def usable_cpus(root: str = "") -> int:
    """The CPUs that this process may use: its affinity, cut by the quota of its cgroups (v1 and v2), 1 or more.

    Part of a CPU counts as one. ``root`` goes before ``/proc`` and ``/sys``.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cpus = os.cpu_count() or 1
    quota = min(_quotas(root), default=float(cpus))
    return max(1, min(cpus, -int(-quota // 1)))


def usable_memory(root: str = "") -> int:
    """The bytes of memory that this process may use: the machine's, cut by the bounds of its cgroups (v1 and v2)."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bounds = [int(text) for name in ("memory.max", "memory.limit_in_bytes") for text in _of_cgroups(root, name)]
    return min([machine, *bounds])


def _most_processes() -> int:
    """The processes that this machine can have at a time."""
    text = _read("/proc/sys/kernel/pid_max").strip()
    return int(text) if text.isdigit() else MOST_PROCESSES


def _of_cgroups(root: str, name: str) -> Iterator[str]:
    """The number in this file of each cgroup that holds for this process, where there is one."""
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        controller = name.partition(".")[0]
        if hierarchy == "0" and not controllers:
            top = f"{root}/sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = f"{root}/sys/fs/cgroup/{controller}"
        else:
            continue
        for folder in _upwards(top, path):
            if (text := _read(f"{folder}/{name}").strip()).isdigit():
                yield text


def _quotas(root: str) -> Iterator[float]:
    """Every CPU quota that holds for this process, in CPUs: those of its cgroups and of all that are around them."""
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for folder in _upwards(f"{root}/sys/fs/cgroup", path):
                yield from _quota(*_read(f"{folder}/cpu.max").split()[:2])
        elif "cpu" in controllers.split(","):
            for folder in _upwards(f"{root}/sys/fs/cgroup/cpu", path):
                quota = _read(f"{folder}/cpu.cfs_quota_us").strip()
                period = _read(f"{folder}/cpu.cfs_period_us").strip()
                yield from _quota(quota, period)


def _upwards(top: str, path: str) -> Iterator[str]:
    """The folder of a cgroup and those around it, up to ``top``; inside a container the path may not exist below it."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield "/".join([top, *parts[:length]])


def _quota(quota: str = "", period: str = "") -> Iterator[float]:
    """The CPUs that a quota stands for; none for ``max``, ``-1``, or a file that is not there."""
    if quota.isdigit() and period.isdigit() and int(quota) and int(period):
        yield int(quota) / int(period)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
