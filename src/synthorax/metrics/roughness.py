"""The texture of nodules and of the lung around them, as roughness: how much HU vary from voxel to voxel.

Roughness is the standard deviation of white noise that would make second differences as large as those found between
three neighbours in a row or a column of a slice. A second difference lets no level and no slope pass. The deviation is
taken from the median size of the differences, so that a few vessels in lung do not count as its texture.

A nodule that a network made too smooth has too little roughness inside. Comparing its inside with the lung around it
is not enough, because a real nodule's inside is not as rough as lung either: lung has small vessels and walls that
soft tissue lacks, and ground glass has more of them. The fair comparison is relative: the inside over the lung around
it, of made nodules, against the same quotient of real nodules alike in diameter and texture rating. Voxels within
`CORE_DEPTH_MM` of the mask's border are left out, because they are partly lung; nodules without a core have no figure.

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
"""Fewest second differences that a roughness is taken from."""
WHITE_GAIN = 6**0.5
"""Standard deviation of the second differences of white noise, in standard deviations of the noise."""


def roughness_hu(hu: ArrayLike, inside: ArrayLike) -> float:
    """The roughness in HU of the marked voxels of a patch; NaN where they have under 12 second differences.

    Args:
        hu: [z, y, x].
        inside: bool [z, y, x]; all three voxels of a difference are marked.

    Raises:
        InputError: shapes that differ.
    """
    values, marked = np.asarray(hu, np.float64), np.asarray(inside, bool)
    if values.shape != marked.shape or values.ndim != 3:
        raise InputError("marked voxels", f"shape {marked.shape}", f"{values.shape}, as of the HU, [z, y, x]")
    found = []
    for axis in (1, 2):
        v, m = np.moveaxis(values, axis, 0), np.moveaxis(marked, axis, 0)
        found.append(np.diff(v, 2, axis=0)[m[:-2] & m[1:-1] & m[2:]])
    differences = np.concatenate(found)
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


def quotient_of(inside_hu: ArrayLike, around_hu: ArrayLike) -> Statistic:
    """The mean of some roughnesses over the mean of others, row by row of one nodule, as a statistic to bootstrap."""
    inside = checks.vector("roughness inside", inside_hu)
    around = checks.vector("roughness around", around_hu, len(inside))
    return Statistic(len(inside), lambda weights: ratio(weights @ inside, weights @ around))


def relative_to_real_of(made: InsideAndAround, real: InsideAndAround, counterparts: Counterparts) -> Statistic:
    """The quotient of inside and around of made nodules over that of the real nodules like them; 1 is as real ones.

    Its rows are the n made nodules, then the m real ones. Made nodules without a real one do not count.

    Args:
        made, real: of n made and m real nodules, all known.
        counterparts: the real nodules of each made one.

    Raises:
        InputError: not as many as the counterparts have.
    """
    n, m, known = counterparts.n_made, counterparts.n_real, counterparts.known
    own, theirs = (
        [checks.vector(f"roughness {name}", values, rows) for name, values in vars(one).items()]
        for one, rows in ((made, n), (real, m))
    )
    first = counterparts.real[:, 0]

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        inside, around = (counterparts.means(each[first], weights[:, n:]) for each in theirs)
        counted = weights[:, :n] * (known & np.isfinite(inside))
        expected = ratio((counted * np.nan_to_num(inside)).sum(1), (counted * np.nan_to_num(around)).sum(1))
        return ratio(ratio(counted @ own[0], counted @ own[1]), expected)

    return Statistic(n + m, values)
