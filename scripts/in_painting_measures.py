"""The measurements of nodules that methods add at healthy sites, for `results_in_painting.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from condition_measures import above_half_way
from in_painting_made import CLASSES, RENDER, Making, Places, made_twins
from known_sites import SEED, WORK, known_controls, known_verdict
from rendering_measures import MM, VIEWS, Made, Pairs, control_figures, curves, diameters, interval, kids, unseen
from rendering_sites import Real
from synthorax.datasets.store import Store
from synthorax.editing.learned import Learned
from synthorax.metrics.bootstrap import patient_bootstrap
from synthorax.metrics.estimates import Comparison, Estimate
from synthorax.patch import NETWORK_WINDOW_HU
from synthorax.studies.class_taken import IRREGULARITY, NODULE_MEASURES, STEEPNESS, class_figures, real_measures
from synthorax.studies.conditions import half_widths_mm, rank_correlation_of
from synthorax.studies.fidelity import Patches
from synthorax.studies.in_painting import InPaintingFigures, Measured, diversity_figures, in_painting_figures
from synthorax.studies.malignant_or_benign import by_size, diameters_of, malignancy_splits
from synthorax.studies.reconstruction import HeldOutNodule, reconstructed, reconstruction_figures
from synthorax.studies.told_apart import smallest_auc
from synthorax.studies.trials import Splits, Study
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TASKS
from synthorax.volume import Volume

READERS, QUICK_READERS = 3, 1
"""Number of trainings of the classifier of malignancy, whose mean probability counts."""
RATED = {STEEPNESS: "margin", IRREGULARITY: "spiculation"}
"""Measures, and the ratings of real nodules with which they should correlate."""


def in_painting_rows(making: Making) -> dict[str, Any]:
    """Return seam and texture of the nodules, diversity of the seeds, and the goals that are missed."""
    real = making.places.real
    seeds = diversity_figures(making.seeds, real, SEED)
    found = replace(
        in_painting_figures(making.twins, real, SEED),
        diversity_hu=seeds["diversity_hu"],
        diversity_shape=seeds["diversity_shape"],
    )
    names = [each.name for each in fields(InPaintingFigures) if each.name != "refused"]
    figures: dict[str, Any] = {name: _measured(getattr(found, name)) for name in names}
    return figures | {"missed": list(found.missed()), "refused": [*making.twins.refused, *making.seeds.refused]}


def _measured(found: Measured) -> dict[str, Any]:
    return {"n": found.n, "value": None if found.estimate is None else interval(found.estimate)}


def _compared(found: Comparison) -> list[float]:
    return interval(Estimate(found.difference, found.low, found.high))


def kid_rows(places: Places, makings: Sequence[Making], rows: Sequence[int]) -> dict[str, list[float]]:
    """Return KID x 1000 to the real nodules of training patients, with the same sites for all methods."""
    pairs = places.pairs
    train = [real for real in places.every if real.split == "train"]
    known = Patches(
        np.stack([real.patch[0] for real in train]).astype(np.float32), np.array([real.patient for real in train])
    )
    chosen = np.asarray(rows)
    sets = {"real": Patches(pairs.real.hu[chosen], pairs.owners[chosen])}
    sets |= {making.name: _patches(pairs, made_twins(making, rows), chosen) for making in makings}
    sets["places without a nodule"] = Patches(pairs.before[chosen].astype(np.float32), pairs.hosts[chosen])
    return kids({name: (each, known) for name, each in sets.items()})


def _patches(pairs: Pairs, made: Made, rows: NDArray[np.int64]) -> Patches:
    return Patches(made.hu.astype(np.float32), pairs.hosts[rows])


def told_apart_rows(pairs: Pairs, makings: Sequence[Making], rows: Sequence[int], views: int) -> dict[str, Any]:
    """Return by view the AUC of each method with the controls, and its difference from rendering's.

    Args:
        pairs: of the sites of `rows`.
    """
    found: dict[str, Any] = {}
    for view in VIEWS[:views]:
        real = pairs.seen(pairs.real, view)
        judged = {
            making.name: known_verdict(real, pairs.seen(pairs.made(made_twins(making, rows)), view))
            for making in makings
        }
        against = judged.get(RENDER)
        found[view] = {
            "controls": control_figures(known_controls(pairs, view)),
            "smallest": round(smallest_auc(len(rows), len(rows)), 3),
            "methods": {
                name: {
                    "auc": interval(each.auc()),
                    "less rendered": None if against in (None, each) else _compared(each.less(against)),
                }
                for name, each in judged.items()
            },
        }
    return found


def width_rows(
    pairs: Pairs, every: Sequence[Real], makings: Sequence[Making], rows: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return requested and measured diameters, and the number of nodules that noise hides, by maker.

    Those of the real nodules are `real`. The others have `above half-way` too: how far their rank correlation by the
    half-width lies above the middle of rendering's and the real nodules', where rendering is among them.

    Args:
        pairs: of the sites of `rows`.
    """
    asked = np.array([real.asked_mm for real in pairs.reals])
    made = {making.name: made_twins(making, rows) for making in makings}
    found: dict[str, dict[str, Any]] = {"real": diameters(pairs.hu, pairs.outline, asked, pairs.owners)}
    for name, own in made.items():
        hidden = unseen(pairs, every, own, asked, ["all"])["all"]
        found["real"] |= {"invisible": hidden["real"], "n": len(rows)}
        found[name] = diameters(own.hu, own.mask, asked, pairs.hosts) | {"invisible": hidden["made"], "n": len(rows)}
        if RENDER in made and name != RENDER:
            widths = [half_widths_mm(np.clip(hu, *NETWORK_WINDOW_HU), MM) for hu in (own.hu, made[RENDER].hu, pairs.hu)]
            patients = [pairs.hosts, pairs.hosts, pairs.owners]
            found[name]["above half-way"] = interval(above_half_way(asked, widths, patients))
    return found


def profile_rows(pairs: Pairs, makings: Sequence[Making], rows: Sequence[int]) -> dict[str, Any]:
    """Return HU of real nodules in their outlines and of synthetic ones in their masks, by class and by distance."""
    made = {making.name: made_twins(making, rows) for making in makings}
    found = {name: curves(pairs, each.hu, each.mask) for name, each in made.items()}
    return {"real": curves(pairs, pairs.hu, pairs.outline)} | found


class MalignancyReaders:
    """Classifiers of malignancy that are trained on real training patients only.

    Attributes:
        size: size in voxels of the patches that they see.
    """

    def __init__(self, store: Store, trainings: int) -> None:
        self._config = TASKS["malignancy"]["compact"]
        self._study = Study(store, WORK / "readers", range(trainings), device="cpu", cache=WORK / "cache")
        self.size = self._config.size

    @cached_property
    def _splits(self) -> Splits:
        return malignancy_splits(self._study, self._config, "median")

    @cached_property
    def _readers(self) -> list[Classification]:
        return [self._study.reader("malignancy", self._config, self._splits, seed) for seed in self._study.seeds]

    def __call__(self, hu: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean probability of a malignant nodule, [n]."""
        unit = self._config.patch.to_unit(torch.from_numpy(np.array(hu, np.float32)))[:, None]
        found: NDArray[np.float64] = np.mean([reader.probabilities(unit)[:, 1] for reader in self._readers], 0)
        return found

    def real(self, split: str) -> dict[str, list[float]]:
        """Return the AUC on the real nodules of a split, of all and of pairs of similar size."""
        patches = getattr(self._splits, split)
        scores = self(self._config.patch.to_hu(patches.rows(range(len(patches)))["ct"][:, 0]).numpy())
        found = by_size(patches, [scores], diameters_of(patches))
        return {name: [round(float(v or 0), 4) for v in (one.mean, one.low, one.high)] for name, one in found.items()}


def class_rows(making: Making, readers: MalignancyReaders) -> dict[str, Any]:
    """Return the effect of requesting the other class, with the same diameters and with those of the class."""
    found = {}
    for name, own in (("same diameters", False), ("diameters of the class", True)):
        benign, malignant = (making.of_class(each, own_diameters=own) for each in CLASSES)
        figures = class_figures(benign, malignant, readers, readers.size, SEED)
        found[name] = {
            "pairs": figures.pairs,
            "auc": interval(figures.auc),
            "wins": interval(figures.wins),
            "measures": {
                measure: {
                    "n": one.n,
                    "benign": round(one.benign, 3),
                    "malignant": round(one.malignant, 3),
                    "difference": _compared(one.difference),
                    "p": round(one.difference.p, 4),
                }
                for measure, one in figures.measures.items()
            },
        }
    return found


def real_measure_rows(places: Places) -> dict[str, Any]:
    """Return measures of real nodules: rank correlation with readers' ratings, means of benign and malignant ones."""
    real = places.real
    values = real_measures(real.nodules)
    found: dict[str, Any] = {"n": len(real.patients), "ratings": {}, "means": {}}
    for measure, rating in RATED.items():
        rated = np.array([getattr(each, rating) or np.nan for each in real.attributes])
        known = np.isfinite(rated) & np.isfinite(values[measure])
        statistic = rank_correlation_of(values[measure][known], rated[known])
        compared = patient_bootstrap(statistic, real.patients[known], replicates=1000, seed=SEED)
        found["ratings"][measure] = {"rating": rating, "correlation": interval(compared.interval())}
    malignancy = np.array([each.malignancy or np.nan for each in real.attributes])
    for measure in NODULE_MEASURES:
        found["means"][measure] = {
            "benign": round(float(np.nanmean(values[measure][malignancy <= 2])), 3),
            "malignant": round(float(np.nanmean(values[measure][malignancy >= 4])), 3),
        }
    return found


def reconstruction_rows(places: Places, method: Learned) -> dict[str, Any]:
    """Return how well a method reconstructs the held-out nodules."""
    held_out = [real for real in dict.fromkeys(places.pairs.reals) if real.outlined]
    nodules = [HeldOutNodule(Volume(real.hu, MM), real.outline, real.attributes, real.patient) for real in held_out]
    nodule_hu = float(np.mean([real.hu[real.outline].clip(-1000, 400).mean() for real in places.training]))
    made, refused = reconstructed(method, nodules, SEED)
    found = reconstruction_figures(made, nodule_hu, SEED)
    values = {each.name: getattr(found, each.name) for each in fields(found) if each.name != "n"}
    figures = {name: None if value is None else interval(value) for name, value in values.items()}
    return {"n": found.n, "refused": list(refused), "flat HU": round(nodule_hu), **figures}
