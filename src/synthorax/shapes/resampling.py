"""Resampling of a mask to a grid with another voxel size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from synthorax.shapes.reconnection import label_components

PRESENT = 0.5
"""Least occupancy of a nodule's voxel. With 0.5 the nodule keeps its volume; lower occupancies are set to 0."""
OCCUPANCY_STEPS = 128
"""Occupancy is rounded to steps of 1/128, which float16 holds exactly, and which are finer than readers agree."""
FINE_STEPS = 4
"""Thin slices that are interpolated for each slice of the new grid."""


def resample(
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    grid: tuple[int, int, int],
    grid_spacing_mm: Sequence[float],
) -> NDArray[np.float32] | None:
    """Resample a mask to occupancy on another grid, with its bounding box in the middle.

    Between slices the outline is interpolated by its distance map (shape-based interpolation, Raya and Udupa 1990), and
    each end slice reaches half a slice further. Then the share of each new voxel that lies inside is computed exactly,
    so that thick slices neither lose volume nor leave steps. Of several pieces the largest is kept.

    Args:
        mask: bool [z, y, x], not empty.
        spacing_mm: voxel size (z, y, x) of the mask.
        grid: voxels (z, y, x) of the result.
        grid_spacing_mm: voxel size (z, y, x) of the result.

    Returns:
        float32 [z, y, x] with values 0 and `PRESENT` to 1; None if the nodule does not fit into the grid. If the nodule
        is so small that no voxel reaches `PRESENT`, the centre voxel is 1.
    """
    spacing, target = np.asarray(spacing_mm, float), np.asarray(grid_spacing_mm, float)
    inside = np.argwhere(mask)
    low, high = inside.min(0), inside.max(0)
    extent = (high - low + 1) * spacing
    if (extent > np.asarray(grid) * target).any():
        return None
    box = mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
    fine = _thin_slices(box, int(np.ceil(FINE_STEPS * extent[0] / target[0])))
    steps = extent / fine.shape
    occupancy = fine.astype(np.float32)
    for axis, (new, step, old_step) in enumerate(zip(grid, target, steps, strict=True)):
        covered = _overlap(new, step, fine.shape[axis], old_step)
        occupancy = np.moveaxis(np.tensordot(covered, occupancy, (1, axis)), 0, axis)
    occupancy[occupancy < PRESENT] = 0
    if not occupancy.any():
        occupancy[tuple(n // 2 for n in grid)] = 1
    labels, n = label_components(occupancy > 0)
    if n > 1:
        occupancy[labels != 1 + np.bincount(labels.ravel())[1:].argmax()] = 0
    return (np.round(np.minimum(occupancy, 1) * OCCUPANCY_STEPS) / OCCUPANCY_STEPS).astype(np.float32)


def _thin_slices(mask: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """The mask [z, y, x] on `n` thin slices, or on as many as it has, by interpolating the slices' distance maps."""
    n = max(n, len(mask))
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    distance = np.array([distance_transform_edt(~s) - distance_transform_edt(s) for s in padded])
    empty = ~padded.any((1, 2))
    distance[empty] = abs(distance[~empty]).max()
    at = np.clip((np.arange(n) + 0.5) * len(mask) / n - 0.5, 0, len(mask) - 1)
    below = np.minimum(at.astype(int), max(len(mask) - 2, 0))
    above = np.minimum(below + 1, len(mask) - 1)
    share = (at - below)[:, None, None]
    return ((1 - share) * distance[below] + share * distance[above] < 0)[:, 1:-1, 1:-1]


def _overlap(new: int, new_step: float, old: int, old_step: float) -> NDArray[np.float32]:
    """The share [new, old] of each new interval that each old interval covers; both rows have the same centre."""
    new_edges = (np.arange(new + 1) - new / 2) * new_step
    old_edges = (np.arange(old + 1) - old / 2) * old_step
    shared = np.minimum(new_edges[1:, None], old_edges[1:]) - np.maximum(new_edges[:-1, None], old_edges[:-1])
    return (np.clip(shared, 0, None) / new_step).astype(np.float32)
