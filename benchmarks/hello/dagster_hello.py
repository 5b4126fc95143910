"""``examples/hello.py`` for Dagster."""

import os
import time

from dagster import job, op  # type: ignore[import-not-found, unused-ignore]  # a peer that is rarely installed


@op  # type: ignore[untyped-decorator, unused-ignore]  # as above
def name() -> str:
    with open(os.environ["FIRST_STEP"], "w", encoding="utf-8") as file:
        file.write(str(time.monotonic_ns()))
    return "world"


@op  # type: ignore[untyped-decorator, unused-ignore]  # as above
def greet(name: str) -> str:
    return f"Hello, {name}!"


@job  # type: ignore[untyped-decorator, unused-ignore]  # as above
def hello() -> None:
    greet(name())
