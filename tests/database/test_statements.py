"""The statements that the package gives to SQLite."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "executor"


def texts() -> list[tuple[str, str]]:
    """Every text that stands in the code, with its file."""
    return [
        (path.name, node.value)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_placeholders_have_no_numbers() -> None:
    """Python 3.12 and later warn of ``?1`` where the values are a sequence, and refuse it one day."""
    statements = [(name, text) for name, text in texts() if re.search(r"\b(SELECT|INSERT|UPDATE|DELETE|WHERE)\b", text)]
    assert len(statements) > 50
    assert [(name, text) for name, text in statements if re.search(r"\?\d", text)] == []
