"""The shape of a nodule as a signed distance, which can be scaled, turned, mirrored and moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import cos, sin

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from synthorax.errors import InputError
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.shapes.resampling import PRESENT, resample
from synthorax.volume import Volume

MARGIN = 3
"""Empty voxels on each side of a shape in its own grid."""
VOXELS_ACROSS = 48
"""A shape is stored on about this many voxels across its widest extent."""
LEAST_VOXEL_MM, MOST_VOXEL_MM = 0.25, 1.0
"""Smallest and largest size of these voxels."""
ROUNDED_SLICES, ROUNDED_VOXELS = 0.3, 0.5
"""Standard deviations of the Gaussian that smooths a shape: across its slices in slice spacings, within slices in
voxels of the shape's grid. A wider Gaussian would shorten the longest chord, to which shapes are scaled, so that the
rest of the shape would become too wide."""
TURNED = 2 * np.pi


@dataclass(frozen=True, eq=False)
class NoduleSolid:
    """A shape in coordinates (z, y, x) in mm, whose origin is the mean of the shape's voxels before `offset_mm`.

    Attributes:
        distance_mm: signed distance from the outline, float32 [z, y, x], negative inside, before scaling.
        spacing_mm: size of its cubic voxels, before scaling.
        scale: factor by which the shape is widened.
        angle: rotation about z in radians.
        mirrored: whether it is mirrored along (z, y, x).
        offset_mm: displacement (z, y, x).
    """

    distance_mm: NDArray[np.float32]
    spacing_mm: float
    scale: float = 1.0
    angle: float = 0.0
    mirrored: tuple[bool, bool, bool] = (False, False, False)
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def reach_mm(self) -> float:
        """Upper bound of the distance in mm from the origin to any part of the shape."""
        inside = np.argwhere(self.distance_mm <= 0) - self._center
        moved = float(np.linalg.norm(self.offset_mm))
        return float(np.linalg.norm(inside, axis=1).max() + 1) * self.spacing_mm * self.scale + moved

    @property
    def depth_mm(self) -> float:
        """Radius in mm of the largest ball inside the shape."""
        return float(-self.distance_mm.min()) * self.scale

    @property
    def deepest_mm(self) -> NDArray[np.float64]:
        """The middle (z, y, x) in mm of the largest ball inside the shape."""
        index = np.array(np.unravel_index(self.distance_mm.argmin(), self.distance_mm.shape))
        z, y, x = (index - self._center) * np.where(self.mirrored, -1, 1) * self.spacing_mm * self.scale
        c, s = cos(self.angle), sin(self.angle)
        return np.array([z, c * y - s * x, s * y + c * x]) + self.offset_mm

    @cached_property
    def _center(self) -> NDArray[np.float64]:
        """The mean index (z, y, x) of the shape's voxels."""
        center: NDArray[np.float64] = np.argwhere(self.distance_mm <= 0).mean(0)
        return center

    def at(self, points_mm: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the signed distance in mm from the outline at points [(z, y, x), ...] in mm; negative inside."""
        z, y, x = (points_mm[i] - moved if moved else points_mm[i] for i, moved in enumerate(self.offset_mm))
        c, s = cos(self.angle), sin(self.angle)
        own = [z, c * y + s * x, -s * y + c * x]
        step = self.spacing_mm * self.scale
        index = [
            (-a if mirrored else a) / step + center
            for a, mirrored, center in zip(own, self.mirrored, self._center, strict=True)
        ]
        # Outside the grid, the distance to the grid is added.
        beyond = sum(
            np.maximum(np.maximum(-i, i - (n - 1)), 0) ** 2 for i, n in zip(index, self.distance_mm.shape, strict=True)
        )
        found = map_coordinates(self.distance_mm, index, order=1, mode="nearest")
        return (found * self.scale + np.sqrt(beyond) * step).astype(np.float32)

    def radius_mm(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance in mm, [n], from `deepest_mm` to the outline along unit vectors [n, (z, y, x)]."""
        steps = np.linspace(0, 2 * self.reach_mm, 96)
        points = directions[:, None] * steps[:, None] + self.deepest_mm
        outside = self.at(np.moveaxis(points, -1, 0)) > 0
        outside[:, -1] = True
        return steps[outside.argmax(1)]


def solid_of_mask(mask: Volume, diameter_mm: float | None = None) -> NoduleSolid:
    """Return the shape of a mask that a reader outlined or a model made; thick slices are interpolated.

    Args:
        mask: bool, labels, or occupancy from 0 to 1, [z, y, x].
        diameter_mm: longest chord within a slice to which the shape is scaled; not scaled if not given.

    Raises:
        InputError: the mask is empty.
    """
    present = mask.voxels > PRESENT if mask.voxels.dtype.kind == "f" else mask.voxels > 0
    if not present.any():
        raise InputError("nodule mask", "no voxel", "a nodule's voxels")
    inside = np.argwhere(present)
    extent = (np.ptp(inside, axis=0) + 1) * mask.spacing_mm
    step = float(np.clip(extent.max() / VOXELS_ACROSS, LEAST_VOXEL_MM, MOST_VOXEL_MM))
    grid = tuple((np.ceil(extent / step).astype(int) + 2 * MARGIN).tolist())
    fine = resample(present, mask.spacing_mm, grid, (step,) * 3)
    assert fine is not None
    occupied = _rounded(fine, mask.spacing_mm, step)
    own_mm = axial_diameter_mm(np.argwhere(occupied), (step,) * 3)
    half = step / 2
    outside = edt.edt(~occupied, anisotropy=(step,) * 3, black_border=False)
    within = edt.edt(occupied, anisotropy=(step,) * 3, black_border=False)
    distance = np.where(occupied, half - within, outside - half).astype(np.float32)
    return NoduleSolid(distance, step, (diameter_mm or own_mm) / own_mm)


def _rounded(fine: NDArray[np.float32], spacing_mm: Sequence[float], step_mm: float) -> NDArray[np.bool_]:
    """Return the shape [z, y, x] without the steps of slices and pixels, with the same volume."""
    across = max(ROUNDED_VOXELS, ROUNDED_SLICES * spacing_mm[0] / step_mm)
    smooth = gaussian_filter(fine, [across, ROUNDED_VOXELS, ROUNDED_VOXELS])
    count = int((fine >= PRESENT).sum()) or 1
    level = np.partition(smooth.ravel(), smooth.size - count)[smooth.size - count]
    return smooth >= level


def turned(solid: NoduleSolid, random: np.random.Generator) -> NoduleSolid:
    """Return the shape turned about z and mirrored at random; its axial diameter stays."""
    z, y, x = (random.random(3) < 0.5).tolist()
    return replace(solid, angle=float(random.uniform(0, TURNED)), mirrored=(z, y, x))
