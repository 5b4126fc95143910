"""Where the jobs are when no file and no module is named: as ``pyproject.toml`` says, else in ``definitions.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.cli.load import meant_instead
from executor.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

PROJECT, DEFINITIONS = "pyproject.toml", "definitions.py"

#: What may stand in ``[tool.executor]``: what it says, by its name here and in Dagster.
KEYS = {"file": "file", "module": "module", "job": "job", "python_file": "file", "module_name": "module"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the jobs are."""

    folder: Path  #: what a module is looked for in
    file: Path | None = None
    module: str | None = None
    job: str | None = None  #: which is run where none is named


def discover(start: Path) -> Place:
    """Where the jobs are, looked for from this folder on.

    Raises:
        UsageError: ``pyproject.toml`` has a mistake, or there is nothing; the text says what was looked for.
    """
    folder = start.resolve()
    for above in (folder, *folder.parents):
        if (above / PROJECT).is_file() and (said := _tool_executor(above / PROJECT)) is not None:
            return _place(above, said)
    if (folder / DEFINITIONS).is_file():
        return Place(folder=folder, file=folder / DEFINITIONS)
    raise UsageError(
        f"no file and no module is named, and there is neither a [tool.executor] in a {PROJECT} here or above, nor "
        f"{DEFINITIONS} here; name one ({_example(folder)}), or write into {PROJECT}:\n"
        '  [tool.executor]\n  file = "pipeline.py"'
    )


def _tool_executor(path: Path) -> dict[str, Any] | None:
    """What stands in ``[tool.executor]``; None where there is no such table."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read, to see where the jobs are: {error}") from error
    tool = document.get("tool", {})
    found = tool.get("executor") if isinstance(tool, dict) else None
    if found is not None and not isinstance(found, dict):
        raise UsageError(f'{path}: tool.executor is no table; write:\n  [tool.executor]\n  file = "pipeline.py"')
    return found


def _place(folder: Path, said: dict[str, Any]) -> Place:
    where = f"{folder / PROJECT}, [tool.executor]"
    problems = []
    found: dict[str, str] = {}
    for key, value in said.items():
        name = KEYS.get(key)
        if name is None:
            problems.append(f"{where}: unknown key {key!r}{did_you_mean(key, KEYS)} (there are: file, module, job)")
        elif not isinstance(value, str) or not value:
            problems.append(f"{where}: {key} is {value!r}; write text in quotes")
        elif name in found:
            problems.append(f"{where}: {name} is said twice; keep one")
        else:
            found[name] = value
    if "file" in found and "module" in found:
        problems.append(f"{where}: file and module exclude each other; keep one")
    if problems:
        raise UsageError("\n".join(problems))
    if "module" in found:
        return Place(folder=folder, module=found["module"], job=found.get("job"))
    file = folder / found.get("file", DEFINITIONS)
    if not file.is_file():
        raise UsageError(f"{where}: there is no file {file}{meant_instead(file)}")
    return Place(folder=folder, file=file, job=found.get("job"))


def _example(folder: Path) -> str:
    """How to name a file: the one that is there, where there is only one."""
    files = sorted(path.name for path in folder.glob("*.py"))
    return f"executor run {files[0] if len(files) == 1 else 'FILE'}"
