"""Child processes for tests: forked, and ended by ``os._exit`` whatever happens in them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def fork(body: Callable[[], object]) -> int:
    """Run ``body`` in a child; its exit code is 0 if it returns, 1 if it raises. The child's pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """How the child ended: its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
