"""What Python users reach for first: the pools of the standard library, and joblib's. All warm, all driven by ends.

A step is submitted as soon as what it reads is there, in the callback of the step that it waited for: no further
thread has to wake up for it. Values pass through the parent, as they do in all of these.
"""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any

from graphs import Order, check, graph, step

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


def process_pool_executor(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of the graph in a warm ``ProcessPoolExecutor`` that forks."""
    with ProcessPoolExecutor(int(workers), mp_context=multiprocessing.get_context("fork")) as pool:
        return _drive(pool.submit, shape, int(size), int(workers))


def joblib_executor(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of the graph in the warm executor that joblib's default backend is made of."""
    loky: Any = importlib.import_module("joblib.externals.loky")
    pool = loky.get_reusable_executor(max_workers=int(workers), timeout=None)
    try:
        return _drive(pool.submit, shape, int(size), int(workers))
    finally:
        pool.shutdown()


def _drive(submit: Callable[..., Future[int]], shape: str, size: int, workers: int) -> dict[str, float]:
    for warm in [submit(step) for _ in range(4 * workers)]:
        warm.result()
    of = graph(shape, size)
    order, over = Order(of), Event()
    failed: list[BaseException] = []

    def start(index: int) -> None:
        submit(step, *order.inputs(index)).add_done_callback(lambda future: end(index, future))

    def end(index: int, future: Future[int]) -> None:
        try:
            for released in order.end(index, future.result()):
                start(released)
        except BaseException as error:  # a callback's error would only be logged
            failed.append(error)
        if failed or not order.left:
            over.set()

    began = perf_counter()
    for index in order.ready:
        start(index)
    over.wait()
    took = perf_counter() - began
    if failed:
        raise failed[0]
    order.check()
    return {"steps": len(of), "wall_s": took}


def multiprocessing_pool(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of the graph in a warm ``multiprocessing.Pool`` that forks."""
    with multiprocessing.get_context("fork").Pool(int(workers)) as pool:
        for warm in [pool.apply_async(step) for _ in range(4 * int(workers))]:
            warm.get()
        of = graph(shape, int(size))
        order, over = Order(of), Event()
        failed: list[BaseException] = []

        def start(index: int) -> None:
            pool.apply_async(step, order.inputs(index), callback=lambda value: end(index, value), error_callback=fail)

        def end(index: int, value: int) -> None:
            for released in order.end(index, value):
                start(released)
            if not order.left:
                over.set()

        def fail(error: BaseException) -> None:
            failed.append(error)
            over.set()

        began = perf_counter()
        for index in order.ready:
            start(index)
        over.wait()
        took = perf_counter() - began
        if failed:
            raise failed[0]
        order.check()
        return {"steps": len(of), "wall_s": took}


def joblib_parallel(shape: str, size: str, workers: str) -> dict[str, float]:
    """Seconds of a fan in a warm ``joblib.Parallel``, which puts many short steps into one message."""
    joblib: Any = importlib.import_module("joblib")
    of = graph(shape, int(size))
    if any(of):
        raise ValueError("joblib.Parallel runs steps that do not read each other: only the fan")
    with joblib.Parallel(n_jobs=int(workers)) as parallel:
        parallel(joblib.delayed(step)() for _ in range(4 * int(workers)))
        began = perf_counter()
        values = parallel(joblib.delayed(step)() for _ in of)
        took = perf_counter() - began
    check(of, values)
    return {"steps": len(of), "wall_s": took}
