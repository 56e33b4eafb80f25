"""Putting a mask on another grid by its true spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from synthorax.shapes.reconnection import label_components

PRESENT = 0.25
"""Least occupancy that counts as nodule; LuNG's seeds hold no value between 0 and this."""
STEPS = 128
"""Occupancy is kept in steps of 1/128: exact in half precision, finer than readers agree."""


def resample(
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    grid: tuple[int, int, int],
    grid_spacing_mm: Sequence[float],
) -> NDArray[np.float32] | None:
    """A mask [z, y, x], not empty, as occupancy on another grid, centred by its bounding box.

    The signed distance to the mask's surface is interpolated (shape-based interpolation, Raya and
    Udupa 1990) and turned into the fraction of a voxel that lies inside. So nothing is lost where
    slices are thicker than the grid's, and nothing jagged is gained. Of several pieces the largest
    is kept.

    Returns:
        float32 [z, y, x], 0 or `PRESENT` to 1; None if the nodule does not fit the grid. One so small
        that no voxel reaches `PRESENT` keeps its centre voxel.
    """
    spacing, target = np.asarray(spacing_mm, float), np.asarray(grid_spacing_mm, float)
    inside = np.argwhere(mask)
    low, high = inside.min(0), inside.max(0)
    if ((high - low + 1) * spacing > np.asarray(grid) * target).any():
        return None
    box = np.pad(mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))], 2)
    distance = distance_transform_edt(~box, sampling=spacing) - distance_transform_edt(box, sampling=spacing)
    centre = (np.asarray(box.shape) - 1) / 2
    axes = [
        (np.arange(n) - (n - 1) / 2) * step / own + middle
        for n, step, own, middle in zip(grid, target, spacing, centre, strict=True)
    ]
    reached = [np.flatnonzero((a > -0.5) & (a < n - 0.5)) for a, n in zip(axes, box.shape, strict=True)]
    at = np.meshgrid(*(a[r] for a, r in zip(axes, reached, strict=True)), indexing="ij")
    inner = np.clip(0.5 - map_coordinates(distance, at, order=1, mode="nearest") / target.mean(), 0, 1)
    occupancy = np.zeros(grid, np.float32)
    occupancy[np.ix_(*reached)] = np.where(inner < PRESENT, 0, inner)
    if not occupancy.any():
        occupancy[tuple(n // 2 for n in grid)] = 1
    labels, n = label_components(occupancy > 0)
    if n > 1:
        occupancy[labels != 1 + np.bincount(labels.ravel())[1:].argmax()] = 0
    return np.round(occupancy * STEPS) / np.float32(STEPS)
