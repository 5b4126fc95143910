"""Shows the smallest job: two ops, of which the second reads the first.

Run it:  executor run examples/hello.py
"""

from executor import job, op


@op
def name() -> str:
    return "world"


@op
def greet(name: str) -> str:
    return f"Hello, {name}!"


@job
def hello():
    greet(name())


# It prints, besides the times of day and the ids of the processes:
#
#   name  started (attempt 1, pid ...)
#   name  succeeded in ...
#   greet  started (attempt 1, pid ...)
#   greet  succeeded in ...
#   run succeeded after ...: 2 succeeded
