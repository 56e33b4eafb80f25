"""Masks grown, shrunk and filled, in millimetres."""

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
    """Millimetres from each voxel of a mask [z, y, x] to the nearest one outside it; 0 outside."""
    if not border_is_outside and mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    found: NDArray[np.float32] = edt.edt(
        np.ascontiguousarray(mask), anisotropy=tuple(spacing_mm), black_border=border_is_outside, parallel=0
    )
    return found


def dilated(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The voxels within a radius of a mask [z, y, x]."""
    return distance_inside(~mask, spacing_mm) <= radius_mm


def eroded(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The voxels of a mask [z, y, x] that are further than a radius from what is outside it."""
    return distance_inside(mask, spacing_mm) > radius_mm


def closed(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """A mask [z, y, x] with the gaps filled that no ball of this radius gets into."""
    margin = [int(radius_mm / s) + 2 for s in spacing_mm]
    padded = np.pad(mask, [(m, m) for m in margin])
    found = eroded(dilated(padded, radius_mm, spacing_mm), radius_mm, spacing_mm)
    return found[tuple(slice(m, -m) for m in margin)]


def filled_slices(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask [z, y, x] with the holes of each slice filled."""
    rows = np.pad(~mask, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    # All slices below each other in one picture: what is around them is one component, every hole another.
    labels = cc3d.connected_components(rows.reshape(-1, rows.shape[2]), connectivity=4)
    filled: NDArray[np.bool_] = (labels != labels[0, 0]).reshape(rows.shape)[:, 1:-1, 1:-1]
    return filled


def box_around(mask: NDArray[np.bool_], margin: int | Sequence[int] = 0) -> Box:
    """The smallest box that holds a mask's voxels, widened by a margin and cut at the array's faces.

    Args:
        mask: bool [z, y, x], with a voxel set.
        margin: voxels more on both sides, along each axis or along (z, y, x).

    Returns:
        Slices (z, y, x) within the array, so that their lengths are those of the array they cut out.
    """
    around = []
    for axis, more in zip(range(3), np.broadcast_to(margin, 3).tolist(), strict=True):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = int(present[0]), int(present[-1])
        around.append(slice(max(first - more, 0), min(last + 1 + more, mask.shape[axis])))
    return around[0], around[1], around[2]
