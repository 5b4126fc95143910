"""The config that an op takes: which parameter gets it, what it may be, and how it is made of plain data."""

from __future__ import annotations

import sys
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from executor.config.problems import Problems

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from types import FrameType

    from executor.authoring.context import OpExecutionContext
    from executor.config.kinds import Kind
    from executor.config.layers import Path

#: The name under which a step's config comes among its inputs; no parameter can be called so.
CONFIG_INPUT = "config="

#: The parameter that gets the config whatever dataclass or pydantic model it is annotated with.
PARAMETER = "config"

_NOT_GIVEN: Any = object()


class OpConfig:
    """What an op takes as its config, and how it gets it."""

    __slots__ = ("_kind", "has_default", "owner", "parameter", "position", "schema")

    def __init__(
        self, owner: str, schema: Any, parameter: str | None = None, position: int = 0, has_default: bool = False
    ) -> None:
        self.owner = owner  #: ``op 'load'``
        self.schema = schema  #: a class, a type, or a dict of types
        self.parameter = parameter  #: of the function; None: the config is at ``context.op_config`` only
        self.position = position  #: of that parameter among those that are not for the context
        self.has_default = has_default  #: the parameter has a default of its own
        self._kind: Kind | None = None

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return OpConfig, (self.owner, self.schema, self.parameter, self.position, self.has_default)

    @property
    def kind(self) -> Kind:
        """What the schema says, read when it is first needed.

        Raises:
            DefinitionError: it says what no config can be.
        """
        if self._kind is None:
            from executor.config.annotations import kind_of

            self._kind = kind_of(self.schema, self.owner)
        return self._kind

    def check(self, data: Any, path: Path, problems: Problems) -> Any:
        """The config as plain data; what is wrong goes to the problems."""
        return self.kind.check(data, path, problems)

    def effective(self, data: Any) -> Any:
        """Checked data with all defaults, as it may be shown once names of secrets are masked."""
        effective = getattr(self.kind, "effective", None)
        return data if effective is None else effective(data)

    def whole(self, data: Any) -> Any:
        """Checked data with all defaults, to be given again."""
        whole = getattr(self.kind, "whole", None)
        return data if whole is None else whole(data)

    def default_of(self, function: Callable[..., Any]) -> Any:
        """The default of the parameter for config, as data; None where it is no object of its class."""
        import inspect

        value = inspect.signature(function).parameters[self.parameter or PARAMETER].default
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        dump = getattr(value, "model_dump", None)
        return None if dump is None else dump()

    def build(self, data: Any = _NOT_GIVEN) -> Any:
        """What the parameter gets for checked data; without any, for what the defaults say."""
        return self.kind.build(self._defaults() if data is _NOT_GIVEN else data)

    def data(self, data: Any = _NOT_GIVEN) -> Any:
        """The config as a dict with its defaults, for ``context.op_config``."""
        built = self.build(data)
        dump = getattr(built, "model_dump", None)
        if dump is not None:
            return dump()
        return self._defaults() if data is _NOT_GIVEN else data

    def _defaults(self) -> Any:
        return self.kind.check({}, (), Problems())

    def give(self, context: OpExecutionContext | None, inputs: dict[str, Any]) -> None:
        """Put the config where the function looks for it, in a worker: among ``inputs``, and into the context."""
        data = inputs.pop(CONFIG_INPUT, _NOT_GIVEN)
        if context is not None:
            context.set_op_config(lambda: self.data(data))
        if self.parameter is not None and not (data is _NOT_GIVEN and self.has_default):
            inputs[self.parameter] = self.build(data)

    def for_call(self, value: Any) -> Any:
        """What the parameter gets in a direct call: an object as it is, a dict checked and built.

        Raises:
            ConfigError: the dict does not fit.
        """
        if not isinstance(value, dict):
            return value
        problems = Problems()
        data = self.check(value, (PARAMETER,), problems)
        problems.raise_if_any()
        return self.build(data)


def is_config_class(annotation: object) -> bool:
    """Whether it derives from ``executor.Config``. Where nobody has asked for that class yet, nothing does."""
    module = sys.modules.get("executor.authoring.config_class")
    return module is not None and isinstance(annotation, type) and issubclass(annotation, module.Config)


def config_annotation(fn: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The class of config that a parameter is for, or None where it is an input like any other."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = _named(fn, annotation)
    if is_config_class(annotation):
        return annotation
    if parameter.name == PARAMETER and isinstance(annotation, type):
        return annotation if is_dataclass(annotation) or hasattr(annotation, "model_fields") else None
    return None


def _named(fn: Callable[..., object], annotation: str) -> object:
    """What an annotation that is text names: where the function was written, and in the calls around that."""
    first, *rest = annotation.strip("'\"").split(".")
    if not first.isidentifier():
        return None
    while (wrapped := getattr(fn, "__wrapped__", None)) is not None:
        fn = wrapped
    scope: dict[str, Any] = getattr(fn, "__globals__", {})
    names = getattr(getattr(fn, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(fn, "__closure__", None) or (), strict=True))
    found: Any = None
    if first in cells:
        try:
            found = cells[first].cell_contents
        except ValueError:  # not bound yet
            return None
    elif first in scope:
        found = scope[first]
    else:
        # a class that is local to the function in which the op is written
        frame: FrameType | None = sys._getframe()  # noqa: SLF001  (the one way to the callers)
        while frame is not None and (frame.f_globals is not scope or first not in frame.f_locals):
            frame = frame.f_back
        found = None if frame is None else frame.f_locals[first]
    for part in rest:
        found = getattr(found, part, None)
    return found
