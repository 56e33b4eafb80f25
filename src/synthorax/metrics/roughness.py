"""The texture of nodules and of the lung around them, as roughness: how much HU vary from voxel to voxel.

Roughness is the standard deviation of the white noise whose mixed differences would be as large as those measured. A
mixed difference is taken from the four voxels of a square in a slice: the sum of one diagonal minus the sum of the
other. It is 0 for a constant, a slope, and an edge along a row or a column. Roughness follows from the median size of
the differences, so that a few vessels do not count as texture of the lung.

A nodule that a network made too smooth has too little roughness inside, compared with the lung around it. Near its
edge every nodule is rough by partial volume, so that voxels within `CORE_DEPTH_MM` of the mask's border are left out.
Nodules without a core, which are most of those below 9 mm, have no roughness. Measured within one reader's outline in
voxels of 1 mm, 112 real nodules of training and validation patients are 0.98 times as rough as their lung (geometric
mean). Within the union of all readers' outlines the core reaches nearer to the edge, and the quotient is 1.19; so only
masks of the same kind can be compared. The quotient varies between nodules by a factor of 1.8, so that a difference of
15 % is detected only with about 60 nodules or more.

After a Gaussian blur of 1 mm the same nodules keep 0.33 of their roughness; with the scanner's noise (`scanner`) added
again they have 1.01 of it. Second differences along a row, which do not remove edges, keep 0.59 and rise to 1.11.

Beside its nodule, an edit may paint lung anew. There, the roughness after the edit is compared with the roughness
before the edit over the same voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from synthorax.anatomy.lungs import LUNG_BELOW_HU
from synthorax.anatomy.morphology import distance_inside
from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, ratio
from synthorax.metrics.counterparts import Counterparts
from synthorax.volume import check_spacing

CORE_DEPTH_MM = 2.0
"""Distance in mm from outside the mask beyond which a voxel belongs to the core of a nodule."""
AROUND_MM = (2.0, 12.0)
"""The lung around a nodule lies between these distances in mm from its mask."""
LEAST_DIFFERENCES = 12
"""Fewest mixed differences from which a roughness is computed."""
ROUNDED_HU = 12**-0.5
"""Roughness of rounding to whole HU; in quotients, a smaller roughness counts as this."""
WHITE_GAIN = 2.0
"""Standard deviation of the mixed differences of white noise, in standard deviations of the noise."""


def roughness_hu(hu: ArrayLike, inside: ArrayLike) -> float:
    """Return the roughness in HU of the marked voxels of a patch; NaN with fewer than `LEAST_DIFFERENCES` differences.

    Args:
        hu: HU [z, y, x].
        inside: marked voxels, bool [z, y, x]; a difference counts if all four of its voxels are marked.

    Raises:
        InputError: shapes differ.
    """
    values, marked = np.asarray(hu, np.float64), np.asarray(inside, bool)
    if values.shape != marked.shape or values.ndim != 3:
        raise InputError("marked voxels", f"shape {marked.shape}", f"{values.shape}, the shape of the HU [z, y, x]")
    rows = marked[:, 1:] & marked[:, :-1]
    differences = np.diff(np.diff(values, axis=1), axis=2)[rows[:, :, 1:] & rows[:, :, :-1]]
    if len(differences) < LEAST_DIFFERENCES:
        return float("nan")
    return float(np.median(abs(differences)) / norm.ppf(0.75) / WHITE_GAIN)


def core(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the core of a nodule, its voxels more than `CORE_DEPTH_MM` from any voxel outside, bool [z, y, x]."""
    check_spacing(spacing_mm)
    return distance_inside(mask, spacing_mm) > CORE_DEPTH_MM


def lung_around(hu: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the voxels of lung in the shell around a nodule (`AROUND_MM`), bool [z, y, x].

    Args:
        hu: HU [z, y, x].
        mask: the nodule's voxels, bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    check_spacing(spacing_mm)
    low, high = AROUND_MM
    away = distance_inside(~mask, spacing_mm)
    found: NDArray[np.bool_] = (away > low) & (away <= high) & (hu < LUNG_BELOW_HU)
    return found


def lung_painted(
    before: NDArray[np.number],
    after: NDArray[np.number],
    region: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    spacing_mm: Sequence[float],
) -> NDArray[np.bool_]:
    """Return the voxels of an edited region beside the nodule that are lung before and after the edit, bool [z, y, x].

    Args:
        before, after: HU [z, y, x].
        region: the voxels that the edit might change, bool [z, y, x].
        mask: the voxels of the nodule that was made, bool [z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    check_spacing(spacing_mm)
    beside = region & (distance_inside(~mask, spacing_mm) > AROUND_MM[0])
    found: NDArray[np.bool_] = beside & (before < LUNG_BELOW_HU) & (after < LUNG_BELOW_HU)
    return found


@dataclass(frozen=True, eq=False)
class InsideAndAround:
    """The roughness of nodules and of the lung around them.

    Attributes:
        inside_hu: mean HU of the nodules' cores, [n]; NaN if a core is too small.
        around_hu: mean HU of the lung around the nodules, [n]; NaN if there is too little lung.
    """

    inside_hu: NDArray[np.float64]
    around_hu: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each nodule has both roughnesses, bool [n]."""
        return np.isfinite(self.inside_hu) & np.isfinite(self.around_hu)

    def among(self, rows: NDArray[np.bool_]) -> InsideAndAround:
        """Return the roughness of some of the nodules, chosen by a bool [n]."""
        return InsideAndAround(self.inside_hu[rows], self.around_hu[rows])


def inside_and_around(
    hu: NDArray[np.number],
    masks: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    around: NDArray[np.number] | None = None,
) -> InsideAndAround:
    """Measure the roughness of nodules and of the lung around them.

    Args:
        hu: HU [n, z, y, x].
        masks: voxels of the nodules, bool [n, z, y, x].
        spacing_mm: voxel size (z, y, x).
        around: HU [n, z, y, x] in which the lung is measured, such as HU before an edit; `hu` if not given.
    """
    lungs = hu if around is None else around
    inside = [roughness_hu(one, core(mask, spacing_mm)) for one, mask in zip(hu, masks, strict=True)]
    beside = [roughness_hu(one, lung_around(one, mask, spacing_mm)) for one, mask in zip(lungs, masks, strict=True)]
    return InsideAndAround(np.array(inside, np.float64), np.array(beside, np.float64))


def quotient_of(first_hu: ArrayLike, second_hu: ArrayLike) -> Statistic:
    """Return the geometric mean of the quotients of two roughnesses of each nodule, as a statistic to bootstrap.

    The mean is geometric because a calcified nodule is many times as rough as others and would dominate an arithmetic
    mean.

    Args:
        first_hu, second_hu: roughnesses of each nodule, [n]; values below `ROUNDED_HU` count as `ROUNDED_HU`.
    """
    quotients = _log_quotients(first_hu, second_hu)
    return Statistic(len(quotients), lambda weights: np.exp(ratio(weights @ quotients, weights.sum(1))))


def relative_to_real_of(made: InsideAndAround, real: InsideAndAround, counterparts: Counterparts) -> Statistic:
    """Return the roughness of generated nodules relative to that of similar real nodules; 1 means equally rough.

    The roughness of a nodule is inside over around. Means are geometric. The rows of the statistic are the n generated
    nodules, then the m real ones. Generated nodules without a similar real nodule do not count.

    Args:
        made, real: roughness of n generated and m real nodules, without NaN.
        counterparts: real nodules similar to each generated one.

    Raises:
        InputError: the numbers of nodules are not those of the counterparts.
    """
    n, m, known = counterparts.n_made, counterparts.n_real, counterparts.known
    own, theirs = _log_quotients(made.inside_hu, made.around_hu, n), _log_quotients(real.inside_hu, real.around_hu, m)
    of_comparison = theirs[counterparts.real[:, 0]]

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        expected = counterparts.means(of_comparison, weights[:, n:])
        counted = weights[:, :n] * (known & np.isfinite(expected))
        return np.exp(ratio((counted * (own - np.nan_to_num(expected))).sum(1), counted.sum(1)))

    return Statistic(n + m, values)


def _log_quotients(first_hu: ArrayLike, second_hu: ArrayLike, rows: int | None = None) -> NDArray[np.float64]:
    first = checks.vector("roughness", first_hu, rows)
    second = checks.vector("roughness", second_hu, len(first))
    quotients: NDArray[np.float64] = np.log(np.maximum(first, ROUNDED_HU) / np.maximum(second, ROUNDED_HU))
    return quotients
