"""Patches of malignant and benign nodules, as readers rated them, and the AUC among nodules of similar size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset, Place
from synthorax.datasets.places import nodule_places
from synthorax.datasets.store import SPLITS, Store
from synthorax.metrics.roc import auc_of, matched_auc_of
from synthorax.nodule import MalignancyRule, malignancy_of
from synthorax.studies.results import Interval
from synthorax.studies.trials import Splits, Study, check_places, defined, over_seeds, patients_of
from synthorax.tasks.config import TaskConfig

LIKE_SIZE_RATIO = 1.15
"""Two nodules have similar sizes if the larger diameter is at most this many times the smaller one."""
MALIGNANCY_STRATA_MM = (0.0, 8.0, 12.0, np.inf)
"""Bounds in mm of the strata of diameter within which malignant and benign nodules are compared."""


def malignancy_splits(study: Study, config: TaskConfig, rule: MalignancyRule) -> Splits:
    """Return the patches of the rated nodules of each split, with the labels 0 (benign) and 1 (malignant).

    Nodules without a diameter are left out.

    Raises:
        InputError: a split has too few patients of a class.
    """
    check_rated(study.store, rule)
    return study.splits(config, partial(_rated, study.store, rule))


def check_rated(store: Store, rule: MalignancyRule) -> None:
    """Check, before any patch is cut, that every split has enough patients with benign and with malignant nodules.

    Raises:
        InputError: a split has too few patients of a class.
    """
    places = {split: _rated(store, rule, split) for split in SPLITS}
    check_places(store, places, {0: "a benign nodule", 1: "a malignant nodule"})


def _rated(store: Store, rule: MalignancyRule, split: str) -> list[Place]:
    """Return the places of the rated nodules of a split that have a diameter."""
    rated = nodule_places(store.in_split(split), lambda nodule: malignancy_of(nodule, rule))
    return [place for place in rated if place.nodule and place.nodule.attributes.diameter_mm]


def diameters_of(patches: PatchDataset) -> NDArray[np.float64]:
    """Return the diameter in mm of each patch's nodule, 0 if it is not known, [n]."""
    nodules = [place.nodule.attributes if place.nodule else None for place in patches.places]
    return np.array([(each.diameter_mm or 0.0) if each else 0.0 for each in nodules])


def by_size(patches: PatchDataset, scores: Sequence[NDArray], diameters: NDArray[np.float64]) -> dict[str, Interval]:
    """Return the AUC over all nodules, over pairs in one stratum of diameter, and over pairs of similar size.

    Args:
        patches: the nodules, with labels.
        scores: scores [n] of each training.
        diameters: diameter in mm of each nodule, [n].
    """
    labels, patients = patches.labels, patients_of(patches)
    stratum = np.digitize(diameters, MALIGNANCY_STRATA_MM)
    ratio = np.abs(np.log(diameters[:, None] / diameters))
    pairs = {"within strata": stratum[:, None] == stratum, "pairs of like size": ratio <= np.log(LIKE_SIZE_RATIO)}

    def matched(comparable: NDArray[np.bool_]) -> Interval:
        return over_seeds([matched_auc_of(labels, found, comparable) for found in scores], patients)

    metrics = {"auc": over_seeds([auc_of(labels, found) for found in scores], patients)}
    return metrics | defined({name: partial(matched, comparable) for name, comparable in pairs.items()})
