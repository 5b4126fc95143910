"""Where jobs are looked for when no file and no module is named."""

from __future__ import annotations

import pytest

from executor.cli.find import find, pick_job
from executor.errors import UsageError

JOBS = """
from executor import asset, define_asset_job, job, op

@op
def one():
    return 1

@job
def first():
    one()

@job
def second():
    one()

@asset
def orders():
    return 1

@asset
def sums(orders):
    return orders + 1

every = define_asset_job("every")
some = define_asset_job("some", ["orders"])
"""


def test_the_project_file_comes_first_and_names_the_job(write, executor) -> None:
    write("pyproject.toml", '[tool.executor]\nfile = "pipes/shop_jobs.py"\njob = "second"\n')
    write("pipes/shop_jobs.py", JOBS)
    write("definitions.py", "raise RuntimeError('not this one')\n")
    ended = executor("run", "--json")
    assert ended.returncode == 0, ended.stderr
    assert '"job": "second"' in ended.stdout
    assert '"job": "first"' in executor("run", "-j", "first", "--json").stdout
    assert "first" in executor("list").stdout
    below = write("deep/down/here.txt", "").parent
    assert executor("run", "--dry-run", cwd=below).returncode == 0, "also from a folder below"


@pytest.mark.parametrize("key", ["module", "module_name"])
def test_a_module_is_found_from_the_folder_of_the_project_file(write, executor, key: str) -> None:
    write("pyproject.toml", f'[project]\nname = "x"\n\n[tool.executor]\n{key} = "shop.nightly"\n')
    write("shop/__init__.py", "")
    write("shop/nightly.py", JOBS)
    below = write("docs/here.txt", "").parent
    assert executor("job", "execute", "first", cwd=below).returncode == 0
    assert executor("job", "execute", "every", cwd=below).returncode == 0
    wrong = executor("job", "execute", "frist", cwd=below)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "shop.nightly has no job 'frist'; did you mean 'first'?" in wrong.stderr


def test_definitions_py_comes_next(write, executor) -> None:
    write("pyproject.toml", '[project]\nname = "x"\n')
    write("definitions.py", JOBS)
    assert executor("job", "execute", "second").returncode == 0
    resumed = executor("resume", "last", "--from", "one", cwd="/")
    assert resumed.returncode == 0, resumed.stderr


def test_an_asset_job_without_definitions_sees_all_assets_of_its_module(write) -> None:
    write("definitions.py", JOBS)
    found = find(None, None)
    assert sorted(found.jobs) == ["every", "first", "second", "some"]
    assert [str(asset.step_key) for asset in pick_job(found, "every").body.assets] == ["orders", "sums"]
    assert [str(asset.step_key) for asset in pick_job(found, "some").body.assets] == ["orders"]


def test_what_was_looked_for_is_said(write) -> None:
    write("pyproject.toml", "[tool.other]\n")
    with pytest.raises(
        UsageError, match=r"neither a \[tool.executor\] in a pyproject.toml here or above, nor def"
    ) as e:
        find(None, None)
    assert "(executor run FILE)" in str(e.value)
    assert str(e.value).endswith('write into pyproject.toml:\n  [tool.executor]\n  file = "pipeline.py"')
    write("my_jobs.py", "")
    with pytest.raises(UsageError, match=r"\(executor run my_jobs.py\)"):
        find(None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.executor]\nfiel = "x.py"\n', "unknown key 'fiel'; did you mean 'file'? (there are: file, module, job)"),
        ("[tool.executor]\nfile = 3\n", "file is 3; write text in quotes"),
        ('[tool.executor]\nfile = "x.py"\nmodule = "x"\n', "file and module exclude each other; keep one"),
        ('[tool.executor]\nfile = "x.py"\npython_file = "y.py"\n', "file is said twice; keep one"),
        ('[tool.executor]\nfile = "x.py"\n', "there is no file"),
        ('[tool.executor]\njob = "x"\n', "there is no file"),
        ('[tool]\nexecutor = "x.py"\n', "tool.executor is no table; write:\n"),
        ("[tool.executor\n", "cannot be read, to see where the jobs are: "),
    ],
)
def test_a_mistake_in_the_project_file_is_told(write, text: str, said: str) -> None:
    path = write("pyproject.toml", text)
    with pytest.raises(UsageError) as error:
        find(None, None)
    assert said in str(error.value)
    assert str(path) in str(error.value)
