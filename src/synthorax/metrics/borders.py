"""A nodule by its HU alone: the voxels that look like it, and the steepness of its margin."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.morphology import distance_inside
from synthorax.errors import InputError
from synthorax.metrics.roughness import CORE_DEPTH_MM, lung_around
from synthorax.volume import check_spacing

SEEN_REACH_MM = 3.0
"""Voxels further than this in mm from a nodule's mask do not count, so that attached vessels are cut off there."""
MARGIN_BLUR_MM = 0.7
"""Standard deviation in mm of the Gaussian that smooths out noise before gradients are taken."""
MARGIN_MM = 1.0
"""Width in mm of the margin on each side of the border; at least a voxel."""


def seen_nodule(hu: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels that look like a nodule, bool [z, y, x].

    These are connected voxels denser than half-way between lung and nodule. The nodule's level is the median HU of its
    core, or of its deepest voxels if it has no core; the lung's level is the median of the lung around the nodule. Of
    several pieces within `SEEN_REACH_MM` of the mask, the piece that shares most voxels with the mask is returned. If
    the nodule is not denser than the lung, no voxel is.

    Args:
        hu: HU [z, y, x].
        mask: the nodule's voxels as far as known, bool [z, y, x], not empty.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: shapes differ, the mask is empty, or there is no lung around the nodule.
    """
    check_spacing(spacing_mm)
    if hu.shape != mask.shape or not mask.any():
        raise InputError("mask", f"shape {mask.shape}, {mask.sum()} voxels", f"{hu.shape}, with at least one voxel")
    lung = lung_around(hu, mask, spacing_mm)
    if not lung.any():
        raise InputError("patch", "no lung around the nodule", "a nodule with lung beside it")
    depth = distance_inside(mask, spacing_mm)
    level, around = float(np.median(hu[depth >= min(depth.max(), CORE_DEPTH_MM)])), float(np.median(hu[lung]))
    near = distance_inside(~mask, spacing_mm) <= SEEN_REACH_MM
    dense = near & (hu > (level + around) / 2)
    if level <= around or not (dense & mask).any():
        return np.zeros_like(mask)
    pieces = cc3d.connected_components(dense, connectivity=6)
    shared = np.bincount(pieces[mask], minlength=2)
    shared[0] = 0
    found: NDArray[np.bool_] = pieces == shared.argmax()
    return found


def margin_steepness(hu: NDArray[np.number], nodule: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    """Return the mean magnitude of the HU gradient in a nodule's margin, in HU per mm; a sharp margin is steep.

    Args:
        hu: HU [z, y, x].
        nodule: the nodule's voxels, such as `seen_nodule` finds, bool [z, y, x], not empty.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: shapes differ, or the nodule is empty.
    """
    check_spacing(spacing_mm)
    if hu.shape != nodule.shape or not nodule.any():
        raise InputError("nodule", f"shape {nodule.shape}, {nodule.sum()} voxels", f"{hu.shape}, at least one voxel")
    smooth = gaussian_filter(np.asarray(hu, np.float64), np.divide(MARGIN_BLUR_MM, spacing_mm))
    steepness = np.sqrt(sum(slope**2 for slope in np.gradient(smooth, *spacing_mm)))
    border = np.where(nodule, distance_inside(nodule, spacing_mm), distance_inside(~nodule, spacing_mm))
    return float(steepness[border <= max(MARGIN_MM, *spacing_mm) * (1 + 1e-6)].mean())
