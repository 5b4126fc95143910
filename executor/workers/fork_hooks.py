"""At-fork hooks that a worker does not need, two of the standard library among them that cost a third of its fork.

After a fork, ``threading`` makes new locks and rewrites its records in case other threads held or were in them, and
``logging`` does so for each handler. A template has one thread and holds no lock when it forks, so both find nothing
to mend; but they write all over the heap, and each page that a new process writes to is a page to copy: 123 of the
230 page faults of a fork in a process that has imported ``logging``. (One thing shows: the main thread's ``native_id``
in a worker is the template's.) Every other hook runs, the user's included. When a worker forks in its turn, the two
are in place again. Where an interpreter keeps its hooks in another way, nothing is left out.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable

    Hooks = list[Callable[[], object]]

#: Module and name of the hooks that mend what other threads may have left; and of ours, which does nothing in a worker.
_AFTER_IN_CHILD = {
    ("threading", "_after_fork"),
    ("logging", "_after_at_fork_child_reinit_locks"),
    (hygiene.__name__, hygiene.after_fork_in_child.__name__),
}

#: With its hook in the child left out, logging must not take its lock before the fork either: it would stay taken.
_BEFORE = {("logging", "_acquireLock"), ("logging", "_prepareFork")}
_AFTER_IN_PARENT = {("logging", "_releaseLock"), ("logging", "_afterFork")}


class ForkHooks:
    """The interpreter's lists of what ``os.register_at_fork`` was given, for a process that is about to fork a lot."""

    def __init__(self) -> None:
        self._in_child: Hooks = []
        self._all_in_child: Hooks = []

    def leave_out_needless(self) -> None:
        """From now on, forks of this process run without them."""
        os.register_at_fork(after_in_parent=_marker)  # so that this list can be told from others as well
        before = _list_with(hygiene._before_fork)  # noqa: SLF001  (registered there for this)
        in_parent = _list_with(_marker)
        in_child = _list_with(hygiene.after_fork_in_child)
        if before is None or in_parent is None or in_child is None:
            return
        self._in_child, self._all_in_child = in_child, in_child[:]
        for hooks, needless in ((before, _BEFORE), (in_parent, _AFTER_IN_PARENT), (in_child, _AFTER_IN_CHILD)):
            hooks[:] = [hook for hook in hooks if _name(hook) not in needless]
        hygiene.before_fork.append(self._put_back)

    def _put_back(self) -> None:
        """Before a fork of a worker, which may have threads: all hooks run in its child."""
        if self._all_in_child:
            self._in_child[:] = self._all_in_child
            self._all_in_child = []


def _marker() -> None:
    """Does nothing; stands in the list of hooks that run in the parent."""


def _list_with(hook: Callable[[], object]) -> Hooks | None:
    found = [item for item in gc.get_referrers(hook) if type(item) is list]  # looks at objects without touching them
    return found[0] if len(found) == 1 else None


def _name(hook: Callable[[], object]) -> tuple[str, str]:
    return getattr(hook, "__module__", ""), getattr(hook, "__name__", "")
