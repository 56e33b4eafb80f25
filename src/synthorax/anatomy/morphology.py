"""Dilation, erosion, closing and filling of masks, with radii in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
"""Slices (z, y, x) of a box of voxels."""


def distance_inside(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float], *, border_is_outside: bool = False
) -> NDArray[np.float32]:
    """Return the distance in mm from each voxel of a mask to the nearest voxel outside it; 0 outside.

    Args:
        mask: bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
        border_is_outside: whether voxels beyond the array count as outside the mask.

    Returns:
        float32 [z, y, x]; infinite if no voxel is outside.
    """
    if not border_is_outside and mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    found: NDArray[np.float32] = edt.edt(
        np.ascontiguousarray(mask), anisotropy=tuple(spacing_mm), black_border=border_is_outside, parallel=0
    )
    return found


def dilated(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels within a radius of a mask, bool [z, y, x]."""
    return distance_inside(~mask, spacing_mm) <= radius_mm


def eroded(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that are further than a radius from any voxel outside it, bool [z, y, x]."""
    return distance_inside(mask, spacing_mm) > radius_mm


def closed(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return a mask with all gaps filled into which a ball of this radius does not fit, bool [z, y, x]."""
    margin = [int(radius_mm / s) + 2 for s in spacing_mm]
    padded = np.pad(mask, [(m, m) for m in margin])
    found = eroded(dilated(padded, radius_mm, spacing_mm), radius_mm, spacing_mm)
    return found[tuple(slice(m, -m) for m in margin)]


def filled_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with the holes of each axial slice filled, bool [z, y, x]."""
    rows = np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    # In one picture of all slices below each other, the background is one component and each hole another.
    labels = cc3d.connected_components(rows.reshape(-1, rows.shape[2]), connectivity=4)
    filled: NDArray[np.bool_] = (labels != labels[0, 0]).reshape(rows.shape)[:, 1:-1, 1:-1]
    return filled


def box_around(mask: NDArray[np.bool_], margin: int | Sequence[int] = 0) -> Box:
    """Return the smallest box that holds a mask's voxels, widened by a margin and limited to the array.

    Args:
        mask: bool [z, y, x], with at least one voxel.
        margin: voxels added on both sides, the same along all axes or (z, y, x).

    Returns:
        Slices (z, y, x).
    """
    around = []
    for axis, more in zip(range(3), np.broadcast_to(margin, 3).tolist(), strict=True):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = int(present[0]), int(present[-1])
        around.append(slice(max(first - more, 0), min(last + 1 + more, mask.shape[axis])))
    return around[0], around[1], around[2]
