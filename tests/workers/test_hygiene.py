"""What is ours does not travel over a fork, and what is somebody else's is left alone."""

from __future__ import annotations

import os

from executor.workers import hygiene
from executor.workers.launch import BegunPage


def in_child(check: object) -> int:
    """The exit code of a forked child that calls ``check``: 0 where it gives something true."""
    pid = os.fork()
    if not pid:
        os._exit(0 if check() else 1)  # type: ignore[operator]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_forked_child_has_no_descriptor_of_ours_and_all_of_the_users() -> None:
    ours, users = os.pipe()
    hygiene.register(ours)
    try:
        assert in_child(lambda: not is_open(ours) and is_open(users)) == 0
        assert is_open(ours)
    finally:
        hygiene.close(ours)
        os.close(users)


def test_a_descriptor_that_is_forgotten_travels_again() -> None:
    fd = hygiene.register(os.dup(0))
    hygiene.forget(fd)
    assert in_child(lambda: is_open(fd)) == 0
    os.close(fd)


def test_closing_a_page_twice_does_not_close_what_got_its_number_meanwhile() -> None:
    """As another run of the same program would, in another thread."""
    page = BegunPage(2)
    number = page.fd
    page.close()
    other = hygiene.register(os.dup(0))
    assert other == number
    page.close()
    assert is_open(other)
    hygiene.close(other)
