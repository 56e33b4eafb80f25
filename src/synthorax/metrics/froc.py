"""Evaluation of nodule detectors: sensitivity against false positives per scan, as in LUNA16 (Setio et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthorax.errors import InputError
from synthorax.metrics import checks
from synthorax.metrics.bootstrap import REPLICATES, Bootstrap, Statistic, resampled
from synthorax.metrics.estimates import Estimate

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 evaluates the sensitivity."""


def _no_places() -> NDArray[np.float64]:
    return np.zeros((0, 4))


@dataclass(frozen=True, eq=False)
class ScanMarks:
    """A detector's marks in a scan, and the findings of the scan.

    Attributes:
        candidates: the detector's marks, [c, (x, y, z, score)], in mm.
        nodules: the nodules to be found, [k, (x, y, z, diameter)], in mm.
        irrelevant: findings on which marks are neither right nor wrong, [m, (x, y, z, diameter)], in mm.

    Raises:
        InputError: an array has another shape or values that are not finite, or a diameter is not positive.
    """

    candidates: NDArray[np.float64] = field(default_factory=_no_places)
    nodules: NDArray[np.float64] = field(default_factory=_no_places)
    irrelevant: NDArray[np.float64] = field(default_factory=_no_places)

    def __post_init__(self) -> None:
        for name, rows in (("candidates", self.candidates), ("nodules", self.nodules), ("irrelevant", self.irrelevant)):
            if rows.ndim != 2 or rows.shape[1] != 4:
                raise InputError(name, f"shape {rows.shape}", "[n, 4], or [0, 4] for none")
            if not np.isfinite(rows).all():
                raise InputError(name, "values that are not finite", "finite numbers")
            if name != "candidates" and (rows[:, 3] <= 0).any():
                raise InputError(name, f"a diameter of {rows[:, 3].min():g} mm", "a positive diameter")


@dataclass(frozen=True, eq=False)
class Froc:
    """The FROC curve of a detector.

    Attributes:
        false_positives: per scan, ascending, [p].
        sensitivity: at each of these, [p].
        rates: false positives per scan at which the curve is evaluated.
        at_rates: sensitivity at each of `rates`, by linear interpolation of the curve.
        cpm: competition performance metric, the mean of `at_rates`.
        n_scans, n_nodules: numbers of scans and of nodules to be found.
    """

    false_positives: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    rates: tuple[float, ...]
    at_rates: tuple[Estimate, ...]
    cpm: Estimate
    n_scans: int
    n_nodules: int


def froc(
    scans: Sequence[ScanMarks],
    *,
    patients: ArrayLike | None = None,
    rates: Sequence[float] = RATES,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Froc:
    """Compute the FROC curve of a detector, with bootstrap intervals.

    A candidate within a nodule's radius hits the nodule. A nodule is found at the highest score of its hits; its other
    hits do not count. A candidate that hits neither a nodule nor an irrelevant finding is a false positive.

    Args:
        scans: all scans that the detector read, also scans without nodules or candidates.
        patients: patient of each scan, who is resampled as a whole; each scan is resampled by itself if not given.
        rates: false positives per scan at which the curve is evaluated.
        replicates: number of resamples.
        seed: seed of the resamples.

    Raises:
        InputError: there are fewer than 2 scans or patients, or no nodule.
    """
    units = np.arange(len(scans)) if patients is None else np.asarray(patients)
    checks.units(units, len(scans))
    marks = _pooled(scans)
    everyone = np.ones(len(scans))
    statistic = _at_rates(marks, rates)
    values = statistic.values(everyone[None])[0]
    drawn = resampled(statistic, units, replicates=replicates, seed=seed)
    at_rates = [Bootstrap.of(float(value), each).interval() for value, each in zip(values, drawn.T, strict=True)]
    cpm = Bootstrap.of(float(values.mean()), drawn.mean(1)).interval()
    return Froc(*_curve(marks, everyone), tuple(rates), tuple(at_rates), cpm, len(scans), int(marks.nodules.sum()))


def cpm_of(scans: Sequence[ScanMarks], rates: Sequence[float] = RATES) -> Statistic:
    """Return the mean sensitivity at some rates as a statistic of scans to bootstrap.

    To compare two detectors on the same scans, take the `bootstrap.difference` of their statistics.

    Raises:
        InputError: there is no nodule.
    """
    statistic = _at_rates(_pooled(scans), rates)
    return Statistic(len(scans), lambda weights: statistic.values(weights).mean(1))


def hits(scan: ScanMarks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the score at which each nodule is found, [k], -inf if never; and the scores of the false positives."""
    scores = scan.candidates[:, 3]
    on_nodule, on_other = _within(scan.candidates, scan.nodules), _within(scan.candidates, scan.irrelevant)
    found = np.where(on_nodule, scores[:, None], -np.inf).max(0, initial=-np.inf)
    return found, scores[~on_nodule.any(1) & ~on_other.any(1)]


@dataclass(frozen=True, eq=False)
class _Marks:
    """The found nodules and the false positives of all scans, c marks with the highest score first.

    Attributes:
        scan: index of each mark's scan, [c].
        right: whether each mark is a found nodule, [c].
        last: index of the last mark of each group of equal scores.
        nodules: number of nodules in each scan, [s].
    """

    scan: NDArray[np.int64]
    right: NDArray[np.bool_]
    last: NDArray[np.int64]
    nodules: NDArray[np.int64]


def _pooled(scans: Sequence[ScanMarks]) -> _Marks:
    scan, right, scores = [], [], []
    for i, marks in enumerate(scans):
        found, wrong = hits(marks)
        found = found[np.isfinite(found)]
        scan.append(np.full(len(found) + len(wrong), i))
        right.append(np.arange(len(found) + len(wrong)) < len(found))
        scores.append(np.concatenate([found, wrong]))
    nodules = np.array([len(marks.nodules) for marks in scans])
    if not nodules.sum():
        raise InputError("scans", f"no nodule in {len(scans)}", "one or more nodules")
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) < 0, True][: len(order)])
    return _Marks(np.concatenate(scan)[order], np.concatenate(right)[order], last, nodules)


def _curve(marks: _Marks, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positives per scan and sensitivity, [p] each from (0, 0), of scans that count `weights` [s] times."""
    each, nodules = weights[marks.scan], weights @ marks.nodules
    wrong, right = (np.r_[0, np.cumsum(each * kind)[marks.last]] for kind in (~marks.right, marks.right))
    return wrong / weights.sum(), right / nodules if nodules else np.full(len(right), np.nan)


def _at_rates(marks: _Marks, rates: Sequence[float]) -> Statistic:
    """Sensitivities [b, r], computed for one replicate at a time, because there may be a million marks."""
    return Statistic(
        len(marks.nodules), lambda weights: np.stack([np.interp(rates, *_curve(marks, each)) for each in weights])
    )


def _within(candidates: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each candidate [c] lies within the radius of each place [k], [c, k]."""
    squares = ((candidates[:, None, :3] - places[None, :, :3]) ** 2).sum(2)
    return squares < (places[:, 3] / 2) ** 2
