"""The texture of nodules and of the lung around them, as roughness: how much HU vary from voxel to voxel.

Roughness is the standard deviation of white noise that would make mixed differences as large as those found. A mixed
difference is taken of the four voxels of a square in a slice, one diagonal less the other. No level, no slope and no
edge along a row or a column passes. The deviation is taken from the median size of the differences, so that a few
vessels in lung do not count as its texture.

A nodule that a network made too smooth has too little roughness inside, compared with the lung around it. Near its
edge every nodule is rough by partial volume, so voxels within `CORE_DEPTH_MM` of the mask's border are left out;
nodules without a core, as are most below 9 mm, have no figure. Measured within one reader's outline in cubes of 1 mm,
112 real nodules of training and validation patients are 0.98 times as rough as their lung, in the geometric mean.
Within all that any reader outlined the core comes nearer to the edge, and the quotient is 1.19: masks of one kind are
compared. The quotient varies between nodules by a factor of 1.8, so that 15 % are told only from about 60 nodules on.

Blurred by a Gaussian of 1 mm the same nodules keep 0.33 of their roughness; with the scanner's noise (`scanner`) put
back in it is 1.01 of what it was. Second differences in a row, which let edges pass, keep 0.59 and rise to 1.11.

Lung that an edit painted anew beside its nodule is lung like the lung that was there: there the roughness after the
edit is compared with that before it, over the same voxels.
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
"""Fewest mixed differences that a roughness is taken from."""
ROUNDED_HU = 12**-0.5
"""Roughness that rounding to whole HU makes; quotients take none for smaller."""
WHITE_GAIN = 2.0
"""Standard deviation of the mixed differences of white noise, in standard deviations of the noise."""


def roughness_hu(hu: ArrayLike, inside: ArrayLike) -> float:
    """The roughness in HU of the marked voxels of a patch; NaN where they have under 12 mixed differences.

    Args:
        hu: [z, y, x].
        inside: bool [z, y, x]; all four voxels of a difference are marked.

    Raises:
        InputError: shapes that differ.
    """
    values, marked = np.asarray(hu, np.float64), np.asarray(inside, bool)
    if values.shape != marked.shape or values.ndim != 3:
        raise InputError("marked voxels", f"shape {marked.shape}", f"{values.shape}, as of the HU, [z, y, x]")
    rows = marked[:, 1:] & marked[:, :-1]
    differences = np.diff(np.diff(values, axis=1), axis=2)[rows[:, :, 1:] & rows[:, :, :-1]]
    if len(differences) < LEAST_DIFFERENCES:
        return float("nan")
    return float(np.median(abs(differences)) / norm.ppf(0.75) / WHITE_GAIN)


def core(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The voxels of a nodule [z, y, x] more than `CORE_DEPTH_MM` from what is outside it."""
    check_spacing(spacing_mm)
    return distance_inside(mask, spacing_mm) > CORE_DEPTH_MM


def lung_around(hu: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The voxels of lung in the shell around a nodule (`AROUND_MM`).

    Args:
        hu: [z, y, x].
        mask: bool [z, y, x], the nodule's voxels.
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
    """The voxels of an edited region, beside the nodule, that are lung before and after the edit, bool [z, y, x].

    Args:
        before, after: HU [z, y, x].
        region: bool [z, y, x], where the edit might change voxels.
        mask: bool [z, y, x], the voxels of the nodule that was made.
        spacing_mm: voxel size (z, y, x).
    """
    check_spacing(spacing_mm)
    beside = region & (distance_inside(~mask, spacing_mm) > AROUND_MM[0])
    found: NDArray[np.bool_] = beside & (before < LUNG_BELOW_HU) & (after < LUNG_BELOW_HU)
    return found


@dataclass(frozen=True, eq=False)
class InsideAndAround:
    """Roughness of some nodules.

    Attributes:
        inside_hu: of their cores, [n]; NaN where a core is too small.
        around_hu: of the lung around them, [n]; NaN where there is too little.
    """

    inside_hu: NDArray[np.float64]
    around_hu: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """The nodules that have both, bool [n]."""
        return np.isfinite(self.inside_hu) & np.isfinite(self.around_hu)

    def among(self, rows: NDArray[np.bool_]) -> InsideAndAround:
        """The roughness of some of the nodules, bool [n]."""
        return InsideAndAround(self.inside_hu[rows], self.around_hu[rows])


def inside_and_around(
    hu: NDArray[np.number],
    masks: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    around: NDArray[np.number] | None = None,
) -> InsideAndAround:
    """Measure the roughness of nodules and of the lung around them.

    Args:
        hu: [n, z, y, x].
        masks: bool [n, z, y, x].
        spacing_mm: voxel size (z, y, x).
        around: HU [n, z, y, x] in which the lung is measured, such as those before an edit; `hu` if not given.
    """
    lungs = hu if around is None else around
    inside = [roughness_hu(one, core(mask, spacing_mm)) for one, mask in zip(hu, masks, strict=True)]
    beside = [roughness_hu(one, lung_around(one, mask, spacing_mm)) for one, mask in zip(lungs, masks, strict=True)]
    return InsideAndAround(np.array(inside, np.float64), np.array(beside, np.float64))


def quotient_of(first_hu: ArrayLike, second_hu: ArrayLike) -> Statistic:
    """The geometric mean of some roughnesses over others, row by row of one nodule, as a statistic to bootstrap.

    The geometric mean, because a calcified nodule is many times as rough as others and would decide an arithmetic one.

    Args:
        first_hu, second_hu: [n]; less than `ROUNDED_HU` counts as that much.
    """
    quotients = _log_quotients(first_hu, second_hu)
    return Statistic(len(quotients), lambda weights: np.exp(ratio(weights @ quotients, weights.sum(1))))


def relative_to_real_of(made: InsideAndAround, real: InsideAndAround, counterparts: Counterparts) -> Statistic:
    """The quotient of inside and around of made nodules over that of the real nodules like them; 1 is as real ones.

    Both are geometric means. The rows are the n made nodules, then the m real ones. Made nodules without a real one
    do not count.

    Args:
        made, real: of n made and m real nodules, all known.
        counterparts: the real nodules of each made one.

    Raises:
        InputError: not as many as the counterparts have.
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
