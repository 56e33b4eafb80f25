"""Measures of a classifier's decisions and of its probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Statistic, ratio

CALIBRATION_BINS = 15
"""Default number of bins of the calibration error."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of right and wrong decisions, as numbers or arrays of one shape; a measure that divides by 0 is NaN."""

    true_positive: Any
    false_positive: Any
    true_negative: Any
    false_negative: Any

    @property
    def sensitivity(self) -> Any:
        """Share of the positive rows that are decided positive; recall."""
        return _share(self.true_positive, self.false_negative)

    @property
    def specificity(self) -> Any:
        """Share of the negative rows that are decided negative."""
        return _share(self.true_negative, self.false_positive)

    @property
    def precision(self) -> Any:
        """Share of the rows decided positive that are positive."""
        return _share(self.true_positive, self.false_positive)

    @property
    def accuracy(self) -> Any:
        """Share of right decisions."""
        return _share(self.true_positive + self.true_negative, self.false_positive + self.false_negative)

    @property
    def balanced_accuracy(self) -> Any:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def f1(self) -> Any:
        """Harmonic mean of sensitivity and precision."""
        return self.f_beta(1)

    @property
    def f2(self) -> Any:
        """Weighted harmonic mean, with sensitivity twice as important as precision."""
        return self.f_beta(2)

    def f_beta(self, beta: float) -> Any:
        """Return the weighted harmonic mean, with sensitivity `beta` times as important as precision."""
        wrong = (beta**2 * self.false_negative + self.false_positive) / (1 + beta**2)
        return _share(self.true_positive, wrong)


def confusion(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Confusion:
    """Count the decisions at a threshold; scores of at least the threshold are decided positive.

    Args:
        labels: 0 or 1, [n].
        scores: [n].
        threshold: threshold of the scores.

    Raises:
        InputError: there are no rows, lengths differ, a label is not 0 or 1, or a score is not finite.

    >>> float(confusion([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.8], threshold=0.5).sensitivity)
    0.5
    """
    truth = checks.flags("labels", labels)
    positive = checks.vector("scores", scores, len(truth)) >= threshold
    counts = _counts(truth, positive, np.ones((1, len(truth))))
    return Confusion(*(int(each[0]) for each in counts))


def confusion_of(
    labels: ArrayLike, scores: ArrayLike, threshold: float, measure: Callable[[Confusion], Any]
) -> Statistic:
    """Return a measure of the decisions at a threshold as a statistic to bootstrap.

    Args:
        labels, scores, threshold: see `confusion`.
        measure: a function of a confusion that returns a figure, such as `lambda found: found.f2`.

    Raises:
        InputError: see `confusion`.
    """
    truth = checks.flags("labels", labels)
    positive = checks.vector("scores", scores, len(truth)) >= threshold
    return Statistic(len(truth), lambda weights: np.asarray(measure(Confusion(*_counts(truth, positive, weights)))))


def choose_threshold(
    labels: ArrayLike,
    scores: ArrayLike,
    measure: Callable[[Confusion], Any] = lambda found: found.balanced_accuracy,
) -> float:
    """Return the threshold, one of the scores, at which a measure is greatest; the highest threshold of equals.

    Choose it on validation data: chosen on the test set, it makes the measure too good.

    Args:
        labels: 0 or 1, [n]; both must occur.
        scores: [n].
        measure: a function of a confusion that returns a figure; balanced accuracy if not given.

    Raises:
        InputError: there is one class only, lengths differ, or scores are not finite.
    """
    truth = checks.labels("labels", labels)
    found = checks.vector("scores", scores, len(truth))
    thresholds, where = np.unique(found, return_inverse=True)
    up, down = (np.bincount(where[rows], minlength=len(thresholds)) for rows in (truth, ~truth))
    above, wrong = (np.cumsum(counts[::-1])[::-1] for counts in (up, down))
    values = np.asarray(measure(Confusion(above, wrong, down.sum() - wrong, up.sum() - above)))
    return float(thresholds[::-1][np.nanargmax(values[::-1])])


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision: precision averaged over the steps of sensitivity, without interpolation.

    Raises:
        InputError: there is one class only, lengths differ, or scores are not finite.
    """
    from sklearn.metrics import average_precision_score

    truth = checks.labels("labels", labels)
    return float(average_precision_score(truth, checks.vector("scores", scores, len(truth))))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean squared difference between probability and label (Brier 1950).

    Raises:
        InputError: lengths differ, or probabilities are not from 0 to 1.
    """
    truth = checks.flags("labels", labels)
    return float(((_probabilities(probabilities, len(truth)) - truth) ** 2).mean())


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error of the positive class (Guo et al. 2017).

    It is the mean absolute difference, over bins of equal width, between the share of positive rows and their mean
    probability. With few rows it is above 0 even for a calibrated model.

    Args:
        labels: 0 or 1, [n].
        probabilities: probabilities of class 1, [n].
        bins: number of bins.

    Raises:
        InputError: lengths differ, or probabilities are not from 0 to 1.
    """
    truth = checks.flags("labels", labels)
    found = _probabilities(probabilities, len(truth))
    where = np.minimum((found * bins).astype(int), bins - 1)
    return float(abs(np.bincount(where, found - truth)).sum() / len(truth))


def _probabilities(values: ArrayLike, length: int) -> NDArray[np.float64]:
    found = checks.vector("probabilities", values, length)
    if ((found < 0) | (found > 1)).any():
        raise InputError("probabilities", f"{found.min():g} to {found.max():g}", "0 to 1")
    return found


def _counts(
    truth: NDArray[np.bool_], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Return the numbers of true positives, false positives, true negatives and false negatives, [b] each."""
    groups = (truth & positive, ~truth & positive, ~truth & ~positive, truth & ~positive)
    return tuple(weights @ group for group in groups)


def _share(part: Any, rest: Any) -> Any:
    total = np.asarray(part + rest, np.float64)
    return ratio(part, total)[()]
