"""Multi-scale structural similarity (MS-SSIM) of volumes (Wang et al. 2003), and the diversity of a set by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve1d

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, patient_bootstrap, ratio
from synthorax.metrics.estimates import Estimate
from synthorax.seeding import generator

WINDOW, SIGMA = 11, 1.5
"""Width of the Gaussian window in voxels, and its standard deviation."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first; with fewer scales, the first ones are scaled to a sum of 1."""
STABILITY = (0.01, 0.03)
"""The constants K1 and K2 of SSIM, which keep its quotients finite."""
PAIRS = 200
"""Default number of pairs of which the diversity is the mean."""


def scales_of(shape: Sequence[int]) -> int:
    """Return the number of scales for a volume of this shape: up to five, into each of which the window fits.

    Raises:
        InputError: the window does not fit into the volume.
    """
    smallest, scales = min(shape), 0
    while smallest >= WINDOW and scales < len(SCALE_WEIGHTS):
        smallest, scales = smallest // 2, scales + 1
    if not scales:
        raise InputError("volume", f"{' x '.join(map(str, shape))} voxels", f"{WINDOW} or more along each axis")
    return scales


def ms_ssim(first: ArrayLike, second: ArrayLike, value_range: float) -> float:
    """Return the MS-SSIM of two volumes, which is 1 if they are equal, over as many scales as `scales_of` says.

    Args:
        first, second: [z, y, x].
        value_range: difference of the largest and the smallest possible value, such as the width of an HU window.

    Raises:
        InputError: shapes differ, values are not finite, a volume has fewer than 11 voxels along an axis, or the range
            is not positive.
    """
    a, b = (np.asarray(each, np.float64) for each in (first, second))
    if a.shape != b.shape or a.ndim != 3:
        raise InputError("volumes", f"shapes {a.shape} and {b.shape}", "the same shape, [z, y, x]")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("volumes", "values that are not finite", "finite numbers")
    if not value_range > 0:
        raise InputError("value range", f"{value_range}", "a positive range")
    scales = scales_of(a.shape)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    made = 1.0
    for scale in range(scales):
        luminance, structure = _similarity(a, b, value_range)
        last = scale == scales - 1
        # A negative similarity counts as 0, because its power would not be real.
        made *= max(float((luminance * structure).mean() if last else structure.mean()), 0.0) ** weights[scale]
        a, b = _halved(a), _halved(b)
    return float(made)


@dataclass(frozen=True)
class Diversity:
    """The diversity of a set of volumes.

    Attributes:
        ms_ssim: mean over pairs, lower for a more diverse set; its interval resamples volumes, which pairs share.
        n: number of volumes.
        pairs: number of pairs.
        scales: number of scales of the MS-SSIM.
    """

    ms_ssim: Estimate
    n: int
    pairs: int
    scales: int


def diversity(volumes: ArrayLike, value_range: float, *, pairs: int = PAIRS, seed: int = 0) -> Diversity:
    """Measure the mean MS-SSIM of random pairs of a set.

    Args:
        volumes: [n, z, y, x].
        value_range: see `ms_ssim`.
        pairs: number of pairs, or all if there are fewer.
        seed: seed of the pairs and of the bootstrap.

    Raises:
        InputError: there are fewer than 3 volumes, values are not finite, volumes have fewer than 11 voxels along an
            axis, or `pairs` is below 1.
    """
    found = checks.volumes("volumes", volumes)
    if len(found) < 3:
        raise InputError("volumes", f"{len(found)}", "3 or more to be compared with each other")
    first, second = np.triu_indices(len(found), 1)
    if pairs < 1:
        raise InputError("pairs", f"{pairs}", "1 or more")
    drawn = generator(seed, "pairs").permutation(len(first))[:pairs]
    first, second = first[drawn], second[drawn]
    values = np.array([ms_ssim(found[i], found[j], value_range) for i, j in zip(first, second, strict=True)])

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = weights[:, first] * weights[:, second]
        total = counts.sum(1)
        return ratio(counts @ values, total)

    interval = patient_bootstrap(Statistic(len(found), mean), np.arange(len(found)), seed=seed).interval()
    return Diversity(interval, len(found), len(values), scales_of(found.shape[1:]))


def _similarity(
    a: NDArray[np.float64], b: NDArray[np.float64], value_range: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the luminance term, and the contrast and structure term, at each voxel around which the window fits."""
    mean_a, mean_b = _windowed(a), _windowed(b)
    variances = _windowed(a * a) - mean_a**2 + _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    c1, c2 = ((k * value_range) ** 2 for k in STABILITY)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _windowed(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = WINDOW // 2
    window = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * SIGMA**2))
    for axis in range(3):
        volume = convolve1d(volume, window / window.sum(), axis)
        volume = volume[(slice(None),) * axis + (slice(reach, -reach),)]
    return volume


def _halved(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of 2 x 2 x 2 voxels; an odd voxel at the end of an axis is left out."""
    z, y, x = (n // 2 for n in volume.shape)
    return volume[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))
