"""The diameter of a nodule by its mask, as readers measure it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthorax.annotations.reading import row_ends
from synthorax.nodule import Nodule

NOTED_SHARE = 0.15
"""A diameter on a mask that differs from the requested one by more than this share of it is noted."""


def axial_diameter_mm(inside: NDArray[np.int64], spacing_mm: tuple[float, float, float]) -> float:
    """Return the longest chord of a nodule within an axial slice, from edge to edge, in mm.

    Args:
        inside: indices of its voxels, [n, (z, y, x)], n at least 1.
        spacing_mm: voxel size (z, y, x).

    >>> row = np.array([[3, 10, x] for x in range(20, 28)])  # eight voxels of 0.7 mm beside each other
    >>> round(axial_diameter_mm(row, (2.5, 0.7, 0.7)), 2)
    5.6
    """
    slices = (inside[inside[:, 0] == z][:, :0:-1] for z in np.unique(inside[:, 0]))
    return max(_widest(row_ends(points), spacing_mm) for points in slices)


def axial_diameters_mm(
    masks: Iterable[NDArray[np.bool_]], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Return the diameter in mm of each mask [z, y, x], [n]; NaN for an empty mask.

    Args:
        masks: bool [z, y, x] each.
        spacing_mm: voxel size (z, y, x).
    """
    voxels = [np.argwhere(mask) for mask in masks]
    return np.array([axial_diameter_mm(inside, spacing_mm) if len(inside) else np.nan for inside in voxels])


def as_measured(nodule: Nodule, mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Nodule:
    """Return a generated nodule with the centre and the diameter of its mask, rounded to 0.01 mm, and with label 1.

    A nodule whose mask is empty is returned as it is, without a label.

    Args:
        nodule: keeps its other attributes.
        mask: bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    inside = np.argwhere(mask)
    if not len(inside):
        return replace(nodule, label=0)
    z, y, x = (inside.mean(0) * spacing_mm).tolist()
    attributes = replace(nodule.attributes, diameter_mm=round(axial_diameter_mm(inside, spacing_mm), 2))
    extra = {**nodule.extra, "diameter_is": "measured"}
    return replace(nodule, center_mm=(x, y, z), attributes=attributes, label=1, extra=extra)


def _widest(ends_px: NDArray[np.float64], spacing_mm: tuple[float, float, float]) -> float:
    """Return the longest line in mm between two of the points [n, (x, y)], extended by half a pixel at both ends."""
    apart_px = ends_px[:, None] - ends_px
    length_px = np.hypot(*np.moveaxis(apart_px, -1, 0))
    length_mm = np.hypot(*np.moveaxis(apart_px * spacing_mm[:0:-1], -1, 0))
    ends = np.divide(length_mm, length_px, out=np.full_like(length_mm, max(spacing_mm[1:])), where=length_px > 0)
    return float((length_mm + ends).max())
