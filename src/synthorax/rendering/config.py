"""What rendering can be told, beside a nodule's attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from synthorax import makers
from synthorax.makers import Names


class Options(makers.Options):
    """Options of an injection by rendering.

    Attributes:
        shapes: a mask whose shape every nodule has, or a model that makes shapes, such as a trained LuNG; outlines of
            LIDC-IDRI's readers if not given.
        patients: of LIDC-IDRI, whose outlines may be used: their ids, or a file of them, one a line. Leave out the
            patients of your test set. All if not given.
    """

    shapes: Annotated[Any, Names("makes shapes")] = None
    patients: Path | frozenset[str] | None = None
