"""The seam of an edit: the step in HU across the border of the region that was edited.

A step is the HU of a voxel just inside the border minus the HU of its face neighbour outside. Noise causes such steps
everywhere, so steps are first averaged along the border (a Gaussian of `ALONG_MM`), which removes noise but keeps an
edge along the border. The seam is the mean size of the averaged steps.

Vessels and walls that cross a border cause steps in every scan. So a seam is compared with the steps of the scan before
the edit, across the same border and across the same border moved elsewhere.

A method may blend out before it reaches the border of its region, and leave an edge inside, at the ball that a network
filled. So steps are also measured across spheres around the nodule, from `LEAST_SPHERE_MM` outside the requested ball.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from synthorax.anatomy.morphology import distance_inside
from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, ratio
from synthorax.patch import PatchSpec
from synthorax.volume import check_spacing

ALONG_MM = 1.5
"""Standard deviation of the Gaussian that averages steps along a border, in mm."""
ALONG_REACH = 3.0
"""The Gaussian ends at this many standard deviations."""
MOVED_MM = 3.0
"""Distance in mm, along each axis, between the places to which a border is moved."""

LEAST_SPHERE_MM, SPHERES = 3.0, 4
"""Distance in mm of the smallest sphere from the requested ball of the nodule, and number of spheres, 1 mm apart. At
these spheres, real nodules of other patients that were pasted with a rim of 1 mm have 1.06 times the steps that were
there before."""
OFF_MASK_MM = 2.0
"""Steps nearer than this in mm to the nodule's mask do not count, because they may be the nodule's edge."""
LEAST_STEPS = 50
"""Fewest steps across a sphere; with fewer, the result is NaN."""


@dataclass(frozen=True)
class Seam:
    """The steps across the border of one edit.

    Attributes:
        made_hu: mean size of the steps after the edit.
        own_hu: mean size of the steps before the edit.
        rank: share of the other places in the scan before the edit at which the same border has smaller steps than
            `made_hu`; equal steps count half. NaN if the patch has no other place for the border.
        own_rank: the same share for `own_hu`.
    """

    made_hu: float
    own_hu: float
    rank: float
    own_rank: float


@dataclass(frozen=True, eq=False)
class Border:
    """The border of a region: p pairs of face neighbours, one voxel in the region and one outside.

    Attributes:
        inside, outside: index (z, y, x) of the two voxels of each pair, int64 [p, 3].
        along: weight of pair j in the average at pair i, [p, p]; rows sum to 1.
        shape: voxels (z, y, x) of the patch.
        spacing_mm: voxel size (z, y, x).
    """

    inside: NDArray[np.int64]
    outside: NDArray[np.int64]
    along: csr_array
    shape: tuple[int, ...]
    spacing_mm: Sequence[float]

    @classmethod
    def of(cls, region: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Border:
        """Return the border of a region; the faces of the patch do not count.

        Args:
            region: the voxels that an edit might change, bool [z, y, x].
            spacing_mm: voxel size (z, y, x).

        Raises:
            InputError: the region is empty or fills its patch.
        """
        check_spacing(spacing_mm)
        ends: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
        for axis in range(3):
            low, high = (np.delete(np.arange(region.shape[axis]), end) for end in (-1, 0))
            first, second = np.take(region, low, axis), np.take(region, high, axis)
            step = np.eye(3, dtype=np.int64)[axis]
            for mine, inner, outer in ((first & ~second, 0, 1), (second & ~first, 1, 0)):
                at = np.argwhere(mine)
                ends[0].append(at + inner * step)
                ends[1].append(at + outer * step)
        inside, outside = map(np.concatenate, ends)
        if not len(inside):
            found = "a region that fills its patch" if region.any() else "an empty region"
            raise InputError("region", found, "voxels inside and outside the region, whose border is measured")
        middles = cKDTree((inside + outside) / 2 * np.asarray(spacing_mm))
        near = middles.sparse_distance_matrix(middles, ALONG_REACH * ALONG_MM, output_type="coo_matrix").tocsr()
        near.data = np.exp(-((near.data / ALONG_MM) ** 2) / 2)
        return cls(inside, outside, csr_array(near.multiply(1 / near.sum(1))), region.shape, tuple(spacing_mm))

    def seam(self, before: ArrayLike, after: ArrayLike) -> Seam:
        """Measure the seam that an edit left at this border.

        Args:
            before, after: HU [z, y, x] of the patch.

        Raises:
            InputError: the patches do not have the shape of the region.
        """
        old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
        if not old.shape == new.shape == self.shape:
            raise InputError("patches", f"shapes {old.shape} and {new.shape}", f"{self.shape}, the region's shape")
        own, made = self.step_hu(old), self.step_hu(new)
        elsewhere = self.steps_elsewhere_hu(old)
        return Seam(made, own, _rank(made, elsewhere), _rank(own, elsewhere))

    def step_hu(self, hu: NDArray[np.floating]) -> float:
        """Return the mean size of the averaged steps in a patch [z, y, x], in HU."""
        return float(self._steps_hu(hu, np.zeros((1, 3), np.int64))[0])

    def steps_elsewhere_hu(self, hu: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean sizes [k] of the averaged steps at all other places of the border in a patch [z, y, x].

        The border is moved by multiples of `MOVED_MM`, and must lie in the patch as a whole.
        """
        low = np.minimum(self.inside.min(0), self.outside.min(0))
        high = np.array(self.shape) - 1 - np.maximum(self.inside.max(0), self.outside.max(0))
        steps = [max(round(MOVED_MM / spacing), 1) for spacing in self.spacing_mm]
        by = product(*(range(-(a // s) * s, b + 1, s) for a, b, s in zip(low, high, steps, strict=True)))
        return self._steps_hu(hu, np.array([each for each in by if any(each)], np.int64).reshape(-1, 3))

    def averaged_steps_hu(self, hu: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the steps in a patch [z, y, x], averaged along the border, [p]."""
        found: NDArray[np.float64] = self.along @ (hu[tuple(self.inside.T)] - hu[tuple(self.outside.T)])
        return found

    def _steps_hu(self, hu: NDArray[np.floating], moves: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean size of the averaged steps across the border after each of some moves [k, 3], [k]."""
        found = []
        for move in moves:
            step = hu[tuple((self.inside + move).T)] - hu[tuple((self.outside + move).T)]
            found.append(abs(self.along @ step).mean())
        return np.array(found, np.float64)


def seam_ratio_of(seams: Sequence[Seam]) -> Statistic:
    """Return the mean step after edits over the mean step before them, as a statistic; 1 means no seam."""
    made, own = (checks.vector("steps", [getattr(each, name) for each in seams]) for name in ("made_hu", "own_hu"))
    return Statistic(len(seams), lambda weights: ratio(weights @ made, weights @ own))


def steps_across_spheres_hu(
    before: ArrayLike,
    after: ArrayLike,
    mask: NDArray[np.bool_],
    middle: Sequence[float] | NDArray[np.number],
    diameter_mm: float,
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Measure the mean size of the averaged steps across spheres around a nodule.

    Args:
        before, after: HU [z, y, x] of a patch.
        mask: the nodule that was made, bool [z, y, x].
        middle: index (z, y, x) of the nodule's place.
        diameter_mm: requested diameter of the nodule.
        spacing_mm: voxel size (z, y, x).

    Returns:
        HU [`SPHERES`, (after, before)]; NaN for spheres outside the patch and for spheres that lie along the nodule.
    """
    old, new = np.asarray(before, np.float64), np.asarray(after, np.float64)
    found = np.full((SPHERES, 2), np.nan)
    away = PatchSpec(mask.shape, spacing_mm).distances_mm(middle)
    off_mask = distance_inside(~mask, spacing_mm) > OFF_MASK_MM
    for k in range(SPHERES):
        ball = away <= diameter_mm / 2 + LEAST_SPHERE_MM + k
        if ball.all() or not ball.any():
            continue
        border = Border.of(ball, spacing_mm)
        counted = off_mask[tuple(border.inside.T)]
        if counted.sum() >= LEAST_STEPS:
            found[k] = [abs(border.averaged_steps_hu(hu))[counted].mean() for hu in (new, old)]
    return found


def inner_seam_ratio_of(steps: Sequence[NDArray[np.float64]]) -> Statistic:
    """Return the mean step after edits over the mean step before them, at the sphere where this is largest.

    The result is a statistic of the edits; 1 means no seam.

    Args:
        steps: steps of each edit, from `steps_across_spheres_hu`.
    """
    every = np.stack(steps)
    made, own = (np.nan_to_num(every[..., i]) for i in (0, 1))

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        ratios = ratio(weights @ made, weights @ own)
        largest: NDArray[np.float64] = np.where(np.isfinite(ratios), ratios, -np.inf).max(1)
        return np.where(np.isfinite(largest), largest, np.nan)

    return Statistic(len(every), values)


def _rank(step_hu: float, elsewhere_hu: NDArray[np.float64]) -> float:
    if not len(elsewhere_hu):
        return float("nan")
    return float((elsewhere_hu < step_hu).mean() + (elsewhere_hu == step_hu).mean() / 2)
