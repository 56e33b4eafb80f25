"""Flags of a verb that come from the system it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Optional, Union, get_args, get_origin

from cyclopts import Parameter
from pydantic import create_model

from synthorax.makers import Options

OPTIONS = "options"
"""Parameter of a verb that takes the options of the system it names."""
ON_A_COMMAND_LINE = (str, int, float, bool, Path, type(None))
"""Types that a user can type; a union of these and others, such as arrays, is cut down to these."""


def with_options(
    verb: Callable[..., Any], options: type[Options], system: str, *, epilogue: str = ""
) -> Callable[..., Any]:
    """Return a verb whose parameter `options` is a flag for each field of a class of options.

    Args:
        verb: has a keyword `options`.
        system: whose options they are; `takes(flag)` of the result is the error of a flag that there is not.
        epilogue: text at the end of the verb's help.
    """

    @wraps(verb)
    def chosen(*arguments: Any, **named: Any) -> Any:
        if (given := named.get(OPTIONS)) is not None:
            named[OPTIONS] = options(**{name: getattr(given, name) for name in given.model_fields_set})
        return verb(*arguments, **named)

    own: Any = Annotated[Optional[_typed(options)], Parameter(name="*")]  # noqa: UP045
    signature = inspect.signature(verb, eval_str=True)
    parameters = [
        each.replace(annotation=own) if each.name == OPTIONS else each
        for each in signature.parameters.values()
        if each.name != OPTIONS or options.model_fields
    ]
    chosen.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    chosen.__annotations__ = {each.name: each.annotation for each in parameters}
    chosen.takes = lambda flag: f"{flag}: {system} has no such option; it takes {_flags(parameters, options)}"  # type: ignore[attr-defined]
    chosen.epilogue = epilogue  # type: ignore[attr-defined]
    return chosen


def _flags(parameters: Sequence[inspect.Parameter], options: type[Options]) -> str:
    """The flags of a verb, those of its system last."""
    general = [flag for each in parameters if each.kind is each.KEYWORD_ONLY for flag in _named(each)]
    return ", ".join([*general, *(f"--{name.replace('_', '-')}" for name in options.model_fields)])


def _named(parameter: inspect.Parameter) -> list[str]:
    """The flags of a parameter: that of its name or of its alias, or those of the fields of a group of flags."""
    if parameter.name == OPTIONS:
        return []
    group = next((part for part in get_args(parameter.annotation) if is_dataclass(part)), None)
    if group is not None:
        return [f"--{field.name.replace('_', '-')}" for field in fields(group)]
    names = [mark.name for mark in getattr(parameter.annotation, "__metadata__", ()) if isinstance(mark, Parameter)]
    aliases = [name for name in names[0] if name.startswith("--")] if names and names[0] else []
    return [*aliases[:1]] or [f"--{parameter.name.replace('_', '-')}"]


def _typed(options: type[Options]) -> type[Options]:
    """The class with the types that a command line has; an array or a model in memory is none."""
    fields: dict[str, Any] = {
        name: (_of_command_line(field.annotation), field) for name, field in options.model_fields.items()
    }
    made = create_model(options.__name__, __base__=options, **fields)
    made.__doc__ = options.__doc__
    return made


def _of_command_line(kind: Any) -> Any:
    """The part of a type that can be typed: text, if nothing else is left."""
    if get_origin(kind) in (Union, UnionType):
        parts = [_of_command_line(part) for part in get_args(kind)]
        kept = [part for part in dict.fromkeys(parts) if part is not Path or str not in parts]
        return Union[tuple(kept)]  # noqa: UP007  (of a tuple made here)
    if get_origin(kind) is tuple:
        return tuple[tuple(_of_command_line(part) for part in get_args(kind))]  # type: ignore[misc]
    if get_origin(kind) is not None and get_origin(kind).__name__ == "Literal":
        return kind
    if kind is Any:
        return str | None
    return kind if kind in ON_A_COMMAND_LINE else str
