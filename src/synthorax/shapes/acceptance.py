"""Which generated nodules LuNG's analyzer keeps, and the Score of a generator (section III-D)."""

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
"""18-connected pieces of fewer voxels are dropped before anything is measured."""
WARM_UP_NODULES = 20
"""The first nodules that pass the pre-filter are kept unconditionally, to start the running mean."""
MEMORY = 0.95
"""Share of the old running mean in the new one."""


@dataclass(frozen=True)
class PreFilter:
    """Limits outside of which a nodule is not analysed at all; pairs are least and most.

    Attributes:
        edge_mm: longest edge of the bounding box.
        elongation: longest over shortest edge, at most.
        mid_slice_voxels: the released limits are meant in mm2 but compared with a count.
        circularity: of the mid slice, at least.
    """

    edge_mm: tuple[float, float]
    elongation: float
    volume_mm3: tuple[float, float]
    mid_slice_voxels: tuple[float, float]
    circularity: float


ALNSB_LIMITS = PreFilter((5, 30), 4, (36.8, 7952), (19.6, 707), 1 / 6)
LUNG_LIMITS = PreFilter((3, 45), 8, (8.47, 7952), (3.93, 2827), 1 / 30)
"""ALNSB's limits as LuNG loosened them."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the analyzer makes of some nodules.

    Attributes:
        features: float64 [n, 12]; rows of nodules that did not pass are NaN where there was nothing to measure.
        passed: bool [n], one piece and within the limits.
    """

    features: NDArray[np.float64]
    passed: NDArray[np.bool_]


def analyse(
    masks: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    limits: PreFilter = LUNG_LIMITS,
    convention: Convention = "alnsb",
) -> Analysis:
    """Drop small pieces, measure, and apply the pre-filter.

    A nodule in several pieces does not pass: the analyzer would take it for several nodules.

    Args:
        masks: bool [n, z, y, x]; empty ones are allowed and do not pass.
        spacing_mm: voxel size (z, y, x).
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
    """Which nodules are kept, in the order they come, so that the mean of each feature stays the seeds'.

    A feature that moves its running mean away from the seeds' mean, and is more than three of their
    standard deviations off by the paper's d, keeps the nodule with probability 0.7 + 0.9/d; every
    feature is tested on its own. The first `WARM_UP_NODULES` that pass the pre-filter are kept as they are.

    Args:
        seeds: features of the seeds, float64 [n, 12].
        seed: of the draws; nodule i's are the same whatever came before it.
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
        acceptance: AC, the share of generated nodules that the analyzer keeps, warm-up aside.
        feature_distance: FtDist, mean distance of a kept nodule to the closest seed, in standard deviations.
        feature_mmse: FtMMSE, mean squared difference of the features' means, in standard deviations.
        mse: 1000 x the squared error per voxel of the seeds reproduced.
    """

    acceptance: float
    feature_distance: float
    feature_mmse: float
    mse: float

    @property
    def score(self) -> float:
        """(FtDist - 1) / ((FtMMSE + 0.1) (MSE + 0.1) (1 - AC)); infinite if everything is kept."""
        divisor = (self.feature_mmse + 0.1) * (self.mse + 0.1) * (1 - self.acceptance)
        return (self.feature_distance - 1) / divisor if divisor else np.inf


def measure(analysis: Analysis, seeds: NDArray[np.float64], mse: float, seed: int) -> Score:
    """The Score of generated nodules against the seeds they are to be like.

    Raises:
        InputError: too few nodules are kept to measure anything, or seeds with features that are not finite.
    """
    return measure_kept(analysis, accept(analysis, seeds, seed), seeds, mse)


def measure_kept(analysis: Analysis, accepted: NDArray[np.bool_], seeds: NDArray[np.float64], mse: float) -> Score:
    """`measure` where it is known which nodules are kept, [n]."""
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
    """The seeds' standard deviations; infinite, which leaves the feature out, where they are all alike.

    Outlined nodules often all have the Euler number 1, and then it has no scale to be measured by.
    """
    deviation = seeds.std(0)
    if not np.isfinite(deviation).all():
        raise InputError("seeds' features", "a value that is not finite", "seeds that pass the pre-filter")
    return np.where(deviation > 1e-9 * (1 + abs(seeds.mean(0))), deviation, np.inf)


def _drop_small_pieces(masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The masks without pieces under `SMALLEST_PIECE` voxels, and how many pieces each has left."""
    kept, pieces = np.zeros_like(masks), np.zeros(len(masks), np.int64)
    for i, mask in enumerate(masks):
        labels, n = label_components(mask)
        large = np.bincount(labels.ravel(), minlength=n + 1) >= SMALLEST_PIECE
        large[0] = False
        kept[i], pieces[i] = large[labels], large.sum()
    return kept, pieces


def _within(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return (limits[0] <= values) & (values <= limits[1])
