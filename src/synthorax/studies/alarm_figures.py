"""Measures of detectors on whole chests: false alarms per chest at a fixed sensitivity, and AUCs, with intervals.

The bootstrap draws the patients of nodules and the patients of chests separately, since no patient is in both groups.
All arms are compared on the same draws. The chests are few, so the intervals of the false alarms are wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.metrics import checks
from synthorax.metrics.bootstrap import Bootstrap, Statistic, ratio, resampled
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.roc import auc_of
from synthorax.studies.results import Test, with_corrected_p
from synthorax.studies.trials import Scores

FOUND = 0.8
"""False alarms are counted at the threshold at which the detector finds this share of the pasted nodules."""
ALARMS, AUC_CHESTS, AUC_CUBES = "false alarms a chest", "auc in chests", "auc in cubes"
"""Measures: marks per chest at places without a nodule, at the sensitivity `FOUND`; AUC of pasted nodules against
look-alikes; AUC of nodules in cubes against corners."""
FIGURES = (ALARMS, AUC_CHESTS, AUC_CUBES)


@dataclass(frozen=True, eq=False)
class AlarmPatients:
    """The patients of the patches and chests on which detectors are tested.

    Attributes:
        cubes: patient of each patch of the cubes, [c].
        labels: class of each of these patches, 1 for a nodule, int64 [c].
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
    """The results of an arm; the keys of all mappings are the names in `FIGURES`.

    Attributes:
        figures: mean over trainings, with the 95 % interval over patients.
        each: value of every training.
        against: comparison with the reference arm, whose p is corrected for the number of arms; empty for the
            reference itself.
    """

    name: str
    figures: Mapping[str, Estimate]
    each: Mapping[str, Sequence[float]]
    against: Mapping[str, Test] = field(default_factory=dict)


def alarm_arms(
    said: Mapping[str, Sequence[Scores]], of: AlarmPatients, reference: str, seed: int = 0
) -> list[AlarmArm]:
    """Measure each arm, and compare it with the reference arm.

    Args:
        said: arm to the scores of each of its trainings: `val` has the patches of the cubes, `test` the pasted nodules
            and then the look-alikes, `marks` the marks at places of the chests without a nodule.
        of: patients of these patches and chests.
        reference: arm with which the others are compared.
        seed: seed of the bootstrap.
    """
    weights = _Weights.drawn(of, seed)
    values = {name: [_values(scores, of, weights) for scores in trainings] for name, trainings in said.items()}
    found = []
    for name, trainings in values.items():
        means = {figure: np.mean([one[figure] for one in trainings], 0) for figure in FIGURES}
        figures = {figure: Bootstrap.of(float(mean[0]), mean[1:]).interval() for figure, mean in means.items()}
        against: dict[str, Test] = {}
        if name != reference:
            other = {figure: np.mean([one[figure] for one in values[reference]], 0) for figure in FIGURES}
            for figure in FIGURES:
                apart = means[figure] - other[figure]
                compared = Bootstrap.of(float(apart[0]), apart[1:]).comparison()
                against[figure] = Test(name, reference, figure, **asdict(compared), p_holm=None)
        each = {figure: [float(one[figure][0]) for one in trainings] for figure in FIGURES}
        found.append(AlarmArm(name, figures, each, against))
    tests: dict[str, dict[str, Test]] = {arm.name: {} for arm in found}
    for figure in FIGURES:
        compared_arms = [arm.against[figure] for arm in found if arm.against]
        for test in with_corrected_p(compared_arms, len(said[reference])):
            tests[test.a][figure] = test
    return [replace(arm, against=tests[arm.name]) for arm in found]


@dataclass(frozen=True, eq=False)
class _Weights:
    """Weights of rows, [1 + b, n]: 1 in the first line, the observed data, and counts in b bootstrap replicates."""

    cubes: NDArray[np.float64]
    pasted: NDArray[np.float64]
    look_alikes: NDArray[np.float64]
    chests: NDArray[np.float64]

    @classmethod
    def drawn(cls, of: AlarmPatients, seed: int) -> _Weights:
        def counts(patients: NDArray[np.str_], draw: int) -> NDArray[np.float64]:
            rows = Statistic(len(patients), lambda weights: weights)
            return np.concatenate([np.ones((1, len(patients))), resampled(rows, patients, seed=draw)])

        # Look-alikes lie in the chests, so a replicate must draw both with the same patients.
        chests = counts(of.chests, seed + 1)
        _, first = np.unique(of.chests, return_index=True)
        by_patient = dict(zip(of.chests[first].tolist(), chests[:, first].T, strict=True))
        look_alikes = np.stack([by_patient[patient] for patient in of.look_alikes.tolist()], 1)
        return cls(counts(of.cubes, seed), counts(of.pasted, seed), look_alikes, chests)


def _values(scores: Scores, of: AlarmPatients, weights: _Weights) -> dict[str, NDArray[np.float64]]:
    """Return the measures of one training: of the observed data, then of b replicates, [1 + b] each."""
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
    """Return the false alarms per chest at the highest threshold at which a share of the nodules is found, [b].

    Args:
        found: the share of the nodules.
        nodules: the detector's score of each nodule, [n].
        nodule_weights, chest_weights: weight of each nodule [b, n] and of each chest [b, k] in b replicates.
        marks: rows of chest number, x, y, z in mm and score, [c, 5].
    """
    checks.vector("nodules", nodules)
    order = np.argsort(-nodules, kind="stable")
    reached = np.cumsum(nodule_weights[:, order], 1)
    reached /= reached[:, -1:]
    cuts = nodules[order][np.argmax(reached >= found - 1e-9, 1)]
    of_mark = chest_weights[:, marks[:, 0].astype(int)]
    counts = (of_mark * (marks[:, 4] >= cuts[:, None])).sum(1)
    return ratio(counts, chest_weights.sum(1))
