"""What workers are told: of the run, once; and of each attempt. Plain data, so that it can cross a socket.

Not here are the ops themselves: a template has them from its start, and a task names one by its position among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.outputs.writer import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from executor.config.storage import ValuePlace
    from executor.workers.claimed import LockStep
    from executor.workers.interface import InputValue

    #: A function by its module and name, and the arguments that go first.
    FunctionName = tuple[str, str, tuple[object, ...]]

    #: One attempt for a worker: step index, attempt number, position of its op, step key, tags (None where the op
    #: takes no context), inputs, claim, fencing token.
    Task = tuple[int, int, int, str, "dict[str, str] | None", Sequence[InputValue], int, int]

#: How a step gets an input: the only value; a list of all; the only value, which no other step will read any more.
ONE, FAN_IN, LAST_READER = 0, 1, 2


class WorkerJob:
    """What a worker needs to know of the run: the same for all attempts."""

    __slots__ = ("job_name", "lanes_folder", "locker", "run_id", "run_tags", "stack_signal", "storage", "values_folder")

    def __init__(  # noqa: PLR0917  (``plain`` gives them in this order)
        self,
        run_id: str,
        job_name: str,
        run_tags: Mapping[str, str],
        values_folder: str,
        lanes_folder: str,
        locker: FunctionName | None = None,
        storage: tuple[ValuePlace, int] = ("disk", 0),
        stack_signal: bool = True,
    ) -> None:
        self.run_id, self.job_name, self.run_tags = run_id, job_name, run_tags
        self.values_folder = values_folder
        self.lanes_folder = lanes_folder  #: ``lane-<n>.log`` files are made in it
        self.locker = locker  #: what takes the lock of an attempt with a claim; None: no step uses pools
        self.storage = Storage(*storage)  #: where values are put that are too large for a message
        self.stack_signal = stack_signal  #: whether processes with steps tell their stacks; see ``stacks.py``

    def plain(self) -> tuple[object, ...]:
        """The same as a plain tuple: ``WorkerJob(*plain)``."""
        return (
            self.run_id,
            self.job_name,
            dict(self.run_tags),
            self.values_folder,
            self.lanes_folder,
            self.locker,
            tuple(self.storage),
            self.stack_signal,
        )

    def lock_step(self) -> LockStep | None:
        """The function that ``locker`` names, loaded now; None where there is none."""
        if self.locker is None:
            return None
        from functools import partial
        from importlib import import_module

        module, name, arguments = self.locker
        function: Any = getattr(import_module(module), name)
        return partial(function, *arguments)
