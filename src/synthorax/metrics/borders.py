"""What can be seen of a nodule without its mask: the voxels that look like it, and how steep its margin is."""

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
"""Voxels further than this in mm from a nodule's mask are not taken for the nodule, so that a vessel ends there."""
MARGIN_BLUR_MM = 0.7
"""Standard deviation in mm of the Gaussian that takes the noise out of gradients."""
MARGIN_MM = 1.0
"""The margin reaches this far in mm to both sides of the border, and a voxel at least."""


def seen_nodule(hu: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels that look like a nodule, bool [z, y, x]: denser than half-way from lung to nodule, and joined.

    The nodule's level is the median HU of its core, or of its deepest voxels where it has none; the lung's is the
    median of the lung around it. Of the pieces within `SEEN_REACH_MM` of the mask the one counts that shares most
    voxels with it. Nothing is seen of a nodule that is no denser than its lung.

    Args:
        hu: [z, y, x].
        mask: bool [z, y, x], where the nodule is said to be; not empty.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: arrays of different shapes, an empty mask, or a patch without lung around the nodule.
    """
    check_spacing(spacing_mm)
    if hu.shape != mask.shape or not mask.any():
        raise InputError("mask", f"shape {mask.shape}, {mask.sum()} voxels", f"{hu.shape}, with one voxel or more")
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
    """Return the mean size of the HU gradient in a nodule's margin, in HU per mm; sharp margins are steep.

    Args:
        hu: [z, y, x].
        nodule: bool [z, y, x], the voxels of the nodule, such as `seen_nodule` finds; not empty.
        spacing_mm: voxel size (z, y, x).

    Raises:
        InputError: arrays of different shapes, or a nodule without a voxel.
    """
    check_spacing(spacing_mm)
    if hu.shape != nodule.shape or not nodule.any():
        raise InputError("nodule", f"shape {nodule.shape}, {nodule.sum()} voxels", f"{hu.shape}, one voxel or more")
    smooth = gaussian_filter(np.asarray(hu, np.float64), np.divide(MARGIN_BLUR_MM, spacing_mm))
    steepness = np.sqrt(sum(slope**2 for slope in np.gradient(smooth, *spacing_mm)))
    border = np.where(nodule, distance_inside(nodule, spacing_mm), distance_inside(~nodule, spacing_mm))
    return float(steepness[border <= max(MARGIN_MM, *spacing_mm) * (1 + 1e-6)].mean())
