"""Effect of the requested class: benign and malignant in-paintings of the same sites and seeds, compared in pairs.

Each nodule is painted twice, as benign and as malignant. Two things are compared: measures of the nodules
(`NODULE_MEASURES`), and the scores of a malignancy classifier that was trained on real nodules alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthorax.errors import InputError
from synthorax.metrics.appearance import Nodules
from synthorax.metrics.bootstrap import mean_of, patient_bootstrap
from synthorax.metrics.borders import margin_steepness, seen_nodule
from synthorax.metrics.estimates import Comparison, Estimate
from synthorax.metrics.roc import auc_of
from synthorax.patch import NETWORK_WINDOW_HU
from synthorax.shapes.features import FEATURES, shape_features
from synthorax.studies.conditions import half_widths_mm
from synthorax.studies.painted import Painted

PROFILE_VOXELS = 21
"""Edge in voxels of the patches in which the full width at half maximum is measured."""
IRREGULAR = list(FEATURES).index("f9")
"""Column of surface³ / (36π volume²) among the shape features: 1 for a sphere, larger with lobes and spicules."""
HALF_WIDTH, STEEPNESS, IRREGULARITY, MEAN_HU = "width, mm", "margin, HU/mm", "irregularity", "HU"
NODULE_MEASURES = {
    HALF_WIDTH: "full width at half maximum of the HU profile around the place, in mm",
    STEEPNESS: "mean HU gradient in the margin of the nodule as it is seen, in HU per mm",
    IRREGULARITY: "surface³ / (36π volume²) of the nodule as it is seen, 1 for a sphere: lobes and spicules",
    MEAN_HU: "mean HU of the nodule as it is seen",
}
"""Measures of a nodule, with their meaning. "As it is seen" means the mask found in the HU by
`metrics.borders.seen_nodule`, not the mask that a method returns."""
Scorer = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""A function of patches, HU [n, z, y, x], to scores [n], higher for nodules that look malignant."""


@dataclass(frozen=True)
class PairedMeasure:
    """A measure of nodules that were painted as both classes.

    Attributes:
        n: number of pairs in which both nodules could be measured.
        benign, malignant: mean of each class.
        difference: mean of malignant less benign, with the interval over patients.
    """

    n: int
    benign: float
    malignant: float
    difference: Comparison


@dataclass(frozen=True)
class ClassFigures:
    """The difference between in-paintings of the two classes.

    Attributes:
        pairs: number of pairs of a site and a seed that were painted as both classes.
        measures: name of each of `NODULE_MEASURES` to its values; a measure of fewer than two patients is missing.
        auc: AUC of malignant against benign in-paintings, by the score of a classifier trained on real nodules alone.
        wins: share of the pairs in which the malignant in-painting has the higher score; equal scores count half.
    """

    pairs: int
    measures: Mapping[str, PairedMeasure]
    auc: Estimate
    wins: Estimate


def nodule_measures(
    hu: NDArray, masks: NDArray[np.bool_], around: NDArray, spacing_mm: tuple[float, float, float]
) -> dict[str, NDArray[np.float64]]:
    """Measure nodules. Measures are NaN for a nodule that cannot be seen in the HU.

    Args:
        hu: HU [n, z, y, x].
        masks: the methods' or readers' masks of the nodules, bool [n, z, y, x], none empty.
        around: HU of smaller patches with the nodules in their middles, [n, z, y, x].
        spacing_mm: voxel size (z, y, x).

    Returns:
        Name of each of `NODULE_MEASURES` to its values [n].
    """
    clipped = np.clip(hu, *NETWORK_WINDOW_HU)
    found = {name: np.full(len(hu), np.nan) for name in NODULE_MEASURES}
    found[HALF_WIDTH] = half_widths_mm(np.clip(around, *NETWORK_WINDOW_HU), spacing_mm)
    for i, (patch, mask) in enumerate(zip(clipped, masks, strict=True)):
        try:
            seen = seen_nodule(patch, mask, spacing_mm)
        except InputError:  # no lung around it
            continue
        if seen.any():
            found[STEEPNESS][i] = margin_steepness(patch, seen, spacing_mm)
            found[IRREGULARITY][i] = shape_features(seen[None], spacing_mm, "corrected")[0, IRREGULAR]
            found[MEAN_HU][i] = patch[seen].mean()
    return found


def real_measures(nodules: Nodules) -> dict[str, NDArray[np.float64]]:
    """Measure real nodules, in the middles of their patches, as `nodule_measures` does."""
    n = len(nodules)
    spacing = tuple(nodules.spacing_mm)
    middles = np.tile(np.array(nodules.hu.shape[1:]) // 2, (n, 1))
    starts = middles[0] - PROFILE_VOXELS // 2
    box = tuple(slice(a, a + PROFILE_VOXELS) for a in starts.tolist())
    return nodule_measures(nodules.hu, nodules.masks, nodules.hu[(slice(None), *box)], spacing)  # type: ignore[arg-type]


def class_figures(
    benign: Painted, malignant: Painted, score: Scorer, size: tuple[int, int, int], seed: int = 0
) -> ClassFigures:
    """Compare benign and malignant in-paintings of the same sites and seeds.

    Args:
        benign, malignant: in-paintings; a site and seed that only one of them has is left out.
        score: score of a malignancy classifier.
        size: voxels (z, y, x) of the classifier's patches.
        seed: seed of the intervals.

    Raises:
        InputError: the two were made of other sites, or have no site and seed in common.
    """
    if not np.array_equal(benign.patients, malignant.patients):
        raise InputError("in-paintings", "other sites for the other class", "the same sites")
    first, second = _paired(benign, malignant)
    units = first.owners
    found = [_measures_of(each) for each in (first, second)]
    measures = {}
    for name in NODULE_MEASURES:
        known = np.isfinite(found[0][name]) & np.isfinite(found[1][name])
        if len(np.unique(units[known])) < 2:
            continue
        low, high = (each[name][known] for each in found)
        compared = patient_bootstrap(mean_of(high - low), units[known], seed=seed).comparison()
        measures[name] = PairedMeasure(int(known.sum()), float(low.mean()), float(high.mean()), compared)
    scores = [score(each.around(each.after, size).astype(np.float32)) for each in (first, second)]
    labels = np.repeat([0, 1], len(units))
    auc = patient_bootstrap(auc_of(labels, np.concatenate(scores)), np.tile(units, 2), seed=seed)
    higher = (scores[1] > scores[0]) + (scores[1] == scores[0]) / 2
    wins = patient_bootstrap(mean_of(higher), units, seed=seed)
    return ClassFigures(len(units), measures, auc.interval(), wins.interval())


def _measures_of(made: Painted) -> dict[str, NDArray[np.float64]]:
    around = made.around(made.after, (PROFILE_VOXELS,) * 3)
    return nodule_measures(made.after, made.masks, around, made.spacing_mm)


def _paired(benign: Painted, malignant: Painted) -> tuple[Painted, Painted]:
    """Return the in-paintings whose site and seed both have, in the same order."""
    keys = [_numbers(each) for each in (benign, malignant)]
    both = sorted(set(keys[0]) & set(keys[1]))
    if not both:
        raise InputError("in-paintings", "no site and seed painted as both classes", "one or more")
    rows = [np.array([own.index(key) for key in both]) for own in keys]
    return benign.rows(rows[0]), malignant.rows(rows[1])


def _numbers(made: Painted) -> Sequence[tuple[int, int]]:
    return list(zip(made.sites.tolist(), made.seeds.tolist(), strict=True))
