"""The options of rendering, beside a nodule's attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from synthorax import makers
from synthorax.makers import Names

LIDC = "lidc"
"""Value of `shapes` for the outlines of LIDC-IDRI's readers."""


class ShapeOptions(makers.Options):
    """Options of an injection that starts from the shape of the nodule.

    Attributes:
        shapes: a mask whose shape every nodule gets; a model that makes shapes, such as a trained LuNG; or lidc, the
            outlines of LIDC-IDRI's readers, which is the default.
    """

    shapes: Annotated[Any, Names("makes shapes", frozenset({LIDC}))] = None


class Options(ShapeOptions):
    """Options of an injection by rendering.

    Attributes:
        patients: ids of LIDC-IDRI patients whose outlines may be used, with commas between them, or a file with an id
            on each line; all if not given. Leave out the patients of your test set.
    """

    patients: Path | frozenset[str] | None = None
