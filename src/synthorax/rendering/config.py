"""What rendering can be told, beside a nodule's attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from synthorax import makers
from synthorax.makers import Names

LIDC = "lidc"
"""Names the outlines of LIDC-IDRI's readers among the sources of shapes."""


class ShapeOptions(makers.Options):
    """Options of an injection of nodules whose shapes are known beforehand.

    Attributes:
        shapes: a mask whose shape every nodule has, a model that makes shapes, such as a trained LuNG, or lidc, the
            outlines of LIDC-IDRI's readers, which are used if it is not given.
    """

    shapes: Annotated[Any, Names("makes shapes", frozenset({LIDC}))] = None


class Options(ShapeOptions):
    """Options of an injection by rendering.

    Attributes:
        patients: of LIDC-IDRI, whose outlines may be used: their ids, or a file of them, one a line. Leave out the
            patients of your test set. All if not given.
    """

    patients: Path | frozenset[str] | None = None
