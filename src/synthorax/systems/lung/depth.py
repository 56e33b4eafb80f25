"""Signed distances to a nodule's edge, and the soft fields that a generator can learn instead of grey values.

LuNG's grey values jump at the edge, so that shapes between two nodules come out rough, as the paper's seeds are.
Nodules that readers outlined are smooth; a field that falls off evenly at the edge keeps shapes between them smooth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, logit

from synthorax.shapes.reconnection import ON_THRESHOLD

LEAST_OCCUPANCY = 0.01
"""Lower values of a soft field are set to 0, so that most voxels are 0 in every sample."""


def signed_depth(fields: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return the distance in mm to the nodule's edge, [n, z, y, x], positive inside; -inf for an empty field."""
    depth = np.full(fields.shape, -np.inf, np.float32)
    for mask, own in zip(fields >= ON_THRESHOLD, depth, strict=True):
        if mask.any():
            own[:] = distance_transform_edt(mask, sampling=spacing_mm)
            own -= distance_transform_edt(~mask, sampling=spacing_mm)
    return depth


def soft_field(depth_mm: NDArray[np.float32], edge_mm: float) -> NDArray[np.float32]:
    """Return a field from 0 to 1 that is `ON_THRESHOLD` at the edge; its log odds rise by 1 every `edge_mm` inwards."""
    field = expit(depth_mm / edge_mm + logit(ON_THRESHOLD)).astype(np.float32)
    return np.where(field < LEAST_OCCUPANCY, np.float32(0), field)
