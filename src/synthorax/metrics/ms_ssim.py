"""Structural similarity of volumes over scales (Wang et al. 2003), and how much the volumes of a set differ."""

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
"""Voxels of the Gaussian window, and its standard deviation."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first; with fewer scales, the first ones, normalised to sum to 1."""
STABILITY = (0.01, 0.03)
PAIRS = 200


def scales_of(shape: Sequence[int]) -> int:
    """How many scales a volume [z, y, x] has: the window fits into each, and there are five at most.

    Raises:
        InputError: a volume that the window does not fit into.
    """
    smallest, scales = min(shape), 0
    while smallest >= WINDOW and scales < len(SCALE_WEIGHTS):
        smallest, scales = smallest // 2, scales + 1
    if not scales:
        raise InputError("volume", f"{' x '.join(map(str, shape))} voxels", f"{WINDOW} or more along each axis")
    return scales


def ms_ssim(first: ArrayLike, second: ArrayLike, value_range: float) -> float:
    """MS-SSIM of two volumes, 1 where they are the same; over `scales_of` their shape.

    Args:
        first, second: [z, y, x].
        value_range: between the least and the greatest value that volumes may have, such as a window's width in HU.

    Raises:
        InputError: shapes that differ, values that are not finite, a volume under 11 voxels, a range that is none.
    """
    a, b = (np.asarray(each, np.float64) for each in (first, second))
    if a.shape != b.shape or a.ndim != 3:
        raise InputError("volumes", f"shapes {a.shape} and {b.shape}", "the same one, [z, y, x]")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("volumes", "values that are not finite", "finite numbers")
    if not value_range > 0:
        raise InputError("value range", f"{value_range}", "a positive one")
    scales = scales_of(a.shape)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    made = 1.0
    for scale in range(scales):
        luminance, structure = _similarity(a, b, value_range)
        last = scale == scales - 1
        # Below 0 is as unlike as can be; a power of it would not be real.
        made *= max(float((luminance * structure).mean() if last else structure.mean()), 0.0) ** weights[scale]
        a, b = _halved(a), _halved(b)
    return float(made)


@dataclass(frozen=True)
class Diversity:
    """How alike the volumes of a set are.

    Attributes:
        ms_ssim: mean over pairs; the lower, the more they differ. Its interval is by volumes, which pairs share.
        scales: of the MS-SSIM.
    """

    ms_ssim: Estimate
    n: int
    pairs: int
    scales: int


def diversity(volumes: ArrayLike, value_range: float, *, pairs: int = PAIRS, seed: int = 0) -> Diversity:
    """Mean MS-SSIM of random pairs of a set, as many as asked for or as there are.

    Args:
        volumes: [n, z, y, x].
        value_range: as in `ms_ssim`.

    Raises:
        InputError: fewer than 3 volumes, values that are not finite, volumes under 11 voxels, no pairs asked for.
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
    """Luminance, and contrast with structure, at each voxel around which the window fits."""
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
    """Means of 2 x 2 x 2 voxels; an odd one at the end is left out."""
    z, y, x = (n // 2 for n in volume.shape)
    return volume[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))
