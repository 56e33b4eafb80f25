"""Intervals by resampling patients together with all of their nodules.

`mean_of` makes a statistic of values, `roc.auc_of` of scores, `classification.confusion_of` of decisions, `froc.cpm_of`
of a detector's marks, and `by_rows` of any function of row numbers. The paired difference of two models is
`difference(a, b)`, the difference of their statistics over the same patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.estimates import ALPHA, CONFIDENCE, Comparison, Equivalence, Estimate
from synthorax.seeding import generator

REPLICATES = 2000
"""Default number of resamples."""
MOST_UNDEFINED = 0.1
"""Largest share of replicates without a value, such as the AUC of a replicate that has one class only."""
WEIGHTS_AT_ONCE = 2**22
"""Most weights that are held in memory at once: replicates times rows."""


class UndefinedError(InputError):
    """A statistic has no value on the data, or on many of the replicates."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """A statistic of n rows of data, as a function of how often each row counts.

    Attributes:
        rows: number of rows, n.
        values: maps the weights [b, n] of the rows in b replicates to values [b] or [b, ...]; NaN if undefined.
    """

    rows: int
    values: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    """Return `part / whole`, elementwise; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def mean_of(values: ArrayLike, rows: ArrayLike | None = None) -> Statistic:
    """Return the mean of values [n] as a statistic; of some rows only if `rows` is given, bool [n].

    >>> patients = ["a", "a", "b", "c", "d", "d"]
    >>> found = patient_bootstrap(mean_of([1, 2, 3, 4, 5, 6]), patients, seed=1).interval()
    >>> found.value, found.low < 3.5 < found.high
    (3.5, True)
    """
    found = checks.vector("values", values)
    counted = np.ones(len(found)) if rows is None else np.asarray(rows, np.float64)

    def means(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        chosen = weights * counted
        return ratio(chosen @ found, chosen.sum(1))

    return Statistic(len(found), means)


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Return the first statistic minus the second, on the same rows.

    Raises:
        InputError: their numbers of rows differ.
    """
    if first.rows != second.rows:
        raise InputError("statistics", f"{first.rows} rows and {second.rows} rows", "statistics of the same rows")
    return Statistic(first.rows, lambda weights: first.values(weights) - second.values(weights))


def by_rows(function: Callable[[NDArray[np.int64]], float], rows: int) -> Statistic:
    """Return a function of row numbers as a statistic.

    Args:
        function: called for each replicate with the row numbers, each repeated as often as it counts.
        rows: number of rows.
    """

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([function(np.repeat(np.arange(rows), counts)) for counts in weights.astype(np.int64)])

    return Statistic(rows, values)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """The value of a statistic and its replicates.

    Attributes:
        value: on the data.
        replicates: on resampled data, float64 [b].
    """

    value: float
    replicates: NDArray[np.float64]

    @classmethod
    def of(cls, value: float, replicates: NDArray[np.float64]) -> Bootstrap:
        """Return a bootstrap without the replicates that have no value.

        Raises:
            UndefinedError: more than `MOST_UNDEFINED` of the replicates, or the data, have no value.
        """
        kept = replicates[np.isfinite(replicates)]
        if not np.isfinite(value):
            raise UndefinedError("statistic", f"{value} on the data", "a finite value")
        if len(kept) < (1 - MOST_UNDEFINED) * len(replicates):
            lost = f"no value on {len(replicates) - len(kept)} of {len(replicates)} replicates"
            raise UndefinedError("statistic", lost, "more patients, or more of the rarer class")
        return cls(value, kept)

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the value with its interval, by the percentiles of the replicates."""
        low, high = np.quantile(self.replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(self.value, float(low), float(high))

    def comparison(self, confidence: float = CONFIDENCE) -> Comparison:
        """Test a difference against 0; p is the level at which the percentile interval would just touch 0."""
        found = self.interval(confidence)
        p = min(1.0, 2 * min(self._share(self.replicates <= 0), self._share(self.replicates >= 0)))
        return Comparison(found.value, found.low, found.high, p)

    def equivalence(self, margin: float, alpha: float = ALPHA) -> Equivalence:
        """Test whether a difference is within a margin, by two one-sided tests on the share of replicates beyond it.

        Raises:
            InputError: the margin is not positive.
        """
        check_margin(margin)
        found = self.interval(1 - 2 * alpha)
        p = max(self._share(self.replicates <= -margin), self._share(self.replicates >= margin))
        return Equivalence(found.value, found.low, found.high, margin, p, alpha)

    def _share(self, beyond: NDArray[np.bool_]) -> float:
        # The data count as one more replicate, so that no p is 0 (Davison and Hinkley 1997, 4.2).
        return float((beyond.sum() + 1) / (len(beyond) + 1))


def patient_bootstrap(
    statistic: Statistic, patients: ArrayLike, *, replicates: int = REPLICATES, seed: int = 0
) -> Bootstrap:
    """Resample patients, each with all rows of the patient.

    Args:
        statistic: a statistic of n rows, such as `mean_of` returns.
        patients: the patient of each row, [n].
        replicates: number of resamples.
        seed: seed of the draws.

    Raises:
        InputError: there are fewer than 2 patients, `patients` does not have n rows, or the statistic is not defined on
            the data or on many replicates.

    >>> from synthorax.metrics.roc import auc_of
    >>> labels, scores = [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.4, 0.6, 0.3, 0.5, 0.8, 0.9]
    >>> patients = ["P1", "P1", "P2", "P3", "P4", "P4", "P5", "P6"]
    >>> found = patient_bootstrap(auc_of(labels, scores), patients).interval()
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.8125, 0.333, 1.0)
    """
    replicated = resampled(statistic, patients, replicates=replicates, seed=seed)
    return Bootstrap.of(float(statistic.values(np.ones((1, statistic.rows)))[0]), replicated)


def seed_and_patient_bootstrap(
    statistics: Sequence[Statistic], patients: ArrayLike, *, replicates: int = REPLICATES, seed: int = 0
) -> Bootstrap:
    """Resample both training seeds and patients, for the mean of a statistic over the seeds.

    The patients are the same for all seeds, so both levels are drawn independently of each other (Owen 2007). Of s
    seeds s - 1 are drawn, which gives their mean the right variance (Rao and Wu 1988). With 2 or 3 seeds the tails are
    still too short; then use `seed_and_patient_comparison`.

    Args:
        statistics: one a training seed, of the same rows.
        patients: the patient of each row, [n].

    Raises:
        InputError: there are fewer than 2 seeds or patients, numbers of rows differ, or a statistic is not defined.
    """
    every = _together(statistics)
    values = resampled(every, patients, replicates=replicates, seed=seed)
    value = float(every.values(np.ones((1, every.rows))).mean())
    drawn = generator(seed, "training seeds").integers(len(statistics), size=(replicates, len(statistics) - 1))
    return Bootstrap.of(value, np.take_along_axis(values, drawn, 1).mean(1))


def seed_and_patient_comparison(
    differences: Sequence[Statistic],
    patients: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Test whether the mean of a difference over training seeds is 0, by Student's t, for other seeds and patients.

    The variance is the sum of two parts: the variance of the mean over resampled patients, and the variance between
    seeds divided by their number. The degrees of freedom follow Welch and Satterthwaite. With few seeds the interval is
    wider than that of `seed_and_patient_bootstrap`, whose replicates never leave the range of the seeds.

    Args:
        differences: one for each training seed, on the same rows.
        patients: the patient of each row, [n].
        confidence: confidence level of the interval.
        replicates: number of resamples.
        seed: seed of the draws.

    Raises:
        InputError: see `seed_and_patient_bootstrap`.
    """
    every = _together(differences)
    by_seed = every.values(np.ones((1, every.rows)))[0]
    replicated = resampled(every, patients, replicates=replicates, seed=seed).mean(1)
    of_patients = Bootstrap.of(float(by_seed.mean()), replicated)
    _, n_patients = checks.units(patients, every.rows)
    parts = np.array([of_patients.replicates.var(ddof=1), by_seed.var(ddof=1) / len(by_seed)])
    freedom = np.array([n_patients - 1, len(by_seed) - 1])
    error, value = float(np.sqrt(parts.sum())), of_patients.value
    if error == 0:
        return Comparison(value, value, value, 1.0 if value == 0 else 0.0)
    law = student(parts.sum() ** 2 / (parts**2 / freedom).sum())
    half = float(law.ppf((1 + confidence) / 2)) * error
    return Comparison(value, value - half, value + half, float(2 * law.sf(abs(value) / error)))


def _together(statistics: Sequence[Statistic]) -> Statistic:
    """One statistic with values [b, seeds], made of the statistics of several training seeds on the same rows."""
    if len(statistics) < 2:
        raise InputError("training seeds", f"{len(statistics)} of them", "2 or more seeds to resample")
    rows = statistics[0].rows
    if any(statistic.rows != rows for statistic in statistics):
        found = f"numbers of rows {sorted({each.rows for each in statistics})}"
        raise InputError("statistics", found, "statistics of the same rows")
    return Statistic(rows, lambda weights: np.stack([statistic.values(weights) for statistic in statistics], 1))


def bca_interval(
    statistic: Statistic,
    patients: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """Return the bias-corrected and accelerated interval (Efron 1987), for statistics with a skewed distribution.

    Args:
        statistic, patients, replicates, seed: see `patient_bootstrap`.
        confidence: confidence level of the interval.

    Raises:
        InputError: see `patient_bootstrap`.
    """
    found = patient_bootstrap(statistic, patients, replicates=replicates, seed=seed)
    below = (found.replicates < found.value).mean() + (found.replicates == found.value).mean() / 2
    if not 0 < below < 1:
        return found.interval(confidence)  # all replicates are on one side, so that the bias cannot be estimated
    bias = norm.ppf(below)
    pull = _acceleration(statistic, patients)
    z = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(found.replicates, norm.cdf(bias + z / (1 - pull * z)))
    return Estimate(found.value, float(low), float(high))


def resampled(
    statistic: Statistic, patients: ArrayLike, *, replicates: int = REPLICATES, seed: int = 0
) -> NDArray[np.float64]:
    """Return a statistic's values on resampled patients, [b, ...].

    Args:
        statistic: a statistic of n rows, such as `mean_of` returns.
        patients: the patient of each row, [n].
        replicates: number of resamples, b.
        seed: seed of the draws.

    Raises:
        InputError: there are fewer than 2 patients, or `patients` does not have n rows.
    """
    unit, n_units = checks.units(patients, statistic.rows)
    random = generator(seed, "patients")
    at_once = max(1, WEIGHTS_AT_ONCE // len(unit))
    values = []
    for start in range(0, replicates, at_once):
        b = min(at_once, replicates - start)
        drawn = random.integers(n_units, size=(b, n_units)) + n_units * np.arange(b)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=b * n_units).reshape(b, n_units)
        values.append(statistic.values(counts[:, unit].astype(np.float64)))
    return np.concatenate(values)


def check_margin(margin: float) -> None:
    """Refuse a margin of equivalence that is not positive.

    Raises:
        InputError: names the margin.
    """
    if not margin > 0:
        raise InputError("margin", f"{margin}", "a positive difference, the largest that does not matter")


def _acceleration(statistic: Statistic, patients: ArrayLike) -> float:
    """Return the skewness of the statistic's jackknife over patients, divided by 6; undefined values do not count."""
    unit, n_units = checks.units(patients)
    at_once = max(1, WEIGHTS_AT_ONCE // len(unit))
    left_out = np.concatenate(
        [
            statistic.values((unit != np.arange(a, min(a + at_once, n_units))[:, None]).astype(np.float64))
            for a in range(0, n_units, at_once)
        ]
    )
    apart = np.nanmean(left_out) - left_out
    spread = np.nansum(apart**2) ** 1.5
    return float(np.nansum(apart**3) / (6 * spread)) if spread > 0 else 0.0
