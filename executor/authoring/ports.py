"""What an op takes and gives: ``In``, ``Out``, ``Output``, ``Nothing``, and their counterparts for assets and graphs.

Types may be named, as Dagster's users do; they are for people and are not checked. Only ``Nothing`` has a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from executor.authoring.names import as_asset_key, check_name
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.authoring.names import AssetKey

#: The name of the output of an op that has one and does not name it.
DEFAULT_OUTPUT = "result"


class Nothing:
    """The type of an input or output that carries no value and only says what runs before what.

    ``In(Nothing)`` waits and is no parameter of the function; ``Out(Nothing)`` keeps nothing.
    """


class _Missing:
    """The type of ``MISSING``; one object, so that ``None`` can be a default value."""

    def __repr__(self) -> str:
        return "no default"

    def __reduce__(self) -> str:
        return "MISSING"  # a copy in another process must be the same object there


#: Stands for a default value that is not given.
MISSING: Any = _Missing()


def is_nothing(kind: object) -> bool:
    """Whether a type, or an annotation as text, is ``Nothing``."""
    return kind is Nothing or (isinstance(kind, str) and kind.rpartition(".")[2] == "Nothing")


@dataclass(frozen=True, slots=True)
class In:
    """One input of an op: its default value, or, with ``In(Nothing)``, that nothing is passed and the op only waits.

    ``copy``: the step gets a large value in memory of its own, neither mapped from its file nor handed over by the step
    that made it.

    Raises:
        DefinitionError: an input of type ``Nothing`` has a default value.
    """

    dagster_type: object = None
    description: str | None = None
    default_value: Any = field(default=MISSING, kw_only=True)
    metadata: Mapping[str, object] | None = field(default=None, kw_only=True)
    copy: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.order_only and self.default_value is not MISSING:
            raise DefinitionError("In(Nothing) passes no value, so it cannot have a default value; leave it out")

    @property
    def order_only(self) -> bool:
        """Whether nothing is passed."""
        return is_nothing(self.dagster_type)


@dataclass(frozen=True, slots=True)
class Out:
    """One output of an op. With ``is_required=False`` the op may leave it out, and what reads it is skipped."""

    dagster_type: object = None
    description: str | None = None
    is_required: bool = True
    metadata: Mapping[str, object] | None = field(default=None, kw_only=True)

    @property
    def order_only(self) -> bool:
        """Whether no value is kept."""
        return is_nothing(self.dagster_type)


class Output:
    """A value for one output, returned or yielded by an op; ``metadata`` stays on this object and is not stored."""

    __slots__ = ("metadata", "output_name", "value")

    def __init__(
        self, value: Any = None, output_name: str = DEFAULT_OUTPUT, metadata: Mapping[str, object] | None = None
    ) -> None:
        self.value, self.output_name, self.metadata = value, output_name, dict(metadata or {})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Output):
            return NotImplemented
        return (self.value, self.output_name, self.metadata) == (other.value, other.output_name, other.metadata)

    __hash__ = None  # type: ignore[assignment]  # equal by value, and the value may change

    def __repr__(self) -> str:
        return f"Output({self.value!r}, output_name={self.output_name!r})"


@dataclass(frozen=True, slots=True)
class GraphOut:
    """One output of a graph, named in ``@graph(out={...})``; ``description`` is for people."""

    description: str | None = None


@dataclass(frozen=True, slots=True)
class AssetIn:
    """Which asset an input of an asset reads; without a key, the asset called like the input.

    ``AssetIn(dagster_type=Nothing)`` waits for that asset and passes nothing. ``copy`` is as for ``In``.

    Raises:
        DefinitionError: ``key`` and ``key_prefix`` are both given, or are no key.
    """

    key: Any = None
    key_prefix: str | Iterable[str] | None = field(default=None, kw_only=True)
    dagster_type: object = field(default=None, kw_only=True)
    metadata: Mapping[str, object] | None = field(default=None, kw_only=True)
    copy: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.key is not None and self.key_prefix is not None:
            raise DefinitionError("AssetIn takes key= or key_prefix=, not both; give the whole key")

    def key_for(self, input_name: str) -> AssetKey:
        """The key of the asset that the input of that name reads."""
        if self.key is not None:
            return as_asset_key(getattr(self.key, "key", self.key))
        prefix = [self.key_prefix] if isinstance(self.key_prefix, str) else list(self.key_prefix or ())
        return as_asset_key([*prefix, input_name])


@dataclass(frozen=True, slots=True)
class AssetOut:
    """One asset made by a ``@multi_asset``; without a key, the asset is called like the output."""

    key: Any = None
    key_prefix: str | Iterable[str] | None = field(default=None, kw_only=True)
    is_required: bool = field(default=True, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    dagster_type: object = field(default=None, kw_only=True)
    metadata: Mapping[str, object] | None = field(default=None, kw_only=True)

    def key_for(self, output_name: str) -> AssetKey:
        """The key of the asset that the output of that name is the value of."""
        return AssetIn(self.key, key_prefix=self.key_prefix).key_for(output_name)


def declared_outputs(owner: str, out: object, returns: object) -> dict[str, Out]:
    """The outputs that ``out=`` declares: one, several by name, or, without it, one called ``result``.

    Raises:
        DefinitionError: ``out`` is neither an ``Out`` nor a dict of them.
    """
    if out is None:
        return {DEFAULT_OUTPUT: Out(Nothing) if is_nothing(returns) else Out()}
    if isinstance(out, Out):
        return {DEFAULT_OUTPUT: out}
    if not isinstance(out, dict) or not all(isinstance(item, Out) for item in out.values()):
        raise DefinitionError(
            f"{owner}: out is {out!r}; give Out(), or several by name: out={{'rows': Out(), 'count': Out()}}"
        )
    return {check_name(f"an output of {owner}", name): item for name, item in out.items()}


def declared_inputs(owner: str, ins: object, kind: type[In | AssetIn]) -> dict[str, Any]:
    """The inputs that ``ins=`` declares, each an object of ``kind``.

    Raises:
        DefinitionError: ``ins`` is not a dict of them.
    """
    if ins is None:
        return {}
    if not isinstance(ins, dict) or not all(isinstance(item, kind) for item in ins.values()):
        example = f"ins={{'orders': {kind.__name__}()}}"
        raise DefinitionError(
            f"{owner}: ins is {ins!r}; give a dict of {kind.__name__} by input name, such as {example}"
        )
    return {check_name(f"an input of {owner}", name): item for name, item in ins.items()}
