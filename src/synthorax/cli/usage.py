"""The line for a command that cannot be parsed: a missing flag, or a value of another type."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter as Named
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from synthorax.cli.options import parse_numbers
from synthorax.errors import InputError

if TYPE_CHECKING:
    from cyclopts import CycloptsError
    from cyclopts.argument import Argument

TYPE_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    str: "a text",
}
"""The words for a value of a type."""
JOINED = "write several numbers with commas and without spaces, as in --at=-70,0,-150; "
"""What to do with numbers that stand apart from their flag."""


def usage_line(error: CycloptsError, arguments: Sequence[str]) -> str:
    """Return the line for an error of parsing, which says what is missing or wrong, and how to see all flags.

    Args:
        error: the error.
        arguments: words after `synthorax`.
    """
    from cyclopts.exceptions import CoercionError, MissingArgumentError, UnusedCliTokensError

    verb = " ".join(["synthorax", *(error.command_chain or ())])
    shows = f"`{verb} --help` shows all flags"
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.argument.token_count()[0] == 1:
        given = [name for name in error.argument.names if name in arguments]
        return f"{given[0]} has no value; {shows}" if given else f"{_name(error.argument)} is required; {shows}"
    if isinstance(error, CoercionError) and error.token is not None and error.argument is not None:
        name, expected = error.token.keyword or _name(error.argument), _words(error.target_type)
        return f"{name}: found {error.token.value!r}; expected {expected}" if expected else _as_it_is(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        joined = JOINED * all(map(_is_numbers, error.unused_tokens))
        return f"found {' '.join(error.unused_tokens)}, which belongs to no flag; {joined}{shows}"
    return _as_it_is(error)


def _is_numbers(token: str) -> bool:
    """Return whether an argument is numbers, joined by commas."""
    try:
        return bool(parse_numbers(token.strip(","), "", "", count=None))
    except InputError:
        return False


def _as_it_is(error: CycloptsError) -> str:
    return " ".join(str(error).split()) + " Try --help."


def _name(argument: Argument) -> str:
    """Return the flag of an argument; the name in capitals of an argument that is given without a flag."""
    is_flag = argument.field_info.kind is Named.KEYWORD_ONLY
    return argument.name if is_flag else argument.name.lstrip("-").replace("-", "_").upper()


def _words(kind: Any) -> str:
    """Return the values of a type in words; empty for a type without words."""
    if get_origin(kind) is Annotated:
        return _words(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        parts = [_words(part) for part in get_args(kind) if part is not type(None)]
        return " or ".join(parts) if all(parts) else ""
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    return TYPE_WORDS.get(kind, "")
