"""The programs of ``values.py``: each passes the same values from one step to the next, so many times.

A figure is the time from when the first step's function ends until the second one has read every byte of the value, by
the system's monotonic clock. Reading is part of it, because a value that is mapped is only then brought in.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pickle
import statistics
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import executor as ex

if TYPE_CHECKING:
    from collections.abc import Callable

#: Whoever asks for one of these needs this distribution.
DISTRIBUTIONS = {"dask": "distributed", "ray": "ray"}

KIB, MIB = 1 << 10, 1 << 20

SIZES = {"numpy 64 KiB": 64 * KIB, "numpy 1 MiB": MIB, "numpy 100 MiB": 100 * MIB}
LIST = "list of 1,000,000 ints"
FRAME = "pandas frame, 80 MB"
KINDS = [*SIZES, LIST, FRAME]

#: What is passed, and when its maker had it ready.
Passed = tuple[Any, float]


def make(kind: str, number: int) -> Passed:
    """The first step: a value that no other has."""
    value: Any
    if kind in SIZES:
        value = np.arange(SIZES[kind] // 8, dtype=np.int64) + number
    elif kind == LIST:
        value = list(range(number, number + 1_000_000))
    else:
        value = pd.DataFrame({f"c{column}": np.arange(1_000_000, dtype=np.float64) + number for column in range(10)})
    return value, monotonic()


def read(kind: str, number: int, passed: Passed) -> float:
    """The second step: seconds until every byte was looked at. The sum must be the right one."""
    value, made_at = passed
    if kind in SIZES:
        items = SIZES[kind] // 8
        total, right = int(value.sum()), items * (items - 1) // 2 + number * items
    elif kind == LIST:
        total, right = sum(value), sum(range(number, number + 1_000_000))
    else:
        total, right = int(value["c3"].sum() + value["c9"].sum()), 2 * sum(range(number, number + 1_000_000))
        value.to_numpy().sum()
    took = monotonic() - made_at
    if total != right:
        raise ValueError(f"{kind}: the sum is {total}, not {right}")
    return took


def figures(times: list[float]) -> dict[str, float]:
    """The median; the first pass, which loads and opens things, is left out where there are others."""
    return {"pass_s": statistics.median(times[1:] or times)}


# --- this package ----------------------------------------------------------------------------------------------------


def make_step(kind: str, number: int) -> Callable[..., Any]:
    """An op that makes the value, after the one before has been read."""

    @ex.op(name=f"make_{number}", ins={"after": ex.In(ex.Nothing)}, out={"value": ex.Out(), "made_at": ex.Out()})
    def made() -> Passed:
        return make(kind, number)

    return made


def read_step(kind: str, number: int) -> Callable[..., Any]:
    """An op that reads it."""

    @ex.op(name=f"read_{number}")
    def done(value: Any, made_at: float) -> float:
        return read(kind, number, (value, made_at))

    return done


def executor(kind: str, times: str, steps_per_worker: str, storage: str) -> dict[str, float]:
    """Seconds from step to step in a run with two workers."""
    home = Path(os.environ["EXECUTOR_HOME"])
    (home / "executor.yaml").write_text(f"storage: {{values: {storage}}}\n")

    @ex.job
    def passes() -> None:
        done: Any = None
        for number in range(int(times)):
            value, made_at = make_step(kind, number)(**({} if done is None else {"after": done}))
            done = read_step(kind, number)(value, made_at)

    per_worker: int | str = int(steps_per_worker) if steps_per_worker.isdigit() else steps_per_worker
    result = passes.execute(run_config={"execution": {"config": {"max_concurrent": 2, "steps_per_worker": per_worker}}})
    return figures([result.output_for_node(f"read_{number}") for number in range(int(times))])


# --- pools -----------------------------------------------------------------------------------------------------------


def process_pool(kind: str, times: str) -> dict[str, float]:
    """Seconds from task to task of a warm ``ProcessPoolExecutor``; the value passes through the parent."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        return _submitted(pool, kind, times)


def joblib(kind: str, times: str) -> dict[str, float]:
    """The same with joblib's reusable executor."""
    module: Any = importlib.import_module("joblib.externals.loky")
    return _submitted(module.get_reusable_executor(max_workers=2), kind, times)


def joblib_parallel(kind: str, times: str) -> dict[str, float]:
    """The same with ``Parallel``, which writes large arrays among the arguments to files for the workers to map."""
    module: Any = importlib.import_module("joblib")
    found = []
    with module.Parallel(n_jobs=2) as parallel:
        for number in range(int(times)):
            (passed,) = parallel([module.delayed(make)(kind, number)])
            (took,) = parallel([module.delayed(read)(kind, number, passed)])
            found.append(took)
    return figures(found)


def _submitted(pool: Any, kind: str, times: str) -> dict[str, float]:
    list(pool.map(abs, range(8)))
    found = []
    for number in range(int(times)):
        passed = pool.submit(make, kind, number).result()
        found.append(pool.submit(read, kind, number, passed).result())
        del passed
    return figures(found)


# --- the bound -------------------------------------------------------------------------------------------------------


def mapped_file(kind: str, times: str, folder: str) -> dict[str, float]:
    """Seconds by way of a file in ``folder``: one process writes it, another one maps it. A pipe says when."""
    name_in, name_out = os.pipe()
    back_in, back_out = os.pipe()
    reader = os.fork()
    if reader == 0:
        code = 1
        try:
            os.close(name_out)  # or it would never see the end
            _read_files(kind, name_in, back_out)
            code = 0
        finally:
            os._exit(code)
    os.close(back_out)
    found = []
    for number in range(int(times)):
        path = f"{folder}/executor-benchmark-{os.getpid()}-{number}"
        value, made_at = make(kind, number)
        _write_file(path, value)
        os.write(name_out, pickle.dumps((path, number, made_at)).ljust(512, b"\0"))
        answer = os.read(back_in, 64)
        Path(path).unlink()
        if not answer:
            raise RuntimeError("the reader has died")
        found.append(float(answer))
    os.close(name_out)
    os.waitpid(reader, 0)
    return figures(found)


def _write_file(path: str, value: object) -> None:
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, 5, buffer_callback=buffers.append)
    parts = [memoryview(pickled), *[buffer.raw() for buffer in buffers]]
    table = pickle.dumps([part.nbytes for part in parts])
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for part in (memoryview(len(table).to_bytes(8, "little") + table), *parts):
        left = part
        while left:
            left = left[os.write(fd, left) :]
    os.close(fd)


def _read_files(kind: str, name_in: int, back_out: int) -> None:
    while data := os.read(name_in, 512):
        path, number, made_at = pickle.loads(data)
        fd = os.open(path, os.O_RDONLY)
        view = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
        os.close(fd)
        at = 8 + int.from_bytes(view[:8], "little")
        parts = []
        for size in pickle.loads(view[8:at]):
            parts.append(view[at : at + size])
            at += size
        value = pickle.loads(parts[0], buffers=parts[1:])
        took = read(kind, number, (value, made_at))
        del value, parts, view
        os.write(back_out, repr(took).encode())


# --- peers -----------------------------------------------------------------------------------------------------------


def dask(kind: str, times: str) -> dict[str, float]:
    """Seconds from one process of a warm ``LocalCluster`` to the other; on the same one nothing would be passed."""
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        first, second = client.scheduler_info()["workers"]
        client.gather([client.submit(abs, 1, workers=[name], pure=False) for name in (first, second)])
        found = []
        for number in range(int(times)):
            passed = client.submit(make, kind, number, workers=[first], pure=False)
            found.append(client.submit(read, kind, number, passed, workers=[second], pure=False).result())
    return figures(found)


def ray(kind: str, times: str) -> dict[str, float]:
    """Seconds from task to task of a started Ray, whose values lie in its object store."""
    module: Any = importlib.import_module("ray")
    module.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        remote_make, remote_read = module.remote(make), module.remote(read)
        module.get([module.remote(abs).remote(1) for _ in range(8)])
        found = [
            module.get(remote_read.remote(kind, number, remote_make.remote(kind, number)))
            for number in range(int(times))
        ]
    finally:
        module.shutdown()
    return figures(found)


# --- what it consists of ---------------------------------------------------------------------------------------------


def parts(disk: str, memory: str) -> dict[str, float]:
    """Seconds that each part takes with the array of 100 MiB; medians of several."""
    from executor.outputs.value_file import checksum, copy_file
    from executor.outputs.values import is_intact, load_value, store_value
    from executor.outputs.writer import MEMORY, Storage
    from executor.workers.own_values import OwnValues

    folder = Path(disk)
    shared = Path(memory) / f"executor-benchmark-{os.getpid()}"
    shared.mkdir(mode=0o700)
    (folder / MEMORY).symlink_to(shared)
    array, _ = make("numpy 100 MiB", 1)
    numbers, _ = make(LIST, 1)
    data = memoryview(array).cast("B")
    found: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        began = monotonic()
        result = call(*arguments, **options)
        found.setdefault(name, []).append(monotonic() - began)
        return result

    try:
        for number in range(PARTS_TIMES):
            timed("copy in memory", array.copy)
            timed("CRC-32 of it", checksum, data)
            for place in ("disk", "memory"):
                storage = Storage("disk" if place == "disk" else "memory")
                stored = timed(f"store, {place}", store_value, "x", array, folder, str(number), storage)
                path = folder / str(stored.path)
                loaded = timed(f"load, {place}", load_value, stored, folder)
                timed(f"read all of it, {place}", loaded.sum)
                del loaded
                timed(f"check, {place}", is_intact, stored, folder)
                if place == "memory":
                    timed("move from memory to the disk", copy_file, str(path), f"{folder}/moved")
                    (folder / "moved").unlink()
                timed(f"remove, {place}", path.unlink)
            stored = timed("store a list of 1,000,000 ints", store_value, "x", numbers, folder, "list")
            timed("load it", load_value, stored, folder)
            own = OwnValues()
            own.keep([(stored, list(numbers))])
            timed("hand it over", own.take, "list", last=True)
            (folder / "list").unlink()
    finally:
        for file in shared.iterdir():
            file.unlink()
        shared.rmdir()
    return {name: statistics.median(times) for name, times in found.items()}


PARTS_TIMES = 7


if __name__ == "__main__":
    sys.exit("run values.py")
