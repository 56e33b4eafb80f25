"""Trainings of a study's arms, each noted when it is done, so that a study that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthorax.datasets.patches import PatchDataset
from synthorax.datasets.store import Store
from synthorax.errors import InputError
from synthorax.io.atomic import atomic_file
from synthorax.metrics.bootstrap import Statistic, patient_bootstrap, seed_and_patient_bootstrap
from synthorax.provenance import fingerprint
from synthorax.studies.results import Interval
from synthorax.tasks.classification import Classification, Task, all_of
from synthorax.tasks.segmentation import Segmentation
from synthorax.tasks.training import train_task
from synthorax.training.system import Batches

LEAST_PATIENTS = 4
"""Of each class and split; fewer make no interval."""


@dataclass(frozen=True, eq=False)
class Splits:
    """What a task learns from, is selected by, and is measured on."""

    train: PatchDataset
    val: PatchDataset
    test: PatchDataset


@dataclass(frozen=True, eq=False)
class Scores:
    """What a trained task says of validation and test patches: scores [n], or masks [n, z, y, x]."""

    val: NDArray
    test: NDArray


def check_splits(store: Store, splits: Splits, classes: Sequence[int]) -> None:
    """Refuse a store that no study can be made of.

    Raises:
        InputError: a split without one of the classes, or of too few patients.
    """
    for name, patches in vars(splits).items():
        for label in classes:
            patients = {p.patient_id for p in patches.places if p.label == label}
            if len(patients) < LEAST_PATIENTS:
                found = f"{len(patients)} {name} patients with class {label}"
                raise InputError(store.path, found, f"{LEAST_PATIENTS} or more in each split")


def patients_of(patches: PatchDataset) -> NDArray[np.str_]:
    """The patient of each patch, [n]."""
    return np.array([place.patient_id for place in patches.places])


def trial(
    task: Task, splits: Splits, batches: Batches, out: Path, data_fingerprint: str, *, device: str = "auto"
) -> Scores:
    """One training and what it says of the patches it did not see, from an earlier call if there was one.

    Args:
        out: folder of the training, whose name tells the arm and seed; other data or another configuration gets a
            run folder of its own in it.
        data_fingerprint: of the store and of whatever else `batches` draws from.
    """
    key = fingerprint(repr((task.name, task.config, task.seed, data_fingerprint)).encode())[:16]
    note = out / f"scores-{key}.npz"
    if note.is_file():
        with np.load(note) as found:
            return Scores(found["val"], found["test"])
    about = {"fingerprint": data_fingerprint}
    trained = train_task(task, batches, lambda: _validate(task, splits.val), out / key, about, device=device)
    scores = Scores(_says(trained, splits.val), _says(trained, splits.test))
    with atomic_file(note) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, val=scores.val, test=scores.test)
    return scores


def _validate(task: Task, patches: PatchDataset) -> dict[str, float]:
    assert isinstance(task, Classification | Segmentation)
    return task.validate(patches)


def _says(task: Task, patches: PatchDataset) -> NDArray:
    whole = all_of(patches)["ct"]
    if isinstance(task, Segmentation):
        return task.masks(whole)
    assert isinstance(task, Classification)
    return task.probabilities(whole)[:, 1]


def defined(figures: Mapping[str, Callable[[], Interval]]) -> dict[str, Interval]:
    """Those figures that have a value: few patients may leave a stratum empty, or none that is called positive."""
    found = {}
    for name, figure in figures.items():
        with suppress(InputError):
            found[name] = figure()
    return found


def over_seeds(statistics: Sequence[Statistic], patients: NDArray[np.str_], seed: int = 0) -> Interval:
    """A figure's mean over trainings, and its 95 % interval over them and over patients."""
    if len(statistics) > 1:
        found = seed_and_patient_bootstrap(statistics, patients, seed=seed).interval()
    else:
        found = patient_bootstrap(statistics[0], patients, seed=seed).interval()
    return Interval(found.value, found.low, found.high)
