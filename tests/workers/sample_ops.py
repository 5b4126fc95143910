"""Ops that the tests of workers run. In a module of their own, so that a fresh interpreter can import them."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import faulthandler
import mmap
import os
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from executor import Failure, In, Nothing, OpExecutionContext, Out, Output, RetryPolicy, RetryRequested, graph, job, op
from executor.workers import process
from executor.workers.exec_template import THREAD_VARIABLES
from executor.workers.explain import StepInterrupted

LARGE_BYTES = 200_000  # larger than what travels inside a message
LONG_S = 3600  # longer than any test: what sleeps for so long is ended by somebody, or the test never ends


def tell(context: OpExecutionContext, *words: object) -> None:
    """One line into the test's mailbox."""
    path = context.get_tag("mailbox")
    assert path is not None
    with open(path, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def folder_of(context: OpExecutionContext) -> Path:
    """The folder that the test gave."""
    return Path(context.get_tag("folder") or "")


def driver_of(context: OpExecutionContext) -> int:
    """The pid of the process that runs the job."""
    return int(context.get_tag("driver") or 0)


# --- values ----------------------------------------------------------------------------------------------------------


@op
def one() -> int:
    return 1


@op
def large() -> bytes:
    return os.urandom(1) * LARGE_BYTES


@op(out={"small": Out(), "big": Out(), "left_out": Out(is_required=False)})
def several(context: OpExecutionContext):
    yield Output({"a": (1, None)}, "small")
    yield Output("x" * LARGE_BYTES, "big")


@op
def add(values: list) -> int:
    return sum(values)


@op
def length(value) -> int:
    return len(value)


@op
def kind_of(value) -> str:
    return type(value).__name__


@op(out=Out(Nothing))
def order_only(context: OpExecutionContext) -> None:
    (folder_of(context) / "order").write_text("first")


@op(ins={"after": In(Nothing)})
def reads_order(context: OpExecutionContext) -> str:
    return (folder_of(context) / "order").read_text()


@job
def values():
    small, big, left_out = several()
    kind_of.alias("kind_of_small")(small)
    length.alias("length_of_big")(big)
    length.alias("never")(left_out)
    add([one.alias("a")(), one.alias("b")(), one.alias("c")()])
    length.alias("length_of_large")(large())
    reads_order(after=order_only())


@op
def gigabyte() -> bytes:
    return bytes(1 << 30)


@job
def gigabytes():
    length(gigabyte())


@op
def sixty_kilobytes() -> bytes:
    return os.urandom(60_000)


@op
def total(values: list) -> int:
    return sum(map(len, values))


@job
def wide_fan_in():
    total([sixty_kilobytes.alias(f"part_{number}")() for number in range(400)])


# --- failures --------------------------------------------------------------------------------------------------------


def deep(depth: int) -> int:
    return deep(depth - 1) if depth else 1 / 0


@op
def divides() -> None:
    print("about to divide")
    deep(2)


class Machine:
    """Has a part that cannot be pickled."""

    def __init__(self) -> None:
        self.name = "mill"
        self.parts = {"lock": threading.Lock()}


@op
def not_picklable() -> Machine:
    return Machine()


class Trap:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self):
        return int, ("not a number",)


@op
def trap() -> Trap:
    return Trap()


@job
def trapped():
    kind_of(trap())


@op
def exits() -> None:
    sys.exit("enough")


@op
def interrupts() -> None:
    raise KeyboardInterrupt


class Awkward(Exception):
    """Cannot be pickled, and says nothing."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise RuntimeError("no words")


@op
def raises_awkward() -> None:
    raise Awkward


class Quits(Exception):
    """Ends the process that asks what it says."""

    def __str__(self) -> str:
        return sys.exit(3)


@op
def raises_quits() -> None:
    raise Quits


class Text(str):
    """A string that is none."""

    __slots__ = ()


@op
def fails_with_odd_text() -> None:
    raise Failure(Text("odd"))


@op
def exits_with_odd_code() -> None:
    class Code:
        def __repr__(self) -> str:
            raise ValueError

    sys.exit(Code())


@op
def raises_a_long_text() -> None:
    raise ValueError("x" * 10_000_000)


@op(out={"a": Out(), "b": Out()})
def bad_output():
    return 1


@op
def retry_with_numbers_of_an_array(context: OpExecutionContext) -> int:
    class Number:  # as numpy's: converts, and is none
        def __float__(self) -> float:
            return 0.001

        def __int__(self) -> int:
            return 2

    if context.attempt < 3:
        raise RetryRequested(max_retries=Number(), seconds_to_wait=Number())
    return context.attempt


@op
def retry_with_nonsense() -> None:
    raise RetryRequested(max_retries=1, seconds_to_wait="soon")


@op(retry_policy=RetryPolicy(max_retries=2, delay=0.01))
def succeeds_at_last(context: OpExecutionContext) -> int:
    print(f"attempt {context.attempt}")
    if context.attempt < 3:
        raise ValueError(f"not yet {context.attempt}")
    return context.attempt


@op(timeout=0.2)
def takes_too_long() -> None:
    time.sleep(LONG_S)


@op(timeout=0.2)
def computes_too_long() -> None:
    while True:
        pass


# --- output and facts ------------------------------------------------------------------------------------------------


@op
def speaks(context: OpExecutionContext) -> str:
    print("to stdout", "ünïcode \ud800")
    sys.stderr.write("to stderr\n")
    os.write(1, b"past Python\n")
    subprocess.run(["echo", "from a child"], check=True)
    context.log.info("through the log %s", context.step_key)
    context.log.debug("and below")
    sys.stdout.write("no newline")
    return sys.stdin.read()


@op
def silent() -> None:
    pass


@op
def burns_cpu() -> float:
    """Returns how much, in seconds."""
    began = time.process_time()
    while (burnt := time.process_time() - began) < 0.4:
        pass
    return burnt


@op
def fifty_megabytes() -> int:
    data = bytearray(os.urandom(1 << 20) * 50)
    return len(data)


@op
def numbers() -> tuple[float, float]:
    numpy = sys.modules.get("numpy")
    return random.random(), float(numpy.random.rand()) if numpy else random.random()


@op
def thread_variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in THREAD_VARIABLES}


@op
def where_am_i() -> str:
    return os.getcwd()


@op
def goes_elsewhere() -> None:
    os.chdir("/")


@op
def sees_variable() -> str | None:
    return os.environ.get("SEEN_BY_STEPS")


@op
def ids() -> tuple[int, int]:
    return os.getpid(), os.getppid()


# --- being stopped ---------------------------------------------------------------------------------------------------


@op
def cleans_up(context: OpExecutionContext) -> None:
    try:
        os.kill(driver_of(context), signal.SIGINT)
        time.sleep(LONG_S)
    except StepInterrupted:
        (folder_of(context) / "cleaned").touch()
        raise


@op
def waits_through_signals(context: OpExecutionContext) -> None:
    signal.siginterrupt(signal.SIGTERM, False)
    os.kill(driver_of(context), signal.SIGINT)
    os.read(os.pipe()[0], 1)


@op
async def cleans_up_async(context: OpExecutionContext) -> None:
    try:
        os.kill(driver_of(context), signal.SIGINT)
        await asyncio.sleep(LONG_S)
    finally:
        await asyncio.sleep(0)
        (folder_of(context) / "cleaned").touch()


@op
async def divides_async() -> float:
    await asyncio.sleep(0)
    return await deeper(0)


async def deeper(number: int) -> float:
    return 1 / number


@op
def asks_whether_cancelled(context: OpExecutionContext) -> str:
    assert not context.is_cancelled
    os.kill(driver_of(context), signal.SIGINT)
    while not context.is_cancelled:
        time.sleep(0.001)
    return "in good order"


@op
def cleans_up_slowly(context: OpExecutionContext) -> None:
    tell(context, os.getpid())
    try:
        time.sleep(LONG_S)
    finally:
        time.sleep(0.2)


@op
def waits(context: OpExecutionContext) -> None:
    tell(context, os.getpid(), os.getppid())
    time.sleep(LONG_S)


@op
def waits_with(context: OpExecutionContext, value) -> None:
    tell(context, os.getpid(), os.getppid())
    time.sleep(LONG_S)


@graph
def makes_and_waits():
    """A large value that was made, and a step that has it and waits."""
    return waits_with(large())


@op
def waits_for_word(context: OpExecutionContext) -> str:
    """Ends when the test writes into the FIFO ``told``."""
    tell(context, os.getpid())
    return (folder_of(context) / "told").read_text()


@op(retry_policy=RetryPolicy(max_retries=1))
def waits_once(context: OpExecutionContext) -> int:
    tell(context, os.getpid(), os.getppid())
    if context.attempt == 1:
        time.sleep(LONG_S)
    return context.attempt


@op
def ignores_term(context: OpExecutionContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(context, os.getpid())
    while True:
        time.sleep(LONG_S)


#: Children of all the ways to be hard to find, or to end: each tells its pid, and all hold stdout open.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
how, path = sys.argv[1:]
if how != "plain":
    if os.fork():
        os._exit(0)
    os.setsid() if how == "daemon" else os.setpgid(0, 0)
with open(path, "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(3600)
"""


def leave_stubborn_children(context: OpExecutionContext) -> None:
    mailbox = context.get_tag("mailbox") or ""
    for how in ("plain", "daemon", "own group"):
        subprocess.Popen([sys.executable, "-S", "-c", STUBBORN, how, mailbox])


@op
def leaves_stubborn_children(context: OpExecutionContext) -> str:
    leave_stubborn_children(context)
    return (folder_of(context) / "told").read_text()  # a FIFO: the test says when all three are there


@op
def waits_with_stubborn_children(context: OpExecutionContext) -> None:
    leave_stubborn_children(context)
    time.sleep(LONG_S)


@op
def storm() -> None:
    leave_storm()


def leave_storm() -> None:
    """Leaves a process that goes on forking itself away."""
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork():
                os._exit(0)
            time.sleep(0.001)


kept: list[object] = []


@op
def storm_of_a_process_that_takes_long_to_end(context: OpExecutionContext) -> None:
    """Has so much memory to give back that its storm goes on while it is neither running nor gone."""
    leave_storm()
    memory = mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1
    kept.append(memory)  # until the process ends
    (folder_of(context) / "pid").write_text(str(os.getpid()))


@op
def ends_while_the_other_takes_long_to_end(context: OpExecutionContext) -> None:
    path, template = folder_of(context) / "pid", os.getppid()
    while not (path.exists() and (pid := path.read_text())):
        time.sleep(0.001)
    while not process.is_exiting(int(pid)):
        pass
    children = Path(f"/proc/{template}/task/{template}/children")
    while all(process.group_and_session(int(child))[1] in {template, 0} for child in children.read_text().split()):
        pass


@op
def leaves_a_child() -> int:
    return subprocess.Popen(["sleep", str(LONG_S)]).pid


@op
def thread_without_end() -> int:
    threading.Thread(target=time.sleep, args=(LONG_S,)).start()
    return 1


@op
def thread_that_ends() -> int:
    def work() -> None:
        time.sleep(0.02)
        print("thread done", flush=True)

    threading.Thread(target=work).start()
    return 1


@op
def thread_that_exits() -> int:
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()
    return 1


@op
def thread_that_exits_after_the_result() -> int:
    def work() -> None:
        time.sleep(0.02)
        sys.exit(3)

    threading.Thread(target=work).start()
    return 1


@op
def exit_handler() -> int:
    atexit.register(lambda: print("handler ran", flush=True))
    return 1


@op
def exit_handler_that_hangs() -> int:
    atexit.register(time.sleep, LONG_S)
    return 1


# --- dying -----------------------------------------------------------------------------------------------------------


@op
def exits_0() -> None:
    os._exit(0)


@op
def exits_3() -> None:
    os._exit(3)


@op
def segfaults() -> None:
    faulthandler.disable()  # pytest's own, which would print on the terminal
    ctypes.string_at(0)


@op
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@op
def kills_its_group() -> None:
    os.killpg(0, signal.SIGKILL)


@op(retry_policy=RetryPolicy(max_retries=1))
def dies_once(context: OpExecutionContext) -> int:
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


class DeathWhilePickling:
    """Kills its process when half of the value that it is in is written."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


@op
def dies_while_writing_its_result() -> list[object]:
    return ["x" * LARGE_BYTES, DeathWhilePickling()]


@op(out={f"part_{number}": Out() for number in range(100)})
def six_megabytes_in_messages(context: OpExecutionContext):
    tell(context, os.getpid())
    return tuple(b"x" * 60_000 for _ in range(100))


@op
def kills_its_parent(context: OpExecutionContext) -> int:
    if context.attempt == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(LONG_S)
    return context.attempt


@op
def stops_itself() -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    return 1


@op(timeout=0.3)
def stops_itself_under_a_timeout() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


# --- interfering -----------------------------------------------------------------------------------------------------


@op
def closes_all() -> None:
    os.closerange(3, 4096)


@op
def closes_all_and_goes_on() -> None:
    os.closerange(3, 4096)
    time.sleep(0.2)


@op
def puts_pipes_in_their_place() -> None:
    reading, writing = os.pipe()
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in {reading, writing}:
            os.dup2(reading, int(name))


@op
def writes_garbage() -> None:
    for fd in range(3, 4096):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):  # not what is the user's own
                os.write(fd, b"hello\n")
        except OSError:
            continue


@op
def closes_its_streams() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


@op
def forks_and_returns_twice(context: OpExecutionContext) -> int:
    mine = os.fork()
    print("parent" if mine else "child", flush=True)
    if mine:
        os.waitpid(mine, 0)
    return os.getpid()


@op
def forks_and_the_child_raises() -> int:
    mine = os.fork()
    if not mine:
        raise ValueError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(mine, 0)[1])


@op
def forks_and_the_children_exit() -> list[int]:
    codes = []
    for code in (0, 3, None, "a last word"):
        mine = os.fork()
        if not mine:
            sys.exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(mine, 0)[1]))
    return codes


@op
def uses_a_pool_of_processes() -> list[int]:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, 2])


@op
def ends_a_child_at_once(context: OpExecutionContext) -> int | None:
    import multiprocessing

    assert not context.is_cancelled  # from here on the step's own SIGTERM would interrupt nothing
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(LONG_S,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


@op
def captures_output() -> bytes:
    return subprocess.run("cat; echo heard", shell=True, capture_output=True, check=True).stdout


@job
def inner():
    add([one.alias("x")(), one.alias("y")()])


@op
def runs_a_job() -> int:
    result = inner.execute()
    assert result.success
    value = result.output_for_node("add")
    assert isinstance(value, int)
    return value


# --- at a terminal ---------------------------------------------------------------------------------------------------


@op
def tries_to_read(context: OpExecutionContext) -> str:
    tell(context, os.getpid())
    return sys.stdin.read() + (folder_of(context) / "told").read_text()


@op
def sets_variable() -> None:
    os.environ["SEEN_BY_STEPS"] = "set by a step"


@op
def waits_for_a_word(context: OpExecutionContext) -> None:
    """Says that it is there, and ends when a file called ``word`` has come."""

    def innermost() -> None:
        tell(context, "here")
        while not (folder_of(context) / "word").exists():
            select.select([], [], [], 0.01)

    innermost()


@op
def stops_at_a_breakpoint() -> None:
    breakpoint()  # noqa: T100  (that is what it is about)


@op
def stops_its_parent() -> int:
    """Stop the template that forked this worker."""
    os.kill(os.getppid(), signal.SIGSTOP)
    return 1


@op
def plus_one(number: int) -> int:
    """A step below another."""
    return number + 1
