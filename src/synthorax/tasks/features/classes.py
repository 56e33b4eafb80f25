"""The classes of the feature network."""

from __future__ import annotations

from synthorax.nodule import Nodule

SUBSOLID = 4.0
"""A nodule with a lower rating of texture is not solid."""
SIZES_MM = (6.0, 10.0)
"""Diameters that separate the classes of solid nodules."""


def feature_class(nodule: Nodule) -> int:
    """Return the class of a nodule: 1 if it is not solid; if solid, 2 below 6 mm, 3 below 10 mm, 4 from 10 mm.

    Class 0 is a patch without a nodule.
    """
    attributes = nodule.attributes
    if attributes.texture is not None and attributes.texture < SUBSOLID:
        return 1
    return 2 + sum((attributes.diameter_mm or 0.0) >= edge for edge in SIZES_MM)
