"""Every wrong run config of the table says where it is wrong, and what to write."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages here

from wrong_inputs import WRONG, Wrong, daily, printed


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong.written)[:60])
def test_a_wrong_input_is_told_once_with_its_place(wrong: Wrong) -> None:
    told = printed(wrong)
    assert wrong.says in "\n".join(told)
    assert len(told) == 1
    if isinstance(wrong.written, str):
        assert re.match(r"run\.yaml:\d+:\d+: ", told[0])


def test_there_are_more_than_forty_of_them_and_no_two_are_the_same() -> None:
    assert len({str(wrong.written) for wrong in WRONG}) == len(WRONG) >= 40


def test_the_job_that_they_are_tried_on_is_right_without_them() -> None:
    assert daily.execute_in_process({"ops": {"load": {"config": {"rows": 3}}}}).success
