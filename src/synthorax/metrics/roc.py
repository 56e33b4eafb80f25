"""The area under the ROC curve, its variance and its tests (DeLong et al. 1988, by the midranks of Sun and Xu 2014).

DeLong's variance assumes independent rows. If patients have several nodules, use the interval of
`bootstrap.patient_bootstrap` of `auc_of`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, UndefinedError, ratio
from synthorax.metrics.comparisons import equivalence_by_error
from synthorax.metrics.estimates import ALPHA, CONFIDENCE, Comparison, Equivalence, Estimate


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the AUC: the probability that a positive row has a higher score than a negative one; a tie counts half.

    Args:
        labels: 0 or 1, [n].
        scores: [n].

    Raises:
        InputError: there is one class only, lengths differ, or values are not finite.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    return float(auc_of(labels, scores).values(np.ones((1, np.size(labels))))[0])


def auc_of(labels: ArrayLike, scores: ArrayLike) -> Statistic:
    """Return the AUC as a statistic to bootstrap; NaN on replicates with one class.

    Raises:
        InputError: see `auc`.
    """
    truth = checks.labels("labels", labels)
    found = checks.vector("scores", scores, len(truth))
    order = np.argsort(found, kind="stable")
    positive = truth[order]
    first_of_ties = np.flatnonzero(np.r_[True, np.diff(found[order]) > 0])

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        ordered = weights[:, order]
        up = np.add.reduceat(ordered * positive, first_of_ties, axis=1)
        down = np.add.reduceat(ordered * ~positive, first_of_ties, axis=1)
        pairs = up.sum(1) * down.sum(1)
        below = np.cumsum(down, 1) - down / 2
        return ratio((up * below).sum(1), pairs)

    return Statistic(len(truth), values)


def matched_auc_of(labels: ArrayLike, scores: ArrayLike, comparable: ArrayLike) -> Statistic:
    """Return the AUC over comparable pairs of a positive and a negative row, such as nodules of similar size.

    Args:
        labels: 0 or 1, [n].
        scores: [n].
        comparable: whether two rows are comparable, bool [n, n].

    Raises:
        InputError: see `auc`.
        UndefinedError: no pair is comparable.
    """
    truth = checks.labels("labels", labels)
    found = checks.vector("scores", scores, len(truth))
    pairs = (np.asarray(comparable, bool) & truth[:, None] & ~truth).astype(np.float64)
    if pairs.shape != (len(truth), len(truth)) or not pairs.any():
        raise UndefinedError("pairs", "none to compare", "a comparable pair of a positive and a negative row")
    above = (found[:, None] > found) + 0.5 * (found[:, None] == found)

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = ((weights @ pairs) * weights).sum(1)
        right = ((weights @ (pairs * above)) * weights).sum(1)
        return ratio(right, total)

    return Statistic(len(truth), values)


def delong_covariance(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the AUCs [k] of k models on the same n rows, and the covariance of the AUCs, [k, k].

    Args:
        labels: 0 or 1, [n].
        scores: scores of each model, [k, n].

    Raises:
        InputError: a class has fewer than 2 rows, lengths differ, or values are not finite.
    """
    truth = checks.labels("labels", labels)
    found = checks.matrix("scores", scores)
    if found.shape[1] != len(truth):
        raise InputError("scores", f"{found.shape[1]} of them", f"{len(truth)}, one for each label")
    up, down = found[:, truth], found[:, ~truth]
    m, n = up.shape[1], down.shape[1]
    if min(m, n) < 2:
        raise InputError("labels", f"{m} positive and {n} negative rows", "2 or more of each")
    ranks = rankdata(np.concatenate([up, down], 1), axis=1)
    of_up = (ranks[:, :m] - rankdata(up, axis=1)) / n
    of_down = 1 - (ranks[:, m:] - rankdata(down, axis=1)) / m
    return of_up.mean(1), np.atleast_2d(np.cov(of_up) / m + np.cov(of_down) / n)


def delong_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the AUC and its interval, computed on the logit scale so that it stays between 0 and 1.

    DeLong's variance of a perfect AUC is 0, so that its interval has no width.

    Raises:
        InputError: see `delong_covariance`.

    >>> found = delong_interval([0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.4, 0.6, 0.3, 0.5, 0.8, 0.9])
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.8125, 0.329, 0.975)
    """
    values, covariance = delong_covariance(labels, np.asarray(scores, float)[None])
    value, error = float(values[0]), float(covariance[0, 0]) ** 0.5
    if not 0 < value < 1:
        return Estimate(value, value, value)
    half = norm.ppf((1 + confidence) / 2) * error / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high))


def delong_comparison(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE
) -> Comparison:
    """Return the difference of the AUCs of two models on the same rows, first minus second, with the paired test.

    Args:
        labels: 0 or 1, [n].
        first, second: scores of the models, [n].
        confidence: confidence level of the interval.

    Raises:
        InputError: see `delong_covariance`.
    """
    value, error = _difference(labels, first, second)
    half = float(norm.ppf((1 + confidence) / 2) * error)
    p = 2 * float(norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Comparison(value, value - half, value + half, p)


def delong_equivalence(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, margin: float, alpha: float = ALPHA
) -> Equivalence:
    """Test whether the AUCs of two models on the same rows differ by less than a margin.

    Raises:
        InputError: see `delong_covariance`, or the margin is not positive.
    """
    return equivalence_by_error(*_difference(labels, first, second), margin, alpha)


def _difference(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Return the difference of two AUCs, and its standard error."""
    truth = checks.labels("labels", labels)
    both = [checks.vector("scores", scores, len(truth)) for scores in (first, second)]
    values, covariance = delong_covariance(truth, both)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    # Two models that rank all rows alike have a variance of 0 but for rounding.
    return float(values[0] - values[1]), float(np.sqrt(variance)) if variance > 1e-15 else 0.0
