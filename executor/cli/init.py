"""Being process 1, as the only process of a container is: signals must be passed on, and orphans reaped.

The kernel gives process 1 no default actions, and makes it the parent of every process that loses its own. So the
command forks once: the child does the work, and the parent does only this.
"""

from __future__ import annotations

import os
import signal

#: Not to be passed on: about a child, about this process's own terminal use, or not catchable.
NOT_PASSED_ON = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGSTOP}


def split_from_init() -> None:
    """Return in a child process that is not process 1; this process waits for it and ends as it ends."""
    waited_for = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    # Blocked before the fork: a signal that comes now waits until there is somebody to pass it on to.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        _lead_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _serve(child, waited_for)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _lead_the_terminal() -> None:
    """Be a process group of its own, the terminal's own one: a Ctrl-C arrives once, and not once more passed on."""
    os.setpgid(0, 0)
    try:
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpid())  # SIGTTOU is blocked here, so that this does not stop us
    except OSError:  # a terminal that is not ours to take
        return


def _serve(child: int, signals: set[signal.Signals]) -> int:
    """Reap every process that ends and pass every signal on, until ``child`` has ended; its wait status."""
    while True:
        number = signal.sigwait(signals)
        if number == signal.SIGCHLD:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == child:
                    return status
                if pid == 0:
                    break
        elif number not in NOT_PASSED_ON:
            try:
                os.kill(child, number)
            except ProcessLookupError:  # it ended just now; its SIGCHLD is on the way
                continue
