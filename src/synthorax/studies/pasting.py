"""Pasting of real nodules into other patches, voxel by voxel: the trivial way to add a nodule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.morphology import distance_inside

PASTED_RIM_MM, PASTED_FADE_MM = 1.0, 1.0
"""Width in mm of the rim around its mask with which a nodule is pasted, and width over which it then fades out."""


def pasted_share(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Return the share, 0 to 1, of each voxel [z, y, x] that comes from the nodule's patch when it is pasted."""
    away = distance_inside(~mask, spacing_mm)
    found: NDArray[np.float32] = np.clip(1 + (PASTED_RIM_MM - away) / PASTED_FADE_MM, 0, 1)
    return found


def pasted_into(
    hu: NDArray[np.number], donor: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Paste the nodule of another patch into a patch, voxel on voxel; return HU [z, y, x].

    Args:
        hu: HU of the patch, [z, y, x].
        donor: HU of the patch with the nodule, of the same shape.
        mask: voxels of the nodule in `donor`, bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    share = pasted_share(mask, spacing_mm)
    found: NDArray[np.float32] = (hu + share * (donor.astype(np.float32) - hu)).astype(np.float32)
    return found
