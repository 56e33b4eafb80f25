"""A nodule's tissue laid over a patch of CT, as rendering and the blending of generated nodules both do it.

Lung gives way to tissue; vessels, walls and bone, which are as dense already, stay. The nodule has the scan's noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.scanner import Scanner
from synthorax.volume import Volume

USUAL_LUNG_HU = -850.0
"""HU assumed for the lung of a patch that shows less than a twentieth of lung."""
MOST_LUNG_HU = -500.0
"""Voxels below this HU are counted as the patch's lung."""
STRUCTURE_MARGIN_HU = 150.0
"""A scan's voxel this much denser than the nodule keeps its HU; one as dense as the nodule keeps half of it."""


def lung_hu_of(hu: NDArray[np.float32]) -> float:
    """The median HU of the lung in a patch [z, y, x]; `USUAL_LUNG_HU` where there is hardly any."""
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
        patch: HU float32 [z, y, x].
        cover: [z, y, x] from 0 to 1, how much of each voxel is nodule.
        tissue: [z, y, x], the nodule's HU.
        region: bool [z, y, x], where the patch may change.
        scanner: gives the noise of the voxels that are replaced.

    Returns:
        HU [z, y, x].
    """
    hu = patch.voxels
    smooth = gaussian_filter(hu, np.divide(1.0, patch.spacing_mm))
    cover = cover * np.clip((tissue + STRUCTURE_MARGIN_HU - smooth) / (2 * STRUCTURE_MARGIN_HU), 0, 1) * region
    made: NDArray[np.float32] = hu + cover * (tissue - hu) + scanner.noise_lost(cover, patch.spacing_mm, seed)
    return made
