"""Real nodules pasted into other patches: the trivial way to put a nodule somewhere, with its own voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import distance_inside

PASTED_RIM_MM, PASTED_FADE_MM = 1.0, 1.0
"""A nodule is pasted with this much of what is around its mask, and fades out over this much."""


def pasted_share(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """How much of each voxel [z, y, x] is the nodule's patch, and not the one that it is pasted into, 0 to 1."""
    away = distance_inside(~mask, spacing_mm)
    found: NDArray[np.float32] = np.clip(1 + (PASTED_RIM_MM - away) / PASTED_FADE_MM, 0, 1)
    return found


def pasted_into(
    hu: NDArray[np.number], donor: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """HU [z, y, x] of a patch with the nodule of another one, voxel on voxel.

    Args:
        donor: HU of the patch with the nodule, of the same shape.
        mask: bool, the nodule's voxels in it.
    """
    share = pasted_share(mask, spacing_mm)
    found: NDArray[np.float32] = (hu + share * (donor.astype(np.float32) - hu)).astype(np.float32)
    return found
