"""Nodules as distances to their edge, and the soft fields that a generator learns them as.

LuNG's grey values jump at the edge, so what lies between two nodules comes out rough; its seeds are
rough themselves. Nodules that readers outlined are smooth, and a field that falls off evenly across
the edge keeps them so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, logit

from synthorax.shapes.reconnection import ON_THRESHOLD

LEAST_OCCUPANCY = 0.01
"""Voxels with less occupancy are background, so that most voxels are zero in every sample."""


def signed_depth(fields: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance (mm) to the nodule's edge [n, z, y, x], positive inside; minus infinity where there is no nodule."""
    depth = np.full(fields.shape, -np.inf, np.float32)
    for mask, own in zip(fields >= ON_THRESHOLD, depth, strict=True):
        if mask.any():
            own[:] = distance_transform_edt(mask, sampling=spacing_mm)
            own -= distance_transform_edt(~mask, sampling=spacing_mm)
    return depth


def soft_field(depth_mm: NDArray[np.float32], edge_mm: float) -> NDArray[np.float32]:
    """A field that is `ON_THRESHOLD` at the edge and whose log odds rise by 1 every `edge_mm` inwards."""
    field = expit(depth_mm / edge_mm + logit(ON_THRESHOLD)).astype(np.float32)
    return np.where(field < LEAST_OCCUPANCY, np.float32(0), field)
