"""Figures of detectors that were led over whole chests: false alarms at a sensitivity, and AUCs, with intervals.

Patients of nodules and of chests are drawn apart from each other, as neither are of the other kind; arms are compared
on the same draws. Chests are few, so that the intervals of false alarms are wide, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Bootstrap, Statistic, ratio, resampled
from synthorax.metrics.comparisons import holm
from synthorax.metrics.estimates import Comparison, Estimate
from synthorax.metrics.roc import auc_of
from synthorax.studies.trials import Scores

FOUND = 0.8
"""False alarms are counted where this share of the pasted nodules is found, so that no threshold has to be chosen."""
ALARMS, AUC_CHESTS, AUC_CUBES = "false alarms a chest", "auc in chests", "auc in cubes"
"""Figures: marks where no nodule is at the sensitivity `FOUND`; pasted nodules against look-alikes; nodules of cubes
against corners."""
FIGURES = (ALARMS, AUC_CHESTS, AUC_CUBES)


@dataclass(frozen=True, eq=False)
class AlarmPatients:
    """Whose the patches and chests are that detectors are tested on.

    Attributes:
        cubes: patient of each patch of the cubes, [c].
        labels: of these patches, 1 for nodules, int64 [c].
        pasted: patient of each nodule that was pasted into a chest, [p].
        look_alikes: patient of each look-alike, [l].
        chests: patient of each chest, [k].
    """

    cubes: NDArray[np.str_]
    labels: NDArray[np.int64]
    pasted: NDArray[np.str_]
    look_alikes: NDArray[np.str_]
    chests: NDArray[np.str_]


@dataclass(frozen=True)
class AlarmArm:
    """What came of an arm.

    Attributes:
        figures: by the names of `FIGURES`, means over trainings with 95 % intervals over patients.
        each: of every training, by the same names.
        against: each figure less that of the reference; empty for the reference itself.
        p_holm: of these differences, corrected for the arms.
    """

    name: str
    figures: Mapping[str, Estimate]
    each: Mapping[str, Sequence[float]]
    against: Mapping[str, Comparison] = field(default_factory=dict)
    p_holm: Mapping[str, float] = field(default_factory=dict)


def alarm_arms(
    said: Mapping[str, Sequence[Scores]], of: AlarmPatients, reference: str, seed: int = 0
) -> list[AlarmArm]:
    """Measure each arm, and compare it with one of them.

    Args:
        said: by arm, of every training: `val` of the patches of the cubes, `test` of the pasted nodules and then of
            the look-alikes, `marks` in the chests where no nodule is.
        reference: the arm that the others are compared with.
    """
    weights = _Weights.drawn(of, seed)
    values = {name: [_values(scores, of, weights) for scores in trainings] for name, trainings in said.items()}
    found = []
    for name, trainings in values.items():
        means = {figure: np.mean([one[figure] for one in trainings], 0) for figure in FIGURES}
        figures = {figure: Bootstrap.of(float(mean[0]), mean[1:]).interval() for figure, mean in means.items()}
        against: dict[str, Comparison] = {}
        if name != reference:
            other = {figure: np.mean([one[figure] for one in values[reference]], 0) for figure in FIGURES}
            apart = {figure: means[figure] - other[figure] for figure in FIGURES}
            against = {figure: Bootstrap.of(float(d[0]), d[1:]).comparison() for figure, d in apart.items()}
        each = {figure: [float(one[figure][0]) for one in trainings] for figure in FIGURES}
        found.append(AlarmArm(name, figures, each, against))
    return _corrected(found)


def _corrected(arms: Sequence[AlarmArm]) -> list[AlarmArm]:
    rows = [arm for arm in arms if arm.against]
    by_figure = {figure: holm([arm.against[figure].p for arm in rows]) for figure in FIGURES} if rows else {}
    p = {arm.name: {figure: float(ps[i]) for figure, ps in by_figure.items()} for i, arm in enumerate(rows)}
    return [AlarmArm(arm.name, arm.figures, arm.each, arm.against, p.get(arm.name, {})) for arm in arms]


@dataclass(frozen=True, eq=False)
class _Weights:
    """How often each row counts: first in the data as it is, then in each replicate, [1 + b, n]."""

    cubes: NDArray[np.float64]
    pasted: NDArray[np.float64]
    look_alikes: NDArray[np.float64]
    chests: NDArray[np.float64]

    @classmethod
    def drawn(cls, of: AlarmPatients, seed: int) -> _Weights:
        def counts(patients: NDArray[np.str_], draw: int) -> NDArray[np.float64]:
            rows = Statistic(len(patients), lambda weights: weights)
            return np.concatenate([np.ones((1, len(patients))), resampled(rows, patients, seed=draw)])

        # Look-alikes lie in the chests: both are drawn with the same patients, who are counted once by their chests.
        chests = counts(of.chests, seed + 1)
        _, first = np.unique(of.chests, return_index=True)
        by_patient = dict(zip(of.chests[first].tolist(), chests[:, first].T, strict=True))
        look_alikes = np.stack([by_patient[patient] for patient in of.look_alikes.tolist()], 1)
        return cls(counts(of.cubes, seed), counts(of.pasted, seed), look_alikes, chests)


def _values(scores: Scores, of: AlarmPatients, weights: _Weights) -> dict[str, NDArray[np.float64]]:
    """The figures of a training, [1 + b] each."""
    pasted, look_alikes = np.split(scores.test, [len(of.pasted)])
    labels = np.repeat([1, 0], [len(pasted), len(look_alikes)])
    in_chests = auc_of(labels, scores.test)
    return {
        ALARMS: alarms_at(FOUND, pasted, weights.pasted, scores.marks, weights.chests),
        AUC_CHESTS: in_chests.values(np.concatenate([weights.pasted, weights.look_alikes], 1)),
        AUC_CUBES: auc_of(of.labels, scores.val).values(weights.cubes),
    }


def alarms_at(
    found: float,
    nodules: NDArray[np.float64],
    nodule_weights: NDArray[np.float64],
    marks: NDArray[np.float64],
    chest_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """False alarms a chest at the highest threshold at which a share of the nodules is found, [b].

    Args:
        nodules: what a detector says of nodules, [n].
        nodule_weights, chest_weights: how often each nodule and each chest counts, [b, n] and [b, k].
        marks: number of the chest, x, y, z in mm and score, [c, 5].
    """
    checks.vector("nodules", nodules)
    order = np.argsort(-nodules, kind="stable")
    reached = np.cumsum(nodule_weights[:, order], 1)
    reached /= reached[:, -1:]
    cuts = nodules[order][np.argmax(reached >= found - 1e-9, 1)]
    of_mark = chest_weights[:, marks[:, 0].astype(int)]
    counts = (of_mark * (marks[:, 4] >= cuts[:, None])).sum(1)
    return ratio(counts, chest_weights.sum(1))
