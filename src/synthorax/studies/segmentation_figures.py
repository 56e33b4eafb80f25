"""What is measured of a segmenter: sensitivity, accuracy, Dice and F2 of every test volume, and what they come to."""

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
"""Of voxel counts [..., 4] of volumes that hold a nodule (section 4.2.3)."""
COMPARED = ("dice", "sensitivity", "f2")
"""Measures by which arms are compared; the first is what the study is about."""


def count_voxels(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Voxels of masks [n, z, y, x] by whether they were found and whether they are a nodule's, int64 [n, 4]."""
    axes = (1, 2, 3)
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return np.stack([(a & b).sum(axes) for a, b in pairs], 1).astype(np.int64)


def _confusion(counts: NDArray) -> Confusion:
    right, too_many, missed, left_alone = np.moveaxis(counts, -1, 0)
    return Confusion(right, too_many, left_alone, missed)


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the trainings of an arm found at a checkpoint.

    Attributes:
        volumes: voxel counts of test volumes with a nodule, int64 [trainings, v, 4].
        empty: voxels found in test volumes without one, int64 [trainings, e].
    """

    volumes: NDArray[np.int64]
    empty: NDArray[np.int64]

    def values(self, measure: str) -> NDArray[np.float64]:
        """A measure of each volume, float64 [trainings, v]."""
        found: NDArray[np.float64] = SEGMENTER_MEASURES[measure](self.volumes.astype(np.float64))
        return found


@dataclass(frozen=True)
class Spread:
    """How a measure is spread over test volumes with a nodule, in the mean over trainings, as the thesis tells it.

    Attributes:
        low, high: 95 % interval of the mean by Student's t over volumes, as the thesis has it.
        with_empty: mean where every volume without a nodule counts as 0, as in its tables A.1 to A.6.
    """

    median: float
    mean: float
    sd: float
    low: float
    high: float
    with_empty: float


@dataclass(frozen=True)
class SegmenterTest:
    """Two arms against each other.

    Attributes:
        a, b: arms; the difference is a's figure less b's.
        low, high: 95 % interval over patients and trainings.
        p: of no difference; None with one training.
        p_holm: corrected for all tests of the measure.
        p_volumes: of the thesis' paired t-test, which takes volumes of one patient for independent, and trainings for
            given.
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
    """The spread of a measure over volumes, by its values [trainings, v]."""
    found = values.mean(0)
    mean, sd = float(found.mean()), float(found.std(ddof=1))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(found) - 1)) * sd / np.sqrt(len(found))
    with_empty = float(found.sum() / (len(found) + n_empty))
    return Spread(float(np.median(found)), mean, sd, mean - half, mean + half, with_empty)


def figures_of(found: Segmented, patients: NDArray[np.str_], empty: NDArray[np.str_], voxel_mm3: float) -> dict:
    """Every measure with its interval over patients and trainings; of empty volumes the mm3 found in one."""
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
    """Compare two arms, training by training, on the same volumes."""
    first, second = one.values(measure), two.values(measure)
    apart = [mean_of(x - y) for x, y in zip(first, second, strict=True)]
    test = compared_over_seeds(apart, patients)
    by_volume = float(ttest_rel(first.mean(0), second.mean(0)).pvalue)
    p = test.p if len(apart) > 1 else None
    known = by_volume if np.isfinite(by_volume) else None
    return SegmenterTest(a, b, measure, test.difference, test.low, test.high, p, None, known)


def smallest_difference(tests: Sequence[SegmenterTest]) -> float | None:
    """The difference of the first measure that would be found in 80 % of all cases; None without a test."""
    return smallest_found([(test.high - test.low) / 2 for test in tests if test.measure == COMPARED[0]])


@dataclass(frozen=True)
class Replaced:
    """How many further real patients are as good as the synthetic volumes beside the n first ones.

    Attributes:
        patients: real patients by the curve of real ones alone, less n; low and high are the 95 % interval.
        most: N less n, beyond which the curve does not go.
    """

    patients: float
    low: float
    high: float
    most: int


def replaced(
    found: Segmented, real: Mapping[int, Segmented], patients: NDArray[np.str_], measure: str = COMPARED[0]
) -> Replaced:
    """Read off the curve of real patients alone where it reaches an arm.

    The curve is made to rise: at each number it is the greatest mean up to there. Between two numbers it is straight.

    Args:
        found: the arm with synthetic volumes.
        real: arms of real patients alone by their number, the n first.
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

    told = bootstrap_over_seeds([of(i) for i in range(len(found.volumes))], patients).interval()
    return Replaced(told.value, told.low, told.high, most - few)


def _crossed(reached: float, rising: NDArray[np.float64], numbers: Sequence[int]) -> float:
    """Where a rising curve reaches a value, between its first and its last number."""
    after = int(np.searchsorted(rising, reached))
    if after == 0:
        return float(numbers[0])
    if after == len(numbers):
        return float(numbers[-1])
    low, high = rising[after - 1], rising[after]
    share = (reached - low) / (high - low)
    return float(numbers[after - 1] + share * (numbers[after] - numbers[after - 1]))
