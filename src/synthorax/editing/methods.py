"""The methods that scans can be edited with, by name; nothing is imported before it is asked for."""

from __future__ import annotations

from synthorax.errors import InputError
from synthorax.method import Method
from synthorax.rendering.renderer import Renderer, ShapeSource

METHODS = ("render",)


def find_method(method: str | Method, shapes: ShapeSource) -> Method:
    """A method by its name.

    Args:
        shapes: gives a mask for each nodule, to methods that start from one.

    Raises:
        InputError: no method of that name.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise InputError("method", repr(method), " or ".join(METHODS))
    return Renderer(shapes)
