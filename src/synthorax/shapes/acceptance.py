"""LuNG's analyzer: the rules by which it keeps generated nodules, and the Score of a generator (LuNG, III-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.seeding import generator
from synthorax.shapes.features import Convention, bounding_boxes, shape_features
from synthorax.shapes.reconnection import label_components

SMALLEST_PIECE = 5
"""18-connected pieces of fewer voxels than this are removed before measuring."""
WARM_UP_NODULES = 20
"""The first 20 nodules that pass the pre-filter are always kept, to start the running mean."""
MEMORY = 0.95
"""Weight of the old running mean in its update."""


@dataclass(frozen=True)
class PreFilter:
    """Limits outside of which a nodule is rejected at once; pairs are (least, most).

    Attributes:
        edge_mm: longest edge of the bounding box.
        elongation: largest ratio of the longest to the shortest edge.
        volume_mm3: of the nodule.
        mid_slice_voxels: voxels of the mid slice. The released program means mm2, but compares with a count of voxels.
        circularity: least circularity of the mid slice.
    """

    edge_mm: tuple[float, float]
    elongation: float
    volume_mm3: tuple[float, float]
    mid_slice_voxels: tuple[float, float]
    circularity: float


ALNSB_LIMITS = PreFilter((5, 30), 4, (36.8, 7952), (19.6, 707), 1 / 6)
LUNG_LIMITS = PreFilter((3, 45), 8, (8.47, 7952), (3.93, 2827), 1 / 30)
"""The limits of the released analyzer (ALNSB), and the wider limits of LuNG."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analyzer's features of n nodules, and its pre-filter's result.

    Attributes:
        features: float64 [n, 12], columns as in `FEATURES`; NaN for a nodule without voxels.
        passed: bool [n], whether the nodule is one piece and within the limits.
    """

    features: NDArray[np.float64]
    passed: NDArray[np.bool_]


def analyse(
    masks: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    limits: PreFilter = LUNG_LIMITS,
    convention: Convention = "alnsb",
) -> Analysis:
    """Remove small pieces from masks, measure the features, and apply the pre-filter.

    A mask in several pieces does not pass, because the analyzer would take it for several nodules.

    Args:
        masks: bool [n, z, y, x]; an empty mask does not pass.
        spacing_mm: voxel size (z, y, x).
        limits: limits of the pre-filter.
        convention: convention of the features, see `shape_features`.
    """
    kept, pieces = _drop_small_pieces(masks)
    present = np.flatnonzero(pieces)
    features = np.full((len(masks), 12), np.nan)
    passed = np.zeros(len(masks), bool)
    if not len(present):
        return Analysis(features, passed)
    features[present] = measured = shape_features(kept[present], spacing_mm, convention)
    low, high = bounding_boxes(kept[present])
    edges = (high - low + 1) * np.asarray(spacing_mm)
    longest = edges.max(1)
    mid_slice = measured[:, 0] / (spacing_mm[1] * spacing_mm[2])
    passed[present] = (
        (pieces[present] == 1)
        & _within(longest, limits.edge_mm)
        & (longest <= limits.elongation * edges.min(1))
        & _within(measured[:, 4], limits.volume_mm3)
        & _within(mid_slice, limits.mid_slice_voxels)
        & (measured[:, 3] >= limits.circularity)
    )
    return Analysis(features, passed)


def accept(analysis: Analysis, seeds: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Choose, one nodule after the other, which are kept, so that the mean of each feature stays near the seeds' mean.

    Every feature is tested on its own. If it moves its running mean away from the seeds' mean, and the paper's distance
    d is above three standard deviations of the seeds, it keeps the nodule with probability 0.7 + 0.9/d. The first
    `WARM_UP_NODULES` nodules that pass the pre-filter are always kept.

    Args:
        analysis: analysis of generated nodules.
        seeds: features of the real seed nodules, float64 [n, 12].
        seed: seed of the draws; the draws for nodule i do not depend on earlier nodules.

    Returns:
        bool [n], whether each nodule is kept.
    """
    mean, deviation = seeds.mean(0), _deviation(seeds)
    running = np.zeros(len(mean))
    kept = np.zeros(len(analysis.passed), bool)
    n_kept = 0
    for i in np.flatnonzero(analysis.passed):
        values = analysis.features[i]
        if n_kept < WARM_UP_NODULES:
            running = running + (1 - MEMORY) * values
        else:
            away = ((values > mean) & (running > mean)) | ((values < mean) & (running < mean))
            distance = abs(values + 3 * running - 4 * mean) / deviation
            probability = np.where(away & (distance > 3), 0.7 + 0.9 / np.maximum(distance, 3), 1)
            if (generator(seed, "accept", int(i)).random(len(mean)) > probability).any():
                continue
        running = MEMORY * running + (1 - MEMORY) * values
        kept[i] = True
        n_kept += 1
    return kept


@dataclass(frozen=True)
class Score:
    """LuNG's measures of a generator.

    Attributes:
        acceptance: AC, share of the generated nodules that the analyzer keeps, without the warm-up.
        feature_distance: FtDist, mean distance of a kept nodule to the closest seed, in standard deviations.
        feature_mmse: FtMMSE, mean squared difference between the features' means, in standard deviations.
        mse: 1000 times the mean squared error per voxel of the reconstructed seeds.
    """

    acceptance: float
    feature_distance: float
    feature_mmse: float
    mse: float

    @property
    def score(self) -> float:
        """(FtDist - 1) / ((FtMMSE + 0.1) (MSE + 0.1) (1 - AC)); infinite if all nodules are kept."""
        divisor = (self.feature_mmse + 0.1) * (self.mse + 0.1) * (1 - self.acceptance)
        return (self.feature_distance - 1) / divisor if divisor else np.inf


def measure(analysis: Analysis, seeds: NDArray[np.float64], mse: float, seed: int) -> Score:
    """Measure the Score of generated nodules against the seeds.

    Args:
        analysis: analysis of the generated nodules.
        seeds: features of the real seed nodules, float64 [n, 12].
        mse: 1000 times the mean squared error per voxel of the reconstructed seeds.
        seed: seed of the draws of `accept`.

    Raises:
        InputError: too few nodules are kept, or a feature of the seeds is not finite.
    """
    return measure_kept(analysis, accept(analysis, seeds, seed), seeds, mse)


def measure_kept(analysis: Analysis, accepted: NDArray[np.bool_], seeds: NDArray[np.float64], mse: float) -> Score:
    """Measure the Score as `measure` does, for nodules `accepted` (bool [n]) by an earlier call of `accept`."""
    kept = np.flatnonzero(accepted)
    if len(kept) <= WARM_UP_NODULES:
        raise InputError(
            "generated nodules", f"{len(kept)} kept of {len(analysis.passed)}", f"more than {WARM_UP_NODULES}"
        )
    values = analysis.features[kept[WARM_UP_NODULES:]]
    deviation = _deviation(seeds)
    gaps = np.linalg.norm((values[:, None] - seeds[None]) / deviation, axis=2)
    varying = np.isfinite(deviation)
    return Score(
        acceptance=(len(kept) - WARM_UP_NODULES) / (len(analysis.passed) - WARM_UP_NODULES),
        feature_distance=float(gaps.min(1).mean()),
        feature_mmse=float((((values.mean(0) - seeds.mean(0)) / deviation)[varying] ** 2).mean()),
        mse=mse,
    )


def _deviation(seeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each feature of the seeds; infinite, so that it does not count, if all are equal.

    The Euler number of outlined nodules is often 1 for all of them.
    """
    deviation = seeds.std(0)
    if not np.isfinite(deviation).all():
        raise InputError("seeds' features", "a value that is not finite", "seeds that pass the pre-filter")
    return np.where(deviation > 1e-9 * (1 + abs(seeds.mean(0))), deviation, np.inf)


def _drop_small_pieces(masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the masks without pieces of fewer than `SMALLEST_PIECE` voxels, and the number of pieces left in each."""
    kept, pieces = np.zeros_like(masks), np.zeros(len(masks), np.int64)
    for i, mask in enumerate(masks):
        labels, n = label_components(mask)
        large = np.bincount(labels.ravel(), minlength=n + 1) >= SMALLEST_PIECE
        large[0] = False
        kept[i], pieces[i] = large[labels], large.sum()
    return kept, pieces


def _within(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return (limits[0] <= values) & (values <= limits[1])
