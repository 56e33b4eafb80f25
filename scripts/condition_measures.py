"""Measures whether nodules added at healthy sites have the requested width, are visible, and have their outlines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest, spearmanr

from in_painting_made import SMALL_MM, Making
from known_sites import SEED, WORK
from rendering_measures import DENSE_HU, MM, interval, middles_of, noise_hu_of
from synthorax.datasets.case import Split
from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.metrics.bootstrap import by_rows, mean_of, patient_bootstrap
from synthorax.metrics.borders import seen_nodule
from synthorax.metrics.contrast import invisible
from synthorax.metrics.estimates import Estimate
from synthorax.metrics.roc import matched_auc_of
from synthorax.patch import NETWORK_WINDOW_HU, PatchSpec
from synthorax.shapes.overlap import dice
from synthorax.studies.class_taken import class_figures
from synthorax.studies.conditions import SIDES, of_like_diameters, rating_splits
from synthorax.studies.trials import Splits, Study, patients_of
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import DETECTION


def above_half_way(
    asked_mm: NDArray[np.float64], widths_mm: Sequence[NDArray[np.float64]], patients: Sequence[NDArray]
) -> Estimate:
    """Return the rank correlation of requested and measured widths, minus the mean correlation of two other makers.

    Args:
        asked_mm: requested widths of n nodules.
        widths_mm: measured widths [n] of nodules of a method, of rendering, and of real ones.
        patients: the patient of each nodule of the three, [n] each.
    """
    kinds, rows_of = np.repeat(np.arange(3), len(asked_mm)), np.tile(np.arange(len(asked_mm)), 3)
    measured = np.concatenate(widths_mm)

    def value(rows: NDArray[np.int64]) -> float:
        own, rendered, real = (
            float(spearmanr(asked_mm[rows_of[part]], measured[part]).statistic)
            for part in (rows[kinds[rows] == kind] for kind in range(3))
        )
        return own - (rendered + real) / 2

    return patient_bootstrap(by_rows(value, len(measured)), np.concatenate(patients), replicates=1000).interval()


def small_rows(making: Making) -> dict[str, Any]:
    """Count the nodules of `SMALL_MM` that noise hides; the interval treats them as independent of each other."""
    made, places = making.small(), making.places
    cubes = [places.every[places.jobs[i].cube] for i in made.sites.tolist()]
    noise = [noise_hu_of(cube) for cube in cubes]
    others = (made.before > DENSE_HU) | made.masks
    wide = np.full(len(made.after), SMALL_MM)
    hidden = invisible(made.after, wide, noise, MM, others, middles_of(made.masks))
    n, k = len(hidden), int(hidden.sum())
    ends = binomtest(k, n).proportion_ci()
    share = [round(float(value), 4) for value in (k / n, ends.low, ends.high)]
    return {"n": n, "mm": SMALL_MM, "invisible": k, "share": share, "refused": list(made.refused)}


def outlined_rows(making: Making) -> dict[str, Any]:
    """Compare the outlines that a method was given with the visible nodules in its output; the same for real nodules.

    Returns:
        Dice of the nodule that is seen with the outline that the method was given, with the outline of another nodule
        of like diameter, and with a ball of the diameter; and of real nodules where they grew with their own outlines.
    """
    made, places = making.outlined(), making.places
    rows = [making.outlined_rows[i] for i in made.sites.tolist()]
    shape = made.after.shape[1:]
    middles = np.tile(np.array(shape) // 2, (len(rows), 1)) if made.middles is None else made.middles
    starts = [np.subtract(places.jobs[row].center, middle) for row, middle in zip(rows, middles, strict=True)]
    outlines = [places.outline(row).within(start.tolist(), shape) for row, start in zip(rows, starts, strict=True)]
    wide = np.array([one.diameter_mm or 0.0 for one in made.wanted])
    order = np.argsort(wide, kind="stable")
    other = np.empty(len(rows), np.int64)
    other[order] = np.roll(order, 1)  # the next narrower one; of the narrowest the widest
    values: dict[str, list[float]] = {"told": [], "another": [], "ball": []}
    for i, hu in enumerate(made.after):
        seen = seen_or_none(hu, outlines[i])
        theirs = places.outline(rows[other[i]]).moved(
            np.subtract(places.jobs[rows[i]].center, places.jobs[rows[other[i]]].center)
        )
        away = PatchSpec(shape, MM).distances_mm(middles[i])
        masks = {
            "told": outlines[i],
            "another": theirs.within(starts[i].tolist(), shape),
            "ball": 2 * away <= wide[i],
        }
        for name, mask in masks.items():
            values[name].append(float(dice(seen[None], mask[None])[0]))
    reals = [places.every[places.jobs[row].real] for row in rows]
    grown = [float(dice(seen_or_none(one.hu, one.outline)[None], one.outline[None])[0]) for one in reals]
    owners = {"real": np.array([one.patient for one in reals])}
    figures = {
        name: interval(patient_bootstrap(mean_of(one), owners.get(name, made.owners), seed=SEED).interval())
        for name, one in (values | {"real": grown}).items()
    }
    return {"n": len(rows), **figures, "refused": list(made.refused)}


class TextureReader:
    """A network that is trained on real training patients only to distinguish nodules of low and of high texture.

    Attributes:
        size: size in voxels of the patches that it sees.
    """

    def __init__(self, store: Store) -> None:
        self._config = DETECTION["compact"]
        self._study = Study(store, WORK / "readers", [SEED], device="cpu", cache=WORK / "cache")
        self.size = self._config.size

    @cached_property
    def _splits(self) -> Splits:
        return rating_splits(self._study, self._config, "texture")

    @cached_property
    def _reader(self) -> Classification:
        return self._study.reader("rating-texture", self._config, self._splits, SEED)

    def __call__(self, hu: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probability of a high texture for patches in HU [n, z, y, x], [n]."""
        unit = self._config.patch.to_unit(torch.from_numpy(np.array(hu, np.float32)))[:, None]
        found: NDArray[np.float64] = self._reader.probabilities(unit)[:, 1]
        return found

    def real(self, split: Split) -> list[float]:
        """Return the AUC among pairs of real nodules of a split of similar diameter."""
        patches: PatchDataset = getattr(self._splits, split)
        scores = self(self._config.patch.to_hu(patches.rows(range(len(patches)))["ct"][:, 0]).numpy())
        alike = of_like_diameters([place.nodule.attributes for place in patches.places if place.nodule])
        statistic = matched_auc_of(patches.labels, scores, alike)
        return interval(patient_bootstrap(statistic, patients_of(patches), seed=SEED).interval())


def texture_rows(making: Making, reader: TextureReader, split: Split) -> dict[str, Any]:
    """Return whether nodules requested with low and high texture at the same sites and diameters can be distinguished.

    Args:
        split: split of the real nodules for comparison.
    """
    low, high = (making.of_texture(value) for value in SIDES["texture"])
    found = class_figures(low, high, reader, reader.size, SEED)
    figures = {"pairs": found.pairs, "auc": interval(found.auc), "wins": interval(found.wins)}
    return figures | {"asked": list(SIDES["texture"]), "real": reader.real(split)}


def seen_or_none(hu: NDArray[np.number], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the visible nodule in a patch [z, y, x]; empty if there is no lung beside it."""
    try:
        return seen_nodule(hu.clip(*NETWORK_WINDOW_HU), mask, MM)
    except InputError:
        return np.zeros_like(mask)
