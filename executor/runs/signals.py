"""What the terminal and the system ask of a run: stop, kill, pause. Turned into words that the driver's loop reads."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Self

Wish = Literal["stop", "pause"]

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While it is entered, Ctrl-C, SIGTERM, SIGHUP and Ctrl-Z become wishes, and ``fd`` can be read when there is one.

    Signal handlers belong to the main thread: in any other one nothing is installed, and the program's own handlers
    go on. A signal that the program ignores stays ignored (``nohup``). What was installed before is put back, and gets
    what nobody has taken by then from ``pass_on``.
    """

    def __init__(self, on_stop: Callable[[int], None]) -> None:
        #: Both are called inside the handler, for a step that runs in this very thread; on_pause: whether it has paused
        self._on_stop = on_stop
        self.on_pause: Callable[[], bool] | None = None
        self._before: dict[int, Any] = {}
        self._wishes: list[tuple[Wish, signal.Signals]] = []
        self.fd = -1
        self._write_fd = -1

    def __enter__(self) -> Self:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        hygiene.register(self.fd)
        hygiene.register(self._write_fd)
        with suppress(ValueError):  # raised in any other thread than the main one
            for signum in (*STOPS, signal.SIGTSTP):
                handler = signal.getsignal(signum)
                if handler is not None and handler is not signal.SIG_IGN:  # None: not installed from Python
                    hygiene.register_handler(signum, self._on_signal, handler)
                    self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
            hygiene.forget_handler(signum)
        self._before.clear()
        hygiene.close(self.fd)
        hygiene.close(self._write_fd)

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGTSTP and self.on_pause is not None and self.on_pause():
            return
        self._wishes.append(("pause" if signum == signal.SIGTSTP else "stop", signal.Signals(signum)))
        with suppress(BlockingIOError):  # the pipe is full of earlier ones: it wakes the loop all the same
            os.write(self._write_fd, b"!")
        if signum != signal.SIGTSTP:
            self._on_stop(signum)

    def take(self) -> list[tuple[Wish, str]]:
        """The wishes since the last call, each with the name of its signal."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)
        wishes, self._wishes = self._wishes, []
        return [(wish, signum.name) for wish, signum in wishes]

    def pass_on(self) -> None:
        """What came too late for the run to stop is for the program: to be called once the run is left in good order.

        Raises what the program's own handler raises, as ``KeyboardInterrupt`` for Ctrl-C.
        """
        wishes, self._wishes = self._wishes, []
        for _, signum in wishes[:1]:
            signal.raise_signal(signum)

    def stop_this_process(self) -> None:
        """Do what Ctrl-Z does to a program that does not handle it; return when it is continued."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # continued: by fg, or at once where nobody could ever continue us (an orphaned process group)
        signal.signal(signal.SIGTSTP, self._on_signal)
