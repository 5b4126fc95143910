"""One attempt of a step, in whatever process this is: load the inputs, call the function, store the outputs."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from executor.authoring.compute import call_op
from executor.outputs.plain import PLAIN, dump_plain, load_small
from executor.outputs.values import ValueLost, ValueNotPicklable, ValueNotStored, load_value, remove_value, store_value
from executor.scheduler.outcomes import StepError, StoredValue
from executor.workers.event_loop import run_async
from executor.workers.explain import StepInterrupted, describe, explain, traceback_text
from executor.workers.job import FAN_IN, LAST_READER
from executor.workers.own_values import ABSENT, OwnValues
from executor.workers.streams import flush_output

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence
    from types import FrameType

    from executor.authoring.context import OpExecutionContext
    from executor.authoring.ops import OpDefinition
    from executor.workers.interface import InputValue, MadeValue, PlainValue
    from executor.workers.job import Task, WorkerJob

#: Stored outputs, each with the fields of ``StoredValue``, and the names of those left out.
Produced = tuple["list[PlainValue]", list[str]]


def plain(value: StoredValue) -> PlainValue:
    """The same as a plain tuple, which can cross a pipe."""
    output, data, path, size = value
    return output, data, path, size


class Stop:
    """Whether the attempt that is running was asked to stop."""

    __slots__ = ("asked", "interrupt", "polled", "running")

    def __init__(self) -> None:
        self.asked = self.polled = self.running = False
        self.interrupt: Callable[[], None] | None = None  #: of an ``async`` step: cancels it

    def is_asked(self) -> bool:
        """What ``context.is_cancelled`` answers."""
        self.polled = True
        return self.asked

    def on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM: stop the step that is running, if any."""
        self.asked = True
        if self.running and not self.polled:
            self.running = False  # interrupts once: what the step does to clean up is not cut short
            if self.interrupt is None:
                raise StepInterrupted
            self.interrupt()


def end_fork(error: BaseException | None) -> NoReturn:
    """End a process that the step forked and that came back from the step's function: the result is its parent's.

    Its exit code is that of a program which ends so, and ``sys.exit`` says nothing but what it was given to say.
    """
    status = int(error is not None)
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
    elif error is not None:
        sys.stderr.write(traceback_text(error))
    flush_output()
    os._exit(status & 0xFF)


class StepRunner:
    """Runs one attempt after another in the process that it is made in; shared by all kinds of worker."""

    __slots__ = ("_bad_item", "_job", "_log", "_own", "_run_async", "error", "stop")

    def __init__(self, job: WorkerJob, log: logging.Logger | None) -> None:
        self._own = OwnValues()
        self._job, self._log = job, log  #: log: None when no step takes a context
        self.stop = Stop()
        self._run_async = partial(run_async, self.stop)
        self.error: BaseException | None = None  #: what the last attempt raised, for a caller in the same process
        self._bad_item = 0  #: which value of an input could not be loaded, of an input that is a list

    def run(self, op: OpDefinition, task: Task) -> Produced | StepError:
        """Run one attempt: its stored outputs and the optional ones that it left out, or why it failed."""
        stop, pid, inputs = self.stop, os.getpid(), task[5]
        values: dict[str, object] = {}
        try:
            if inputs:
                self._load(op, inputs, values)
        except BaseException as error:  # noqa: BLE001  (unpickling runs user code, which may raise anything)
            return self._why_not_loaded(inputs, values, error)
        context = self._context(op, task) if op.takes_context else None
        try:
            try:
                stop.polled, stop.running = False, True
                if stop.asked:  # before, so that nobody was interrupted
                    raise StepInterrupted
                produced = call_op(op, context, values, self._run_async)
            finally:
                stop.running = False
        except BaseException as error:  # noqa: BLE001  (SystemExit and KeyboardInterrupt of a step are its failure too)
            if os.getpid() != pid:
                end_fork(error)
            self.error = error
            return explain(error, asked=stop.asked)
        if os.getpid() != pid:
            end_fork(None)
        del values
        return self._store(op, task, produced)

    def _context(self, op: OpDefinition, task: Task) -> OpExecutionContext:
        job = self._job
        _, number, _, key, tags, _, _, token = task
        assert self._log is not None  # noqa: S101  (made where a step takes a context)
        return op.context_class(
            run_id=job.run_id,
            job_name=job.job_name,
            step_key=key,
            op_name=op.name,
            attempt=number,
            tags=tags or {},
            run_tags=job.run_tags,
            log=self._log,
            cancelled=self.stop.is_asked,
            fencing_token=token,
        )

    def _load(self, op: OpDefinition, inputs: Sequence[InputValue], values: dict[str, object]) -> None:
        for name, stored, kind in inputs:
            if kind == FAN_IN:
                values[name] = self._load_list(stored, copy=op.ins[name].copy)
            else:
                data, path = stored[0][1], stored[0][2]
                # the common case, without a detour
                values[name] = (
                    load_small(data)
                    if path is None and data is not None
                    else self._load_file(stored[0], copy=op.ins[name].copy, last=kind == LAST_READER)
                )

    def _load_list(self, stored: Sequence[MadeValue], *, copy: bool) -> list[object]:
        """The values of several steps."""
        found: list[object] = []
        try:
            for output, data, path, size, _ in stored:
                found.append(load_value(StoredValue(output, data, path, size), self._job.values_folder, copy=copy))
        except BaseException:
            self._bad_item = len(found)
            raise
        return found

    def _load_file(self, stored: MadeValue, *, copy: bool, last: bool) -> object:
        """A value that is not in the message."""
        if not copy and stored[2] is not None and (own := self._own.take(stored[2], last=last)) is not ABSENT:
            return own
        return load_value(StoredValue(*stored[:4]), self._job.values_folder, copy=copy)

    def _why_not_loaded(
        self, inputs: Sequence[InputValue], values: dict[str, object], error: BaseException
    ) -> StepError:
        """The failure of an attempt of which ``values`` are the inputs that were loaded before one could not be."""
        name, stored = next((name, stored) for name, stored, _ in inputs if name not in values)
        position, self._bad_item = self._bad_item, 0
        maker = stored[position][4]
        made = f", made by step {maker!r}," if maker else ""
        if isinstance(error, ValueLost):
            return StepError("bad_input", f"input {name!r}{made} could not be loaded: {error}")
        return StepError(
            "bad_input", f"input {name!r}{made} could not be loaded: {describe(error)}", traceback_text(error)
        )

    def _store(self, op: OpDefinition, task: Task, produced: dict[str, object]) -> Produced | StepError:
        only = op.only_output
        if only is not None and type(produced[only]) in PLAIN:  # the usual case, by the shortest way
            data = dump_plain(produced[only])
            stored: list[PlainValue] = [(only, data, None, len(data))]
            return stored, []
        stored = []
        files: list[tuple[StoredValue, object]] = []
        missing: list[str] = []
        for position, declared in enumerate(op.outs):
            name = str(declared)  # plain text, not a name with methods of its own: it crosses a socket
            if name not in produced:
                missing.append(name)
            elif op.outs[declared].order_only:
                stored.append((name, None, None, 0))
            elif type(value := produced[name]) in PLAIN:
                data = dump_plain(value)
                stored.append((name, data, None, len(data)))
            else:
                try:
                    # unique in the run: step, attempt, output; no user text in file names
                    stem = f"{task[0]}-{task[1]}-{position}-{os.getpid()}.value"
                    kept = store_value(name, value, self._job.values_folder, stem, self._job.storage)
                    stored.append(plain(kept))
                    if kept.path is not None:
                        files.append((kept, value))
                except BaseException as error:  # noqa: BLE001  (pickling runs user code)
                    for kept, _ in files:
                        remove_value(str(kept.path), self._job.values_folder)
                    return _why_not_stored(name, error)
        if files:
            self._own.keep(files)
        return stored, missing


def _why_not_stored(name: str, error: BaseException) -> StepError:
    if isinstance(error, ValueNotPicklable):
        if error.raised_by_user and error.__cause__ is not None:
            return StepError("not_picklable", str(error), traceback_text(error.__cause__))
        return StepError("not_picklable", f"{error}; return plain data, or a path to a file that the next step opens")
    if isinstance(error, ValueNotStored):
        return StepError("bad_output", str(error))
    return StepError("not_picklable", f"{name} cannot be pickled: {describe(error)}", traceback_text(error))
