"""Baselines: what a detector, a malignancy classifier and a segmenter reach with real patches alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import get_args

import cc3d
import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset, Place
from synthorax.datasets.places import negative_places, nodule_places, outlined_places
from synthorax.datasets.store import SPLITS, Store
from synthorax.metrics.bootstrap import mean_of
from synthorax.nodule import MalignancyRule
from synthorax.patch import NEGATIVE, POSITIVE
from synthorax.shapes.overlap import dice
from synthorax.studies.malignant_or_benign import by_size, check_rated, diameters_of, malignancy_splits
from synthorax.studies.results import Arm, Interval
from synthorax.studies.trials import (
    Scores,
    Splits,
    Study,
    check_patients,
    check_places,
    check_splits,
    decisions,
    defined,
    over_seeds,
    patients_of,
)
from synthorax.tasks.classification import Classification, all_of, cts
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import augmentation, check_size

TISSUE_HU = -400
"""The trivial segmenter marks voxels denser than this, in HU, that are connected to the middle of the patch."""


def detection_splits(study: Study, config: TaskConfig, negatives: float = 1.0) -> Splits:
    """Return, for each split, patches with nodules and patches of the same scans without a nodule.

    Args:
        negatives: patches without a nodule for each nodule, in whole scans; cubes give all that they have.

    Raises:
        InputError: a split has too few patients of a class.
    """
    check_patients(study.store)

    def places(split: str) -> list[Place]:
        cases = study.store.in_split(split)
        positive = nodule_places(cases)
        count = round(negatives * len(positive))
        spec = config.patch
        margin = augmentation(config).margin(spec.size) if split == "train" else (0, 0, 0)
        return positive + negative_places(study.store, cases, spec, count, 0, margin=margin, cache=study.cache)

    splits = study.splits(config, places)
    check_splits(study.store, splits, {NEGATIVE: "a patch without a nodule", POSITIVE: "a nodule"})
    return splits


def detection_arms(study: Study, config: TaskConfig) -> list[Arm]:
    """Train and measure detectors of nodules against patches of the same scans without a nodule."""
    check_size(Classification(config))

    splits = detection_splits(study, config)
    found = study.scores("detector", config, splits)
    arms = [Arm("detector", list(study.seeds), decisions(found, splits), {})]
    bright = [brightness(patches) for patches in (splits.val, splits.test)]
    arms.append(Arm("HU of the middle alone", [], decisions([Scores(*bright)], splits), {}))
    return arms


def brightness(patches: PatchDataset) -> NDArray[np.float64]:
    """Return the mean intensity of the middle third of each patch along each axis, [n]: the trivial detector."""
    middle = tuple(slice(n // 3, n - n // 3) for n in patches.spec.size)
    found = [ct[:, 0].numpy()[(slice(None), *middle)].mean((1, 2, 3)) for ct in cts(patches)]
    return np.concatenate(found).astype(np.float64)


def malignancy_arms(study: Study, config: TaskConfig) -> list[Arm]:
    """Train and measure classifiers of malignant against benign nodules, as readers rated them.

    The diameter alone is measured beside them, and both also among nodules of similar diameters.
    """
    check_size(Classification(config))

    by_rule: dict[MalignancyRule, Splits] = {
        rule: malignancy_splits(study, config, rule) for rule in get_args(MalignancyRule)
    }  # before the first training
    arms = []
    for rule, splits in by_rule.items():
        found = study.scores(f"malignancy {rule}", config, splits)
        diameters = diameters_of(splits.test)
        networks = [scores.test for scores in found]
        title = f"{rule} of 4 or more" if rule == "median" else "more than half say 4 or more"
        arms.append(Arm(f"{title}: network", list(study.seeds), by_size(splits.test, networks, diameters), {}))
        arms.append(Arm(f"{title}: diameter alone", [], by_size(splits.test, [diameters], diameters), {}))
    return arms


def segmentation_arms(study: Study, config: TaskConfig) -> list[Arm]:
    """Train and measure segmenters of a nodule's voxels in the patch around it."""
    check_size(Segmentation(config))

    check_outlined(study.store)
    splits = study.splits(config, lambda split: outlined_places(study.store.in_split(split)))
    found = study.scores("segmenter", config, splits)
    whole, patients = all_of(splits.test), patients_of(splits.test)
    truth = whole["mask"][:, 0].numpy() > 0
    diameters = diameters_of(splits.test)
    trivial = np.stack([_joined_to_the_middle(cube) for cube in config.patch.to_hu(whole["ct"][:, 0]).numpy()])
    arms = []
    for name, seeds, masks in (
        ("U-Net", list(study.seeds), [scores.test for scores in found]),
        (f"denser than {TISSUE_HU} HU, joined to the middle", [], [trivial]),
    ):
        overlaps = [dice(mask, truth) for mask in masks]
        metrics = {"dice": over_seeds([mean_of(values) for values in overlaps], patients)}
        sizes = {"dice below 8 mm": diameters < 8, "dice from 8 mm": diameters >= 8}
        metrics |= defined({label: partial(_dice_of_some, overlaps, rows, patients) for label, rows in sizes.items()})
        arms.append(Arm(name, seeds, metrics, {}))
    return arms


def check_outlined(store: Store) -> None:
    """Check, before any patch is cut, that every split has enough patients with an outlined nodule.

    Raises:
        InputError: a split has too few.
    """
    places = {split: outlined_places(store.in_split(split)) for split in SPLITS}
    check_places(store, places, {POSITIVE: "a nodule with an outline"})


def check_rated_by_each_rule(store: Store) -> None:
    """Check that every split has enough patients of both classes by each rule of malignancy; see `check_rated`."""
    for rule in get_args(MalignancyRule):
        check_rated(store, rule)


def _dice_of_some(
    overlaps: Sequence[NDArray[np.float64]], rows: NDArray[np.bool_], patients: NDArray[np.str_]
) -> Interval:
    return over_seeds([mean_of(values, rows) for values in overlaps], patients)


def _joined_to_the_middle(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask of the component denser than `TISSUE_HU` that is nearest to the centre of a cube [z, y, x]."""
    dense = hu > TISSUE_HU
    if not dense.any():
        return dense
    labels = cc3d.connected_components(dense, connectivity=6)
    where = np.argwhere(dense)
    nearest = where[np.square(where - (np.array(hu.shape) - 1) / 2).sum(1).argmin()]
    joined: NDArray[np.bool_] = labels == labels[tuple(nearest)]
    return joined
