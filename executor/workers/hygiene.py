"""What is ours and must not travel over a fork: descriptors and signal handlers.

A forked child inherits every open file. One registry knows those of this package (pipes, sockets, locks, history
files); a child closes all of them before anything else runs in it, and none of the user's. Another knows the signals
that have a handler of ours: a process that a step forks, such as a worker of its ``multiprocessing.Pool``, gets back
what stood there before, or SIGTERM would not end it.
"""

from __future__ import annotations

import os
from _signal import SIG_BLOCK, SIG_SETMASK, getsignal, pthread_sigmask  # plain functions, no enums: see child.py
from _signal import signal as set_handler
from _thread import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ours: set[int] = set()

#: The pid of this process, or of its parent, if that is a template: what is registered there is meant for its workers.
_template = 0


def register(fd: int) -> int:
    """Remember ``fd`` as ours, and give it back."""
    _ours.add(fd)
    return fd


def forget(fd: int) -> None:
    """``fd`` is no longer ours; safe to call for one that never was."""
    _ours.discard(fd)


def close(fd: int) -> None:
    """Close a descriptor of ours. Call it once: in a program with threads the number is somebody else's right after."""
    if fd in _ours:
        _ours.discard(fd)
        os.close(fd)


def forks_workers() -> None:
    """This process is a template from now on: what is registered in it its workers keep, and hand to no child."""
    global _template  # noqa: PLW0603  (a fact about this process)
    _template = os.getpid()


def after_fork_in_child() -> None:
    """Close every registered descriptor. Runs by itself in each forked child of this process."""
    if _template:  # or else _before_fork had set it to 0
        return
    for fd in _ours:
        try:
            os.close(fd)
        except OSError:  # the user's code closed it under us: nothing left to do
            continue
    _ours.clear()
    if _handlers:
        for signum, stack in _handlers.items():
            found = handler = getsignal(signum)
            for ours, before in reversed(stack):
                handler = before if handler == ours else handler
            if handler != found:
                set_handler(signum, handler)
        _handlers.clear()
    _unblock()


# Signals wait while a fork goes on: one that came to the child before it had its own handlers would be lost there.

#: Signal -> our handler, and what a forked child gets in its place; several where a run goes on inside a step.
_handlers: dict[int, list[tuple[Any, Any]]] = {}

#: Thread that is about to fork -> what it blocked before.
_masks: dict[int, set[int]] = {}


def register_handler(signum: int, handler: object, in_child: object) -> None:
    """Let ``in_child`` stand for ``signum`` in a forked child, where ``handler`` stands in this process."""
    plain = int(in_child) if isinstance(in_child, int) else in_child
    _handlers.setdefault(int(signum), []).append((handler, plain))


def forget_handler(signum: int) -> None:
    """The handler that was last registered for ``signum`` stands there no longer; safe to call in a forked child."""
    stack = _handlers.get(signum)
    if stack:
        stack.pop()
        if not stack:
            del _handlers[signum]


def _unblock() -> None:
    if _masks and (before := _masks.pop(get_ident(), None)) is not None:
        pthread_sigmask(SIG_SETMASK, before)


#: Called before each fork of this process; see ``fork_hooks.py``.
before_fork: list[Callable[[], None]] = []


def _before_fork() -> None:
    global _template  # noqa: PLW0603  (as above)
    if _template:
        if _template == os.getpid():
            return
        _template = 0  # a worker forks: from here on it is a process as any other
    for hook in before_fork:
        hook()
    if _handlers:
        _masks[get_ident()] = pthread_sigmask(SIG_BLOCK, tuple(_handlers))


os.register_at_fork(before=_before_fork, after_in_child=after_fork_in_child, after_in_parent=_unblock)
