"""Descriptors that are ours and must not travel over a fork.

A forked child inherits every open file. One registry knows those of this package (pipes, sockets, locks, history
files); a child closes all of them before anything else runs in it, and none of the user's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ours: set[int] = set()


def register(fd: int) -> int:
    """Remember ``fd`` as ours, and give it back."""
    _ours.add(fd)
    return fd


def forget(fd: int) -> None:
    """``fd`` is no longer ours; safe to call for one that never was."""
    _ours.discard(fd)


def close(fd: int) -> None:
    """Close a descriptor of ours; safe to call twice."""
    if fd in _ours:
        _ours.discard(fd)
        os.close(fd)


def after_fork_in_child() -> None:
    """Close every registered descriptor. Runs by itself in each forked child of this process."""
    for fd in _ours:
        try:
            os.close(fd)
        except OSError:  # the user's code closed it under us: nothing left to do
            continue
    _ours.clear()


#: Called before each fork of this process; see ``fork_hooks.py``.
before_fork: list[Callable[[], None]] = []


def _before_fork() -> None:
    for hook in before_fork:
        hook()


os.register_at_fork(before=_before_fork, after_in_child=after_fork_in_child)
