"""Distances between synthetic and real patches (FID, KID, IS), by the features of a named network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, svdvals
from scipy.stats import t

from synthorax.errors import InputError
from synthorax.metrics.bootstrap import ratio
from synthorax.metrics.estimates import CONFIDENCE
from synthorax.metrics.features import ExtractorCard, Features, common_extractor
from synthorax.seeding import generator

SUBSETS, SUBSET_SIZE = 100, 1000
"""Number and size of the subsets over which KID is averaged (Binkowski et al. 2018)."""
INCEPTION_SPLITS = 10
"""Parts over which the inception score is averaged (Salimans et al. 2016)."""
ROWS_AT_ONCE = 2048
"""Rows of a kernel that are computed at once, to limit the memory."""


@dataclass(frozen=True)
class Figure:
    """A measure of a set of synthetic patches.

    Attributes:
        metric: name of the measure.
        value: value of the measure.
        low, high: interval, whose kind the function of the measure describes; None if it has none.
        n_real: number of real patches; 0 for a measure without real patches.
        n_synthetic: number of synthetic patches.
        extractor: extractor of the features; measures of different extractors cannot be compared.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n_real: int
    n_synthetic: int
    extractor: ExtractorCard


def fid(real: Features, synthetic: Features) -> Figure:
    """Return the FID, the Frechet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017).

    For small sets it is too high, by an amount that depends on the network and the set. Compare only sets of the same
    size, and report KID if there are fewer patches than features.

    Raises:
        InputError: the extractors differ, or a set has fewer than 2 patches.
    """
    _check_pair(real, synthetic)
    apart = ((real.values.mean(0) - synthetic.values.mean(0)) ** 2).sum()
    first, second = _factor(real.values), _factor(synthetic.values)
    # With C = A'A and D = B'B, the eigenvalues of CD are the squares of the singular values of AB'. So the trace of the
    # root of CD is the sum of these singular values, also if C and D are not of full rank.
    shared = svdvals(first @ second.T).sum()
    value = max(float(apart + (first**2).sum() + (second**2).sum() - 2 * shared), 0.0)
    return Figure("FID", value, None, None, len(real), len(synthetic), real.extractor)


def kid(
    real: Features, synthetic: Features, *, subsets: int = SUBSETS, size: int | None = None, seed: int = 0
) -> Figure:
    """Return the KID, the mean kernel distance of random subsets (Binkowski et al. 2018).

    95 % of the subsets lie between `low` and `high`. That is the spread of single subsets, which is wider than the
    uncertainty of their mean.

    Args:
        real, synthetic: features of the two sets.
        subsets: number of subsets.
        size: patches in a subset; if not given 1000, but at most half of the smaller set, so that subsets differ.
        seed: seed of the subsets.

    Raises:
        InputError: the extractors differ, a set has fewer than 4 patches, or `size` does not fit.
    """
    _check_pair(real, synthetic)
    smaller = min(len(real), len(synthetic))
    size = min(SUBSET_SIZE, smaller // 2) if size is None else size
    if subsets < 1:
        raise InputError("KID", f"{subsets} subsets", "1 or more")
    if not 2 <= size <= smaller:
        found = f"subsets of {size} from sets of {len(real)} and {len(synthetic)}"
        raise InputError("KID", found, f"subsets of 2 to {smaller}")
    values = []
    for i in range(subsets):
        random = generator(seed, "kid", i)
        rows = [random.choice(len(each), size, replace=False) for each in (real, synthetic)]
        values.append(_mmd2(real.values[rows[0]], synthetic.values[rows[1]]))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean = float(np.mean(values))
    return Figure("KID", mean, float(low), float(high), len(real), len(synthetic), real.extractor)


def kid_of_all(real: Features, synthetic: Features) -> Figure:
    """Return the unbiased kernel distance of the whole sets, whose mean is 0 for sets of one distribution.

    Raises:
        InputError: the extractors differ, or a set has fewer than 2 patches.
    """
    _check_pair(real, synthetic)
    value = _mmd2(real.values, synthetic.values)
    return Figure("KID of all", value, None, None, len(real), len(synthetic), real.extractor)


def kid_replicates(
    real: Features,
    synthetic: Features,
    real_weights: NDArray[np.float64],
    synthetic_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return `kid_of_all` in bootstrap replicates, [b]; NaN where all weight of a set is on one patch.

    A pair of copies of one patch does not count, as a pair of a patch with itself does not in `kid_of_all`; otherwise
    a replicate, which repeats patches, would lie too high.

    Args:
        real, synthetic: features of the two sets.
        real_weights, synthetic_weights: how often each patch counts in each replicate, [b, m] and [b, n].

    Raises:
        InputError: the extractors differ, or a set has fewer than 2 patches.
    """
    _check_pair(real, synthetic)
    sides = ((real.values, real_weights), (synthetic.values, synthetic_weights))
    within: list[NDArray[np.float64]] = []
    for own, weights in sides:
        self_pairs = (weights**2) @ _kernel_diagonal(own)
        pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
        within.append(ratio(_weighted_kernel_sum(own, weights, own, weights) - self_pairs, pairs))
    across = _weighted_kernel_sum(*sides[0], *sides[1]) / (real_weights.sum(1) * synthetic_weights.sum(1))
    return within[0] + within[1] - 2 * across


def inception_score(synthetic: Features, *, splits: int = INCEPTION_SPLITS, seed: int = 0) -> Figure:
    """Return the inception score (Salimans et al. 2016), the mean over splits of the set.

    The score of a split is exp of the mean divergence of a patch's class probabilities from the mean probabilities. It
    is high if single patches have clear classes and the set has many. `low` and `high` are Student's t interval of the
    mean over splits; None for a single split.

    Args:
        synthetic: features with class probabilities.
        splits: number of splits.
        seed: seed of the splits.

    Raises:
        InputError: the extractor has no classes, or there are more splits than patches.
    """
    if synthetic.probabilities is None:
        raise InputError(synthetic.extractor.name, "no class probabilities", "an extractor with classes")
    if not 1 <= splits <= len(synthetic):
        raise InputError("splits", f"{splits} of {len(synthetic)} patches", "1 or more, with a patch in each")
    order = generator(seed, "inception score").permutation(len(synthetic))
    values = np.array([_inception_score(synthetic.probabilities[part]) for part in np.array_split(order, splits)])
    mean = float(values.mean())
    if splits == 1:
        return Figure("IS", mean, None, None, 0, len(synthetic), synthetic.extractor)
    half = float(t.ppf((1 + CONFIDENCE) / 2, splits - 1) * values.std(ddof=1) / np.sqrt(splits))
    return Figure("IS", mean, mean - half, mean + half, 0, len(synthetic), synthetic.extractor)


def _check_pair(real: Features, synthetic: Features) -> None:
    common_extractor(real, synthetic)
    for name, each in (("real features", real), ("synthetic features", synthetic)):
        if len(each) < 2:
            raise InputError(name, f"{len(each)} patch", "2 or more")


def _factor(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix A [r, d], r at most d, such that A'A is the covariance of values [n, d]."""
    centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
    if centred.shape[0] <= centred.shape[1]:
        return centred
    return np.asarray(qr(centred, mode="r", check_finite=False)[0][: centred.shape[1]])


def _mmd2(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy with the kernel (x'y / d + 1)^3."""
    m, n = len(first), len(second)
    within = [
        (_kernel_sum(own, own) - _kernel_diagonal(own).sum()) / (k * (k - 1)) for own, k in ((first, m), (second, n))
    ]
    return float(within[0] + within[1] - 2 * _kernel_sum(first, second) / (m * n))


def _kernel_diagonal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel of each patch with itself, [n]."""
    return ((values**2).sum(1) / values.shape[1] + 1) ** 3


def _weighted_kernel_sum(
    first: NDArray[np.float64],
    first_weights: NDArray[np.float64],
    second: NDArray[np.float64],
    second_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the sum of the kernel of all pairs times both weights, in each of b replicates, [b]."""
    found = np.zeros(len(first_weights))
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        kernel = (first[rows] @ second.T / first.shape[1] + 1) ** 3
        found += ((first_weights[:, rows] @ kernel) * second_weights).sum(1)
    return found


def _kernel_sum(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    blocks = range(0, len(first), ROWS_AT_ONCE)
    return sum(float(((first[a : a + ROWS_AT_ONCE] @ second.T / first.shape[1] + 1) ** 3).sum()) for a in blocks)


def _inception_score(probabilities: NDArray[np.float64]) -> float:
    mean = probabilities.mean(0)
    ratio = np.divide(probabilities, mean, out=np.ones_like(probabilities), where=probabilities > 0)
    return float(np.exp((probabilities * np.log(ratio)).sum(1).mean()))
