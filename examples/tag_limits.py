"""Shows tag limits being held: six queries, of which at most one at a time may run on each database.

Run it:   executor run examples/tag_limits.py
Try also: executor run examples/tag_limits.py --per-value-limit database:2
          executor run examples/tag_limits.py --tag-limit database:1
          executor run examples/tag_limits.py --dry-run
"""

import time

from executor import job, multiprocess_executor, op


@op
def query(context) -> tuple[str, float, float]:
    """Stands for a query that takes a fifth of a second; gives its database, and when it began and ended."""
    began = time.monotonic()
    time.sleep(0.2)
    return context.tags["database"], began, time.monotonic()


@op
def most_at_once(queries: list) -> dict:
    """How many queries ran at the same time on each database, at most."""
    most: dict[str, int] = {}
    for database, began, _ in queries:
        running = sum(1 for other, start, end in queries if other == database and start <= began < end)
        most[database] = max(most.get(database, 0), running)
    print(f"at most at once: {most}")
    return most


@job(
    executor_def=multiprocess_executor.configured(
        {
            "max_concurrent": 4,
            "tag_concurrency_limits": [
                {"key": "database", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
            ],
        }
    )
)
def tag_limits():
    """Six queries on two databases."""
    most_at_once(
        [
            query.alias(f"{database}_{number}").tag({"database": database})()
            for number in range(3)
            for database in ("warehouse", "events")
        ]
    )


# It prints one line per event. The queries start two by two, one on each database, although four steps could run at
# once, and at the end it says what they waited for:
#
#   run succeeded after ...: 7 succeeded
#     waits of all steps: ... tag database=...
