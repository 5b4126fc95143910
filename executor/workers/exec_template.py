"""A template in a fresh interpreter: for a caller with threads, a large one, and in the place of one that died.

It loads the user's code and forks workers from it; or, for ``spawn``, loads nothing and lets each worker do so.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from executor.errors import WorkersUnavailable
from executor.workers import messages, process
from executor.workers.child import BEGUN_BYTES
from executor.workers.launch import BegunPage, TemplateProcess, reset_signals
from executor.workers.sockets import PACKET_BYTES, ControlSocket, control_pair
from executor.workers.template import Template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.authoring.ops import OpDefinition

# Libraries that start threads when they are imported, and what keeps them from it; a process with threads must not be
# forked. The last one is Arrow's, which pandas imports.
THREAD_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def exec_template(
    ops: Sequence[OpDefinition],
    begun: BegunPage,
    attempts: int | None,
    *,
    preload: Sequence[str] = (),
    spawns: bool = False,
) -> TemplateProcess:
    """A template in a fresh interpreter, which imports the user's code itself. ``await_ready`` says when it has.

    With ``spawns`` it imports none of it, and each of its workers is a fresh interpreter that does.

    Raises:
        WorkersUnavailable: an op cannot be sent to another process; the text names it.
    """
    import subprocess

    values = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    # -W, -X and their like; multiprocessing takes them from there too
    python = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c"]  # type: ignore[attr-defined]  # noqa: SLF001
    load = {
        "path": list(sys.path),
        "preload": list(preload),
        "parent": os.getpid(),
        "attempts": attempts,
        "lanes": begun.size // BEGUN_BYTES,
        "environ": values,
        "ops": pickle_ops(ops),
        "count": len(ops),
        "spawn": [*python, _code("executor.workers.spawn", "spawned_main")] if spawns else [],
    }
    ours, theirs = control_pair()
    memory = memory_of(load)
    try:
        fds = (theirs.fileno(), memory, begun.fd)
        popen = subprocess.Popen(
            [*python, _code(__name__, "exec_main"), *map(str, fds)],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
            env=None if spawns else {**os.environ, **THREAD_VARIABLES},
        )
    finally:
        os.close(memory)
        theirs.close()
    return TemplateProcess(popen.pid, ours, popen)


def _code(module: str, function: str) -> str:
    """A program that calls this function of ours, wherever this package is."""
    root = str(Path(__file__).parents[2])
    return f"import sys; sys.path.insert(0, {root!r}); from {module} import {function}; {function}()"


def memory_of(message: object) -> int:
    """A descriptor of memory that holds ``message``, to be read by ``read_memory`` any number of times."""
    fd = os.memfd_create("executor-code", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(messages.packet(message))
    return fd


def read_memory(fd: int) -> Any:
    """The message in it; those who share the descriptor do not disturb each other."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        return messages.parse(file.read())


def load_ops(load: dict[str, Any]) -> tuple[OpDefinition, ...]:
    """The ops, and with them the user's code, in a fresh interpreter."""
    import pickle

    sys.path[:] = load["path"]
    for name in load["preload"]:
        _preload(name)
    ops: tuple[OpDefinition, ...] = pickle.loads(load["ops"])  # noqa: S301  (the driver's, in memory that we inherited)
    return ops


def pickle_ops(ops: Sequence[OpDefinition]) -> bytes:
    """The ops for another interpreter: functions of importable modules by reference, others by value.

    Raises:
        WorkersUnavailable: something that an op's function refers to cannot be pickled.
    """
    import cloudpickle

    from executor.outputs.values import find_unpicklable

    try:
        data: bytes = cloudpickle.dumps(tuple(ops))
    except Exception as error:
        for op in ops:
            try:
                cloudpickle.dumps(op)
            except Exception as reason:  # noqa: BLE001  (a reducer of the user's may raise anything)
                part, where, refused = find_unpicklable(op.fn, "", reason)
                why = f"{type(part).__module__}.{type(part).__qualname__}: {refused}"
                what = f"{where.removeprefix(' > ')}, which" if where else "what"
                raise WorkersUnavailable(
                    f"{op.label} cannot be sent to a fresh process, because its function refers to {what} cannot "
                    f"be pickled ({why}); define it in a module, or make that object inside the function"
                ) from error
        raise WorkersUnavailable(f"the job cannot be sent to a fresh process: {error}") from error
    return data


def exec_main() -> NoReturn:
    """The whole program of a template that was started by an exec."""
    control_fd, memory, begun_fd = map(int, sys.argv[1:4])
    sys.argv[1:] = []
    load = read_memory(memory)
    reset_signals()
    process.die_with_parent(load["parent"], signal.SIGTERM)
    control = ControlSocket(control_fd)
    for fd in (control_fd, memory, begun_fd):
        os.set_inheritable(fd, False)
    begun = BegunPage(load["lanes"], begun_fd)
    if load["spawn"]:
        from executor.workers.spawn import SpawnTemplate

        SpawnTemplate(control, begun, memory=memory, command=load["spawn"]).run()
    os.close(memory)
    faulthandler.enable()  # code that crashes the interpreter when it is imported says where
    try:
        ops = load_ops(load)
    except BaseException as error:  # noqa: BLE001  (importing runs user code, which may raise anything)
        from executor.workers.explain import describe, traceback_text

        text = str(error) if isinstance(error, WorkersUnavailable) else f"{describe(error)}\n{traceback_text(error)}"
        _give_up(control, "failed", text)
    threads = process.thread_names()
    if threads:
        _give_up(control, "threads", ", ".join(threads))
    reset_signals()  # once more: that code may have asked for signals of its own, or ignore some
    Template(ops, control, begun.memory, attempts=load["attempts"], environ=load["environ"]).run()


def _give_up(control: ControlSocket, *why: str) -> NoReturn:
    """End this process, and say why in a word and a text."""
    word, text = why
    control.send((word, text[: PACKET_BYTES // 8]))
    control.close()
    sys.exit(1)


def _preload(name: str) -> None:
    import importlib

    try:
        importlib.import_module(name)
    except Exception as error:
        raise WorkersUnavailable(
            f"preload_modules: importing {name!r} failed: {type(error).__name__}: {error}"
        ) from error
