"""Whether the source of a chest, or the traces of edits, give its label away (papers/5, figure 3a)."""

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
"""AUC by which a classifier that is asked for the source may differ from .5 and still count as not knowing it."""


@dataclass(frozen=True)
class Bias:
    """What tells the label or the source, other than nodules.

    Attributes:
        source: AUC of a classifier that was trained to tell which chests had nodules of their own, less .5, against
            `SOURCE_MARGIN`; None where all chests are of one kind.
        edited: AUC of a classifier that was trained to tell edited chests from others; None where none are edited.
        told: AUC for the label of somebody who is told source and edited alone, in the design of the paper.
        told_sham: the same where healthy places are edited too; None without an eraser.
        sham_called: share of healthy chests with a sham edit that the real-only classifier says have a nodule, less
            that of healthy chests without one; None without an eraser.
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
    """Train classifiers that are asked for the source and for edits, and see what real-only ones say of sham edits."""
    test, val = splits.test, splits.val
    one_each = np.isin(test.kinds, (KEPT, HEALTHY, ERASED)) | (
        (test.kinds == INJECTED) & (test.diameters == SIZES_STUDIED_MM[len(SIZES_STUDIED_MM) // 2])
    )
    few = replace(study, seeds=list(study.seeds)[:1])

    def asked(name: str, of: Callable[[ChestSet], NDArray]) -> Statistic | None:
        """The AUC of a classifier that is trained to tell something else than the label."""
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
    return Bias(known, traces, told_alone(train), None if sham is None else told_alone(sham), called)


def _called_more(scores: Scores, splits: ChestSplits, rows: NDArray[np.bool_], shams: NDArray[np.bool_]) -> Statistic:
    """The share of sham edits that are called a nodule, less that of chests without edits of healthy places."""
    called = scores.test[rows] >= choose_threshold(splits.val.labels, scores.val)
    return difference(mean_of(called, shams), mean_of(called, ~shams))


def told_alone(chests: ChestSet) -> float:
    """The AUC for the label by the share of positive chests among those of the same source and edited or not.

    1 where both together give the label away, as in the paper's design; .5 where they say nothing.
    """
    groups = chests.source * 2 + chests.edited
    share = {group: chests.labels[groups == group].mean() for group in np.unique(groups)}
    scores = np.array([share[group] for group in groups])
    return float(auc_of(chests.labels, scores).values(np.ones((1, len(chests))))[0])
