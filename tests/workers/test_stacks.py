"""Where a running step is, asked from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sample_ops as ops
from census import state
from programs import result_of, start
from running import KINDS, Mailbox, run, wait_until

from executor.scheduler.events import Event, StepStarted
from executor.workers import stacks
from executor.workers.stacks import Listening, NoStack, read_stack


def asked(*words: str) -> tuple[int, str]:
    """Exit code and words of ``executor stack``."""
    done = subprocess.run(
        [sys.executable, "-m", "executor", "stack", *words], check=False, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_stack_of_a_running_step_is_that_of_the_users_code_and_the_step_goes_on(
    kind: str, mailbox: Mailbox, tmp_path: Path
) -> None:
    with start("waits_for_a_word", kind, mailbox, folder=tmp_path) as program:
        mailbox.wait()
        answers = [asked("last", "waits_for_a_word") for _ in range(2)]
        (tmp_path / "word").write_text("go on")
        assert result_of(program) == (0, "succeeded", False)
    for code, said in answers:  # each is whole, and there is nothing of another in it
        lines = said.splitlines()
        assert code == 0, said
        assert lines[0].startswith("step waits_for_a_word, attempt 1, pid ")
        frames = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
        assert frames[-2:] == ["innermost", "waits_for_a_word"]
        assert frames.count("waits_for_a_word") == 1


def test_a_step_that_does_not_run_has_no_stack_and_a_run_may_forbid_to_ask(mailbox: Mailbox, tmp_path: Path) -> None:
    with start("waits_for_a_word", "one-shot-fork", mailbox, folder=tmp_path, stack_signal=False) as program:
        mailbox.wait()
        off = asked("last", "waits_for_a_word")
        unknown = asked("last", "waits_for_word")
        (tmp_path / "word").write_text("go on")
        assert result_of(program) == (0, "succeeded", False)
    over = asked("last", "waits_for_a_word")
    assert off[0] == 1
    assert "does not listen: stack_signal is off for the run" in off[1]
    assert unknown[0] == 2
    assert "has no step 'waits_for_word'; did you mean 'waits_for_a_word'?" in unknown[1]
    assert over[0] == 2
    assert "does not run now (the run has ended, succeeded)" in over[1]


def test_nobody_is_sent_a_signal_who_would_die_of_it() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        with pytest.raises(NoStack, match="does not listen"):
            read_stack(stranger.pid)
        stranger.communicate(b"\n")
    assert stranger.returncode == 0
    with pytest.raises(NoStack, match="has just ended"):
        read_stack(stranger.pid)


def test_a_process_that_is_stopped_is_said_not_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_and_ask(event: Event, _: float) -> None:
        if isinstance(event, StepStarted):
            wait_until(lambda: state(event.pid) == "T", "the step has stopped itself")
            monkeypatch.setattr(stacks, "ANSWER_WITHIN_S", 0.1)
            with pytest.raises(NoStack, match="does not answer: it is stopped"):
                read_stack(event.pid)
            os.kill(event.pid, signal.SIGCONT)

    assert run(ops.stops_itself, "one-shot-fork", on_event=stop_and_ask).success


def test_a_program_that_uses_the_signal_itself_keeps_it() -> None:
    def own(*_: object) -> None:
        """Of the user's."""

    before = signal.signal(stacks.SIGNAL, own)
    try:
        assert run(ops.one, "in-process").success
        assert signal.getsignal(stacks.SIGNAL) is own
    finally:
        signal.signal(stacks.SIGNAL, before)


def test_a_thread_that_blocks_all_signals_does_not_keep_the_answer_back() -> None:
    """As those of many libraries in C do."""
    blocked, end = threading.Event(), threading.Event()

    def deaf() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        blocked.set()
        end.wait()

    thread = threading.Thread(target=deaf)
    thread.start()
    blocked.wait()
    listening = Listening()
    try:
        said = read_stack(os.getpid())
    finally:
        listening.close()
        end.set()
        thread.join()
    assert " in deaf" in said
    assert " in test_a_thread_that_blocks_all_signals" in said


def test_several_runs_in_one_process_listen_until_the_last_has_ended() -> None:
    first, second = Listening(), Listening()
    first.close()
    first.close()
    assert "test_several_runs_in_one_process" in read_stack(os.getpid())
    second.close()
    with pytest.raises(NoStack, match="does not listen"):
        read_stack(os.getpid())
