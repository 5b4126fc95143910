"""Shows pools: two jobs, each in a program of its own, share a database and an API that refuse whoever is too many.

Run it:      executor run examples/shared_database.py --output all

It runs the jobs "orders" and "customers" at the same time, twice: first with no limits on the pools, then with limits,
and counts how often each service refused somebody. By hand, in three terminals:

  python examples/shared_database.py serve                     (makes shop.db here and serves the API)
  executor run examples/shared_database.py -j orders
  executor run examples/shared_database.py -j customers        (meanwhile: executor why last)

Both are refused until the pools have limits, which count at once: executor instance concurrency set database 1
and: executor instance concurrency set api 2
"""

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from executor import Instance, RetryPolicy, job, multiprocess_executor, op

WORK_S = 0.2  # how long one write and one call take
CALLS_AT_ONCE = 2  # what the API can bear
LIMITS = {"database": 1, "api": CALLS_AT_ONCE}

DATABASE = os.environ.get("SHOP_DATABASE", "shop.db")
API = os.environ.get("SHOP_API", "127.0.0.1:8137")

# --- the two jobs ----------------------------------------------------------------------------------------------------

# Whoever is refused tries again, as programs do that have no other way.
again = RetryPolicy(max_retries=500, delay=0.05)


@op(pool="database", retry_policy=again)
def write(context) -> None:
    """Writes into the database for a while. SQLite lets one do so at a time: "database is locked" for all others."""
    shop = sqlite3.connect(DATABASE, timeout=0, isolation_level=None)
    shop.execute("BEGIN IMMEDIATE")
    time.sleep(WORK_S)
    shop.execute("INSERT INTO written VALUES (?, ?)", (context.job_name, context.step_key))
    shop.execute("COMMIT")


@op(pool="api", retry_policy=again)
def call() -> None:
    """Asks the API for something."""
    connection = http.client.HTTPConnection(API, timeout=60)
    connection.request("GET", "/")
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"the API said {answer.status} {answer.reason}")


def shop_job(name: str):
    """Five writes and five calls, as many at once as they like."""

    @job(name=name, executor_def=multiprocess_executor.configured({"max_concurrent": 10}))
    def writes_and_calls():
        for _ in range(5):
            write()
            call()

    return writes_and_calls


orders = shop_job("orders")
customers = shop_job("customers")

# --- the two services ------------------------------------------------------------------------------------------------


def make_database(path: str) -> None:
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE IF NOT EXISTS written (job TEXT, step TEXT)")


class Api(ThreadingHTTPServer):
    """Answers each call after a while, and refuses with 503 whoever comes while it has enough to do."""

    request_queue_size = 100  # connections that wait to be looked at are not refused

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Answer)
        self.places, self.refused = threading.Semaphore(CALLS_AT_ONCE), []


class Answer(BaseHTTPRequestHandler):
    """What the API says to one call."""

    def do_GET(self) -> None:
        """Work for it, or refuse it."""
        if self.server.places.acquire(blocking=False):
            time.sleep(WORK_S)
            self.server.places.release()
            self.send_response(200)
        else:
            self.server.refused.append(self.client_address)
            self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: how it went is counted."""


# --- both jobs at once, and what the services say to it --------------------------------------------------------------


def refusals(limits: dict[str, int]) -> dict[str, float]:
    """How often each service refused somebody, with these limits of pools; and how long both jobs took, in seconds."""
    with tempfile.TemporaryDirectory() as folder, Instance.ephemeral() as instance, Api(("127.0.0.1", 0)) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        database = str(Path(folder, "shop.db"))
        make_database(database)
        for pool, limit in limits.items():
            instance.ledger.set_limit(pool, limit)
        places = {
            "SHOP_DATABASE": database,
            "SHOP_API": f"127.0.0.1:{api.server_port}",
            "EXECUTOR_HOME": str(instance.home),
        }
        began = time.monotonic()
        attempts = sum(
            attempts_to_write(program) for program in [start(name, places) for name in ("orders", "customers")]
        )
        took = time.monotonic() - began
        api.shutdown()
        with sqlite3.connect(database) as shop:
            (written,) = shop.execute("SELECT count(*) FROM written").fetchone()
        return {"database": attempts - written, "api": len(api.refused), "took": took}


def start(name: str, places: dict[str, str]) -> subprocess.Popen:
    """One of the jobs, in a program of its own."""
    command = [sys.executable, "-m", "executor.cli", "run", __file__, "-j", name, "--quiet", "--json"]
    return subprocess.Popen(command, env=os.environ | places, stdout=subprocess.PIPE)


def attempts_to_write(program: subprocess.Popen) -> int:
    """How many attempts the writes of a program took, when it has ended."""
    result = json.loads(program.communicate()[0])
    if not result["success"]:
        raise RuntimeError(f"job {result['job']} {result['status']}")
    return sum(step["attempts"] for key, step in result["steps"].items() if key.startswith("write"))


@op
def without_limits() -> dict:
    return refusals({})


@op
def with_limits(before: dict) -> dict:  # not at the same time
    after = refusals(LIMITS)
    for what, found in (("without limits", before), ("with limits", after)):
        print(f"{what}: refused by the database {found['database']} times, by the API {found['api']} times", end=" ")
        print(f"({found['took']:.1f} s)")
    return {"without": before, "with": after}


@job
def shared_database():
    """Runs "orders" and "customers" at the same time, without limits and with them, and counts the refusals."""
    with_limits(without_limits())


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        make_database(DATABASE)
        host, port = API.split(":")
        print(f"the API is at {API}; end it with Ctrl-C")
        with Api((host, int(port))) as api:
            try:
                api.serve_forever()
            except KeyboardInterrupt:
                print(f"refused {len(api.refused)} calls")
    else:
        shared_database.execute_in_process()


# It prints how often each service refused somebody; how often that is without limits differs from run to run:
#
#   without limits: refused by the database ... times, by the API ... times (... s)
#   with limits: refused by the database 0 times, by the API 0 times (... s)
