"""Laying a nodule's tissue over a patch of CT, for rendering and for the blending of generated nodules.

The tissue replaces lung. Vessels, walls and bone, which are as dense or denser, stay. The nodule gets the scan's noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.scanner import Scanner
from synthorax.volume import Volume

USUAL_LUNG_HU = -850.0
"""HU assumed for lung if less than a twentieth of a patch is lung."""
MOST_LUNG_HU = -500.0
"""Voxels below this HU count as lung."""
STRUCTURE_MARGIN_HU = 150.0
"""A voxel of the scan that is this much denser than the nodule keeps its HU; a voxel as dense is half replaced."""


def lung_hu_of(hu: NDArray[np.float32]) -> float:
    """Return the median HU of the lung in a patch [z, y, x], or `USUAL_LUNG_HU` if there is hardly any lung."""
    lung = hu[hu < MOST_LUNG_HU]
    return float(np.median(lung)) if lung.size > 0.05 * hu.size else USUAL_LUNG_HU


def laid_over(
    patch: Volume,
    cover: NDArray[np.floating],
    tissue: NDArray[np.floating],
    region: NDArray[np.bool_],
    scanner: Scanner,
    seed: int,
) -> NDArray[np.float32]:
    """Lay a nodule's tissue over a patch.

    Args:
        patch: HU, float32 [z, y, x].
        cover: [z, y, x] from 0 to 1, the share of each voxel that the nodule fills.
        tissue: HU of the nodule, [z, y, x].
        region: bool [z, y, x], the voxels that may change.
        scanner: gives the noise of replaced voxels.
        seed: seed of the noise.

    Returns:
        HU [z, y, x].
    """
    hu = patch.voxels
    smooth = gaussian_filter(hu, np.divide(1.0, patch.spacing_mm))
    cover = cover * np.clip((tissue + STRUCTURE_MARGIN_HU - smooth) / (2 * STRUCTURE_MARGIN_HU), 0, 1) * region
    made: NDArray[np.float32] = hu + cover * (tissue - hu) + scanner.noise_lost(cover, patch.spacing_mm, seed)
    return made
