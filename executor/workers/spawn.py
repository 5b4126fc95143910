"""Workers that are fresh interpreters, and their template: ``start_method: spawn``.

The template is exec'd afresh and never loads the user's code. It forks a worker on its lane as any template does, and
the fork becomes a fresh interpreter at once, which loads the code itself; what a fork must not copy (threads, the state
of a library on a GPU) is not there to be copied. All else is the same: lanes, groups, orphans, reports.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from executor.scheduler.outcomes import StepError
from executor.workers import hygiene, process, stacks
from executor.workers.child import Worker, on_nudge
from executor.workers.exec_template import load_ops, memory_of, read_memory
from executor.workers.explain import describe, traceback_text
from executor.workers.job import WorkerJob
from executor.workers.launch import BegunPage
from executor.workers.runner import StepRunner
from executor.workers.streams import replace_streams, step_log
from executor.workers.template import BROKEN, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from executor.authoring.ops import OpDefinition
    from executor.workers.job import Task
    from executor.workers.runner import Produced
    from executor.workers.sockets import ControlSocket


class SpawnTemplate(Template):
    """A template whose workers exec a fresh interpreter right after the fork."""

    def __init__(self, control: ControlSocket, begun: BegunPage, *, memory: int, command: list[str]) -> None:
        """``memory`` holds what a worker loads; ``command`` starts one, given its descriptors and lane."""
        super().__init__((), control, begun.memory, attempts=None, environ={})
        self._memory, self._command, self._begun_fd = memory, command, begun.fd
        self._job_memory = -1

    def _prepare(self) -> None:
        signal.signal(signal.SIGTERM, self._on_term)
        process.adopt_orphans()
        atexit._clear()  # noqa: SLF001  (as in every template)
        hygiene.forks_workers()

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a fork on its way to its exec: it has nothing to stop yet
            os._exit(128 + signum)
        super()._on_term(signum, frame)

    def _take_job(self, job: WorkerJob) -> None:
        self._job = job
        if self._job_memory >= 0:
            os.close(self._job_memory)
        self._job_memory = memory_of(job.plain())

    def _become_worker(self, lane: int) -> NoReturn:
        """In a new process: become a fresh interpreter, tied to the template already. It ends here."""
        try:
            os.setpgid(0, 0)  # here, because the template may not do it after the exec
            process.tie_to_parent(self._pid)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            fds = (self._channel, self._memory, self._job_memory, self._begun_fd)
            for fd in fds:
                os.set_inheritable(fd, True)
            os.execv(self._command[0], [*self._command, *map(str, fds), str(lane)])  # noqa: S606  (no shell is wanted)
        except BaseException:  # noqa: BLE001  (nothing may return into the template's loop)
            import traceback

            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(BROKEN)


def spawned_main() -> NoReturn:
    """The whole program of a worker that is a fresh interpreter."""
    channel, memory, job_memory, begun_fd, lane = map(int, sys.argv[1:])
    sys.argv[1:] = []
    process.find_functions()
    load, job = read_memory(memory), WorkerJob(*read_memory(job_memory))
    for fd in (memory, job_memory):
        os.close(fd)
    for fd in (channel, begun_fd):
        os.set_inheritable(fd, False)
    hygiene.register(channel)
    begun = BegunPage(load["lanes"], begun_fd)
    replace_streams()
    faulthandler.enable(2)
    if job.stack_signal:
        stacks.listen(stacks.open_memory())  # before the code is loaded, which may hang too
    ops: Sequence[Any]
    try:
        ops = load_ops(load)
        runner = StepRunner(job, step_log() if any(op.takes_context for op in ops) else None)
    except BaseException as error:  # noqa: BLE001  (importing runs user code, which may raise anything)
        ops = (None,) * load["count"]
        runner = _WithoutCode(job, error)
    worker = Worker(job, ops, begun.memory, attempts=load["attempts"], channel=channel, runner=runner)
    signal.signal(signal.SIGTERM, worker.on_term)
    signal.signal(signal.SIGCONT, on_nudge)
    hygiene.register_handler(signal.SIGTERM, worker.on_term, signal.SIG_DFL)
    code = BROKEN
    try:
        worker.measure_from_here()
        worker.main(lane)
        code = 0
    except BaseException:  # noqa: BLE001  (as in a worker that was forked)
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(code)


class _WithoutCode(StepRunner):
    """In the place of a runner where the steps' code could not be loaded: each attempt fails with the reason."""

    __slots__ = ("_why",)

    def __init__(self, job: WorkerJob, error: BaseException) -> None:
        super().__init__(job, None)
        text = f"its code could not be loaded in a fresh process: {describe(error)}"
        self._why = StepError("worker_died", text, traceback_text(error))

    def run(self, op: OpDefinition, task: Task) -> Produced | StepError:  # noqa: ARG002  (all are refused)
        return self._why
