"""Masks of the size that one reader outlines, derived from unions of several readers' outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

ONE_READERS_SHARE = 0.61
"""Ratio of the volume of one reader's outline and of the union of all readers' outlines, which is the mask in stores of
LUNA16's nodules: the median over luna16-nodules."""
SMOOTHED_MM = 1.0
"""Standard deviation in mm of the Gaussian blur of a mask; the voxels with the highest values after it are kept."""


def one_readers(
    masks: Float[Tensor, "b 1 z y x"], spacings_mm: Sequence[Sequence[float]]
) -> Float[Tensor, "b 1 z y x"]:
    """Shrink masks of the union of readers' outlines to the volume of one reader's outline.

    The diameter that users request is that of the mask, and readers measure diameters on one outline.

    Args:
        masks: the masks.
        spacings_mm: voxel size (z, y, x) of each mask.
    """
    found = [_shrunk(mask > 0, spacing) for mask, spacing in zip(masks[:, 0].numpy(), spacings_mm, strict=True)]
    return torch.from_numpy(np.stack(found)).to(masks.dtype)[:, None]


def _shrunk(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the share `ONE_READERS_SHARE` of the voxels of a mask [z, y, x] that lie deepest in it."""
    kept = round(ONE_READERS_SHARE * int(mask.sum()))
    if not kept:
        return mask
    depth = np.where(mask, gaussian_filter(mask.astype(np.float32), np.divide(SMOOTHED_MM, spacing_mm)), 0)
    deepest = np.argsort(depth, axis=None, kind="stable")[-kept:]
    found = np.zeros_like(mask)
    found.ravel()[deepest] = True
    return found
