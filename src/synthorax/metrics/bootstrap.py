"""Intervals by resampling patients, whose nodules stand or fall together.

`mean_of` makes a statistic of values, `roc.auc_of` one of scores, `classification.confusion_of` one of decisions,
`froc.cpm_of` one of marks, and `by_rows` one of any function of row numbers. A paired difference of two models is the
difference of their statistics over the same patients, `difference(a, b)`.
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
MOST_UNDEFINED = 0.1
"""Share of the replicates that may lack a value, as an AUC does when they show one class only."""
WEIGHTS_AT_ONCE = 2**22
"""Bounds the memory."""


class UndefinedError(InputError):
    """A statistic without a value on the data, or on many of its replicates."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """A function of how often each row of some data counts.

    Attributes:
        rows: how many there are, n.
        values: weights [b, n] of the rows in b replicates to values [b], or [b, ...]; NaN where there is none.
    """

    rows: int
    values: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def ratio(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    """A part of a whole in every replicate; NaN where there is nothing of the whole."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def mean_of(values: ArrayLike, rows: ArrayLike | None = None) -> Statistic:
    """The mean of values [n], or of those of some rows, bool [n]."""
    found = checks.vector("values", values)
    counted = np.ones(len(found)) if rows is None else np.asarray(rows, np.float64)

    def means(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        chosen = weights * counted
        return ratio(chosen @ found, chosen.sum(1))

    return Statistic(len(found), means)


def difference(first: Statistic, second: Statistic) -> Statistic:
    """What the first has more than the second, on the same rows.

    Raises:
        InputError: not as many rows.
    """
    if first.rows != second.rows:
        raise InputError("statistics", f"one of {first.rows} and one of {second.rows} rows", "both of the same rows")
    return Statistic(first.rows, lambda weights: first.values(weights) - second.values(weights))


def by_rows(function: Callable[[NDArray[np.int64]], float], rows: int) -> Statistic:
    """A function of the numbers of rows, repeated as often as they count; called once a replicate."""

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([function(np.repeat(np.arange(rows), counts)) for counts in weights.astype(np.int64)])

    return Statistic(rows, values)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic and its replicates.

    Attributes:
        value: of the data as it is.
        replicates: float64 [b], of the data resampled.
    """

    value: float
    replicates: NDArray[np.float64]

    @classmethod
    def of(cls, value: float, replicates: NDArray[np.float64]) -> Bootstrap:
        """Without the replicates that have no value.

        Raises:
            UndefinedError: many of them, or the data itself, have none.
        """
        kept = replicates[np.isfinite(replicates)]
        if not np.isfinite(value):
            raise UndefinedError("statistic", f"{value} on the data", "a finite value")
        if len(kept) < (1 - MOST_UNDEFINED) * len(replicates):
            lost = f"no value on {len(replicates) - len(kept)} of {len(replicates)} replicates"
            raise UndefinedError("statistic", lost, "more patients, or more of the rarer class")
        return cls(value, kept)

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """By the percentiles of the replicates."""
        low, high = np.quantile(self.replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(self.value, float(low), float(high))

    def comparison(self, confidence: float = CONFIDENCE) -> Comparison:
        """Of a difference: p is the level at which the percentile interval would just touch 0."""
        found = self.interval(confidence)
        p = min(1.0, 2 * min(self._share(self.replicates <= 0), self._share(self.replicates >= 0)))
        return Comparison(found.value, found.low, found.high, p)

    def equivalence(self, margin: float, alpha: float = ALPHA) -> Equivalence:
        """Of a difference: two one-sided tests, each by the share of the replicates beyond its margin.

        Raises:
            InputError: a margin that is not positive.
        """
        check_margin(margin)
        found = self.interval(1 - 2 * alpha)
        p = max(self._share(self.replicates <= -margin), self._share(self.replicates >= margin))
        return Equivalence(found.value, found.low, found.high, margin, p, alpha)

    def _share(self, beyond: NDArray[np.bool_]) -> float:
        # The data itself is one more draw, so that no p is 0 (Davison and Hinkley 1997, 4.2).
        return float((beyond.sum() + 1) / (len(beyond) + 1))


def patient_bootstrap(
    statistic: Statistic, patients: ArrayLike, *, replicates: int = REPLICATES, seed: int = 0
) -> Bootstrap:
    """Resample patients with all their rows.

    Args:
        statistic: of n rows.
        patients: the patient of each row, [n].

    Raises:
        InputError: fewer than 2 patients, not as many as rows, or a statistic that is not defined on the data or on
            many replicates.

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
    """The mean of a statistic over training seeds, where both the seeds and the patients might have been others.

    The patients are the same for all seeds, so both levels are drawn independently of each other (Owen 2007). Of s
    seeds s - 1 are drawn, which gives their mean the right variance (Rao and Wu 1988); with s of 2 or 3 the tails are
    still short: compare by `seed_and_patient_comparison`.

    Args:
        statistics: one a training seed, of the same rows.
        patients: the patient of each row, [n].

    Raises:
        InputError: fewer than 2 seeds or patients, different numbers of rows, or a statistic that is not defined.
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
    """Whether a difference's mean over training seeds is 0, had the seeds and the patients been others: Student's t.

    Its variance is that of the mean over resampled patients and that between seeds by their number; the degrees of
    freedom are Welch and Satterthwaite's of the two. With few seeds this is wider than `seed_and_patient_bootstrap`,
    whose replicates never leave the range of the seeds.

    Args:
        differences: one a training seed, of the same rows.
        patients: the patient of each row, [n].

    Raises:
        InputError: as `seed_and_patient_bootstrap`.
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
    """Those of several seeds as one, whose values are [b, seeds]."""
    if len(statistics) < 2:
        raise InputError("training seeds", f"{len(statistics)} of them", "2 or more to resample")
    rows = statistics[0].rows
    if any(statistic.rows != rows for statistic in statistics):
        raise InputError("statistics", f"of {sorted({each.rows for each in statistics})} rows", "all of the same rows")
    return Statistic(rows, lambda weights: np.stack([statistic.values(weights) for statistic in statistics], 1))


def bca_interval(
    statistic: Statistic,
    patients: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Estimate:
    """The bias-corrected and accelerated interval (Efron 1987), for statistics that lean to one side.

    Args:
        statistic, patients: as in `patient_bootstrap`.

    Raises:
        InputError: as there.
    """
    found = patient_bootstrap(statistic, patients, replicates=replicates, seed=seed)
    below = (found.replicates < found.value).mean() + (found.replicates == found.value).mean() / 2
    if not 0 < below < 1:
        return found.interval(confidence)  # every replicate lies on one side: there is nothing to correct by
    bias = norm.ppf(below)
    pull = _acceleration(statistic, patients)
    z = bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(found.replicates, norm.cdf(bias + z / (1 - pull * z)))
    return Estimate(found.value, float(low), float(high))


def resampled(
    statistic: Statistic, patients: ArrayLike, *, replicates: int = REPLICATES, seed: int = 0
) -> NDArray[np.float64]:
    """A statistic's values [b, ...] on resampled patients.

    Raises:
        InputError: fewer than 2 patients, or not as many as rows.
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
    """Refuse a margin of equivalence that is none.

    Raises:
        InputError: not positive.
    """
    if not margin > 0:
        raise InputError("margin", f"{margin}", "a positive difference that would not matter")


def _acceleration(statistic: Statistic, patients: ArrayLike) -> float:
    """Skewness of the statistic's jackknife over patients, over 6; those it is not defined without do not count."""
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
