"""The programs whose idle cost is measured: one step sleeps, many wait. ``python waits.py KIND SECONDS WAITERS``.

The step that sleeps says so through the FIFO that ``BEGUN`` names; whoever measures ends the program.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from typing import Any


def sleep_first(seconds: float) -> None:
    """What the running step does."""
    with open(os.environ["BEGUN"], "w", encoding="utf-8") as file:
        file.write("begun")
    time.sleep(seconds)


def nothing() -> None:
    """What the waiting steps would do."""


def tag_job(seconds: float, waiters: int) -> Any:
    """A job of one step that sleeps and others that wait; all have the tag ``slow``."""
    return _job(seconds, waiters, tags={"slow": "yes"})


def _job(seconds: float, waiters: int, **demands: Any) -> Any:
    """A job of one step that sleeps and others, less urgent, that wait; all have these demands."""
    import executor as ex

    sleep = ex.op(name="sleep", priority=1, **demands)(lambda: sleep_first(seconds))
    wait = ex.op(name="wait", **demands)(nothing)

    @ex.job(name="waiting")
    def made() -> None:
        sleep()
        for number in range(waiters):
            wait.alias(f"w{number}")()

    return made


def executor_max_concurrent(seconds: float, waiters: int) -> None:
    """Others wait for ``max_concurrent``; a process per step."""
    tag_job(seconds, waiters).execute(run_config={"execution": {"config": {"max_concurrent": 1}}})


def executor_tag_limit(seconds: float, waiters: int) -> None:
    """Others wait for a tag limit; a process per step."""
    config = {"max_concurrent": 4, "tag_concurrency_limits": [{"key": "slow", "limit": 1}]}
    tag_job(seconds, waiters).execute(run_config={"execution": {"config": config}})


def executor_persistent(seconds: float, waiters: int) -> None:
    """Others wait for a tag limit; persistent workers."""
    config = {
        "max_concurrent": 4,
        "steps_per_worker": "unlimited",
        "tag_concurrency_limits": [{"key": "slow", "limit": 1}],
    }
    tag_job(seconds, waiters).execute(run_config={"execution": {"config": config}})


def executor_command(seconds: float, waiters: int) -> None:
    """Others wait for a tag limit; by ``executor run``, which shows each event."""
    from executor.cli.root import run_command

    os.environ["WAITING"] = f"{seconds} {waiters}"
    sys.exit(run_command(["run", __file__, "--max-concurrent", "4", "--tag-limit", "slow:1"]))


def pool_job(seconds: float, waiters: int) -> Any:
    """A job whose steps all want the one slot of a pool, those beside ``sleep`` less urgently."""
    return _job(seconds, waiters, pool="slow")


def executor_pool(seconds: float, waiters: int) -> None:
    """Others wait for the one slot of a pool; a process per step."""
    _limit_pool()
    pool_job(seconds, waiters).execute(run_config={"execution": {"config": {"max_concurrent": 4}}})


def executor_other_run(seconds: float, waiters: int) -> None:
    """All steps wait for the one slot of a pool, which a run in another program holds."""
    import executor as ex

    _limit_pool()
    program, asleep = sys.executable, f"{os.environ['BEGUN']}.holder"
    os.mkfifo(asleep)
    command = [program, __file__, "executor_pool_holder", str(seconds), "0"]
    with subprocess.Popen(command, env=os.environ | {"BEGUN": asleep}):
        with open(asleep, encoding="utf-8") as file:
            file.read()
        config = {"execution": {"config": {"max_concurrent": 4}}}
        ex.execute_job(pool_job(seconds, waiters), config, on_event=_TellThatItWaits())


def executor_pool_holder(seconds: float, waiters: int) -> None:
    """The run in the other program."""
    pool_job(seconds, waiters).execute()


class _TellThatItWaits:
    """Says so when the first step of a run is told that it waits."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, event: Any, _: float) -> None:
        if not self._told and event.kind == "slots_waiting" and event.cause == "full":
            self._told = True
            with open(os.environ["BEGUN"], "w", encoding="utf-8") as file:
                file.write("begun")


def _limit_pool() -> None:
    from executor import Instance

    Instance.get().ledger.set_limit("slow", 1)


def process_pool_executor(seconds: float, waiters: int) -> None:
    """Others wait in the queue of a ``ProcessPoolExecutor`` of one process."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        futures = [pool.submit(sleep_first, seconds), *(pool.submit(nothing) for _ in range(waiters))]
        for future in futures:
            future.result()


def multiprocessing_pool(seconds: float, waiters: int) -> None:
    """Others wait in the queue of a ``multiprocessing.Pool`` of one process."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = [pool.apply_async(sleep_first, (seconds,)), *(pool.apply_async(nothing) for _ in range(waiters))]
        for one in found:
            one.get()


def dask(seconds: float, waiters: int) -> None:
    """Others wait for the one thread of the one worker of a ``LocalCluster``."""
    distributed: Any = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        first = client.submit(sleep_first, seconds, pure=False)
        client.gather([first, *(client.submit(nothing, pure=False) for _ in range(waiters))])


def dagster(seconds: float, waiters: int) -> None:
    """Others wait for a tag limit of Dagster's multiprocess executor."""
    module: Any = importlib.import_module("dagster")
    instance = module.DagsterInstance.local_temp(os.environ["EXECUTOR_HOME"])
    made = module.build_reconstructable_job("waits", "dagster_job", (seconds, waiters))
    with module.execute_job(made, instance=instance, raise_on_error=True):
        pass


def dagster_pool(seconds: float, waiters: int) -> None:
    """Others wait for the one slot of a pool, which another run holds; one step that uses no pool sleeps."""
    module: Any = importlib.import_module("dagster")
    instance = module.DagsterInstance.local_temp(os.environ["EXECUTOR_HOME"])
    storage = instance.event_log_storage
    storage.set_concurrency_slots("slow", 1)
    if not storage.claim_concurrency_slot("slow", "another-run", "step").is_claimed:
        raise RuntimeError("the other run has not got the slot")
    made = module.build_reconstructable_job("waits", "dagster_pool_job", (seconds, waiters))
    with module.execute_job(made, instance=instance, raise_on_error=True):
        pass


def dagster_pool_job(seconds: float, waiters: int) -> Any:
    """Its job; its workers call this as well."""
    module: Any = importlib.import_module("dagster")

    def first() -> None:
        sleep_first(seconds)

    sleep = module.op(name="sleep", tags={"dagster/priority": "1"})(first)
    wait = module.op(name="wait", pool="slow")(nothing)

    @module.job(name="waiting", executor_def=module.multiprocess_executor.configured({"max_concurrent": 4}))  # type: ignore[untyped-decorator]  # Any: a peer
    def made() -> None:
        sleep()
        for number in range(waiters):
            wait.alias(f"w{number}")()

    return made


def dagster_job(seconds: float, waiters: int) -> Any:
    """The same job for Dagster; its workers call this as well."""
    module: Any = importlib.import_module("dagster")

    def first() -> None:
        sleep_first(seconds)

    sleep = module.op(name="sleep", tags={"slow": "yes", "dagster/priority": "1"})(first)
    wait = module.op(name="wait", tags={"slow": "yes"})(nothing)
    executor = module.multiprocess_executor.configured(
        {"max_concurrent": 4, "tag_concurrency_limits": [{"key": "slow", "limit": 1}]}
    )

    @module.job(name="waiting", executor_def=executor)  # type: ignore[untyped-decorator]  # Any: a peer
    def made() -> None:
        sleep()
        for number in range(waiters):
            wait.alias(f"w{number}")()

    return made


if __name__ == "__main__":
    kind, seconds_text, waiters_text = sys.argv[1:4]
    globals()[kind](float(seconds_text), int(waiters_text))
elif "WAITING" in os.environ:  # `executor run` imports this file for its job
    seconds_text, waiters_text = os.environ["WAITING"].split()
    waiting = tag_job(float(seconds_text), int(waiters_text))
