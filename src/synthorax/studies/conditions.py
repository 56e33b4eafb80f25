"""Does a generator do what it is asked for? Widths measured on its samples, and ratings as a network reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from synthorax.datasets.patches import PatchDataset, nodule_places
from synthorax.metrics.bootstrap import Statistic, by_rows
from synthorax.metrics.roc import auc_of
from synthorax.nodule import Nodule, NoduleAttributes
from synthorax.seeding import derive
from synthorax.studies.cube_makers import AcWganCubes
from synthorax.studies.detection import nodules_of
from synthorax.studies.results import Interval
from synthorax.studies.trials import Study, check_splits, over_seeds, patients_of
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig
from synthorax.tasks.training import patch_spec, train_task
from synthorax.training.system import Batches

SHELL_MM = 1.0
Rating = Literal["texture", "malignancy"]
SIDES: dict[Rating, tuple[float, float]] = {"texture": (2.0, 5.0), "malignancy": (2.0, 4.0)}
"""Ratings up to the first are low and from the second high; what is between is neither."""


@dataclass(frozen=True)
class Check:
    """How well something that was asked for, or that readers said, is found in cubes.

    Attributes:
        what: in words, with the figure's name.
        real: of test patients: as well as it can be found at all.
        made: of samples; None if the model is not told of it.
    """

    what: str
    real: Interval
    made: Interval | None


def half_widths_mm(hu: NDArray[np.number], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Where the mean over shells around the middle falls half-way from nodule to lung, twice that radius, [n].

    Vessels and walls beside a nodule hardly move it, other than the width of a thresholded mask.

    Args:
        hu: cubes [n, z, y, x].
    """
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(hu.shape[1:], spacing_mm, strict=True)]
    radius = np.sqrt(sum(grid**2 for grid in np.meshgrid(*axes, indexing="ij")))
    most = min(axis[-1] for axis in axes)
    shell = np.where(radius <= most, radius / SHELL_MM, -1).astype(int)
    inside = shell >= 0
    counts = np.bincount(shell[inside])
    found = []
    for cube in hu:
        profile = np.bincount(shell[inside], cube[inside].astype(np.float64)) / counts
        level = (profile[:2].mean() + profile.min()) / 2
        beyond = int((profile < level).argmax())
        before = profile[beyond - 1] if beyond else profile[0]
        part = (before - level) / max(before - profile[beyond], 1e-6) if beyond else 0.0
        found.append(2 * SHELL_MM * (beyond - 0.5 + part))
    return np.array(found)


def rank_correlation_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> Statistic:
    """Spearman's rank correlation as a statistic to bootstrap."""

    def value(rows: NDArray[np.int64]) -> float:
        return float(np.corrcoef(rankdata(first[rows]), rankdata(second[rows]))[0, 1])

    return by_rows(value, len(first))


def check_diameters(maker: AcWganCubes, train: PatchDataset, test: PatchDataset, n: int, seed: int = 0) -> Check:
    """Measured diameters against those that were asked for, and against readers' on real nodules.

    Args:
        train: gives the attributes that are asked for.
        test: nodules of patients whom the model has not seen.
    """
    spacing = test.spec.spacing_mm

    def correlation(mm: Sequence[float], hu: NDArray, units: NDArray) -> Interval:
        return over_seeds([rank_correlation_of(np.array(mm), half_widths_mm(hu, spacing))], units)

    known = [i for i, place in enumerate(test.places) if place.nodule and place.nodule.attributes.diameter_mm]
    stated = [place.nodule.attributes.diameter_mm or 0.0 for place in test.places if place.nodule]
    hu = test.spec.to_hu(test.rows(known)["ct"][:, 0]).numpy()
    real = correlation([stated[i] for i in known], hu, patients_of(test)[known])
    made = None
    if "diameter_mm" in maker.system.config.attributes:
        asked = [each for each in nodules_of(train, n, seed) if each.diameter_mm]
        cubes = maker.made(asked, derive(seed, "diameters"))
        made = correlation([each.diameter_mm or 0.0 for each in asked], cubes, np.arange(len(asked)))
    return Check("diameter, measured against asked or stated: rank correlation", real, made)


def check_rating(
    study: Study, config: TaskConfig, maker: AcWganCubes, train: PatchDataset, name: Rating, n: int, seed: int = 0
) -> Check:
    """Whether a network that learned a rating on real nodules tells samples asked for as high from those asked as low.

    Pairs of samples share noise and all else that is asked for, so that nothing but the rating sets them apart.

    Args:
        train: gives the other attributes that are asked for.
        n: pairs.
    """
    low, high = SIDES[name]

    def side(nodule: Nodule) -> int | None:
        value = getattr(nodule.attributes, name)
        return None if value is None or low < value < high else int(value >= high)

    splits = study.splits(config, lambda split: nodule_places(study.store.in_split(split), side))
    check_splits(study.store, splits, [0, 1])
    task = Classification(config, seed)
    batches: Batches = lambda step: splits.train.batch(step, config.batch_size)  # noqa: E731
    validate: Callable[[], dict[str, float]] = lambda: task.validate(splits.val)  # noqa: E731
    about = {"fingerprint": study.store.fingerprint, "splits": splits.key}
    reader = train_task(task, batches, validate, study.out / f"rating-{name}", about, device=study.device)
    spec = patch_spec(config)

    def read(hu: NDArray) -> NDArray[np.float64]:
        return reader.probabilities(spec.to_unit(torch.from_numpy(hu.astype(np.float32)))[:, None])[:, 1]

    whole = spec.to_hu(splits.test.rows(range(len(splits.test)))["ct"][:, 0]).numpy()
    real = over_seeds([auc_of(splits.test.labels, read(whole))], patients_of(splits.test))
    made = None
    if name in maker.system.config.attributes:
        others = nodules_of(train, n, derive(seed, "pairs"))
        scores = [read(maker.made(_asked(others, name, value), derive(seed, name))) for value in (low, high)]
        made = over_seeds([auc_of(np.repeat([0, 1], n), np.concatenate(scores))], np.tile(np.arange(n), 2))
    return Check(f"{name} of {low:g} or {high:g}, told apart by a network: AUC", real, made)


def _asked(others: Sequence[NoduleAttributes], name: Rating, value: float) -> list[NoduleAttributes]:
    return [replace(each, **{name: value}) for each in others]
