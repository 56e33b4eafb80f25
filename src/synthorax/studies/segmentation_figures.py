"""Measures of a segmenter: sensitivity, accuracy, Dice and F2 of every test volume, and comparisons of arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_rel

from synthorax.metrics.bootstrap import Statistic, mean_of
from synthorax.metrics.classification import Confusion
from synthorax.metrics.comparisons import smallest_found
from synthorax.metrics.estimates import CONFIDENCE
from synthorax.studies.results import Interval
from synthorax.studies.trials import bootstrap_over_seeds, compared_over_seeds, over_seeds

SEGMENTER_MEASURES: Mapping[str, Callable[[NDArray], NDArray]] = {
    "sensitivity": lambda counts: _confusion(counts).sensitivity,
    "accuracy": lambda counts: _confusion(counts).accuracy,
    "dice": lambda counts: _confusion(counts).f1,
    "f2": lambda counts: _confusion(counts).f2,
}
"""Name of each measure to its function of voxel counts [..., 4] (`count_voxels`) of volumes with a nodule (Hagvall
Hörnstedt, section 4.2.3)."""
COMPARED = ("dice", "sensitivity", "f2")
"""Measures by which arms are compared; the first is the study's outcome."""


def count_voxels(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count true positive, false positive, false negative and true negative voxels of masks [n, z, y, x], [n, 4]."""
    axes = (1, 2, 3)
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return np.stack([(a & b).sum(axes) for a, b in pairs], 1).astype(np.int64)


def _confusion(counts: NDArray) -> Confusion:
    right, too_many, missed, left_alone = np.moveaxis(counts, -1, 0)
    return Confusion(right, too_many, left_alone, missed)


@dataclass(frozen=True, eq=False)
class Segmented:
    """The segmentations of an arm's trainings at a checkpoint, as voxel counts.

    Attributes:
        volumes: counts (`count_voxels`) in test volumes with a nodule, int64 [trainings, v, 4].
        empty: number of positive voxels in test volumes without a nodule, int64 [trainings, e].
    """

    volumes: NDArray[np.int64]
    empty: NDArray[np.int64]

    def values(self, measure: str) -> NDArray[np.float64]:
        """Return a measure of each volume with a nodule, float64 [trainings, v]."""
        found: NDArray[np.float64] = SEGMENTER_MEASURES[measure](self.volumes.astype(np.float64))
        return found


@dataclass(frozen=True)
class Spread:
    """Spread of a measure, averaged over trainings, over the test volumes with a nodule, as the thesis reports it.

    Attributes:
        median, mean, sd: median, mean and standard deviation over volumes.
        low, high: 95 % interval of the mean by Student's t over volumes, as in the thesis.
        with_empty: mean if every volume without a nodule counts as 0, as in the thesis' tables A.1 to A.6.
    """

    median: float
    mean: float
    sd: float
    low: float
    high: float
    with_empty: float


@dataclass(frozen=True)
class SegmenterTest:
    """A comparison of two arms.

    Attributes:
        a, b: names of the arms.
        measure: the compared measure.
        difference: value of a less that of b.
        low, high: 95 % interval over patients and trainings.
        p: p value of no difference; None with too few trainings.
        p_holm: p after Holm's correction for all comparisons of the measure.
        p_volumes: p value of the thesis' paired t-test over volumes, which ignores that volumes of one patient are
            dependent and that trainings vary; None if it is not finite.
    """

    a: str
    b: str
    measure: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    p_volumes: float | None


def spread_of(values: NDArray[np.float64], n_empty: int) -> Spread:
    """Return the spread over volumes of a measure with the values [trainings, v], beside `n_empty` empty volumes."""
    found = values.mean(0)
    mean, sd = float(found.mean()), float(found.std(ddof=1))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(found) - 1)) * sd / np.sqrt(len(found))
    with_empty = float(found.sum() / (len(found) + n_empty))
    return Spread(float(np.median(found)), mean, sd, mean - half, mean + half, with_empty)


def figures_of(found: Segmented, patients: NDArray[np.str_], empty: NDArray[np.str_], voxel_mm3: float) -> dict:
    """Return every measure, and the mm3 found in an empty volume, with intervals over patients and trainings.

    Args:
        found: voxel counts.
        patients: patient of each volume with a nodule, [v].
        empty: patient of each volume without a nodule, [e].
        voxel_mm3: volume of a voxel.
    """
    made: dict[str, Interval] = {
        name: over_seeds([mean_of(values) for values in found.values(name)], patients) for name in SEGMENTER_MEASURES
    }
    if len(empty):
        wrong = [mean_of(each * voxel_mm3) for each in found.empty]
        made["mm3 in an empty volume"] = over_seeds(wrong, empty)
    return made


def compared_segmenters(
    a: str, b: str, measure: str, one: Segmented, two: Segmented, patients: NDArray[np.str_]
) -> SegmenterTest:
    """Compare a measure of two arms, `one` of arm a and `two` of arm b, training by training on the same volumes."""
    first, second = one.values(measure), two.values(measure)
    apart = [mean_of(x - y) for x, y in zip(first, second, strict=True)]
    test = compared_over_seeds(apart, patients)
    by_volume = float(ttest_rel(first.mean(0), second.mean(0)).pvalue)
    known = by_volume if np.isfinite(by_volume) else None
    return SegmenterTest(a, b, measure, test.difference, test.low, test.high, test.p, None, known)


def smallest_difference(tests: Sequence[SegmenterTest]) -> float | None:
    """Return the difference in Dice that the tests would detect with a power of 80 %; None if there is none."""
    of_dice = (test for test in tests if test.measure == COMPARED[0] and test.p is not None)
    return smallest_found([(test.high - test.low) / 2 for test in of_dice]) or None


@dataclass(frozen=True)
class Replaced:
    """Number of further real patients that synthetic volumes beside n real patients replace.

    Attributes:
        patients: number of patients, read off the curve of real patients alone, less n.
        low, high: 95 % interval.
        most: N less n, where the curve ends.
    """

    patients: float
    low: float
    high: float
    most: int


def replaced(
    found: Segmented, real: Mapping[int, Segmented], patients: NDArray[np.str_], measure: str = COMPARED[0]
) -> Replaced:
    """Find the number of real patients at which the curve of real patients alone reaches an arm with synthetic volumes.

    The curve is made monotonic: at each number of patients it has the largest mean up to that number. Between numbers
    it is interpolated linearly.

    Args:
        found: the arm with synthetic volumes.
        real: number of real patients to the arm of these patients alone; the smallest number is n.
        patients: patient of each volume.
        measure: the measure of the curve.
    """
    numbers = sorted(real)
    few, most = numbers[0], numbers[-1]

    def of(training: int) -> Statistic:
        made = found.values(measure)[training]
        curve = np.stack([real[k].values(measure)[training] for k in numbers])

        def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            total = weights.sum(1, keepdims=True)
            rising = np.maximum.accumulate(weights @ curve.T / total, 1)
            reached = (weights @ made) / total[:, 0]
            return np.array([_crossed(r, row, numbers) - few for r, row in zip(reached, rising, strict=True)])

        return Statistic(len(made), values)

    interval = bootstrap_over_seeds([of(i) for i in range(len(found.volumes))], patients).interval()
    return Replaced(interval.value, interval.low, interval.high, most - few)


def _crossed(reached: float, rising: NDArray[np.float64], numbers: Sequence[int]) -> float:
    """Return the number at which a rising curve reaches a value, limited to the curve's first and last number."""
    after = int(np.searchsorted(rising, reached))
    if after == 0:
        return float(numbers[0])
    if after == len(numbers):
        return float(numbers[-1])
    low, high = rising[after - 1], rising[after]
    share = (reached - low) / (high - low)
    return float(numbers[after - 1] + share * (numbers[after] - numbers[after - 1]))
