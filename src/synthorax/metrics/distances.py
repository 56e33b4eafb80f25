"""How far synthetic patches are from real ones, by the features of a named network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, svdvals
from scipy.stats import t

from synthorax.errors import InputError
from synthorax.metrics.estimates import CONFIDENCE
from synthorax.metrics.features import ExtractorCard, Features, common_extractor
from synthorax.seeding import generator

SUBSETS, SUBSET_SIZE = 100, 1000
"""As Binkowski et al. 2018 average KID."""
INCEPTION_SPLITS = 10
"""Parts over which the inception score is averaged (Salimans et al. 2016)."""
ROWS_AT_ONCE = 2048
"""Bounds the memory of kernels of whole sets."""


@dataclass(frozen=True)
class Figure:
    """A measure of a synthetic set, with all that it depends on.

    Attributes:
        low, high: its interval, of the kind that its function names; None where it has none.
        n_real: 0 where no real patches are compared with.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n_real: int
    n_synthetic: int
    extractor: ExtractorCard


def fid(real: Features, synthetic: Features) -> Figure:
    """Frechet distance of two Gaussians with the sets' means and covariances (Heusel et al. 2017).

    It is too high for small sets, by an amount that depends on the network and the set; compare sets of the same size
    only, and report KID where there are fewer patches than features.

    Raises:
        InputError: different extractors, or fewer than 2 patches in a set.
    """
    _check_pair(real, synthetic)
    apart = ((real.values.mean(0) - synthetic.values.mean(0)) ** 2).sum()
    first, second = _factor(real.values), _factor(synthetic.values)
    # With C = A'A and D = B'B the eigenvalues of CD are the squares of the singular values of AB', so the trace of
    # its root is their sum, whatever the rank of C and D.
    shared = svdvals(first @ second.T).sum()
    value = max(float(apart + (first**2).sum() + (second**2).sum() - 2 * shared), 0.0)
    return Figure("FID", value, None, None, len(real), len(synthetic), real.extractor)


def kid(
    real: Features, synthetic: Features, *, subsets: int = SUBSETS, size: int | None = None, seed: int = 0
) -> Figure:
    """The kernel distance as mean over random subsets (Binkowski et al. 2018); low and high hold 95 % of the subsets.

    That is the spread of sets of the subsets' size, wider than what the mean is known to.

    Args:
        subsets: how many.
        size: patches in a subset; 1000 as usual, or half of the smaller set, so that subsets differ.

    Raises:
        InputError: different extractors, fewer than 4 patches in a set, or a size that does not fit.
    """
    _check_pair(real, synthetic)
    smaller = min(len(real), len(synthetic))
    size = min(SUBSET_SIZE, smaller // 2) if size is None else size
    if subsets < 1:
        raise InputError("KID", f"{subsets} subsets", "1 or more")
    if not 2 <= size <= smaller:
        raise InputError("KID", f"subsets of {size} from sets of {len(real)} and {len(synthetic)}", "2 to the smaller")
    values = []
    for i in range(subsets):
        random = generator(seed, "kid", i)
        rows = [random.choice(len(each), size, replace=False) for each in (real, synthetic)]
        values.append(_mmd2(real.values[rows[0]], synthetic.values[rows[1]]))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    mean = float(np.mean(values))
    return Figure("KID", mean, float(low), float(high), len(real), len(synthetic), real.extractor)


def kid_of_all(real: Features, synthetic: Features) -> Figure:
    """The unbiased kernel distance of the whole sets: its mean is 0 where both are of one distribution.

    Raises:
        InputError: different extractors, or fewer than 2 patches in a set.
    """
    _check_pair(real, synthetic)
    value = _mmd2(real.values, synthetic.values)
    return Figure("KID of all", value, None, None, len(real), len(synthetic), real.extractor)


def inception_score(synthetic: Features, *, splits: int = INCEPTION_SPLITS, seed: int = 0) -> Figure:
    """How sure and how varied the classes of patches are (Salimans et al. 2016), as mean over splits.

    It is exp of the mean divergence of a patch's classes from the set's. Low and high are Student's t interval of the
    mean over splits; a single split has none.

    Raises:
        InputError: an extractor without classes, or more splits than patches.
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
    """A [r, d] with A'A the covariance of values [n, d], r at most d."""
    centred = (values - values.mean(0)) / np.sqrt(len(values) - 1)
    if centred.shape[0] <= centred.shape[1]:
        return centred
    return np.asarray(qr(centred, mode="r", check_finite=False)[0][: centred.shape[1]])


def _mmd2(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy, kernel (x'y / d + 1)^3."""
    m, n = len(first), len(second)
    within = [
        (_kernel_sum(own, own) - (((own**2).sum(1) / own.shape[1] + 1) ** 3).sum()) / (k * (k - 1))
        for own, k in ((first, m), (second, n))
    ]
    return float(within[0] + within[1] - 2 * _kernel_sum(first, second) / (m * n))


def _kernel_sum(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    blocks = range(0, len(first), ROWS_AT_ONCE)
    return sum(float(((first[a : a + ROWS_AT_ONCE] @ second.T / first.shape[1] + 1) ** 3).sum()) for a in blocks)


def _inception_score(probabilities: NDArray[np.float64]) -> float:
    mean = probabilities.mean(0)
    ratio = np.divide(probabilities, mean, out=np.ones_like(probabilities), where=probabilities > 0)
    return float(np.exp((probabilities * np.log(ratio)).sum(1).mean()))
