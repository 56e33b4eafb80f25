"""How well one outline of a nodule follows another: overlap, and millimetres between the surfaces."""

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
    """A mask against a reference.

    Attributes:
        hausdorff_95_mm: the greater one of both directions' 95th percentile of distances from surface to surface;
            infinite for an empty mask.
        surface_mm: mean of both directions' distances together; infinite for an empty mask.
        volume_mm3: of the mask.
        reference_mm3: of the reference.
    """

    dice: float
    jaccard: float
    hausdorff_95_mm: float
    surface_mm: float
    volume_mm3: float
    reference_mm3: float


def overlap(mask: ArrayLike, reference: ArrayLike, spacing_mm: Sequence[float]) -> Overlap:
    """Compare two masks [z, y, x]; a surface voxel is one that touches what is outside by a face.

    Args:
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: shapes that differ, or an empty reference.
    """
    check_spacing(spacing_mm)
    a, b = np.asarray(mask, bool), np.asarray(reference, bool)
    if a.shape != b.shape or a.ndim != 3:
        raise InputError("masks", f"shapes {a.shape} and {b.shape}", "the same one, [z, y, x]")
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
    """Millimetres from each surface voxel of a mask to the reference's surface, and back; neither mask is empty."""
    box = box_around(mask | reference)
    surfaces = [_surface(each[box]) for each in (mask, reference)]
    to_mask, to_reference = (distance_inside(~surface, spacing_mm) for surface in surfaces)
    return to_reference[surfaces[0]], to_mask[surfaces[1]]


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask & ~binary_erosion(mask)
