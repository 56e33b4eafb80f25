"""Agreement of two masks of a nodule: overlap, and distances between their surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion

from synthorax.anatomy.morphology import box_around, distance_inside
from synthorax.errors import InputError
from synthorax.shapes.overlap import dice
from synthorax.volume import check_spacing


@dataclass(frozen=True)
class Overlap:
    """The agreement of a mask with a reference.

    Attributes:
        dice, jaccard: overlap, from 0 to 1.
        hausdorff_95_mm: 95th percentile of the distances from surface to surface, the larger one of both directions;
            infinite for an empty mask.
        surface_mm: mean of the distances from surface to surface in both directions; infinite for an empty mask.
        volume_mm3: volume of the mask.
        reference_mm3: volume of the reference.
    """

    dice: float
    jaccard: float
    hausdorff_95_mm: float
    surface_mm: float
    volume_mm3: float
    reference_mm3: float


def overlap(mask: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> Overlap:
    """Compare a mask with a reference; the surface of a mask consists of the voxels with a face to the outside.

    Args:
        mask, reference: bool [z, y, x].
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: shapes differ, or the reference is empty.

    >>> cube, half = np.zeros((2, 8, 8, 8), bool)
    >>> cube[2:6, 2:6, 2:6] = half[2:6, 2:6, 2:4] = True
    >>> round(overlap(half, cube, (1.0, 1.0, 1.0)).dice, 3)
    0.667
    """
    check_spacing(spacing_mm)
    a, b = np.asarray(mask, bool), np.asarray(reference, bool)
    if a.shape != b.shape or a.ndim != 3:
        raise InputError("masks", f"shapes {a.shape} and {b.shape}", "the same shape, [z, y, x]")
    if not b.any():
        raise InputError("reference mask", "no voxel", "a nodule")
    shared = float(dice(a[None], b[None])[0])
    voxel = float(np.prod(spacing_mm))
    hausdorff = surface = np.inf
    if a.any():
        there, back = surface_distances(a, b, spacing_mm)
        hausdorff = float(max(np.quantile(there, 0.95), np.quantile(back, 0.95)))
        surface = float(np.concatenate([there, back]).mean())
    return Overlap(
        dice=shared,
        jaccard=shared / (2 - shared),
        hausdorff_95_mm=hausdorff,
        surface_mm=surface,
        volume_mm3=float(a.sum() * voxel),
        reference_mm3=float(b.sum() * voxel),
    )


def surface_distances(
    mask: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the distance in mm from each surface voxel of a mask to the reference's surface, and the reverse.

    Args:
        mask, reference: bool [z, y, x], neither empty.
        spacing_mm: voxel size (z, y, x).
    """
    box = box_around(mask | reference)
    surfaces = [_surface(each[box]) for each in (mask, reference)]
    to_mask, to_reference = (distance_inside(~surface, spacing_mm) for surface in surfaces)
    return to_reference[surfaces[0]], to_mask[surfaces[1]]


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask & ~binary_erosion(mask)
