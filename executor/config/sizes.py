"""Sizes as people write them: bytes as a number, or text such as ``500 MB`` and ``2GiB``."""

from __future__ import annotations

import re

UNIT_BYTES = {"": 1, "b": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("kmgt", 1)
    for ending, base in (("", 1024), ("b", 1000), ("ib", 1024))
}

# More digits would be no number that Python reads.
_WHOLE = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*([a-z]*)")


def parse_size(value: object) -> int:
    """The bytes that ``value`` stands for: a whole number of them, or text with a unit; ``2 G`` is ``2 GiB``.

    Raises:
        ValueError: it is neither; the text says what to write.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _WHOLE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if found is None or found[2] not in UNIT_BYTES:
        raise ValueError(f"{value!r} is not a size; write bytes as a number, or text such as '500 MB' or '2 GiB'")
    return int(float(found[1]) * UNIT_BYTES[found[2]])
