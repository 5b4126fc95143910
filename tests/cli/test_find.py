"""Jobs and assets are found wherever a module has them."""

from __future__ import annotations

import pytest

from executor.cli.find import find, pick_job
from executor.cli.load import ImportFailed
from executor.errors import UsageError

OPS = """
from executor import Definitions, asset, define_asset_job, definitions, in_process_executor, job, op

@op
def one() -> int:
    return 1

@asset
def orders() -> int:
    return 1

@asset(key_prefix="raw")
def customers(orders: int) -> int:
    return orders
"""
TWO_JOBS = """
@job
def nightly():
    '''Every night.'''
    one()

@job
def weekly():
    one()
"""


@pytest.fixture
def found(write):
    numbers = iter(range(100))

    def find_in(text: str):
        name = f"jobs_of_{next(numbers)}.py"
        write(name, text)
        return find(name, None)

    return find_in


def test_the_only_job_needs_no_name(found) -> None:
    jobs = found(OPS.replace("@asset", "#").replace("(key", "#") + TWO_JOBS.partition("@job\ndef weekly")[0])
    assert pick_job(jobs, None).name == "nightly"
    assert pick_job(jobs, "nightly").name == "nightly"


def test_of_several_jobs_one_must_be_named_and_all_are_listed_with_their_descriptions(found) -> None:
    jobs = found(OPS + TWO_JOBS)
    with pytest.raises(UsageError, match=r"has 2 jobs; choose one with -j:\n  nightly  Every night\.\n  weekly$"):
        pick_job(jobs, None)
    with pytest.raises(UsageError, match=r"has no job 'nigthly'; did you mean 'nightly'\?\n  nightly  "):
        pick_job(jobs, "nigthly")


def test_of_several_jobs_the_one_that_is_named_as_its_file_needs_no_name(write) -> None:
    write("nightly.py", OPS + TWO_JOBS)
    assert pick_job(find("nightly.py", None), None).name == "nightly"
    assert pick_job(find("nightly.py", None), "weekly").name == "weekly"
    write("night/weekly.py", OPS + TWO_JOBS)
    write("night/__init__.py", "")
    assert pick_job(find(None, "night.weekly"), None).name == "weekly"


def test_a_file_with_assets_and_no_job_is_a_job_of_all_its_assets(found) -> None:
    job = pick_job(found(OPS), None)
    assert job.name == "assets"
    assert [asset.key for asset in job.body.assets] == ["orders", "raw/customers"]


def test_definitions_give_their_jobs_with_assets_and_executor_set(found) -> None:
    jobs = found(
        OPS + "by_name = define_asset_job('by_name', 'raw/customers+,orders')\n"
        "defs = Definitions([orders, customers], [by_name], executor=in_process_executor)"
    )
    assert list(jobs.jobs) == ["by_name"]
    assert jobs.jobs["by_name"].settings().in_process


def test_definitions_without_jobs_run_all_their_assets_under_their_executor(found) -> None:
    jobs = found(OPS + "defs = Definitions([orders, customers], executor=in_process_executor)")
    assert pick_job(jobs, None).settings().in_process


def test_a_definitions_function_is_called(found) -> None:
    jobs = found(OPS + TWO_JOBS + "\n@definitions\ndef defs():\n    return Definitions(jobs=[nightly])\ndel weekly")
    assert list(jobs.jobs) == ["nightly"]


def test_a_definitions_function_that_raises_shows_the_users_frames(found) -> None:
    with pytest.raises(ImportFailed, match=r"(?s)could not be imported:.*in defs\n.*KeyError: 'x'"):
        found(OPS + "@definitions\ndef defs():\n    return {}['x']\n")


def test_a_bare_asset_job_finds_the_assets_around_it_also_in_lists(found) -> None:
    jobs = found(
        OPS
        + """
def made(number):
    @asset(name=f"part_{number}")
    def part() -> int:
        return number
    return part

parts = [made(number) for number in range(3)]
some = define_asset_job("some", "part_1,orders")
"""
    )
    assert sorted(asset.key for asset in jobs.jobs["some"].body.assets) == ["orders", "part_1"]
    assert len(jobs.assets) == 5


def test_two_jobs_of_one_name_are_refused(found) -> None:
    with pytest.raises(UsageError, match="has two jobs called 'nightly'"):
        found(OPS + TWO_JOBS + "\nother = nightly\n@job(name='nightly')\ndef third():\n    one()\n")


def test_a_module_without_jobs_and_assets_is_told_how_to_write_one(found) -> None:
    with pytest.raises(UsageError, match="has no job and no asset; write one with @job or @asset"):
        pick_job(found("x = 1"), None)


def test_a_file_and_a_module_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="not both"):
        find("a.py", "b")


def test_a_list_that_holds_itself_is_looked_through_once(found) -> None:
    jobs = found(
        OPS + "from executor import job\nlisted = [job(name='nightly')(lambda: one())]\nlisted.append(listed)\n"
    )
    assert list(jobs.jobs) == ["nightly"]
