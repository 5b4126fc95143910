"""What must not be shown: values from environment variables, and those of keys that are named like secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from executor.config.layers import Path

#: Stands for a secret wherever people look.
MASK = "***"

# As parts of a name, between its ends, underscores and capitals: `db_password`, `apiKey`, but not `monkey` or `tokens`.
_SECRET = re.compile(
    r"(^|_)(password|passwd|passphrase|pwd|secret|secrets|token|credential|credentials|"
    r"(api|access|private|secret|account|encryption|signing|ssh)_?key|auth|authorization|"
    r"connection_string|dsn)(_|$)"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class SecretText(str):
    """Text that came from an environment variable or a ``SecretStr``: it works as text, and is not shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


def is_secret_name(name: object) -> bool:
    """Whether a key is named like a secret: ``password``, ``api_key``, ``githubToken``."""
    return isinstance(name, str) and _SECRET.search(_HUMP.sub("_", name).lower().replace("-", "_")) is not None


def is_secret_path(path: Path) -> bool:
    """Whether what stands at ``path`` is, or is part of, something that is named like a secret."""
    return any(is_secret_name(part) for part in path)


def masked(data: Any, *, secret: bool = False, keep: Callable[[Any], bool] | None = None) -> Any:
    """The same data with a mask in place of every secret; ``secret``: all of it is one, but for what is to ``keep``."""
    if keep is not None and keep(data):
        return data
    if isinstance(data, Mapping):
        return {key: masked(value, secret=secret or is_secret_name(key), keep=keep) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [masked(value, secret=secret, keep=keep) for value in data]
    if isinstance(data, SecretText) or hasattr(data, "get_secret_value"):
        return MASK
    return MASK if secret and data not in {None, ""} and not isinstance(data, bool) else data


def has_secret(data: Any) -> bool:
    """Whether there is anything in it that came from a variable or a ``SecretStr``."""
    if isinstance(data, Mapping):
        return any(map(has_secret, data.values()))
    if isinstance(data, list | tuple):
        return any(map(has_secret, data))
    return isinstance(data, SecretText)


def as_plain(data: Any) -> Any:
    """The same data with secrets as plain text, and dicts and lists of its own: for the step that it is meant for."""
    if isinstance(data, Mapping):
        return {key: as_plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [as_plain(value) for value in data]
    if isinstance(data, tuple) and type(data) is tuple:
        return tuple([as_plain(value) for value in data])
    return str.__str__(data) if isinstance(data, SecretText) else data


# A shorter one is part of too many words.
LEAST_SECRET = 4


# A value of a variable that is not named like a secret is often a word, such as a region; a short one stays readable.
LEAST_UNNAMED = 8


def without_secrets(text: str, data: Any) -> str:
    """A text of somebody else's about ``data``, with a mask in place of every secret of it."""
    return hidden(text, [secret for secret, _ in _secret_texts(data, named=False) if len(secret) >= LEAST_SECRET])


def texts_to_hide(data: Any) -> list[str]:
    """The secrets in a config that are told apart from other words wherever they stand, for ``hidden``."""
    found = {
        secret
        for secret, named in _secret_texts(data, named=False)
        if len(secret) >= (LEAST_SECRET if named else LEAST_UNNAMED)
    }
    return sorted(found, key=len, reverse=True)  # one may be part of another


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text with a mask in place of each of these."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _secret_texts(data: Any, *, named: bool) -> Iterator[tuple[str, bool]]:
    """Each secret, and whether it is named like one."""
    if isinstance(data, Mapping):
        for key, item in data.items():
            yield from _secret_texts(item, named=named or is_secret_name(key))
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _secret_texts(item, named=named)
    elif isinstance(data, SecretText) or (named and isinstance(data, str | int | float)):
        yield str(data), named
