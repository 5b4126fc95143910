"""Tags as steps and runs carry them: text to text, and the two tags that mean more than a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: The largest priority, and with a minus the smallest: 32 bits, so that the sum of two fits the ledger's numbers.
MOST_PRIORITY = 2**31 - 1

#: Where a priority does not fit: the rest of the sentence.
PRIORITY_RANGE = f"a priority is a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"

#: The tag whose value is a step's priority, as text.
PRIORITY_TAG = "dagster/priority"
#: The tag whose value is the pool of a step: an older spelling of ``pool=``.
POOL_TAG = "dagster/concurrency_key"

_ASSET_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")


def normalized_tags(owner: str, tags: Mapping[str, object] | None, *, strict_keys: bool = False) -> dict[str, str]:
    """The tags with every value as text: text as it is, anything else as JSON. ``owner`` names whose they are.

    ``strict_keys`` holds the keys of an asset's ``tags`` to Dagster's pattern; tags of ops may have any key.

    Raises:
        DefinitionError: not a mapping, a key is not text or does not fit, or a value has no JSON form.
    """
    if tags is None:
        return {}
    if not hasattr(tags, "items"):
        raise DefinitionError(f"{owner}: tags are {tags!r}; give a dict such as {{'database': 'warehouse'}}")
    result: dict[str, str] = {}
    items: Iterable[tuple[object, object]] = tags.items()
    for key, value in items:
        if isinstance(key, str) and not key.strip():
            raise DefinitionError(f"{owner}: a tag has no key, only the value {value!r}; give it a name")
        if not isinstance(key, str):
            raise DefinitionError(f"{owner}: the tag key {key!r} is not text; write it as text, such as {str(key)!r}")
        if strict_keys and not _ASSET_TAG_KEY.fullmatch(key):
            raise DefinitionError(
                f"{owner}: the tag key {key!r} does not fit; use letters, digits, _, - and ., at most 63, "
                f"with one optional prefix before a slash ('team/owner'), or give it in op_tags, where any text fits"
            )
        result[key] = value if isinstance(value, str) else _json_text(owner, key, value)
    return result


def _json_text(owner: str, key: str, value: object) -> str:
    import json  # takes milliseconds to import, and most tags are text

    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{owner}: tag {key!r} is neither text nor JSON ({error}); write it as text") from None


def tagged_priority(owner: str, tags: Mapping[str, str]) -> int | None:
    """The priority that ``dagster/priority`` gives, or None without that tag.

    Raises:
        DefinitionError: its value is not a whole number, or too large for one.
    """
    text = tags.get(PRIORITY_TAG)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise DefinitionError(
            f"{owner}: tag {PRIORITY_TAG!r} is {text!r}; a priority is a whole number, such as '1' or '-1'"
        ) from None
    if not fits_priority(number):
        raise DefinitionError(f"{owner}: tag {PRIORITY_TAG!r} is {text!r}; {PRIORITY_RANGE}")
    return number


def fits_priority(number: int) -> bool:
    """Whether a whole number is within the bounds of priorities."""
    return -MOST_PRIORITY <= number <= MOST_PRIORITY
