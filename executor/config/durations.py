"""Durations as people write them: seconds as a number, or text such as ``90s``, ``5m`` and ``1h30m``."""

from __future__ import annotations

import re

UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(value: object) -> float:
    """The seconds that ``value`` stands for: a number of seconds, or text made of ``d``, ``h``, ``m``, ``s``, ``ms``.

    Raises:
        ValueError: it is neither, or not above 0; the text says what to write.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and _WHOLE.fullmatch(text := value.replace(" ", "").lower()):
        seconds = sum(float(number) * UNIT_S[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError(
            f"{value!r} is not a duration; give seconds as a number, or text such as '90s', '5m' or '1h30m'"
        )
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{value!r} is not above 0 and finite; give the seconds that it may take")
    return seconds
