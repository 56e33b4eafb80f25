"""The window of an edit: cutting a patch out of a scan, limiting the edit to a region, blending and pasting it back.

Voxels outside the region are bit-identical. Injection and erasure share this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthorax.anatomy.lungs import Lungs
from synthorax.anatomy.morphology import dilated, distance_inside
from synthorax.geometry import crop, mirrored_crop
from synthorax.patch import PatchSpec
from synthorax.volume import Volume

REGION_WALL_MM = 3.0
"""Distance in mm by which the region extends into the wall of the lung, so that a nodule on the wall joins it."""
FEATHER_MM = 2.0
"""Distance in mm from the border of the region inwards over which the edit fades in."""
HALF_FEATHER_MM = FEATHER_MM / 2
"""Distance in mm from the border of the region at which the edit has half the weight; a nodule's mask ends there."""
MASK_WALL_MM = 0.75
"""Voxels deeper in the wall than this, in mm, are not labelled as nodule, since the wall hides the nodule there."""

Slices = tuple[slice, ...]
"""Slices (z, y, x) of a box of voxels."""


@dataclass(frozen=True, eq=False)
class Window:
    """A patch of a scan around a voxel, and the edit region in it.

    Attributes:
        patch: HU [z, y, x] on the scan's voxels; beyond the scan, its mirror image.
        region: the edit region, bool [z, y, x] of the patch.
        labelled: voxels that may be labelled as nodule, a part of the region, bool [z, y, x] of the patch.
        box: slices (z, y, x) of the part of the patch that contains the region.
        at: slices (z, y, x) of the same part in the scan.
    """

    patch: Volume
    region: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    box: Slices
    at: Slices

    @property
    def start(self) -> tuple[int, int, int]:
        """Index (z, y, x) in the scan of the patch's first voxel; negative if the patch begins outside the scan."""
        z, y, x = (at.start - box.start for at, box in zip(self.at, self.box, strict=True))
        return z, y, x

    @cached_property
    def share(self) -> NDArray[np.float32]:
        """Weight of the edit at each voxel of the box, [z, y, x]: 0 at the region's border, 1 inside."""
        inwards = distance_inside(np.pad(self.region[self.box], 1), self.patch.spacing_mm)[1:-1, 1:-1, 1:-1]
        inwards = np.clip(inwards / FEATHER_MM, 0, 1)
        return inwards**2 * (3 - 2 * inwards)

    def blend(self, hu: NDArray[np.floating]) -> NDArray:
        """Return the voxels of the box after an edit, in the scan's dtype, [z, y, x]; outside the region unchanged.

        Args:
            hu: the edited patch [z, y, x].
        """
        before = self.patch.voxels[self.box]
        blended = before + self.share * (hu[self.box] - before)
        if before.dtype.kind in "iu":
            limits = np.iinfo(before.dtype)
            blended = np.clip(np.rint(blended), limits.min, limits.max)
        return np.where(self.region[self.box], blended, before).astype(before.dtype)

    def paste(self, hu: NDArray[np.floating], voxels: NDArray, region: NDArray[np.bool_]) -> None:
        """Blend an edited patch into a scan, and add the window's region to the scan's.

        Args:
            hu: the edited patch [z, y, x].
            voxels: voxels of the scan [z, y, x]; changed in place.
            region: edit region of the scan, bool [z, y, x]; changed in place.
        """
        voxels[self.at] = self.blend(hu)
        region[self.at] |= self.region[self.box]

    def nodule(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask of a nodule in the box, [z, y, x]: its voxels at which the edit has at least half the weight.

        Args:
            mask: mask of the nodule in the edited patch, [z, y, x].
        """
        return mask[self.box] & self.labelled[self.box] & (self.share >= 0.5)

    def room(self, diameter_mm: float) -> float:
        """Return the share of a ball in the middle of the patch that can be labelled as nodule."""
        ball = PatchSpec(self.patch.shape, self.patch.spacing_mm).distances_mm() <= diameter_mm / 2
        return float(self.nodule(ball).sum() / ball.sum())


def cut(ct: Volume, center_mm: Sequence[float], reach_mm: tuple[float, float], lungs: Lungs | None = None) -> Window:
    """Cut the window around the voxel nearest to a place.

    Args:
        ct: HU.
        center_mm: the place (x, y, z), LPS.
        reach_mm: half the width of the patch, and the radius of the ball that may change (`makers.Method.reach_mm`).
        lungs: lungs to which the region is limited, with `REGION_WALL_MM` of their wall; None for no limit.
    """
    center = np.rint(ct.to_voxel(center_mm)).astype(int)
    sees, reaches = (np.ceil(np.divide(mm, ct.spacing_mm)).astype(int) for mm in (max(reach_mm), reach_mm[1]))
    # Mirror beyond the scan: a border of air would be a sharp edge, which would be measured as a sharp scanner.
    patch = mirrored_crop(ct, (center - sees).tolist(), (2 * sees + 1).tolist())
    near = crop(ct, (center - reaches).tolist(), (2 * reaches + 1).tolist())
    low, high = np.clip([center - reaches, center + reaches + 1], 0, ct.shape)
    at, in_near, box = (
        tuple(slice(a, b) for a, b in zip((low - start).tolist(), (high - start).tolist(), strict=True))
        for start in (np.zeros(3, int), center - reaches, center - sees)
    )
    region, labelled = np.zeros(patch.shape, bool), np.zeros(patch.shape, bool)
    region[box] = labelled[box] = _ball(near, reach_mm[1])[in_near]
    if lungs is not None:
        lung = lungs.mask_on(near)
        region[box] &= dilated(lung, REGION_WALL_MM, ct.spacing_mm)[in_near]
        labelled[box] &= dilated(lung, MASK_WALL_MM, ct.spacing_mm)[in_near]
    return Window(patch, region, labelled, box, at)


def _ball(patch: Volume, radius_mm: float) -> NDArray[np.bool_]:
    """Return the mask of a ball in the middle of a patch."""
    axes = [((np.arange(n) - (n - 1) / 2) * s) ** 2 for n, s in zip(patch.shape, patch.spacing_mm, strict=True)]
    inside: NDArray[np.bool_] = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= radius_mm**2
    return inside
