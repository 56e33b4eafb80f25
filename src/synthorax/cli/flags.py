"""Command-line flags that come from the options of a system, such as the model that `synthorax sample` is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import wraps
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Optional, Union, get_args, get_origin, get_type_hints

import yaml
from cyclopts import Group, Parameter
from pydantic import create_model

from synthorax.cli.options import OF_SYSTEM
from synthorax.makers import FLAG_TYPES, Options, meanings
from synthorax.registry import make_options

MISTYPED = 0.7
"""Likeness of two flags, of at most 1, from which on an error takes one for the other mistyped."""
OPTIONS = "options"
"""Name of the verbs' parameter that takes a system's options."""


def with_options(
    verb: Callable[..., Any],
    options: type[Options],
    system: str,
    *,
    epilogue: str = "",
    kinds: Mapping[str, Any] | None = None,
    taken: Callable[[], Mapping[str, Any]] = dict,
) -> Callable[..., Any]:
    """Return a verb that has one flag for each field of a class of options, in place of its parameter `options`.

    Args:
        verb: function with a keyword parameter `options`.
        options: class whose fields become flags; their help is from the class's docstring.
        system: name of the system that the options belong to.
        epilogue: text at the end of the verb's help.
        kinds: annotations of further parameters that depend on the system, by name.
        taken: finds such annotations, too slowly for every call, by which an error leaves out the flags that the
            system's makers refuse.

    Returns:
        The verb, with `epilogue`, and with `takes(flag)`, which gives the error for a flag that does not exist.
    """

    @wraps(verb)
    def chosen(*arguments: Any, **named: Any) -> Any:
        if (given := named.get(OPTIONS)) is not None:
            named[OPTIONS] = make_options(options, given.given(), system)
        return verb(*arguments, **named)

    group = Group(f"Options of {system}", sort_key=OF_SYSTEM)
    own: Any = Annotated[Optional[_typed(options)], Parameter(name="*", group=group)]  # noqa: UP045
    signature = inspect.signature(verb, eval_str=True)

    def annotated(kinds: Mapping[str, Any]) -> list[inspect.Parameter]:
        annotations = {**kinds, OPTIONS: own}
        return [
            each.replace(annotation=annotations.get(each.name, each.annotation))
            for each in signature.parameters.values()
            if each.name != OPTIONS or options.model_fields
        ]

    def refusal(flag: str) -> str:
        possible = _flags(annotated({**(kinds or {}), **taken()}), options)
        if meant := get_close_matches(flag.partition("=")[0], possible, n=1, cutoff=MISTYPED):
            return f"{flag}: no option of {system}; did you mean {meant[0]}? --help shows all flags"
        return f"{flag}: no option of {system}; possible are {', '.join(possible)}"

    parameters = annotated(kinds or {})
    chosen.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    chosen.__annotations__ = {each.name: each.annotation for each in parameters}
    chosen.takes = refusal  # type: ignore[attr-defined]
    chosen.epilogue = epilogue  # type: ignore[attr-defined]
    return chosen


def value_of(flag: str, arguments: Sequence[str], default: str = "") -> str:
    """Return the value of a flag that is given as `--flag VALUE` or `--flag=VALUE`; of several the last.

    Example:
        >>> value_of("--with", ["scan.nii", "--with", "ac-wgan", "--auto=3"])
        'ac-wgan'
    """
    value = default
    for word, following in pairwise([*arguments, ""]):
        if word == flag:
            value = following
        elif word.startswith(flag + "="):
            value = word.removeprefix(flag + "=")
    return value


def setting_text(value: Any) -> str:
    """Return the value of a setting in the form that `--set` takes.

    Example:
        >>> setting_text((1.0, 0.5))
        '[1.0, 0.5]'
    """
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _flags(parameters: Sequence[inspect.Parameter], options: type[Options]) -> list[str]:
    """Return the names of a verb's flags, those of the system last."""
    general = [flag for each in parameters if each.kind is each.KEYWORD_ONLY for flag in _named(each)]
    return [*general, *(f"--{name.replace('_', '-')}" for name in options.model_fields)]


def _named(parameter: inspect.Parameter) -> list[str]:
    """Return the shown flags of a parameter: one by its name or alias, or one for each field of a dataclass."""
    if parameter.name == OPTIONS or not _is_shown(parameter.annotation):
        return []
    group = next((part for part in get_args(parameter.annotation) if is_dataclass(part)), None)
    if group is not None:
        return _of_group(group)
    names = [mark.name for mark in getattr(parameter.annotation, "__metadata__", ()) if isinstance(mark, Parameter)]
    aliases = [name for name in names[0] if name.startswith("--")] if names and names[0] else []
    return [*aliases[:1]] or [f"--{parameter.name.replace('_', '-')}"]


def _of_group(group: Any) -> list[str]:
    """Return the shown flags of a dataclass's fields, by the fields' names or the names in their annotations."""
    names = []
    for name, kind in get_type_hints(group, include_extras=True).items():
        if not _is_shown(kind):
            continue
        marks = [mark.name for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Parameter)]
        names.append(next((each for mark in marks for each in mark or ()), f"--{name.replace('_', '-')}"))
    return names


def _is_shown(kind: Any) -> bool:
    """Return whether `--help` shows a flag of this annotation."""
    marks = [mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Parameter)]
    return all(mark.show is not False for mark in marks)


def _typed(options: type[Options]) -> type[Options]:
    """Return the class with its fields cut down to types that can be typed, without arrays and models in memory."""
    texts = {name: text[:1].upper() + text[1:] for name, text in meanings(options).items()}
    fields: dict[str, Any] = {
        name: (_of_command_line(field.annotation), field.merge_field_infos(field, description=texts.get(name)))
        for name, field in options.model_fields.items()
    }
    return create_model(options.__name__, __base__=options, **fields)


def _of_command_line(kind: Any) -> Any:
    """Return the part of a type that can be typed on a command line; `str` if no part of it can."""
    if get_origin(kind) is Annotated:
        return _of_command_line(get_args(kind)[0])
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
    return kind if kind in (*FLAG_TYPES, type(None)) else str
