"""``examples/hello.py`` as a ``ProcessPoolExecutor`` would run it."""

import os
import time
from concurrent.futures import ProcessPoolExecutor


def name() -> str:
    with open(os.environ["FIRST_STEP"], "w", encoding="utf-8") as file:
        file.write(str(time.monotonic_ns()))
    return "world"


def greet(whom: str) -> str:
    return f"Hello, {whom}!"


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as pool:
        print(pool.submit(greet, pool.submit(name).result()).result())
