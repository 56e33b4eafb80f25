"""Checking the types of the arguments of all functions of `synthorax`, by their annotations."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypeVar

from synthorax.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])
_CLASSES = frozenset({
    "Clearance", "FeatureTable", "Model", "Nodule", "NoduleAttributes", "PatchSpec", "Samples", "Scan", "ShapeSet",
    "Store", "Volume",
})  # fmt: skip
"""Classes that are known by their names, so that a check imports none of them."""
_MAKERS = frozenset({"Generator", "Maker", "Method", "Painter", "Streams"})
_SHOWN_CHARACTERS = 100
"""Most characters of a value that an error shows."""


def checked(function: Function, module: str) -> Function:
    """Return a function that refuses arguments of other types than its annotations state, and then calls this one.

    Only texts, paths, numbers, True and False, None, sequences and mappings of these, makers and the package's own
    classes are checked. An argument of which another type is accepted too is left to the function.

    Args:
        function: a function whose annotations are texts, as `from __future__ import annotations` makes them.
        module: module in which the returned function is found under its name, for pickling.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            bound = signature.bind(*arguments, **named).arguments
        except TypeError:  # an argument is missing or unknown, which the call tells
            return function(*arguments, **named)
        for name, value in bound.items():
            parameter = signature.parameters[name]
            if parameter.kind is not parameter.VAR_KEYWORD and value is not parameter.default:
                check_argument(name, value, str(parameter.annotation))
        return function(*arguments, **named)

    call.__module__ = module
    return call  # type: ignore[return-value]


def check_argument(name: str, value: object, annotation: str) -> None:
    """Refuse an argument of another type than its annotation states.

    Raises:
        InputError: names the argument, what was found, and the accepted types.

    >>> check_argument("n", 1.5, "int | None")
    Traceback (most recent call last):
    synthorax.errors.InputError: n: found 1.5; expected a whole number or None
    """
    kinds = _kinds(annotation)
    if any(_known(kind) is None for kind in kinds) or any(_fits(value, kind) for kind in kinds):
        return
    names = list(dict.fromkeys(_in_words(kind) for kind in kinds))
    raise InputError(name, _shown(value), " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))))


@cache
def _kinds(annotation: str) -> tuple[ast.expr, ...]:
    """Return the members of a union."""

    def members(node: ast.expr) -> tuple[ast.expr, ...]:
        return (*members(node.left), *members(node.right)) if isinstance(node, ast.BinOp) else (node,)

    return members(ast.parse(annotation, mode="eval").body)


def _known(kind: ast.expr) -> str | None:
    """Return the name of a type that can be checked; None for any other."""
    name = ast.unparse(kind.value if isinstance(kind, ast.Subscript) else kind)
    return name if name in _TESTS or name in _CLASSES or name in _MAKERS else None


def _inner(kind: ast.expr) -> tuple[ast.expr, ...]:
    """Return the members of the union of a sequence's entries; empty if they are not checked."""
    if not isinstance(kind, ast.Subscript):
        return ()
    kinds = _kinds(ast.unparse(kind.slice))
    return () if any(_known(each) is None for each in kinds) else kinds


def _fits(value: object, kind: ast.expr) -> bool:
    name = _known(kind)
    if name in _CLASSES:
        return name in (each.__name__ for each in type(value).__mro__)
    if name in _MAKERS:
        return hasattr(value, "roles") and not isinstance(value, type)
    if not _TESTS[str(name)](value):
        return False
    entries = _inner(kind) if name == "Sequence" and isinstance(value, list | tuple) else ()
    return not entries or all(any(_fits(each, inner) for inner in entries) for each in value)  # type: ignore[attr-defined]


def _is_number(value: object, kind: type) -> bool:
    return (isinstance(value, kind) and not isinstance(value, bool)) or getattr(value, "ndim", None) == 0


_TESTS: Mapping[str, Callable[[object], bool]] = {
    "int": lambda value: _is_number(value, Integral),
    "float": lambda value: _is_number(value, Real),
    "bool": lambda value: isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"),
    "str": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, PathLike),
    "None": lambda value: value is None,
    "Mapping": lambda value: isinstance(value, Mapping),
    "Sequence": lambda value: isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping),
}
"""Tests of types that are no classes of this package."""
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "str": "a text",
    "Path": "a path",
    "Mapping": "values by name",
}
_SEVERAL = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts", "a path": "paths"}


def _in_words(kind: ast.expr) -> str:
    name = str(_known(kind))
    if name in _MAKERS:
        return "a maker"
    if name != "Sequence":
        return _WORDS.get(name, name)
    each = [_in_words(inner) for inner in _inner(kind)]
    several = [_SEVERAL.get(words, words.replace("a list", "lists")) for words in each]
    return f"a list of {' or '.join(several)}" if each else "a list"


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)[:_SHOWN_CHARACTERS]
    return f"an object of type {type(value).__name__}"
