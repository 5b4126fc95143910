"""Every public name says what the caller gets."""

from __future__ import annotations

import enum
import inspect
import pkgutil

import pytest

import executor

NAMES = sorted(executor.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(executor, name)
    if name.startswith("__"):
        return
    own = value if inspect.isclass(value) or inspect.isfunction(value) else type(value)
    doc = own.__doc__ or ""
    assert len(doc.split()) >= 4, f"executor.{name} does not say what it is"
    assert not doc.startswith(f"{name}("), f"executor.{name} has only the docstring that dataclass writes"


@pytest.mark.parametrize("name", [n for n in NAMES if inspect.isclass(getattr(executor, n))])
def test_the_public_methods_of_a_public_class_have_docstrings(name: str) -> None:
    value = getattr(executor, name)
    if issubclass(value, enum.Enum):
        return
    for attribute, member in vars(value).items():
        if attribute.startswith("_"):
            continue
        if inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod):
            target = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            assert (inspect.getdoc(target) or "").strip(), f"{name}.{attribute} has no docstring"


@pytest.mark.parametrize("name", [n for n in NAMES if inspect.isfunction(getattr(executor, n))])
def test_a_public_function_names_its_errors(name: str) -> None:
    value = getattr(executor, name)
    if name in {"build_op_context", "build_asset_context"}:  # they raise none
        return
    assert "Raises" in (value.__doc__ or ""), f"executor.{name} does not say which errors it raises"


def test_no_public_name_is_the_name_of_a_submodule() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(executor.__path__)}
    assert not submodules & set(NAMES)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = executor.no_such_name


def test_what_a_step_that_must_stop_is_interrupted_by_can_be_caught_by_its_public_name() -> None:
    from executor.workers.explain import StepInterrupted

    assert executor.StepInterrupted is StepInterrupted
    assert not issubclass(executor.StepInterrupted, Exception)  # so that `except Exception` lets it pass
