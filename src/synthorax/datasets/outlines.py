"""Outlines as one reader draws them, of masks that hold all that any reader outlined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

ONE_READERS_SHARE = 0.61
"""Volume of one reader's outline, in that of all that any reader outlined, which stores of LUNA16's nodules have as
mask: the median over luna16-nodules."""
SMOOTHED_MM = 1.0
"""Standard deviation of the Gaussian whose highest values in a mask are the voxels that are kept of it."""


def one_readers(
    masks: Float[Tensor, "b 1 z y x"], spacings_mm: Sequence[Sequence[float]]
) -> Float[Tensor, "b 1 z y x"]:
    """Return masks of all that any reader outlined, shrunk to the volume that one reader outlined.

    A nodule that a user asks for has the diameter of its mask, and readers measure one outline.

    Args:
        spacings_mm: of the voxels (z, y, x) of each mask.
    """
    found = [_shrunk(mask > 0, spacing) for mask, spacing in zip(masks[:, 0].numpy(), spacings_mm, strict=True)]
    return torch.from_numpy(np.stack(found)).to(masks.dtype)[:, None]


def _shrunk(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The voxels of a mask [z, y, x] that lie deepest in it, `ONE_READERS_SHARE` of them."""
    kept = round(ONE_READERS_SHARE * int(mask.sum()))
    if not kept:
        return mask
    depth = np.where(mask, gaussian_filter(mask.astype(np.float32), np.divide(SMOOTHED_MM, spacing_mm)), 0)
    deepest = np.argsort(depth, axis=None, kind="stable")[-kept:]
    found = np.zeros_like(mask)
    found.ravel()[deepest] = True
    return found
