"""How a user's function is to be called, read once from its signature when it is decorated."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from executor.authoring.names import check_name
from executor.authoring.op_config import PARAMETER, OpConfig, config_annotation
from executor.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTEXT_NAMES = frozenset({"context", "_context", "_"})

_ASYNC_FLAGS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Signature(NamedTuple):
    """What a function takes: a context or none, inputs by name, and their defaults."""

    context_name: str | None  #: of the first parameter, when it is for the context; None: it takes none
    inputs: tuple[str, ...]  #: names of the other parameters, in order
    defaults: Mapping[str, Any]  #: of those that have one
    takes_any: bool  #: has ``**kwargs``, so that further inputs may be declared
    returns: object  #: the annotation; ``inspect.Signature.empty`` where there is none
    config: OpConfig | None = None  #: what it takes as its config; None: none


def own_name(kind: str, fn: object, name: str | None) -> str:
    """The name of what a decorator makes of ``fn``: the one that is given, or that of the function.

    Raises:
        DefinitionError: it cannot be the name of ``kind`` (``an op``), or ``fn`` is no function.
    """
    check_function(kind, fn)
    if name is None and not hasattr(fn, "__name__"):
        raise DefinitionError(f"{fn!r} has no name of its own; give {kind} one with name='…'")
    return check_name(kind, getattr(fn, "__name__", None) if name is None else name)


def check_function(owner: str, fn: object) -> None:
    """Raises ``DefinitionError`` where ``fn`` cannot be called, or is a definition already."""
    if hasattr(fn, "selection_names"):
        raise DefinitionError(f"{owner}: {fn!r} is decorated already; keep one of the decorators")
    if not callable(fn):
        raise DefinitionError(f"{owner}: {fn!r} is not a function; put the decorator above a def")


def read_signature(
    owner: str, fn: Callable[..., object], *, contexts: bool = True, config_schema: Any = None
) -> Signature:
    """What ``fn`` takes. ``owner`` (``op 'load'``) is who asks.

    ``contexts``: its first parameter may be for a context, and another one for config. ``config_schema``: what was
    declared of its config.

    Raises:
        DefinitionError: it is not a function, or an ``async`` graph, or has parameters that cannot be given by name.
    """
    check_function(owner, fn)
    if not contexts and getattr(getattr(fn, "__code__", None), "co_flags", 0) & _ASYNC_FLAGS:
        raise DefinitionError(
            f"{owner}: its body is called once, to see which steps there are, and cannot be async; write a plain def "
            f"(the ops in it may be async)"
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        raise DefinitionError(
            f"{owner}: the parameters of {fn!r} cannot be read; wrap it in a def of your own"
        ) from None
    parameters = list(signature.parameters.values())
    context_name = None
    if contexts and parameters and _is_for_context(parameters[0]):
        context_name = parameters.pop(0).name
    inputs: list[str] = []
    defaults: dict[str, Any] = {}
    takes_any = False
    config = None if config_schema is None else OpConfig(owner, config_schema)
    for position, parameter in enumerate(parameters):
        schema = _config_schema(fn, parameter, config_schema) if contexts else None
        if schema is not None:
            if config is not None and (config_schema is None or config.parameter is not None):
                raise DefinitionError(
                    f"{owner}: the parameters {config.parameter!r} and {parameter.name!r} are both for config; "
                    f"put all of it in one class"
                )
            config = OpConfig(
                owner, schema, parameter.name, position, has_default=parameter.default is not parameter.empty
            )
        elif parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            raise DefinitionError(
                f"{owner}: inputs are passed by name, and the parameter {star}{parameter.name} has none from outside; "
                f"for several values take one list, for one value a plain parameter"
            )
        else:
            inputs.append(parameter.name)
            if parameter.default is not parameter.empty:
                defaults[parameter.name] = parameter.default
    return Signature(
        context_name=context_name,
        inputs=tuple(inputs),
        defaults=defaults,
        takes_any=takes_any,
        returns=signature.return_annotation,
        config=config,
    )


def _config_schema(fn: Callable[..., object], parameter: inspect.Parameter, declared: Any) -> Any:
    """What config a parameter is for: the class that it is annotated with, or what was declared; None: none."""
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        return None
    annotated = config_annotation(fn, parameter) if parameter.annotation is not parameter.empty else None
    return declared if annotated is None and parameter.name == PARAMETER else annotated


def _is_for_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return False
    annotation = parameter.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    # By name: annotations may be text, and contexts of tests and of Dagster's own names are ducks of ours.
    return parameter.name in CONTEXT_NAMES or name.strip("'\"").endswith(
        ("OpExecutionContext", "AssetExecutionContext")
    )
