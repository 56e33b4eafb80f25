"""The diversity of a maker's seeds: the distance between nodules of two seeds at one site, relative to real nodules.

Two nodules are compared with their middles on each other, to whole voxels, so that moving a nodule is no difference.
The distance in shape is 1 - Dice of the masks. The distance in HU is the root mean square of the difference within the
union of the masks, after a Gaussian of `DIVERSITY_BLUR_MM`, which removes most of the noise: two draws of noise are no
diversity. Each distance is divided by the mean distance of pairs of real nodules with similar diameter and texture, so
that a maker whose nodules differ as much as real ones has a diversity of 1.

Real pairs lie in two places and generated pairs in one, so that the tissue around the nodules must not count:
differences further than `NODULE_RIM_MM` from both masks are set to 0 before smoothing. With that, real nodules pasted
with their edges into one place have 1.00 times the distance that they have in their own places; without it 0.89.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from synthorax.anatomy.morphology import dilated
from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.appearance import Nodules
from synthorax.metrics.bootstrap import Statistic, ratio
from synthorax.metrics.counterparts import Counterparts
from synthorax.region import Region

DIVERSITY_BLUR_MM = 1.5
"""Standard deviation in mm of the Gaussian that removes noise from the difference of two nodules."""
NODULE_RIM_MM = 1.0
"""Voxels up to this distance in mm from a mask belong to the nodule's edge, and count for the difference."""


@dataclass(frozen=True, eq=False)
class Distances:
    """The distances between the nodules of p pairs.

    Attributes:
        hu: root mean square of the smoothed difference in HU within the union of the masks, [p].
        shape: 1 - Dice of the masks, [p].
    """

    hu: NDArray[np.float64]
    shape: NDArray[np.float64]


def distances(nodules: Nodules, pairs: ArrayLike) -> Distances:
    """Measure the distances between pairs of nodules.

    Args:
        nodules: patches with a nodule each.
        pairs: indices of the two nodules of each pair, [p, 2].

    Raises:
        InputError: `pairs` has another shape.
    """
    rows = np.asarray(pairs, np.int64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise InputError("pairs", f"shape {rows.shape}", "two indices for each pair, [p, 2]")
    known = {i: _Centred.of(nodules.hu[i], nodules.masks[i], nodules.spacing_mm) for i in np.unique(rows).tolist()}
    unique, which = np.unique(rows, axis=0, return_inverse=True)  # many sites are compared with one real pair
    found = np.array([known[i].apart(known[k], nodules.spacing_mm) for i, k in unique.tolist()], np.float64)
    return Distances(*found.reshape(-1, 2)[which].T)


def diversity_of(made: ArrayLike, real: ArrayLike, counterparts: Counterparts) -> Statistic:
    """Return the mean distance of generated pairs over that of similar real pairs, as a statistic to bootstrap.

    The rows of the statistic are the n sites of generated nodules, then the m real nodules. Sites without a similar
    real pair do not count.

    Args:
        made: distance between the seeds at each site, [n].
        real: distance of each real pair, [p].
        counterparts: real pairs of each site.

    Raises:
        InputError: there are not as many distances as sites or real pairs.
    """
    n, known = counterparts.n_made, counterparts.known
    own = checks.vector("distances of made nodules", made, n)
    apart = checks.vector("distances of real pairs", real, len(counterparts.made))

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        expected = counterparts.means(apart, weights[:, n:])
        counted = weights[:, :n] * (known & np.isfinite(expected))
        return ratio(counted @ own, (counted * np.nan_to_num(expected)).sum(1))

    return Statistic(n + counterparts.n_real, values)


@dataclass(frozen=True, eq=False)
class _Centred:
    """A nodule whose voxels are indexed from its middle.

    Attributes:
        hu: HU [z, y, x] of its patch.
        middle: index (z, y, x) of the nodule's middle in the patch.
        mask: the nodule's voxels.
        rim: the nodule's voxels and those within `NODULE_RIM_MM` of them.
    """

    hu: NDArray[np.number]
    middle: NDArray[np.int64]
    mask: Region
    rim: Region

    @classmethod
    def of(cls, hu: NDArray[np.number], mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> _Centred:
        own = Region.of(mask)
        middle = np.rint(own.indices().mean(0)).astype(np.int64)
        wider = np.ceil(np.divide(NODULE_RIM_MM, spacing_mm)).astype(int)
        around = dilated(np.pad(own.mask, [(n, n) for n in wider.tolist()]), NODULE_RIM_MM, spacing_mm)
        return cls(hu, middle, own.moved(-middle), Region.of(around).moved(own.corner - wider - middle))

    def apart(self, other: _Centred, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Return the distance in HU, and 1 - Dice."""
        low = np.minimum(self.rim.corner, other.rim.corner)
        size = np.max([np.add(each.rim.corner, each.rim.shape) for each in (self, other)], axis=0) - low
        within, counted = (
            first.within(low.tolist(), size.tolist()) | second.within(low.tolist(), size.tolist())
            for first, second in ((self.mask, other.mask), (self.rim, other.rim))
        )
        difference = (self._box(low, size) - other._box(low, size)) * counted
        smooth = gaussian_filter(difference, np.divide(DIVERSITY_BLUR_MM, spacing_mm), mode="constant")
        overlap = 2 * self.mask.overlap(other.mask) / (self.mask.voxels + other.mask.voxels)
        return float(np.sqrt((smooth[within] ** 2).mean())), 1 - overlap

    def _box(self, low: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the HU of a box around the middle; voxels outside the patch repeat its faces."""
        sides = [
            np.clip(np.arange(a, a + k), 0, n - 1)
            for a, k, n in zip(self.middle + low, size, self.hu.shape, strict=True)
        ]
        return self.hu[np.ix_(*sides)].astype(np.float32)
