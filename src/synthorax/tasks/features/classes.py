"""The classes that the network of features tells apart."""

from __future__ import annotations

from synthorax.nodule import Nodule

SUBSOLID = 4.0
"""Textures below this are not solid."""
SIZES_MM = (6.0, 10.0)
"""Diameters between the classes of solid nodules."""


def feature_class(nodule: Nodule) -> int:
    """Return 1 for a nodule that is not solid, 2 to 4 for solid ones below 6 mm, below 10 mm and from 10 mm.

    A patch without a nodule is class 0.
    """
    attributes = nodule.attributes
    if attributes.texture is not None and attributes.texture < SUBSOLID:
        return 1
    return 2 + sum((attributes.diameter_mm or 0.0) >= edge for edge in SIZES_MM)
