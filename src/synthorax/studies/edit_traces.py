"""Whether the source of a chest, or traces of edits, give its label away (CT-SGAN, figure 3a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.chest_grid import ChestRegion
from synthorax.metrics.bootstrap import Statistic, difference, mean_of, patient_bootstrap
from synthorax.metrics.classification import choose_threshold
from synthorax.metrics.estimates import Equivalence, Estimate
from synthorax.metrics.roc import auc_of
from synthorax.studies.chest_sets import (
    ERASED,
    HEALTHY,
    INJECTED,
    KEPT,
    SHAM,
    SIZES_STUDIED_MM,
    ChestSet,
    without_nodules,
)
from synthorax.studies.chest_training import ChestArm, ChestSplits, chest_scores
from synthorax.studies.results import Interval
from synthorax.studies.trials import Scores, Study, over_seeds
from synthorax.tasks.config import TaskConfig

SOURCE_MARGIN = 0.1
"""A classifier of the source whose AUC is equivalent to .5 within this margin does not recognise the source."""


@dataclass(frozen=True)
class Bias:
    """How well the label or the source can be predicted without looking at nodules.

    Attributes:
        source: AUC, less .5, of a classifier trained to recognise the chests that had nodules before any edit, with
            the test of equivalence within `SOURCE_MARGIN`; None if all chests have the same source.
        edited: AUC of a classifier trained to recognise edited chests; None if all chests, or none, are edited.
        told: AUC for the label that source and edit alone give in the paper's design (`auc_without_image`).
        told_sham: the same if healthy places are edited too; None without an eraser.
        sham_called: share of the sham-edited healthy chests in which the classifier trained on real chests finds a
            nodule, less the share of the other healthy chests; None without sham edits.
    """

    source: Equivalence | None
    edited: Estimate | None
    told: float
    told_sham: float | None
    sham_called: Interval | None


def bias_of(
    study: Study,
    config: TaskConfig,
    train: ChestSet,
    sham: ChestSet | None,
    splits: ChestSplits,
    real_only: Sequence[Scores],
    region: ChestRegion,
) -> Bias:
    """Train classifiers of the source and of edits, and measure false alarms at sham edits.

    Args:
        study: the store, the folder of the trainings, and their seeds; the first seed is used.
        config: the classifier and its training.
        train: training chests in the paper's design.
        sham: the same with sham edits; None without an eraser.
        splits: validation and test chests.
        real_only: scores of the classifiers trained on real chests.
        region: kind of the chests.
    """
    test, val = splits.test, splits.val
    one_each = np.isin(test.kinds, (KEPT, HEALTHY, ERASED)) | (
        (test.kinds == INJECTED) & (test.diameters == SIZES_STUDIED_MM[len(SIZES_STUDIED_MM) // 2])
    )
    few = replace(study, seeds=list(study.seeds)[:1])

    def asked(name: str, of: Callable[[ChestSet], NDArray]) -> Statistic | None:
        """Train a classifier of the labels that `of` gives; return its AUC, or None if a set has one class."""
        sets = [each.labelled(of(each)) for each in (train, val, test)]
        if any(len(np.unique(each.labels)) < 2 for each in sets):
            return None
        arm = ChestArm(name, [(0.0, sets[0])])
        (scores,) = chest_scores(few, config, arm, ChestSplits(sets[1], sets[2]), region)
        return auc_of(sets[2].labels[one_each], scores.test[one_each])

    source, edited = asked("told the source", lambda each: each.source), asked("told the edits", lambda e: e.edited)
    patients = test.patients[one_each]
    called = None
    if (shams := test.kinds == SHAM).any():
        rows = shams | without_nodules(test)
        called = over_seeds(
            [_called_more(scores, splits, rows, shams[rows]) for scores in real_only], test.patients[rows]
        )
    known = None
    if source is not None:
        less_half = Statistic(source.rows, lambda weights: source.values(weights) - 0.5)
        known = patient_bootstrap(less_half, patients).equivalence(SOURCE_MARGIN)
    traces = None if edited is None else patient_bootstrap(edited, patients).interval()
    return Bias(known, traces, auc_without_image(train), None if sham is None else auc_without_image(sham), called)


def _called_more(scores: Scores, splits: ChestSplits, rows: NDArray[np.bool_], shams: NDArray[np.bool_]) -> Statistic:
    """Return the share of sham-edited chests called positive, less the share of the other chests without nodules."""
    called = scores.test[rows] >= choose_threshold(splits.val.labels, scores.val)
    return difference(mean_of(called, shams), mean_of(called, ~shams))


def auc_without_image(chests: ChestSet) -> float:
    """Return the AUC for the label of a score that knows only a chest's source and whether it was edited.

    The score is the share of positive chests among those of the same source and the same state of edit. The AUC is 1 if
    the two give the label away, as in the paper's design, and .5 if they say nothing about it.
    """
    groups = chests.source * 2 + chests.edited
    share = {group: chests.labels[groups == group].mean() for group in np.unique(groups)}
    scores = np.array([share[group] for group in groups])
    return float(auc_of(chests.labels, scores).values(np.ones((1, len(chests))))[0])
