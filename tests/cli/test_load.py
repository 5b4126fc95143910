"""A user's file is imported under its stem, and what is wrong with it is shown without our part of the traceback."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from executor.cli.load import PACKAGE, ImportFailed, load_file, load_module
from executor.errors import UsageError


def test_a_file_is_imported_under_its_stem_with_its_folder_after_the_package_on_the_path(write, folder: Path) -> None:
    write("helper_of_jobs.py", "value = 7")
    path = write("jobs_one.py", "import helper_of_jobs; value = helper_of_jobs.value")
    module = load_file("jobs_one.py")
    assert (module.__name__, module.value, sys.modules["jobs_one"]) == ("jobs_one", 7, module)
    assert sys.path.index(str(path.parent)) > sys.path.index(str(PACKAGE.parent))
    assert load_file(str(path)) is module


def test_a_file_that_is_not_there_gets_a_near_name(write) -> None:
    write("pipeline_x.py", "")
    with pytest.raises(UsageError, match=r"there is no file 'pipelin_x\.py'; did you mean 'pipeline_x\.py'\?"):
        load_file("pipelin_x.py")
    with pytest.raises(UsageError, match=r"there is no file 'my_package'; a module is given with -m"):
        load_file("my_package")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("exmples/hello.py", "examples/hello.py"),
        ("examples/helo.py", "examples/hello.py"),
        ("exmaples/deep/hallo.py", "examples/deep/hello.py"),
        ("./exmples/hello.py", "examples/hello.py"),
        ("examples/../exmples/hello.py", "examples/../examples/hello.py"),
        ("examples/hello", "examples/hello.py"),
        ("examples/x", "examples/x.py"),
    ],
)
def test_each_part_of_a_mistyped_path_is_taken_as_the_nearest_name(write, typed: str, meant: str) -> None:
    for name in ("examples/hello.py", "examples/x.py", "examples/deep/hello.py", "tests/hello.py"):
        write(name, "")
    with pytest.raises(UsageError, match=f"there is no file {re.escape(repr(typed))}; did you mean {meant!r}"):
        load_file(typed)
    absolute = str(Path.cwd() / typed)
    with pytest.raises(UsageError, match=f"did you mean {re.escape(repr(str(Path.cwd() / meant)))}"):
        load_file(absolute)


def test_a_path_that_is_near_to_nothing_gets_no_guess(write) -> None:
    write("examples/hello.py", "")
    for typed in ("elsewhere/hello.py", "examples/other.py", "examples/hello.py/x.py"):
        with pytest.raises(UsageError) as caught:
            load_file(typed)
        assert str(caught.value) == f"there is no file {typed!r}"


@pytest.mark.parametrize("name", ["jobs.txt", "jobs.v2.py"])
def test_a_name_that_no_import_can_mean_is_refused(write, name: str) -> None:
    write(name, "")
    with pytest.raises(UsageError, match=r"must be called NAME\.py"):
        load_file(name)


def test_a_file_with_the_name_of_this_package_is_refused(write) -> None:
    write("executor.py", "")
    with pytest.raises(UsageError, match=r"has the name of this package.*rename it, for example to executor_jobs\.py"):
        load_file("executor.py")


def test_a_neighbour_with_the_name_of_this_package_does_not_shadow_it_and_is_named(write, capsys) -> None:
    write("executor.py", "raise RuntimeError('not this one')")
    write("jobs_two.py", "import executor; where = executor.__file__")
    assert Path(load_file("jobs_two.py").where).parent == PACKAGE
    assert "executor.py has the name of this package" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["random.py", "pytest.py"])
def test_a_file_with_the_name_of_another_module_is_refused(write, name: str) -> None:
    write(name, "")
    with pytest.raises(UsageError, match=rf"{name} has the name of the module .*workers would import that one; rename"):
        load_file(name)


def test_an_error_in_the_file_shows_the_users_frames_only(write) -> None:
    write("jobs_bad.py", "def inner():\n    return 1 / 0\n\ninner()\n")
    with pytest.raises(ImportFailed) as caught:
        load_file("jobs_bad.py")
    text = str(caught.value)
    assert text.startswith("jobs_bad.py could not be imported:\nTraceback (most recent call last):\n  File ")
    assert text.count("  File ") == 2
    assert "in <module>" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert str(PACKAGE) not in text


def test_an_error_that_comes_from_another_keeps_both(write) -> None:
    write("jobs_chain.py", "try:\n    {}['a']\nexcept KeyError as error:\n    raise RuntimeError('outer') from error\n")
    with pytest.raises(ImportFailed, match=r"(?s)KeyError: 'a'.*direct cause.*RuntimeError: outer"):
        load_file("jobs_chain.py")


def test_a_syntax_error_shows_its_line(write) -> None:
    write("jobs_syntax.py", "x = = 1\n")
    with pytest.raises(ImportFailed, match=r"(?s)line 1\n    x = = 1.*SyntaxError: invalid syntax"):
        load_file("jobs_syntax.py")


def test_a_file_that_ends_python_is_told_how_not_to(write) -> None:
    write("jobs_exit.py", "import sys; sys.exit(4)")
    with pytest.raises(ImportFailed, match=r"ended Python while it was imported \(SystemExit\(4\)\).*__main__"):
        load_file("jobs_exit.py")


def test_a_wrong_definition_is_one_line_with_its_place(write) -> None:
    write("jobs_wrong.py", "from executor import op\n\n@op(priority='high')\ndef load():\n    pass\n")
    with pytest.raises(ImportFailed) as caught:
        load_file("jobs_wrong.py")
    assert str(caught.value).startswith("jobs_wrong.py:3: op 'load': priority is 'high'")


def test_a_file_of_a_package_is_told_to_be_run_as_a_module(write) -> None:
    write("pack_a/__init__.py", "")
    write("pack_a/jobs_rel.py", "from . import other")
    with pytest.raises(ImportFailed, match=r"run as a module: executor run -m PACKAGE\.NAME"):
        load_file("pack_a/jobs_rel.py")


def test_a_module_is_looked_for_in_the_current_folder(write) -> None:
    write("pack_b/__init__.py", "")
    write("pack_b/jobs_three.py", "from . import __name__ as parent")
    assert load_module("pack_b.jobs_three").parent == "pack_b"


def test_a_module_that_is_not_there_is_an_error_and_one_that_raises_shows_why(write) -> None:
    for name in ("no_such_module", "no_such.module", "json.no_such", ""):
        with pytest.raises(UsageError, match=f"there is no module '{name}'"):
            load_module(name)
    with pytest.raises(UsageError, match=r"for a file, leave -m out: jobs\.py"):
        load_module("jobs.py")
    write("jobs_import.py", "import no_such_module_of_theirs")
    with pytest.raises(ImportFailed, match="No module named 'no_such_module_of_theirs'"):
        load_module("jobs_import")
