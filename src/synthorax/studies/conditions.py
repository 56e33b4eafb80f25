"""Checks that a maker's nodules have the requested diameters, masks of the same width, and the requested ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.places import nodule_places
from synthorax.errors import InputError
from synthorax.makers import Generator, Samples
from synthorax.metrics.bootstrap import Statistic, UndefinedError, by_rows
from synthorax.metrics.roc import matched_auc_of
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.seeding import derive
from synthorax.shapes.diameter import axial_diameters_mm
from synthorax.studies.malignant_or_benign import LIKE_SIZE_RATIO
from synthorax.studies.patch_makers import nodules_of, sampled, samples_for
from synthorax.studies.results import Interval
from synthorax.studies.trials import Splits, Study, check_splits, defined, over_seeds, patients_of
from synthorax.tasks.config import TaskConfig

Rating = Literal["texture", "malignancy"]
SIDES: dict[Rating, tuple[float, float]] = {"texture": (2.0, 5.0), "malignancy": (2.0, 4.0)}
"""Largest low rating and smallest high rating; nodules with ratings between them are left out."""


@dataclass(frozen=True)
class Check:
    """How well an attribute, as requested or as readers rated it, can be measured in patches.

    Attributes:
        what: the attribute and the name of the measure, for the page.
        real: the measure on real nodules of test patients, a bound for `made`; None if the store has too few nodules.
        made: maker that heeds the attribute to the measure on its nodules.
        note: number of real and synthetic nodules, or the reason why a value is missing.
    """

    what: str
    real: Interval | None
    made: dict[str, Interval]
    note: str = ""


def half_widths_mm(hu: NDArray[np.number], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the full width at half maximum in mm of each nodule's radial profile, [n].

    The profile is the mean HU in concentric shells around the middle of the cube. The width is twice the radius at
    which the profile falls half-way from its value in the middle to its minimum. Unlike the width of a thresholded
    mask, it changes little with vessels and walls beside the nodule. A nodule whose profile does not fall that far gets
    the width of the cube.

    Args:
        hu: HU of cubes [n, z, y, x].
        spacing_mm: voxel size (z, y, x).
    """
    step = max(spacing_mm)
    _, z, y, x = hu.shape
    grid = PatchSpec((z, y, x), spacing_mm)
    radius = grid.distances_mm()
    shell = np.round(radius / step).astype(int)
    shells = int(min(grid.middle_mm) / step) + 1
    inside = shell < shells
    counts = np.bincount(shell[inside], minlength=shells)
    filled = counts > 0
    middles = np.bincount(shell[inside], radius[inside], shells)[filled] / counts[filled]
    found = []
    for cube in hu:
        profile = np.bincount(shell[inside], cube[inside].astype(np.float64), shells)[filled] / counts[filled]
        level = (profile[0] + profile.min()) / 2
        below = np.flatnonzero(profile[1:] < level)
        if not len(below):
            found.append(2 * middles[-1])
            continue
        i = int(below[0])  # the crossing is between shells i and i + 1
        part = np.clip((profile[i] - level) / max(profile[i] - profile[i + 1], 1e-6), 0, 1)
        found.append(2 * (middles[i] + part * (middles[i + 1] - middles[i])))
    return np.array(found)


def rank_correlation_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> Statistic:
    """Return Spearman's rank correlation of two variables [n] as a statistic to bootstrap."""

    def value(rows: NDArray[np.int64]) -> float:
        a, b = rankdata(first[rows]), rankdata(second[rows])
        return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else np.nan

    return by_rows(value, len(first))


def check_widths(
    makers: Mapping[str, Generator], train: PatchDataset, test: PatchDataset, n: int, seed: int = 0
) -> list[Check]:
    """Correlate the measured width of nodules (`half_widths_mm`) with their diameters and with their masks' widths.

    For a synthetic nodule the diameter is the requested one, and the mask is the maker's. For a real nodule both come
    from readers. An empty mask has a width of 0 mm.

    Args:
        makers: name to maker.
        train: patches of the training split, whose nodules' attributes are requested.
        test: patches of patients on whom the makers were not trained.
        n: number of nodules of each maker.
        seed: seed of the samples.

    Returns:
        A check of the diameter, of the makers that heed it; and a check of the mask's width, of the makers that give
        masks. Without a correlation where all masks have the same width.
    """
    spacing = test.spec.spacing_mm

    def correlation(stated: NDArray[np.float64], hu: NDArray, units: NDArray) -> Interval:
        seen = np.clip(hu, *test.spec.window_hu)  # generators cannot make HU outside their window
        return over_seeds([rank_correlation_of(stated, half_widths_mm(seen, spacing))], units)

    def mask_widths(masks: NDArray) -> NDArray[np.float64]:
        return np.nan_to_num(axial_diameters_mm(masks, spacing), nan=0.0)

    nodules = {i: place.nodule.attributes for i, place in enumerate(test.places) if place.nodule}
    known = [i for i, each in nodules.items() if each.diameter_mm]
    rows, patients = test.rows(known), patients_of(test)[known]
    hu, masks = test.spec.to_hu(rows["ct"][:, 0]).numpy(), rows["mask"][:, 0].numpy() > 0
    asked = nodules_of(train, n, seed)
    stated = np.array([each.diameter_mm or np.nan for each in asked])
    samples: dict[str, Samples] = {
        name: samples_for(maker, asked, derive(seed, "diameters")) for name, maker in makers.items()
    }
    outlined = masks.any((1, 2, 3))
    real_masks = {"real": partial(correlation, mask_widths(masks[outlined]), hu[outlined], patients[outlined])}
    made_masks = {
        name: partial(correlation, mask_widths(made.arrays["mask"]), made.ct, np.arange(n))
        for name, made in samples.items()
        if "mask" in made.arrays
    }
    note = f"{n} made ones"
    return [
        Check(
            "diameter, measured against asked or stated: rank correlation",
            correlation(np.array([nodules[i].diameter_mm or np.nan for i in known]), hu, patients),
            {
                name: correlation(stated, made.ct, np.arange(n))
                for name, made in samples.items()
                if "diameter_mm" in makers[name].heeds
            },
            f"{len(known)} real nodules, {note}",
        ),
        Check(
            "diameter of the mask, measured against that of the nodule: rank correlation",
            defined(real_masks).get("real") if outlined.any() else None,
            defined(made_masks),
            f"{int(outlined.sum())} real nodules, {note}",
        ),
    ]


def check_rating(
    study: Study,
    config: TaskConfig,
    makers: Mapping[str, Generator],
    train: PatchDataset,
    name: Rating,
    n: int,
    seed: int = 0,
) -> list[Check]:
    """Measure whether a network trained on real nodules' ratings can tell nodules requested as high from low ones.

    The first check is the AUC over pairs of nodules of similar diameters, real and synthetic. The second one is the
    AUC over twins, synthetic nodules that share the noise and all other attributes; it shows only the direction in
    which the rating changes a nodule, not the size of the change.

    Args:
        study: the store, and the folder of the network.
        config: the network and its training.
        makers: name to maker; makers that do not heed the rating are left out.
        train: patches of the training split, whose nodules' other attributes are requested.
        name: the rating.
        n: number of nodules with a low rating, and with a high one.
        seed: seed of the training and the samples.
    """
    low, high = SIDES[name]
    what = f"{name} of {low:g} or {high:g}, told apart by a network at like diameter: AUC"
    try:
        splits = rating_splits(study, config, name)
    except InputError as error:
        return [Check(what, None, {}, f"not measured: {error.args[1]}")]
    reader = study.reader(f"rating-{name}", config, splits, seed)
    spec = config.patch

    def read(hu: NDArray) -> NDArray[np.float64]:
        return reader.probabilities(spec.to_unit(torch.from_numpy(hu.astype(np.float32)))[:, None])[:, 1]

    test = splits.test
    alike = of_like_diameters([place.nodule.attributes for place in test.places if place.nodule])
    scores = read(spec.to_hu(test.rows(range(len(test)))["ct"][:, 0]).numpy())
    real, note = None, "no real pair of like diameter to compare"
    with suppress(UndefinedError):
        real = over_seeds([matched_auc_of(test.labels, scores, alike)], patients_of(test))
        pairs = int((alike & (test.labels[:, None] > test.labels)).sum())
        note = f"{pairs} real pairs of {len(np.unique(patients_of(test)))} patients"
    others = nodules_of(train, n, derive(seed, "pairs"))
    labels, twin = np.repeat([0, 1], n), np.tile(np.arange(n), 2)
    found: dict[str, Interval] = {}
    of_twins: dict[str, Interval] = {}
    for label, maker in makers.items():
        if name in maker.heeds:
            asked = [[replace(each, **{name: value}) for each in others] for value in (low, high)]
            scores = np.concatenate([read(sampled(maker, each, derive(seed, name))) for each in asked])
            found[label] = over_seeds([matched_auc_of(labels, scores, of_like_diameters(others * 2))], twin)
            of_twins[label] = over_seeds([matched_auc_of(labels, scores, twin[:, None] == twin)], twin)
    if not found:
        return [Check(what, real, found, note)]
    of_pairs = "share of pairs of samples of one noise in which the higher request has the higher score"
    twins = Check(f"{name}: {of_pairs}", None, of_twins)
    return [Check(what, real, found, note), twins]


def rating_splits(study: Study, config: TaskConfig, name: Rating) -> Splits:
    """Return the nodules of a study's store that are rated low, 0, or high, 1, and whose diameter is known.

    Raises:
        InputError: a split without one of the two, or of too few patients.
    """
    low, high = SIDES[name]

    def side(nodule: Nodule) -> int | None:
        value = getattr(nodule.attributes, name)
        known = value is not None and nodule.attributes.diameter_mm
        return None if not known or low < value < high else int(value >= high)

    splits = study.splits(config, lambda split: nodule_places(study.store.in_split(split), side))
    check_splits(
        study.store, splits, {0: f"a nodule with {name} {low:g} or less", 1: f"a nodule with {name} {high:g} or more"}
    )
    return splits


def of_like_diameters(nodules: Sequence[NoduleAttributes]) -> NDArray[np.bool_]:
    """Return which pairs of nodules have diameters within a factor of `LIKE_SIZE_RATIO`, bool [n, n]."""
    mm = np.array([each.diameter_mm for each in nodules], float)
    found: NDArray[np.bool_] = np.abs(np.log(mm[:, None] / mm)) <= np.log(LIKE_SIZE_RATIO)
    return found
