"""Importing the file or module that a command names, so that workers can import it again under the same name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from executor.errors import DefinitionError, ExecutorError, UsageError, near_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType, TracebackType

#: Where this package lies: frames of files in it are ours, and say nothing to the user about their own file.
PACKAGE = Path(__file__).resolve().parent.parent


class ImportFailed(UsageError):
    """The user's file or module could not be imported; the text is the part of the traceback that is theirs."""


def load_file(name: str) -> ModuleType:
    """The module of that file, imported under its stem, with its folder on the path after this package.

    Raises:
        UsageError: there is no such file, or its name cannot be imported, or belongs to another module.
        ImportFailed: the file raised; the text shows where.
    """
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"there is no file {name!r}{meant_instead(path)}")
    path = path.resolve()
    stem = path.stem
    if path.suffix != ".py" or "." in stem:
        raise UsageError(f"{name}: a file with jobs must be called NAME.py, with no other dot in its name")
    if stem == PACKAGE.name:
        raise UsageError(
            f"{name} has the name of this package, so no file could import {PACKAGE.name!r} any more; rename it, "
            f"for example to {stem}_jobs.py"
        )
    shadow = next(
        (found for found in (path.parent / f"{PACKAGE.name}.py", path.parent / PACKAGE.name) if _is_other(found)), None
    )
    if shadow is not None:
        print(
            f"note: {shadow} has the name of this package; `import {PACKAGE.name}` means the package here, not that",
            file=sys.stderr,
        )
    _add_to_path(path.parent)
    found = importlib.util.find_spec(stem)
    origin = None if found is None else found.origin
    if origin is None or Path(origin).resolve() != path:
        where = f" ({origin})" if origin else ""
        raise UsageError(
            f"{name} has the name of the module {stem!r}{where}, and workers would import that one; rename the file, "
            f"for example to {stem}_jobs.py"
        )
    return _import(stem, name)


def load_module(name: str, folder: Path | None = None) -> ModuleType:
    """The module of that name, looked for in this folder first, or the current one, as ``python -m`` does.

    Raises:
        UsageError: there is no such module.
        ImportFailed: it raised when it was imported; the text shows where.
    """
    _add_to_path(folder or Path.cwd())
    parts = name.split(".")
    for count in range(1, len(parts) + 1):  # a package first, then what is in it
        prefix = ".".join(parts[:count])
        try:
            found = importlib.util.find_spec(prefix)
        except (ValueError, ModuleNotFoundError):
            found = None
        if found is None:
            hint = f"; for a file, leave -m out: {name}" if name.endswith(".py") else ""
            raise UsageError(f"there is no module {name!r} on the path of Python{hint}")
        module = _import(prefix, name)
    return module


def _import(module: str, shown: str) -> ModuleType:
    with users_code(shown):
        return importlib.import_module(module)


@contextmanager
def users_code(shown: str) -> Iterator[None]:
    """While the code in ``shown`` runs: what it raises becomes an ``ImportFailed`` that shows their part only."""
    try:
        yield
    except DefinitionError as error:
        raise ImportFailed(f"{_place(error, shown)}: {error}") from error
    except ExecutorError as error:
        raise ImportFailed(f"{shown}: {error}") from error
    except SystemExit as error:
        raise ImportFailed(
            f"{shown} ended Python while it was imported ({error!r}); put what is not for importing under "
            'if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise ImportFailed(f"{shown} could not be imported:\n{user_traceback(error)}{_relative_hint(error)}") from error


def user_traceback(error: BaseException) -> str:
    """The traceback of an error, without the frames above the user's own code."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = _users_part(link.__traceback__)
        link = link.__cause__ or link.__context__
    return "".join(traceback.format_exception(error)).rstrip()


def _users_part(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_ours(filename: str) -> bool:
    return filename.startswith(
        ("<frozen importlib", f"{PACKAGE}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}")
    )


def _place(error: BaseException, shown: str) -> str:
    """The line of the user's that an error came from: the last of theirs in the traceback."""
    lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_ours(frame.filename)
    ]
    return os.path.relpath(lines[-1]) if lines else shown


def _relative_hint(error: BaseException) -> str:
    if isinstance(error, ImportError) and "relative import" in str(error):
        return "\nA file that is part of a package is run as a module: executor run -m PACKAGE.NAME"
    return ""


def _add_to_path(folder: Path) -> None:
    """Put a folder on the path right after the folder of this package, so that nothing in it can stand in our way."""
    text = str(folder)
    if text in sys.path:
        return
    home = str(PACKAGE.parent)
    position = sys.path.index(home) + 1 if home in sys.path else len(sys.path)
    sys.path.insert(position, text)


def _is_other(path: Path) -> bool:
    return path.exists() and path.resolve() != PACKAGE


def meant_instead(path: Path) -> str:
    """What to add where there is no file at ``path``: ``; did you mean 'jobs/daily.py'?``, or that modules take -m."""
    near = _near_file(path)
    if near is not None:
        return f"; did you mean {str(near)!r}?"
    return "" if path.suffix else "; a module is given with -m"


def _near_file(path: Path) -> Path | None:
    """The Python file that a mistyped path most likely means: of each part of it the nearest name that is there."""
    folder = Path(path.anchor)
    parts = path.relative_to(path.anchor).parts
    try:
        for part in parts[:-1]:
            if not (folder / part).is_dir():
                near = near_name(part, [found.name for found in folder.iterdir() if found.is_dir()])
                if near is None:
                    return None
                part = near  # noqa: PLW2901
            folder /= part
        # without their common ending, which would make any two short names look alike
        names = [found.stem for found in folder.iterdir() if found.suffix == ".py"]
    except OSError:
        return None
    stem = near_name(path.name.removesuffix(".py"), names)
    return None if stem is None else folder / f"{stem}.py"
